"""How many different refusals are kept: whoever floods fills neither the memory nor the database."""

import asyncio

from broker.embedded.refusals import MOST_KEPT, MOST_OF_STRANGERS, MOST_PER_MINUTE, Refusals


def rows_of(refusals: Refusals) -> set[tuple[str, str, str, str]]:
    """What the next flush writes; it is taken away as a flush would."""
    counts, refusals._counts = refusals._counts, {}
    return set(counts)


async def flooded(action: str, seconds: int, *, same_name: bool) -> set[tuple[str, str, str, str]]:
    refusals = Refusals(None, None)
    rows = set()
    for second in range(seconds):
        for number in range(2 * MOST_KEPT):
            name = "lamp" if same_name else f"stranger-{second}-{number}"
            refusals.add(name, action, f"x/{second}/{number}", "no", stranger=not same_name)
        rows |= rows_of(refusals)
    refusals.add("lamp", action, "x/0/0", "no")
    assert len(rows_of(refusals)) == 1
    return rows


def test_strangers_with_ever_new_names_make_few_rows_a_minute() -> None:
    # The minute may turn once while this runs.
    rows = asyncio.run(flooded("connect", 20, same_name=False))
    assert MOST_OF_STRANGERS <= len(rows) <= 2 * (MOST_OF_STRANGERS + 1)
    assert any(name == "(many)" for name, *_ in rows)


def test_one_name_with_ever_new_topics_makes_few_rows_a_minute() -> None:
    rows = asyncio.run(flooded("publish", 20, same_name=True))
    assert MOST_PER_MINUTE <= len(rows) <= 2 * (MOST_PER_MINUTE + 1)


def test_a_flood_of_one_name_does_not_hide_another() -> None:
    async def both() -> set[tuple[str, str, str, str]]:
        refusals = Refusals(None, None)
        for number in range(1_000):
            refusals.add("loud", "publish", f"x/{number}", "no")
        for number in range(1_000):
            refusals.add(f"stranger-{number}", "connect", "", "no", stranger=True)
            rows_of(refusals)
        refusals.add("quiet", "publish", "y", "no")
        refusals.add("quiet", "connect", "", "disconnected: no")
        return rows_of(refusals)

    assert asyncio.run(both()) == {("quiet", "publish", "y", "no"), ("quiet", "connect", "", "disconnected: no")}
