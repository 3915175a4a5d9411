"""The table of statements is the suite's: what it claims some test names, and what a test names is in it."""

import re
from typing import Any


def test_every_statement_is_either_covered_or_explained(statements: Any) -> None:
    assert not statements.COVERED.keys() & statements.UNTESTABLE.keys()
    assert len(statements.COVERED) + len(statements.UNTESTABLE) == 144
    for name, words in {**statements.COVERED, **statements.UNTESTABLE}.items():
        assert re.fullmatch(r"MQTT-(\d+\.\d+\.\d+|3-8\.3)-\d+", name), name
        assert words


def test_every_covered_statement_has_a_test(statements: Any, stated_by_tests: dict[str, set[str]]) -> None:
    assert statements.COVERED.keys() - stated_by_tests.keys() == set()
    assert stated_by_tests.keys() - statements.COVERED.keys() == set()


def test_every_deviation_is_of_a_test_that_names_its_statement(
    statements: Any, stated_by_tests: dict[str, set[str]]
) -> None:
    for name, cases in statements.DEVIATIONS.items():
        for case in cases:
            assert case.partition("[")[0] in stated_by_tests[name], case
            assert "[mosquitto" in case
