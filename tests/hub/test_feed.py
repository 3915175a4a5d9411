"""Feeds: a revision that rises by one, gaps that can be filled, and nothing told before its commit."""

import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import text

from hub import feed, outbox
from hub.tables import Agent


def tell(session, agent, n=1, **facts):
    feed.tell(session, agent.agent_id, "devices", "devices.updated", {"device_id": f"d{n}", **facts})


def test_an_unknown_feed_cannot_be_told(session, agent):
    with pytest.raises(ValueError, match="unknown feed"):
        feed.tell(session, agent.agent_id, "gossip", "gossip.new", {})


def test_what_is_rolled_back_is_told_to_nobody(database, session, agent):
    session.commit()

    def fail():
        with database.transaction() as work:
            tell(work, agent)
            work.flush()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        fail()
    with database.transaction() as work:
        assert feed.revision(work, agent.agent_id) == 0
        assert outbox.claim(work, 10) == []


def test_changes_of_one_element_are_told_once_with_the_newest_state(session, agent):
    tell(session, agent, 1, change="added")
    tell(session, agent, 2, change="added")
    tell(session, agent, 1, change="rotated")
    feed.flush(session)
    [message] = feed.since(session, agent.agent_id, 0).messages
    assert [(item["device_id"], item["change"]) for item in message["items"]] == [("d2", "added"), ("d1", "rotated")]


def test_many_changes_travel_as_few_messages_of_bounded_size(session, agent):
    for n in range(250):
        tell(session, agent, n, text="x" * 2000)
    feed.flush(session)
    messages = feed.since(session, agent.agent_id, 0).messages
    assert sum(len(message["items"]) for message in messages) == 250
    assert [message["rev"] for message in messages] == list(range(1, len(messages) + 1))
    assert max(len(msgspec.json.encode(message)) for message in messages) < 100_000


def test_a_gap_is_filled_in_order(session, agent):
    for n in range(5):
        tell(session, agent, n)
        feed.flush(session)
    gap = feed.since(session, agent.agent_id, 2)
    assert ([message["rev"] for message in gap.messages], gap.rev, gap.reset) == ([3, 4, 5], 5, False)
    assert feed.since(session, agent.agent_id, 5) == feed.FeedGap(5)


@pytest.mark.parametrize("rev", [-1, 99, -(2**60)])
def test_who_asks_from_nowhere_reads_all_anew(session, agent, rev):
    tell(session, agent)
    feed.flush(session)
    feed.trim(session, datetime.now(UTC) + timedelta(days=1))
    assert feed.since(session, agent.agent_id, rev).reset


def test_another_agents_feed_is_its_own(session, agent):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    tell(session, agent)
    feed.flush(session)
    assert feed.revision(session, other.agent_id) == 0
    assert feed.since(session, other.agent_id, 0).messages == []


def test_revisions_have_no_holes_under_concurrency(database, session, agent):
    session.commit()

    def work():
        for n in range(20):
            with database.transaction() as one:
                tell(one, agent, n)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as one:
        revs = one.execute(text("SELECT rev FROM feed_entries ORDER BY rev")).scalars().all()
        published = [msgspec.json.decode(message.payload)["rev"] for message in outbox.claim(one, 500)]
    assert revs == list(range(1, 81))
    assert published == revs  # told in the order of their revisions
