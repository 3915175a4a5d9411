"""Refusals of the command line: what devices say stays words."""

import click
import pytest

from marvain.cli.errors import show_error


def test_escape_codes_of_a_device_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(click.ClickException("porch did not answer: failed (\x1b]0;owned\x07\x9b2J\nfürs Erste)"), as_json=False)
    said = capsys.readouterr().err
    assert all(line.isprintable() for line in said.splitlines())
    assert "fürs Erste" in said
