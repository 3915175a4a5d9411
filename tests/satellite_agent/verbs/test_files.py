"""`read_file` and `list_directory`: nothing outside the roots, by no way; then parts of what is inside."""

import os

import msgspec
import pytest

from satellite_agent.settings import SettingsError
from satellite_agent.verbs import registry
from satellite_agent.verbs.verb import Job, VerbError


@pytest.fixture
def home(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("grün und blau")
    (root / "sub/b.bin").write_bytes(bytes(range(256)))
    (root / "own").mkdir()
    (root / "own/token").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "outside/secret")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "inner").symlink_to(root / "a.txt")
    os.mkfifo(root / "pipe")
    (tmp_path / "rooted").write_text("secret")
    return root


@pytest.fixture
def verbs(home):
    tables = {"read_file": {"roots": [str(home)]}, "list_directory": {"roots": [str(home)], "max_entries": 3}}
    found = registry.opened(tables, closed=(home / "own", home / "not there"), restarting=lambda _: None)
    return {verb.name: verb for verb in found}


def call(verb, **args):
    return verb.run(msgspec.convert(args, verb.args), Job(10))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("{root}/../outside/secret", "forbidden"),
        ("{root}/sub/../../outside/secret", "forbidden"),
        ("{root}/./a.txt", "forbidden"),
        ("{root}/link", "forbidden"),
        ("{root}/linked/secret", "forbidden"),
        ("{root}/inner", "forbidden"),
        ("{root}ed", "forbidden"),
        ("{root}/../rooted", "forbidden"),
        ("/etc/passwd", "forbidden"),
        ("a.txt", "forbidden"),
        ("/", "forbidden"),
        ("{root}/a.txt\0", "forbidden"),
        ("{root}/own/token", "forbidden"),
        ("{root}/pipe", "no_file"),
        ("{root}/sub", "no_file"),
        ("{root}", "no_file"),
        ("{root}/none", "not_found"),
        ("{root}/a.txt/x", "not_found"),
        ("{root}/" + "x" * 300, "not_found"),
    ],
)
def test_what_may_not_be_read(verbs, home, path, code):
    with pytest.raises(VerbError) as error:
        call(verbs["read_file"], path=path.format(root=home))
    assert error.value.code == code
    assert "secret\n" not in str(error.value)


@pytest.mark.parametrize("path", ["{root}/..", "{root}/linked", "{root}/own", "/", "{root}/../outside"])
def test_what_may_not_be_listed(verbs, home, path):
    with pytest.raises(VerbError) as error:
        call(verbs["list_directory"], path=path.format(root=home))
    assert error.value.code == "forbidden"


def test_an_open_root_does_not_open_what_processes_know():
    [read] = registry.opened({"read_file": {"roots": ["/"]}}, closed=(), restarting=lambda _: None)
    assert call(read, path="/etc/passwd")["size"] > 0
    for path in (f"/proc/{os.getpid()}/environ", "/proc/self/environ", "/proc/uptime"):
        with pytest.raises(VerbError) as error:
            call(read, path=path)
        assert error.value.code == "forbidden"


@pytest.mark.parametrize("roots", [[], ["var"], ["/var/../etc"], "/var"])
def test_roots_that_cannot_be(roots):
    with pytest.raises(SettingsError, match=r"verbs\.read_file"):
        registry.opened({"read_file": {"roots": roots}}, closed=(), restarting=lambda _: None)


def test_a_folder_that_is_swapped_for_a_link_while_it_is_walked_opens_nothing(verbs, home):
    """Whatever somebody renames meanwhile, the answer is the file's own content or a refusal."""
    target = home / "swap"
    target.mkdir()
    (target / "secret").write_text("mine")
    said = set()
    for _ in range(200):
        try:
            said.add(call(verbs["read_file"], path=f"{target}/secret")["text"])
        except VerbError as error:
            said.add(error.code)
        if target.is_symlink():
            target.unlink()
            (home / "away").rename(target)
        else:
            target.rename(home / "away")
            target.symlink_to(home.parent / "outside")
    assert said == {"mine", "forbidden"}


def test_text_comes_as_text_and_other_bytes_as_base64(verbs, home):
    read = verbs["read_file"]
    whole = call(read, path=f"{home}/a.txt")
    assert (whole["text"], whole["size"], whole["bytes"], whole["more"]) == ("grün und blau", 14, 14, False)
    assert call(read, path=f"{home}/sub/b.bin")["base64"].startswith("AAEC")
    (home / "empty").touch()
    assert call(read, path=f"{home}/empty")["text"] == ""


def test_a_file_is_read_part_by_part_and_no_character_is_cut(verbs, home):
    text, offset = "", 0
    while True:
        part = call(verbs["read_file"], path=f"{home}/a.txt", offset=offset, length=3)
        text += part["text"]
        offset += part["bytes"]
        if not part["more"]:
            break
    assert text == "grün und blau"
    assert call(verbs["read_file"], path=f"{home}/a.txt", offset=10**12)["bytes"] == 0


def test_the_largest_answer_can_travel(home):
    (home / "escapes").write_bytes(b"\x1b" * 100_000)
    (home / "bytes").write_bytes(b"\xff" * 100_000)
    [read] = registry.opened(
        {"read_file": {"roots": [str(home)], "max_bytes": 45_000}}, closed=(), restarting=lambda _: None
    )
    for name in ("escapes", "bytes"):
        part = call(read, path=f"{home}/{name}", length=45_000)
        assert part["more"]
        assert len(msgspec.json.encode(part)) < 65_000


def test_a_folder_is_listed_page_by_page(verbs, home):
    first = call(verbs["list_directory"], path=str(home))
    assert [(one["name"], one["type"]) for one in first["entries"]] == [
        ("a.txt", "file"),
        ("inner", "link"),
        ("link", "link"),
    ]
    assert (first["count"], first["more"], first["entries"][0]["size"]) == (7, True, 14)
    second = call(verbs["list_directory"], path=f"{home}/", after="link")
    assert [one["type"] for one in second["entries"]] == ["link", "folder", "other"]
    assert not call(verbs["list_directory"], path=str(home), after="pipe")["more"]


def test_odd_and_long_names_can_travel(home):
    folder = home / "sub"
    for number in range(300):
        (folder / f"{number:03}{'ü' * 120}").touch()
    (folder / os.fsdecode(b"\xff\xfe")).touch()
    [listing] = registry.opened(
        {"list_directory": {"roots": [str(home)], "max_entries": 1000}}, closed=(), restarting=lambda _: None
    )
    found = call(listing, path=str(folder))
    assert found["more"]
    assert len(msgspec.json.encode(found)) < 65_000
    last = call(listing, path=str(folder), after="3")
    assert [one["name"] for one in last["entries"]] == ["b.bin", "\ufffd\ufffd"]
