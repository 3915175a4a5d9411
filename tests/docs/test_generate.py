"""The generated documents are those of the catalogue, and every reference in them leads somewhere."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub_protocol import messages
from hub_protocol.catalogue import CATALOGUE, decode

SCRIPT = Path(__file__).parents[2] / "docs/generate.py"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documents_are_up_to_date():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_topic_and_field(generate):
    page = generate.protocol_page()
    assert "{{" not in page
    for entry in CATALOGUE:
        assert entry.template.replace("{", "<").replace("}", ">") in page
    # Telemetry is a number, a sample or several: a union has no fields of its own.
    structs = [entry.message for entry in CATALOGUE if entry.kind != "telemetry"] + [messages.Sample]
    assert all(f"| `{field}` |" in page for struct in structs for field in struct.__struct_encode_fields__)


def test_every_reference_leads_somewhere(generate):
    document = json.loads((SCRIPT.parent / "asyncapi.json").read_text())
    references = list(find_references(document))
    assert references
    for reference in references:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def find_references(value: Any):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from find_references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from find_references(inner)


def test_the_document_says_what_the_catalogue_says(generate):
    document = generate.asyncapi()
    assert document["asyncapi"].startswith("3.0")
    for entry in CATALOGUE:
        operation = document["operations"][entry.kind]
        assert document["channels"][entry.kind]["address"] == f"marvain/v1/{entry.template}"
        assert operation["bindings"]["mqtt"]["qos"] == entry.qos
        assert operation["bindings"]["mqtt"]["retain"] is entry.retain
        assert operation["action"] == ("receive" if entry.direction.endswith(" to hub") else "send")


def test_examples_of_the_page_are_messages(generate):
    page = generate.protocol_page()
    for state in ("lost", "online", "bye"):
        example = f'{{"state":"{state}","epoch":17}}'
        assert example in page
        decode("state", example.encode())
    event = page.split("-m '", 1)[1].split("'", 1)[0]
    decode("event", event.encode())
