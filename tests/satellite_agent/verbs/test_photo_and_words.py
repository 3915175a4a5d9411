"""`capture_photo`, `say`, `notify`: configured commands, whose output and input are bounded and never a shell's."""

import base64
import sys

import msgspec
import pytest

from satellite_agent.settings import SettingsError
from satellite_agent.verbs import registry
from satellite_agent.verbs.verb import Job, VerbError

PYTHON = sys.executable
JPEG = b"\xff\xd8\xff\xe0"


def opened(name, **table):
    [verb] = registry.opened({name: table}, closed=(), restarting=lambda _: None)
    return verb


def call(verb, **args):
    return verb.run(msgspec.convert(args, verb.args), Job(20))


def camera(code, **more):
    return opened("capture_photo", command=[PYTHON, "-c", f"import sys; {code}"], **more)


def writes(size, start=JPEG):
    return f"sys.stdout.buffer.write({start!r} + b'x' * {size})"


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"command": ["/bin/cat"], "device": "/dev/video0"},
        {"command": ["fswebcam"]},
        {"command": ["/bin/cat", "{x}"]},
        {"device": "video0"},
        {"command": ["/bin/cat"], "folder": "photos"},
    ],
)
def test_a_camera_that_cannot_be(table):
    with pytest.raises(SettingsError, match=r"verbs\.capture_photo"):
        opened("capture_photo", **table)


@pytest.mark.parametrize(
    ("code", "more", "fault"),
    [
        ("sys.exit('no such device')", {}, "no_picture"),
        ("print('hello')", {}, "no_picture"),
        ("pass", {}, "no_picture"),
        (writes(50_000), {}, "too_large"),
        (writes(2_000), {"max_bytes": 1_000}, "too_large"),
        (writes(10), {"folder": "/dev/null/photos"}, "not_kept"),
    ],
)
def test_what_is_no_picture_or_fits_nowhere_is_an_error(code, more, fault):
    with pytest.raises(VerbError) as error:
        call(camera(code, **more))
    assert error.value.code == fault


def test_a_small_picture_travels_in_the_reply():
    taken = call(camera(writes(44_000)))
    assert base64.b64decode(taken["base64"]) == JPEG + b"x" * 44_000
    assert (taken["type"], len(msgspec.json.encode(taken)) < 65_000) == ("image/jpeg", True)


def test_a_large_one_stays_in_the_folder_and_the_oldest_go(tmp_path):
    folder = tmp_path / "photos"
    verb = camera(writes(200_000, b"\x89PNG\r\n\x1a\n"), folder=str(folder), keep=2)
    taken = [call(verb) for _ in range(3)]
    kept = sorted(str(file) for file in folder.iterdir())
    assert len(kept) == 2
    assert set(kept) <= {one["file"] for one in taken}
    assert all("base64" not in one for one in taken)
    assert (folder.stat().st_mode & 0o777, taken[-1]["bytes"]) == (0o700, 200_008)


@pytest.mark.parametrize(
    ("name", "command"), [("say", ["/bin/cat", "{title}"]), ("notify", ["/bin/cat", "{x}"]), ("say", ["espeak"])]
)
def test_a_command_that_cannot_be(name, command):
    with pytest.raises(SettingsError, match=rf"verbs\.{name}"):
        opened(name, command=command)


def test_the_text_is_one_argument_or_the_input_and_never_an_option(tmp_path):
    out = tmp_path / "said"
    write = f"import sys; open({str(out)!r}, 'w').write(repr(sys.argv[1:]) + sys.stdin.read())"
    text = "$(id); 'two' \"words\"\x1b[2J\nnext"
    plain = text.replace("\x1b", " ").replace("\n", " ")
    call(opened("say", command=[PYTHON, "-c", write, "{text}"]), text=text)
    assert out.read_text() == repr([plain])
    call(opened("say", command=[PYTHON, "-c", write]), text=text)
    assert out.read_text() == f"[]{plain}\n"
    call(opened("notify", command=[PYTHON, "-c", write, "--", "{title}", "{text}"]), text="-x", title="Door")
    assert out.read_text() == repr(["--", "Door", "-x"])
    with pytest.raises(VerbError, match="put -- before"):
        call(opened("say", command=[PYTHON, "-c", write, "{text}"]), text="--help")


def test_a_text_that_is_too_long_or_empty_is_refused_and_a_failure_is_one():
    verb = opened("say", command=["/bin/false"])
    for text in ("", "x" * 1_001):
        with pytest.raises(msgspec.ValidationError):
            call(verb, text=text)
    with pytest.raises(VerbError) as error:
        call(verb, text="hello")
    assert error.value.code == "exit_1"
