"""`run_action`: what the config does not name cannot be run, and no argument becomes anything but itself."""

import sys

import msgspec
import pytest

from satellite_agent.settings import SettingsError
from satellite_agent.verbs import registry
from satellite_agent.verbs.actions import Action
from satellite_agent.verbs.verb import Job, VerbError

PYTHON = sys.executable
ECHO = [PYTHON, "-c", "import sys; print(sys.argv[1:])"]


def opened(**actions):
    [verb] = registry.opened({"run_action": actions}, closed=(), restarting=lambda _: None)
    return verb


def call(verb, name, within_s=30, **args):
    return verb.run(msgspec.convert({"name": name, "args": args}, verb.args), Job(within_s))


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({}, "command"),
        ({"command": []}, "must name a program"),
        ({"command": ["mpc", "play"]}, "absolute path"),
        ({"command": "/bin/ls -l"}, "Expected `array`"),
        ({"command": ["/bin/{x}"], "args": {"x": {"type": "integer"}}}, "program itself"),
        ({"command": ["/bin/ls", "{x}"]}, "which x is not"),
        ({"command": ["/bin/ls"], "args": {"x": {"type": "integer"}}}, "which x is not"),
        ({"command": ["/bin/ls", "{x!r}"]}, "a place is a name in braces"),
        ({"command": ["/bin/ls", "{}"]}, "a place is a name in braces"),
        ({"command": ["/bin/ls", "{x.y}"]}, "plain name"),
        ({"command": ["/bin/ls", "{x"]}, "brace"),
        ({"command": ["/bin/ls", "{x}"], "args": {"x": {}}}, "a text needs a pattern or choices"),
        ({"command": ["/bin/ls", "{x}"], "args": {"x": {"pattern": "("}}}, "pattern cannot be read"),
        ({"command": ["/bin/ls", "{x}"], "args": {"x": {"type": "integer", "max": 3, "default": 4}}}, "breaks its own"),
        ({"command": ["/bin/ls"], "timeout_s": 0}, "timeout_s"),
        ({"command": ["/bin/ls"], "shell": True}, "shell"),
        ({"command": ["/bin/ls"], "progress": "\\d+%"}, "needs a group"),
        ({"command": ["/bin/ls"], "directory": "tmp"}, "directory"),
    ],
)
def test_a_bad_action_is_named_when_the_config_is_read(action, says):
    with pytest.raises(SettingsError) as error:
        opened(bad=action)
    assert str(error.value).startswith("verbs.run_action: bad: ")
    assert says in str(error.value)


def test_no_action_and_a_bad_name_are_refused():
    for actions in ({}, {"a b": {"command": ["/bin/ls"]}}):
        with pytest.raises(SettingsError, match=r"verbs\.run_action"):
            opened(**actions)


@pytest.mark.parametrize(
    ("rule", "value", "says"),
    [
        ({"pattern": "[a-z]+"}, "a b", "must match"),
        ({"pattern": "[a-z]+"}, "a\n", "control characters"),
        ({"pattern": "[a-z]*"}, "x" * 300, "at most 200"),
        ({"pattern": ".*"}, "-rf", "must not begin with -"),
        ({"pattern": ".*"}, 3, "is a text"),
        ({"pattern": ".*"}, ["a"], "is a text"),
        ({"choices": ["on", "off"]}, "on ", "is one of on, off"),
        ({"type": "integer", "min": 0, "max": 100}, 101, "from 0 to 100"),
        ({"type": "integer"}, True, "is a number"),
        ({"type": "integer"}, "3", "is a number"),
        ({"type": "integer"}, 3.5, "whole"),
        ({"type": "number"}, float("nan"), "is a number"),
        ({"pattern": ".*"}, None, "is required"),
    ],
)
def test_an_argument_that_breaks_its_rule_runs_nothing(tmp_path, rule, value, says):
    mark = tmp_path / "ran"
    verb = opened(act={"command": ["/usr/bin/touch", str(mark), "{x}"], "args": {"x": rule}})
    with pytest.raises(VerbError, match=says) as error:
        call(verb, "act", **({} if value is None else {"x": value}))
    assert error.value.code == "invalid_args"
    assert not mark.exists()


def test_an_unknown_action_or_argument_is_refused_with_those_that_there_are():
    verb = opened(act={"command": ["/bin/true"]})
    with pytest.raises(VerbError, match="can do act"):
        call(verb, "sh")
    with pytest.raises(VerbError, match="is unknown"):
        call(verb, "act", x=1)


def test_arguments_stay_single_words_whatever_they_hold():
    hostile = "$(touch /tmp/x); `id` | cat & 'a\" {y} *"
    verb = opened(
        act={
            "command": [*ECHO, "--say={x}", "{n}", "{{x}}", "--", "{x}"],
            "args": {"x": {"pattern": ".*"}, "n": {"type": "integer", "default": -5}},
        }
    )
    done = call(verb, "act", x=hostile)
    assert done["stdout"].strip() == str([f"--say={hostile}", "-5", "{x}", "--", hostile])
    assert call(verb, "act", x="-rf")["stdout"].strip().endswith("'--', '-rf']")


def test_a_failure_is_a_failure_with_the_last_words():
    verb = opened(act={"command": [PYTHON, "-c", "import sys; sys.exit('the motor is stuck')"]})
    with pytest.raises(VerbError, match="exit code 1: the motor is stuck") as error:
        call(verb, "act")
    assert error.value.code == "exit_1"


def test_output_is_bounded_and_can_travel():
    verb = opened(act={"command": [PYTHON, "-c", r"print('\x1b\0' * 50_000)"], "output_max_bytes": 24_000})
    done = call(verb, "act")
    assert done["truncated"]
    assert len(msgspec.json.encode(done)) < 65_000
    assert "\0" not in done["stdout"]


def test_progress_is_read_from_what_it_prints():
    told = []
    verb = opened(act={"command": [PYTHON, "-c", "print('12% done')"], "progress": r"(\d+)%"})
    verb.run(verb.args("act"), Job(30, lambda done, message: told.append((done, message))))
    assert told == [(0.12, "12%")]


def test_hello_tells_what_can_be_done():
    verb = opened(
        play={"command": ["/bin/true", "{n}"], "about": "the radio", "args": {"n": {"type": "integer", "min": 1}}},
        stop={"command": ["/bin/true"]},
    )
    schema = verb.announced().args_schema
    assert schema["properties"]["name"]["enum"] == ["play", "stop"]
    assert "play: the radio, takes n: integer from 1" in schema["properties"]["name"]["description"]
    many = opened(**{f"a{n}": {"command": ["/bin/true"], "about": "x" * 200} for n in range(100)})
    assert len(msgspec.json.encode(many.announced())) < 16_384
    assert verb.risk == "high"


def test_an_action_reads_back_as_itself():
    assert msgspec.convert({"command": ["/bin/true"]}, Action).fault() is None
