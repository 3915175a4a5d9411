"""Presence with evidence: one pure function for what was heard, one for silence; no clock, no database.

A verdict names its witness (`why`) and how late it can be at worst (`bound_s`). The epoch rises with every connection
of a device, so what an older connection left behind (a late Will) can never speak about a newer one.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from hub import flapping
from hub.flapping import Unrest

# `unknown`: nobody who could know has been heard; it is neither there nor gone.
Verdict = Literal["online", "suspect", "offline", "sleeping", "unknown"]
Source = Literal["mqtt", "http", "proxy"]

MISSED_HEARTBEATS: Final = 2
JITTER: Final = 1.1
PROBES: Final = 2
PROBE_WAIT_S: Final = 3.0
# How often the hub looks for silence; part of every bound.
SWEEP_S: Final = 1.0
# A connection that breaks with a closed socket is told by the broker at once.
WILL_BOUND_S: Final = 1.0
# What a satellite needs to check a remote: two tries of three seconds, and the way here.
PROXY_CHECK_S: Final = 10.0
# What a device may have said just before it fell asleep.
_WORK: Final = ("event", "telemetry", "reply", "request", "config_reply")
# Without a time of its own, a sleeping device may sleep for a day.
LONGEST_SLEEP_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a device's connection; times are aware, durations in seconds."""

    epoch: int = 0
    verdict: Verdict = "offline"
    why: str = "never connected"
    since: datetime | None = None
    heartbeat_s: float = 15.0
    last_heard_at: datetime | None = None
    last_hello_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    asleep_until: datetime | None = None
    probes: int = 0
    probed_at: datetime | None = None
    # How it was heard last. What speaks HTTP cannot be asked, only be waited for.
    source: Source = "mqtt"
    # How often it lost its connection lately (hub/flapping.py).
    unrest: float = 0.0
    unrest_at: datetime | None = None
    flapping: bool = False

    @property
    def bound_s(self) -> float:
        """How long this verdict can be wrong at worst: the silence that would be noticed next, in seconds."""
        if self.source == "proxy":
            return self.heartbeat_s * JITTER + PROXY_CHECK_S
        if self.verdict == "offline":
            return WILL_BOUND_S
        return self.heartbeat_s * MISSED_HEARTBEATS * JITTER + PROBES * PROBE_WAIT_S + SWEEP_S


@dataclass(frozen=True, slots=True)
class Heard:
    """One message of a device: its kind by the catalogue, its epoch, when it came, and what the kind adds.

    `epoch` is None where the wire carries none (telemetry over MQTT).
    """

    kind: Literal["state", "hello", "heartbeat", "remotes", "event", "telemetry", "reply", "request", "config_reply"]
    epoch: int | None
    at: datetime
    state: Literal["online", "sleeping", "bye", "lost"] = "online"
    until: datetime | None = None
    heartbeat_s: float | None = None
    # The broker kept it from earlier: it proves what once was, not that the device is there now.
    retained: bool = False
    source: Source = "mqtt"


@dataclass(frozen=True, slots=True)
class Report:
    """What a satellite (`by`, its handle) found of a remote; `reachable` None: it did not look, and says why."""

    reachable: bool | None
    at: datetime
    by: str
    every_s: float
    why: str = ""


def is_stale(evidence: Evidence, epoch: int | None) -> bool:
    """Whether a message with this epoch is from an older connection than the one that is known."""
    return epoch is not None and epoch < evidence.epoch


def hear(evidence: Evidence, heard: Heard) -> Evidence:
    """The evidence after a message; unchanged when the message is from an older connection."""
    if heard.epoch is None:
        return _hear_of_any_connection(evidence, heard)
    return evidence if is_stale(evidence, heard.epoch) else _hear_of_connection(evidence, heard, heard.epoch)


def _hear_of_connection(evidence: Evidence, heard: Heard, epoch: int) -> Evidence:
    before, is_new = evidence, epoch > evidence.epoch
    spoke_itself = evidence.source != "proxy"
    evidence = replace(evidence, source=heard.source)
    if heard.kind == "state" and heard.state in ("lost", "bye"):
        if heard.state == "lost":
            evidence = _lose(evidence, heard.at)
        why = "by Will: the connection broke" if heard.state == "lost" else "said goodbye"
        return _settle(replace(evidence, epoch=epoch), "offline", why, heard.at)
    if is_new:
        evidence = _lose(evidence, heard.at)  # the connection before it ended without a goodbye, or its Will is late
    if heard.retained:
        if not is_new:
            return before
        return _settle(
            replace(evidence, epoch=epoch),
            "suspect",
            "the broker remembers a connection; waiting for a sign of life",
            heard.at,
        )
    evidence = replace(
        evidence,
        epoch=epoch,
        last_heard_at=heard.at,
        last_hello_at=heard.at if heard.kind == "hello" else evidence.last_hello_at,
        last_heartbeat_at=heard.at if heard.kind == "heartbeat" else evidence.last_heartbeat_at,
        heartbeat_s=heard.heartbeat_s or evidence.heartbeat_s,
        source=heard.source,
    )
    if heard.kind == "state" and heard.state == "sleeping":
        latest = heard.at + timedelta(seconds=LONGEST_SLEEP_S)
        # A time that has passed means at once; kept as it came, it may be one that cannot be read back from Postgres.
        until = min(max(heard.until, heard.at), latest) if heard.until else latest
        return _settle(replace(evidence, asleep_until=until), "sleeping", "said it sleeps", heard.at)
    if evidence.verdict == "online" and not is_new and spoke_itself:
        return replace(evidence, probes=0, probed_at=None)
    if evidence.verdict == "sleeping" and not is_new and heard.kind in _WORK:
        return evidence  # what it said just before it fell asleep may arrive after the word that it sleeps
    if heard.source == "http":
        why = f"heard over HTTP ({heard.kind})"
    else:
        why = "connected" if is_new else f"heard again ({heard.kind})"
    return _settle(evidence, "online", why, heard.at)


