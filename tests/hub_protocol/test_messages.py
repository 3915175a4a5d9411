"""Messages: hostile payloads are refused with field and rule; good ones are these bytes exactly."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_protocol import messages as m
from hub_protocol.catalogue import BY_KIND, CATALOGUE, decode, encode
from hub_protocol.errors import Malformed

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
EVENT = b'{"id":"e1","epoch":1,"payload":{}'
SAMPLE = b'{"at":"2026-01-02T03:04:05Z","value":'


@pytest.mark.parametrize("kind", list(BY_KIND))
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b'"x"',
        b"[]",
        b"{}",
        b"{",
        b"{'a':1}",
        b"\xff\xfe{}",
        b"\x00",
        b"[" * 100_00,
        b"NaN",
        b'{"epoch":1}{"epoch":1}',
    ],
)
def test_no_message_is_made_of_rubbish(kind, payload):
    if payload == b"{}" and BY_KIND[kind].message is m.Asking:
        assert decode(kind, payload) == m.Asking()  # "ping the porch" needs no more words than its topic
        return
    with pytest.raises(Malformed) as error:
        decode(kind, payload)
    assert str(error.value)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.kind)
def test_a_payload_over_the_limit_is_refused_before_it_is_read(entry):
    with pytest.raises(Malformed, match=f"at most {entry.max_bytes} bytes"):
        decode(entry.kind, b'{"a":"' + b"x" * entry.max_bytes + b'"}')


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [
        ("state", b'{"state":"online"}', "epoch"),
        ("state", b'{"epoch":1}', "state"),
        ("state", b'{"state":"dancing","epoch":1}', "state"),
        ("state", b'{"state":"online","epoch":0}', "epoch"),
        ("state", b'{"state":"online","epoch":-1}', "epoch"),
        ("state", b'{"state":"online","epoch":1.5}', "epoch"),
        ("state", b'{"state":"online","epoch":"1"}', "epoch"),
        ("state", b'{"state":"online","epoch":true}', "epoch"),
        ("state", b'{"state":"online","epoch":null}', "epoch"),
        ("state", b'{"state":"online","epoch":9007199254740992}', "epoch"),
        ("state", b'{"state":"online","epoch":1' + b"0" * 300 + b"}", "epoch"),
        ("state", b'{"state":"sleeping","epoch":1,"until":"2026-01-02T03:04:05"}', "until"),
        ("state", b'{"state":"sleeping","epoch":1,"until":"tomorrow"}', "until"),
        ("hello", b'{"epoch":1,"protocol":2}', "protocol"),
        ("hello", b'{"epoch":1,"heartbeat_s":0}', "heartbeat_s"),
        ("hello", b'{"epoch":1,"heartbeat_s":1e999}', "heartbeat_s"),
        ("hello", b'{"epoch":1,"capabilities":[]}', "capabilities"),
        ("hello", b'{"epoch":1,"verbs":[{"name":"a b"}]}', "verbs[0].name"),
        ("hello", b'{"epoch":1,"verbs":[{"name":"a","risk":"none"}]}', "verbs[0].risk"),
        ("hello", b'{"epoch":1,"verbs":[{}]}', "verbs[0].name"),
        ("hello", b'{"epoch":1,"verbs":[' + b",".join([b'{"name":"a"}'] * 65) + b"]}", "verbs"),
        ("hello", b'{"epoch":1,"agent":"' + b"x" * 121 + b'"}', "agent"),
        ("heartbeat", b'{"epoch":1,"metrics":{"a":"hot"}}', "metrics[...]"),
        ("heartbeat", b'{"epoch":1,"uptime_s":-1}', "uptime_s"),
        ("event", b'{"id":"e1","epoch":1}', "payload"),
        ("event", b'{"id":"e1","epoch":1,"payload":[]}', "payload"),
        ("event", b'{"id":"e/1","epoch":1,"payload":{}}', "id"),
        ("event", b'{"id":"e1\\n","epoch":1,"payload":{}}', "id"),
        ("event", EVENT + b',"at":"2026-01-02 03:04"}', "at"),
        ("event", EVENT + b',"seq":-1}', "seq"),
        ("event", b'{"id":"e1","epoch":1,"payload":{"a":"\\u0000"}}', ""),
        ("event", b'{"id":"e1","epoch":1,"payload":{"a":"\\\\\\u0000"}}', ""),
        ("event", b'{"id":"e1","epoch":1,"payload":{"a":"\\ud800"}}', ""),
        ("event", b'{"id":"e1","epoch":1,"payload":{"a":"\xc3\x28"}}', ""),
        ("event", b'{"id":"e1","epoch":1,"payload":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", ""),
        ("telemetry", b"1e999", ""),
        ("telemetry", b"-1.1e300", ""),
        ("telemetry", b"-Infinity", ""),
        ("telemetry", b'"21.5"', ""),
        ("telemetry", b"[21.5]", "[0]"),
        ("telemetry", b"[[21.5]]", "[0]"),
        ("telemetry", b'{"value":21.5}', "at"),
        ("telemetry", b'{"at":"2026-01-02T03:04:05Z"}', "value"),
        ("telemetry", b'{"at":"2026-01-02T03:04:05","value":1}', "at"),
        ("telemetry", b'{"at":1767323045,"value":1}', "at"),
        ("telemetry", SAMPLE + b"true}", "value"),
        ("telemetry", SAMPLE + b"null}", "value"),
        ("telemetry", SAMPLE + b"9e999}", "value"),
        ("telemetry", SAMPLE + b"1" + b"0" * 400 + b"}", "value"),
        ("telemetry", b"[" + SAMPLE + b"1}," + SAMPLE + b"false}]", "[1].value"),
        ("telemetry", b"[" + b",".join([SAMPLE + b"1}"] * 501) + b"]", ""),
        ("cmd", b'{"args":{}}', "expires_at"),
        ("cmd", b'{"expires_at":1767323045}', "expires_at"),
        ("reply", b'{"status":"done","epoch":1}', "status"),
        ("reply", b'{"status":"running","epoch":1,"progress":1.1}', "progress"),
        ("reply", b'{"status":"failed","epoch":1,"message":"' + b"x" * 501 + b'"}', "message"),
        ("config", b'{"rev":-1,"values":{}}', "rev"),
        ("config", b'{"rev":1}', "values"),
        ("config_reply", b'{"rev":1,"ok":true}', "epoch"),
        ("config_reply", b'{"epoch":1,"rev":1}', "ok"),
        ("config_reply", b'{"epoch":1,"rev":1,"ok":"yes"}', "ok"),
        ("config_reply", b'{"epoch":1,"rev":1,"ok":true,"reported":[]}', "reported"),
        ("config_reply", b'{"epoch":1,"rev":1,"ok":true,"error":"' + b"x" * 501 + b'"}', "error"),
        ("receipt", b'{"ids":"e1"}', "ids"),
        ("receipt", b'{"ids":[1]}', "ids[0]"),
        ("denied", b'{"action":"dance","topic":"","reason":""}', "action"),
    ],
)
def test_what_breaks_a_rule_is_named(kind, payload, field):
    with pytest.raises(Malformed) as error:
        decode(kind, payload)
    assert error.value.field == field
    assert error.value.rule


def test_a_backslash_before_a_text_is_no_escaped_nul():
    event = decode("event", rb'{"id":"e1","epoch":1,"payload":{"path":"C:\\u0000"}}')
    assert event.payload == {"path": "C:\\u0000"}


def test_a_sample_is_a_number_or_has_a_time_and_several_come_as_a_list():
    assert decode("telemetry", b"-7") == -7.0
    one = m.Sample(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 1.5)
    assert decode("telemetry", SAMPLE + b"1.5}") == one
    assert decode("telemetry", b"[" + b",".join([SAMPLE + b"1.5}"] * 500) + b"]") == [one] * 500


@pytest.mark.parametrize("key", ["", "Heartbeat", "a b", "a/b", "a\\n", "x" * 64])
def test_a_key_of_a_config_follows_its_rule(key):
    with pytest.raises(Malformed) as error:
        decode("config", b'{"rev":1,"values":{"' + key.encode() + b'":1}}')
    assert error.value.field == "values"


def test_unknown_fields_are_ignored():
    assert decode("state", b'{"state":"bye","epoch":2,"mood":"good"}') == m.State("bye", 2)


@given(st.binary(max_size=300), st.sampled_from(sorted(BY_KIND)))
def test_any_bytes_are_a_message_or_malformed(payload, kind):
    refuses_or_decodes(kind, payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
field_names = sorted(
    {field for entry in CATALOGUE for field in getattr(entry.message, "__struct_fields__", m.Sample.__struct_fields__)}
)


@given(st.dictionaries(st.sampled_from(field_names), json_values, max_size=6), st.sampled_from(sorted(BY_KIND)))
def test_any_json_is_a_message_or_malformed(fields, kind):
    refuses_or_decodes(kind, json.dumps(fields).encode())


def refuses_or_decodes(kind, payload):
    try:
        message = decode(kind, payload)
    except Malformed:
        return
    assert decode(kind, encode(message)) == message


EXACT = [
    ("state", m.State("online", 17), b'{"state":"online","epoch":17}'),
    ("state", m.State("sleeping", 17, NOW), b'{"state":"sleeping","epoch":17,"until":"2026-01-02T03:04:05.678000Z"}'),
    ("hello", m.Hello(1), b'{"epoch":1}'),
    (
        "hello",
        m.Hello(1, verbs=[m.Verb("ping", args_schema={"type": "object"})], heartbeat_s=5.0),
        b'{"epoch":1,"verbs":[{"name":"ping","args_schema":{"type":"object"}}],"heartbeat_s":5.0}',
    ),
    (
        "heartbeat",
        m.Heartbeat(1, 2, 3.5, 4, {"load": 0.5}),
        b'{"epoch":1,"n":2,"uptime_s":3.5,"backlog":4,"metrics":{"load":0.5}}',
    ),
    (
        "remotes",
        m.Remotes(1, {"printer": m.Check(reachable=True), "meter": m.Check(reachable=False, why="gone")}),
        b'{"epoch":1,"remotes":{"printer":{"reachable":true},"meter":{"reachable":false,"why":"gone"}}}',
    ),
    (
        "event",
        m.Event("e1", 1, {"angle": 12}, 5, NOW, "hall"),
        b'{"id":"e1","epoch":1,"payload":{"angle":12},"seq":5,"at":"2026-01-02T03:04:05.678000Z","space":"hall"}',
    ),
    ("cmd", m.Command(NOW, 3, {"n": 1}), b'{"expires_at":"2026-01-02T03:04:05.678000Z","epoch":3,"args":{"n":1}}'),
    (
        "reply",
        m.Reply("succeeded", 1, result={"pong": True}),
        b'{"status":"succeeded","epoch":1,"result":{"pong":true}}',
    ),
    ("request", m.Request(1, {"limit": 2}), b'{"epoch":1,"body":{"limit":2}}'),
    (
        "response",
        m.Response(ok=False, error=m.Problem("invalid", "is 1 to 200", "limit")),
        b'{"ok":false,"error":{"code":"invalid","message":"is 1 to 200","field":"limit"}}',
    ),
    (
        "welcome",
        m.Welcome(1, 15.0, ["presence:write"], 0, NOW),
        b'{"epoch":1,"heartbeat_s":15.0,"scopes":["presence:write"],"config_rev":0,"now":"2026-01-02T03:04:05.678000Z"}',
    ),
    ("telemetry", m.Sample(NOW, 21.5), b'{"at":"2026-01-02T03:04:05.678000Z","value":21.5}'),
    ("config", m.Config(7, {"log_level": "debug"}), b'{"rev":7,"values":{"log_level":"debug"}}'),
    (
        "config_reply",
        m.ConfigReply(3, 7, False, "heartbeat_s", {"heartbeat_s": "is 1 to 86400"}, {"heartbeat_s": 15}),
        (
            b'{"epoch":3,"rev":7,"ok":false,"error":"heartbeat_s","refused":{"heartbeat_s":"is 1 to 86400"},'
            b'"reported":{"heartbeat_s":15}}'
        ),
    ),
    ("receipt", m.Receipt(["e1", "c1:succeeded"]), b'{"ids":["e1","c1:succeeded"]}'),
    ("denied", m.Denied("publish", "t", "no", 7), b'{"action":"publish","topic":"t","reason":"no","epoch":7}'),
    (
        "presence",
        m.Presence("offline", NOW, "Will", 3, 1.0),
        b'{"presence":"offline","since":"2026-01-02T03:04:05.678000Z","why":"Will","epoch":3,"bound_s":1.0}',
    ),
    (
        "ext",
        m.Asking(args={"times": 2}, why="the bell"),
        b'{"tool":"","args":{"times":2},"why":"the bell","space":null,"key":null,"ttl_s":null,"digest":"","reason":""}',
    ),
    (
        "ext_actions",
        m.Asking("send_message", {"text": "x"}, key="k"),
        b'{"tool":"send_message","args":{"text":"x"},"why":"","space":null,"key":"k","ttl_s":null,"digest":"","reason":""}',
    ),
    ("out_response", m.Response(ok=True, body={"a": 1}), b'{"ok":true,"body":{"a":1}}'),
    (
        "out_actions",
        m.Pending("a1", "proposed", "notify", {}, "low", "porch", "", "d1", NOW),
        (
            b'{"action_id":"a1","status":"proposed","tool":"notify","args":{},"risk":"low","proposed_by":"porch","why":"",'
            b'"digest":"d1","expires_at":"2026-01-02T03:04:05.678000Z"}'
        ),
    ),
    ("hub_status", m.HubStatus("online", NOW), b'{"status":"online","at":"2026-01-02T03:04:05.678000Z"}'),
    (
        "feed",
        m.Feed("events.new", "a1", 9, NOW, [{"event_id": "e1"}]),
        b'{"type":"events.new","agent_id":"a1","rev":9,"at":"2026-01-02T03:04:05.678000Z","items":[{"event_id":"e1"}]}',
    ),
]


@pytest.mark.parametrize(("kind", "message", "wire"), EXACT)
def test_bytes(kind, message, wire):
    assert encode(message) == wire
    assert decode(kind, wire) == message


def test_every_kind_has_its_bytes_here():
    assert {kind for kind, _, _ in EXACT} == set(BY_KIND)
