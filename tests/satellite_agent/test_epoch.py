"""Epochs rise across restarts, damaged files and full disks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_protocol.messages import MAX_SAFE_INTEGER
from satellite_agent.connection import Backoff
from satellite_agent.epoch import Epochs


@pytest.mark.parametrize("content", [b"", b"seventeen", b"-3", b"\xff\xfe", b"9" * 400, b"1.5"])
def test_a_damaged_file_goes_on_from_the_time(tmp_path, content):
    path = tmp_path / "epoch"
    path.write_bytes(content)
    assert 1_600_000_000_000 < Epochs(path).next() < MAX_SAFE_INTEGER
    assert Epochs(path).next() > 1_600_000_000_000


def test_without_a_file_it_is_the_time_and_still_rises():
    epochs = Epochs(None)
    first, second = epochs.next(), epochs.next()
    assert 1_600_000_000_000 < first < second


def test_a_folder_that_goes_away_falls_back_to_the_time(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    epochs = Epochs(folder / "epoch")
    assert epochs.next() == 1
    (folder / "epoch").unlink()
    folder.rmdir()
    assert epochs.next() > 1_600_000_000_000


def test_it_rises_with_every_use_across_restarts(tmp_path):
    path = tmp_path / "epoch"
    assert [Epochs(path).next() for _ in range(3)] == [1, 2, 3]
    assert path.read_text() == "3\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["epoch"]


def test_jump(tmp_path):
    epochs = Epochs(tmp_path / "epoch")
    assert epochs.jump_above(41)
    assert epochs.next() == 42
    assert epochs.jump_above(7)
    assert epochs.next() == 43
    assert not epochs.jump_above(MAX_SAFE_INTEGER)
    assert epochs.next() == 44


@given(st.integers(0, 200))
def test_the_back_off_stays_below_its_doubling_bound(attempts):
    backoff = Backoff()
    backoff.attempts = attempts
    assert 0 <= backoff.next() <= min(60, 2**attempts)
    assert backoff.attempts == attempts + 1
    backoff.reset()
    assert backoff.next() <= 1
