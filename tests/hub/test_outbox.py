"""The outbox: in order, once, and nothing before the commit."""

from hub import outbox
from hub_protocol.messages import Receipt


def test_messages_are_claimed_in_order_and_gone_after_the_commit(database):
    with database.transaction() as work:
        for n in range(10):
            outbox.enqueue(work, f"d/porch/{n}", Receipt([str(n)]))
    with database.transaction() as work:
        assert [one.topic for one in outbox.claim(work, 4)] == [f"d/porch/{n}" for n in range(4)]
    with database.transaction() as work:
        assert [one.topic for one in outbox.claim(work, 100)] == [f"d/porch/{n}" for n in range(4, 10)]


def test_two_publishers_share_without_waiting(database):
    with database.transaction() as work:
        for n in range(10):
            outbox.enqueue(work, f"d/porch/{n}", Receipt([]))
    with database.transaction() as one, database.transaction() as other:
        first = {message.outbox_id for message in outbox.claim(one, 5)}
        second = {message.outbox_id for message in outbox.claim(other, 10)}
    assert len(first) == len(second) == 5
    assert not first & second


def test_the_publisher_is_woken_at_the_commit(database):
    with database.listen(outbox.CHANNEL) as listener:
        with database.transaction() as work:
            outbox.enqueue(work, "d/porch/receipt", Receipt([]))
            outbox.flush(work)
            assert listener.wait(0.05) == []
        assert listener.wait(5)


def test_retained_topics_stand_in_the_ledger_until_they_are_purged(database):
    with database.transaction() as work:
        outbox.retain(work, "d/porch/presence", Receipt(["1"]))
        outbox.retain(work, "d/porch/presence", Receipt(["2"]))
    with database.transaction() as work:
        [kept] = outbox.retained(work)
        assert kept.payload == b'{"ids":["2"]}'
        outbox.purge(work, ["d/porch/presence"])
    with database.transaction() as work:
        assert outbox.retained(work) == []
        assert [one.payload for one in outbox.claim(work, 9)] == [b'{"ids":["1"]}', b'{"ids":["2"]}', b""]
