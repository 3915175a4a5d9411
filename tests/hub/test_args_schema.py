"""What a device says of its arguments: hostile schemas cost little and are named, good ones check and make a form."""

import time

import pytest

from hub import args_schema
from hub.args_schema import Fault, FormField, Unusable

DOUBLING = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 9} for n in range(9)} | {"d9": {"type": "string"}}
BLINK = {
    "type": "object",
    "required": ["times"],
    "properties": {
        "times": {"type": "integer", "minimum": 1, "maximum": 10},
        "colour": {"enum": ["red", "green"], "default": "green", "description": "Of the lamp."},
        "level": {"$ref": "#/$defs/level"},
        "soft": {"type": "boolean"},
        "label": {"type": "string", "maxLength": 8},
        "steps": {"type": "array", "items": {"$ref": "#/$defs/level"}},
    },
    "additionalProperties": False,
    "$defs": {"level": {"type": "number", "maximum": 1}},
}


def nested(levels: int) -> dict:
    schema: dict = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({"type": "nope"}, "is not a JSON Schema"),
        ({"properties": [1]}, "is not a JSON Schema"),
        ({"properties": {"a": {"pattern": "("}}}, "regex"),
        ({"pattern": "(?=a)b"}, "regex"),
        ({"pattern": "(a{1000}){1000}"}, "regex"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "only its own"),
        ({"$ref": "file:///etc/passwd"}, "only its own"),
        ({"$ref": "#"}, "only its own"),
        ({"$ref": "#/$defs/none"}, "not there"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "refers to itself"),
        ({"$dynamicRef": "#a"}, "uses $dynamicRef"),
        ({"$ref": "#/$defs/d0", "$defs": DOUBLING}, "has more than"),
        (nested(100), "nested too deeply"),
        (nested(5_000), "nested too deeply"),
        ({"description": "x" * 20_000}, "larger than"),
        ({"properties": {f"p{n}": {} for n in range(1_200)}}, "has more than"),
    ],
)
def test_a_schema_that_nobody_can_be_held_to_says_why(schema, rule):
    began = time.monotonic()
    for ask in (args_schema.check, args_schema.form_fields, lambda one: args_schema.faults(one, {})):
        with pytest.raises(Unusable, match=rule.replace("$", r"\$")):
            ask(schema)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("dialect", ["http://json-schema.org/draft-07/schema#", "http://127.0.0.1:1/mine"])
def test_nothing_is_fetched_for_a_dialect(dialect):
    assert args_schema.faults({"$schema": dialect, "$id": "http://127.0.0.1:1/x", "required": ["a"]}, {"a": 1}) == []


def test_patterns_take_linear_time():
    schema = {"properties": {"a": {"pattern": "^(a+)+$"}}}
    began = time.monotonic()
    [fault] = args_schema.faults(schema, {"a": "a" * 30_000 + "b"})
    assert fault.field == "a"
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("args", "field", "message"),
    [
        ({}, "times", "is required"),
        ({"times": 12}, "times", "12 is greater than the maximum of 10"),
        ({"times": "x" * 999}, "times", "xxx…"),
        ({"times": 1, "colour": "blue"}, "colour", "is not one of"),
        ({"times": 1, "steps": [0.5, 2]}, "steps.1", "greater than the maximum"),
        ({"times": 1, "more": 1}, "", "'more' was unexpected"),
    ],
)
def test_a_fault_names_its_argument(args, field, message):
    [fault] = args_schema.faults(BLINK, args)
    assert fault.field == field
    assert message in fault.message
    assert len(fault.message) < 250


def test_good_arguments_have_no_faults_and_many_faults_are_cut():
    assert args_schema.faults(BLINK, {"times": 3, "colour": "red", "level": 0.5, "steps": [0, 1]}) == []
    assert len(args_schema.faults({"items": {}, "required": [f"a{n}" for n in range(50)]}, {})) == 10
    assert args_schema.faults({"required": ["a"]}, {}) == [Fault("a", "is required")]


def test_a_form_has_one_field_for_each_argument():
    fields = args_schema.form_fields(BLINK)
    assert fields is not None
    assert [(one.name, one.kind, one.required) for one in fields] == [
        ("times", "integer", True),
        ("colour", "choice", False),
        ("level", "number", False),
        ("soft", "boolean", False),
        ("label", "string", False),
        ("steps", "json", False),
    ]
    assert fields[0] == FormField("times", "integer", required=True, title="times", minimum=1, maximum=10)
    assert (fields[1].choices, fields[1].default, fields[1].about) == (("red", "green"), "green", "Of the lamp.")
    assert fields[4].max_length == 8


@pytest.mark.parametrize(
    "schema",
    [{}, {"type": "object"}, {"type": "array"}, {"anyOf": [{}, {}]}, {"properties": {"a": {}}, "required": ["b"]}],
)
def test_what_is_no_list_of_arguments_is_asked_for_as_json(schema):
    assert args_schema.form_fields(schema) is None


def test_names_of_arguments_may_look_like_keywords():
    schema = {"properties": {"$ref": {"type": "string"}, "enum": {"type": "integer"}, "$id": {"type": "boolean"}}}
    assert [one.name for one in args_schema.form_fields(schema) or []] == ["$ref", "enum", "$id"]
    [fault] = args_schema.faults(schema, {"enum": "x"})
    assert fault.field == "enum"
