"""Remotes that another satellite checks: only those it was told to, and unknown, not offline, when it is gone."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import device_config, device_views, devices, proxied, proxying
from hub.errors import Conflict, Invalid
from hub.presence import Evidence, Heard, Report, hear, lose_sight, report, silence
from hub.tables import Agent

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=1)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def seen(session, device):
    return device_views.view(session, device.agent_id, device.device_id)


def presence(session, device) -> tuple[str, str]:
    found = seen(session, device)
    return found.presence, found.why


@pytest.fixture
def pair(session, make_device, say):
    """A satellite, the porch, that is online and checks a printer without a token."""
    porch = make_device("Porch")
    printer = devices.register(session, porch.agent_id, "Printer", scopes=[], by="ann")
    say(("porch/state", {"state": "online", "epoch": 1}), at=NOW)
    proxying.assign(session, printer, porch, kind="network", address="10.0.0.9:9100", by="ann")
    return porch, printer


def told(say, remotes, at=NOW, epoch=1, **facts):
    return say(("porch/remotes", {"epoch": epoch, "remotes": remotes}, facts), at=at)


class TestVerdicts:
    """The pure functions."""

    def test_a_device_that_is_there_by_its_own_word_needs_nobody_to_speak_for_it(self):
        own = hear(Evidence(), Heard("state", 1, NOW))
        assert report(own, Report(reachable=False, at=after(1), by="porch", every_s=30)) == own
        assert lose_sight(own, "gone", NOW) == own

    @pytest.mark.parametrize(
        ("reachable", "verdict", "why"),
        [
            (True, "online", "porch reaches it"),
            (False, "offline", "porch does not reach it: refused"),
            (None, "unknown", "porch does not check it: refused"),
        ],
    )
    def test_what_is_reported_is_the_verdict_and_names_its_witness(self, reachable, verdict, why):
        said = "" if reachable else "refused"
        found = report(Evidence(), Report(reachable, NOW, "porch", 30, said))
        assert (found.verdict, found.why, found.source) == (verdict, why, "proxy")
        assert found.bound_s == 43

    def test_silence_is_not_held_against_it_and_its_own_word_ends_it(self):
        found = report(Evidence(), Report(reachable=True, at=NOW, by="porch", every_s=30))
        assert silence(found, after(1e6), LONG_AGO) == (found, False)
        own = hear(found, Heard("state", 1, after(5)))
        assert (own.verdict, own.source) == ("online", "mqtt")
        again = hear(own, Heard("state", 1, after(6), state="lost"))
        assert (again.verdict, again.source) == ("offline", "mqtt")


def test_until_the_first_report_it_is_unknown(session, pair):
    assert presence(session, pair[1]) == ("unknown", "waiting for the first report of porch")


def test_reports_become_presence_of_the_remote_with_its_witness(session, pair, say):
    _, printer = pair
    outcome = told(say, {"printer": {"reachable": True}})
    assert outcome.refusals == []
    assert presence(session, printer) == ("online", "porch reaches it")
    assert seen(session, printer).source == "proxy"
    told(say, {"printer": {"reachable": False, "why": "connection refused"}}, at=after(30))
    assert presence(session, printer) == ("offline", "porch does not reach it: connection refused")
    kept = session.execute(text("SELECT payload FROM retained_topics WHERE topic = 'd/printer/presence'")).scalar_one()
    message = json.loads(kept)
    assert message["presence"] == "offline"


def test_of_others_it_can_say_nothing(session, pair, say, make_device):
    other = make_device("Gate")
    foreign = Agent(name="Elsewhere")
    session.add(foreign)
    session.flush()
    theirs = devices.register(session, foreign.agent_id, "Theirs", scopes=[], by="eve")
    before = [presence(session, one) for one in (other, theirs)]
    said = {name: {"reachable": True} for name in ("gate", "theirs", "nobody", "porch", "printer")}
    outcome = told(say, said)
    assert [presence(session, one) for one in (other, theirs)] == before
    assert presence(session, pair[1])[0] == "online", "what it may say counts all the same"
    assert sorted(one.reason.rpartition(" ")[2] for one in outcome.refusals) == ["gate", "nobody", "porch", "theirs"]


def test_an_older_connection_and_what_was_retained_say_nothing(session, pair, say):
    say(("porch/state", {"state": "online", "epoch": 2}), at=after(1))
    told(say, {"printer": {"reachable": True}}, epoch=1)
    told(say, {"printer": {"reachable": True}}, epoch=2, retained=True)
    assert presence(session, pair[1])[0] == "unknown"


def test_when_the_satellite_is_gone_its_remotes_are_unknown_and_not_offline(session, pair, say):
    _, printer = pair
    told(say, {"printer": {"reachable": True}})
    say(("porch/state", {"state": "lost", "epoch": 1}), at=after(5))
    proxied.lose_sight(session, after(6), LONG_AGO)
    verdict, why = presence(session, printer)
    assert (verdict, why) == ("unknown", "porch, which checks it, is offline: by Will: the connection broke")
    say(("porch/state", {"state": "online", "epoch": 2}), at=after(8))
    told(say, {"printer": {"reachable": True}}, epoch=2, at=after(9))
    assert presence(session, printer)[0] == "online"


def test_when_it_is_silent_about_one_that_one_is_unknown(session, pair, say):
    _, printer = pair
    told(say, {"printer": {"reachable": True}})
    proxied.lose_sight(session, after(99), LONG_AGO)
    assert presence(session, printer)[0] == "online"
    proxied.lose_sight(session, after(200), after(190))
    assert presence(session, printer)[0] == "online", "the hub itself was away"
    proxied.lose_sight(session, after(200), LONG_AGO)
    assert presence(session, printer)[0] == "unknown"
    assert "reported nothing for 0:03:20" in presence(session, printer)[1]


def test_a_busy_remote_is_not_waited_for(database, session, pair, say):
    session.commit()
    with database.transaction() as other:
        other.execute(text("SELECT 1 FROM device_presence WHERE source = 'proxy' FOR UPDATE"))
        assert told(say, {"printer": {"reachable": True}}).refusals == []
    session.rollback()


class TestAssignments:
    """Who may check whom, and what the satellite is told."""

    def test_the_satellites_config_follows(self, session, pair):
        porch, printer = pair
        wanted = device_config.view(session, porch.device_id).desired
        assert wanted == {
            "remotes": [{"remote": "printer", "check": "network", "address": "10.0.0.9:9100", "every_s": 30.0}]
        }
        proxying.end(session, printer, by="ann")
        assert device_config.view(session, porch.device_id).desired == {}
        assert presence(session, printer) == ("unknown", "no satellite checks it any more")

    def test_what_people_set_keeps_it_and_cannot_change_it(self, session, pair):
        porch, _ = pair
        with pytest.raises(Invalid, match="the hub's own"):
            device_config.set_desired(session, porch, {"remotes": []}, by="ann", expected_rev=1)
        after_ = device_config.set_desired(session, porch, {"heartbeat_s": 20}, by="ann", expected_rev=1)
        assert after_.desired.keys() == {"heartbeat_s", "remotes"}

    def test_another_agents_satellite_cannot_be_chosen(self, session, pair):
        foreign = Agent(name="Elsewhere")
        session.add(foreign)
        session.flush()
        theirs = devices.register(session, foreign.agent_id, "Theirs", scopes=[], by="eve")
        with pytest.raises(Invalid, match="same agent"):
            proxying.assign(session, pair[1], theirs, kind="network", address="a:1", by="ann")
        with pytest.raises(Exception, match="proxied_remotes_proxy_fkey"):
            session.execute(text("UPDATE proxied_remotes SET proxy_id = :theirs"), {"theirs": theirs.device_id})

    def test_there_are_no_chains_and_no_rings(self, session, pair, make_device):
        porch, printer = pair
        gate = make_device("Gate")
        for device, proxy in ((porch, printer), (porch, gate), (gate, printer)):
            with pytest.raises(Conflict):
                proxying.assign(session, device, proxy, kind="network", address="a:1", by="ann")
        with pytest.raises(Invalid):
            proxying.assign(session, porch, porch, kind="network", address="a:1", by="ann")

    def test_one_satellite_checks_a_bounded_number(self, session, pair):
        porch, printer = pair
        for n in range(proxying.REMOTES_MAX - 1):
            one = devices.register(session, porch.agent_id, f"R {n}", scopes=[], by="ann")
            proxying.assign(session, one, porch, kind="network", address="a:1", by="ann")
        more = devices.register(session, porch.agent_id, "One more", scopes=[], by="ann")
        with pytest.raises(Conflict, match="checks 24 remotes"):
            proxying.assign(session, more, porch, kind="network", address="a:1", by="ann")
        proxying.assign(session, printer, porch, kind="serial", address="/dev/ttyUSB0", by="ann")

    @pytest.mark.parametrize(
        ("kind", "address"),
        [
            ("network", ""),
            ("network", "printer"),
            ("network", "printer:0"),
            ("network", "printer:70000"),
            ("network", "http://printer:80"),
            ("network", "a b:80"),
            ("network", "::1:80:x"),
            ("network", "x" * 200 + ":80"),
            ("serial", "ttyUSB0"),
            ("serial", "/etc/passwd"),
            ("serial", "/dev/../etc/passwd"),
            ("serial", "/dev/tty\n0"),
            ("bluetooth", "a:1"),
        ],
    )
    def test_addresses_that_are_none_are_refused(self, kind, address):
        with pytest.raises(Invalid):
            proxying.check_address(kind, address)

    @pytest.mark.parametrize(
        ("kind", "address"),
        [
            ("network", "10.0.0.9:9100"),
            ("network", "[fe80::1]:22"),
            ("network", "my-printer.local:631"),
            ("serial", "/dev/serial/by-id/usb-Meter_A+B:1"),
        ],
    )
    def test_addresses(self, kind, address):
        assert proxying.check_address(kind, f" {address} ") == address

    def test_a_remote_that_is_revoked_is_checked_no_more(self, session, pair, say):
        porch, printer = pair
        devices.revoke(session, printer, by="ann")
        assert device_config.view(session, porch.device_id).desired == {}
        assert "not told" in told(say, {"printer": {"reachable": True}}).refusals[0].reason

    def test_of_what_a_deleted_satellite_checked_nothing_is_known(self, session, pair):
        porch, printer = pair
        devices.delete(session, porch, "Porch", by="ann")
        assert presence(session, printer) == ("unknown", "porch, which checked it, was deleted")
        assert seen(session, printer).proxy is None
