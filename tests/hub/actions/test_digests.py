"""The digest stands for exactly one action, whichever way its arguments travelled."""

import uuid

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from hub.actions import digests

AGENT, SPACE = uuid.UUID(int=1), uuid.UUID(int=2)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=12,
)


def test_order_does_not_matter_and_all_else_does():
    one = digests.of(AGENT, "say", {"a": 1, "b": [1, 2]}, SPACE)
    assert one == digests.of(AGENT, "say", {"b": [1, 2], "a": 1}, SPACE)
    others = [
        digests.of(SPACE, "say", {"a": 1, "b": [1, 2]}, SPACE),
        digests.of(AGENT, "ask", {"a": 1, "b": [1, 2]}, SPACE),
        digests.of(AGENT, "say", {"a": 1, "b": [2, 1]}, SPACE),
        digests.of(AGENT, "say", {"a": "1", "b": [1, 2]}, SPACE),
        digests.of(AGENT, "say", {"a": True, "b": [1, 2]}, SPACE),
        digests.of(AGENT, "say", {"a": 1, "b": [1, 2]}, None),
    ]
    assert len({one, *others}) == 1 + len(others)


def test_postgres_gives_back_what_has_the_same_digest(session):
    @given(st.dictionaries(st.text("abcxyz", max_size=4), JSON, max_size=4))
    def check(args):
        encoded = msgspec.json.encode(args).decode()
        stored = session.execute(text("SELECT CAST(:args AS jsonb)"), {"args": encoded}).scalar_one()
        assert digests.of(AGENT, "say", stored, None) == digests.of(AGENT, "say", args, None)

    check()