def _hear_of_any_connection(evidence: Evidence, heard: Heard) -> Evidence:
    """Without an epoch nobody can tell which connection spoke: it prolongs what is known, and brings nobody back."""
    if evidence.verdict != "online" or heard.retained:
        return evidence
    return replace(evidence, last_heard_at=heard.at, probes=0, probed_at=None)


def silence(evidence: Evidence, now: datetime, hub_back_at: datetime) -> tuple[Evidence, bool]:
    """The evidence when nothing was heard until `now`, and whether to send the device a probe (a `ping`).

    `hub_back_at` is when hub and broker were last both there again: what could not be heard before is not held
    against a device until one heartbeat period has passed.
    """
    if evidence.source == "proxy" or evidence.verdict in ("offline", "unknown"):
        return evidence, False  # of what others report for, `lose_sight` judges the silence
    if (now - hub_back_at).total_seconds() < evidence.heartbeat_s * JITTER:
        return evidence, False
    if evidence.verdict == "sleeping":
        return _oversleep(evidence, now), False
    heard_at = evidence.last_heard_at or evidence.since or hub_back_at
    quiet_s = (now - heard_at).total_seconds()
    can_ask = evidence.source == "mqtt"
    if evidence.verdict == "online":
        if quiet_s < evidence.heartbeat_s * MISSED_HEARTBEATS * JITTER:
            return evidence, False
        doing = "asking it" if can_ask else "it speaks HTTP and cannot be asked"
        suspect = _settle(evidence, "suspect", f"no heartbeat for {quiet_s:.0f} s; {doing}", now)
        return replace(suspect, probes=1, probed_at=now), can_ask
    if evidence.probes and evidence.probed_at and (now - evidence.probed_at).total_seconds() < PROBE_WAIT_S:
        return evidence, False
    if evidence.probes < PROBES:
        return replace(evidence, probes=evidence.probes + 1, probed_at=now), can_ask
    why = f"no heartbeat for {quiet_s:.0f} s" + (f" and {PROBES} pings unanswered" if can_ask else " over HTTP")
    return _settle(_lose(evidence, now), "offline", why, now), False


def report(evidence: Evidence, told: Report) -> Evidence:
    """The evidence after a satellite's report; a device that is there by its own word needs nobody to speak for it."""
    if evidence.source != "proxy" and evidence.verdict in ("online", "suspect", "sleeping"):
        return evidence
    evidence = replace(evidence, source="proxy", heartbeat_s=told.every_s)
    because = f": {told.why}" if told.why else ""
    if told.reachable is None:
        return _settle(evidence, "unknown", f"{told.by} does not check it{because}", told.at)
    if told.reachable:
        return _settle(replace(evidence, last_heard_at=told.at), "online", f"{told.by} reaches it", told.at)
    return _settle(_lose(evidence, told.at), "offline", f"{told.by} does not reach it{because}", told.at)


def lose_sight(evidence: Evidence, why: str, now: datetime) -> Evidence:
    """Unknown: whoever reported for the device is gone or silent, and that says nothing of the device."""
    return evidence if evidence.source != "proxy" else _settle(evidence, "unknown", why, now)


def calm(evidence: Evidence, now: datetime) -> Evidence:
    """The evidence of a device that flapped, once it has been quiet for long enough; else unchanged."""
    before = Unrest(evidence.unrest, evidence.unrest_at, evidence.flapping)
    return _with_unrest(evidence, flapping.calm(before, now))


def end(evidence: Evidence, why: str, now: datetime) -> Evidence:
    """Offline by the hub's own act: the device was revoked, or its token was replaced."""
    return _settle(evidence, "offline", why, now)


def _oversleep(evidence: Evidence, now: datetime) -> Evidence:
    due = evidence.asleep_until or now
    if (now - due).total_seconds() < evidence.heartbeat_s * MISSED_HEARTBEATS:
        return evidence
    return _settle(evidence, "offline", "did not wake when it said it would", now)


def _lose(evidence: Evidence, at: datetime) -> Evidence:
    """Count a loss of the connection, of a device that was taken to be there."""
    if evidence.verdict not in ("online", "suspect"):
        return evidence
    return _with_unrest(evidence, flapping.lose(Unrest(evidence.unrest, evidence.unrest_at, evidence.flapping), at))


def _with_unrest(evidence: Evidence, unrest: Unrest) -> Evidence:
    return replace(evidence, unrest=unrest.weight, unrest_at=unrest.at, flapping=unrest.flapping)


def _settle(evidence: Evidence, verdict: Verdict, why: str, now: datetime) -> Evidence:
    since = evidence.since if evidence.verdict == verdict and evidence.since else now
    return replace(
        evidence,
        verdict=verdict,
        why=why,
        since=since,
        probes=0,
        probed_at=None,
        asleep_until=evidence.asleep_until if verdict == "sleeping" else None,
    )
