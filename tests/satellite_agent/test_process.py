"""Programs: bounded in time and output, deaf to the satellite's environment, and nothing of them is left."""

import sys
import threading
import time
from pathlib import Path

import pytest

from satellite_agent import process
from satellite_agent.process import Limits
from satellite_agent.verbs.verb import Job, VerbError

PYTHON = sys.executable


def run(code: str, *, timeout_s: float = 20, output_max_bytes: int = 16_384, job: Job | None = None, **more):
    return process.run([PYTHON, "-c", code], job or Job(30), Limits(timeout_s, output_max_bytes), **more)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("program", ["/nonexistent", "/etc/passwd", "/tmp", "/bin/ls\0"])
def test_what_is_no_program_is_an_error(program):
    with pytest.raises(VerbError) as error:
        process.run([program], Job(5), Limits())
    assert error.value.code == "no_program"


def test_it_is_killed_at_its_limit_with_all_that_it_started(tmp_path):
    children = tmp_path / "children"
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(children)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)\n"
    )
    began = time.monotonic()
    with pytest.raises(VerbError) as error:
        run(code, timeout_s=1)
    assert error.value.code == "time_limit"
    assert time.monotonic() - began < 5
    end = time.monotonic() + 5
    pids = [int(pid) for pid in children.read_text().split()]
    while any(map(lives, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(lives, pids))


def test_what_it_leaves_behind_is_killed_too_and_its_open_pipe_holds_nobody_up(tmp_path):
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
    )
    began = time.monotonic()
    done = run(code)
    assert time.monotonic() - began < 5
    pid, end = int(done.stdout), time.monotonic() + 5
    while lives(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not lives(pid)


def test_the_commands_deadline_and_a_cancel_end_it():
    with pytest.raises(VerbError) as error:
        run("import time; time.sleep(60)", job=Job(0.5))
    assert error.value.code == "deadline"
    job = Job(60)
    threading.Timer(0.3, job.stop, ("cancelled", "no more")).start()
    with pytest.raises(VerbError) as error:
        run("import time; time.sleep(60)", job=job)
    assert error.value.code == "cancelled"


def test_output_beyond_the_limit_is_dropped_and_does_not_stop_it():
    done = run(
        "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('e' * 2_000_000)", output_max_bytes=1000
    )
    assert (done.exit_code, done.stdout, done.stderr, done.truncated) == (0, b"x" * 1000, b"e" * 1000, True)


def test_it_gets_a_small_environment_an_empty_input_and_no_open_files(monkeypatch):
    monkeypatch.setenv("MARVAIN_SATELLITE_TOKEN", "secret")
    done = run(
        "import os, sys; print(sorted(os.environ), sys.stdin.read() == '', os.getcwd(), os.getpgrp() == os.getpid(), "
        "len(os.listdir('/proc/self/fd')))",
        environment={"COLOUR": "red"},
    )
    names = {"COLOUR", "LANG", "PATH"} | ({"LC_CTYPE"} if b"LC_CTYPE" in done.stdout else set())
    assert done.stdout.decode().split("]")[0] + "]" == str(sorted(names))
    assert done.stdout.decode().split("]")[1].split() == ["True", "/", "True", "4"]


def test_a_large_input_and_a_large_output_do_not_block_each_other():
    text = b"y" * 1_000_000
    done = run("import sys; sys.stdout.write(sys.stdin.read())", stdin=text, output_max_bytes=2_000_000)
    assert done.stdout == text


def test_an_input_that_nobody_reads_is_no_error():
    assert run("pass", stdin=b"y" * 1_000_000).exit_code == 0


def test_no_descriptor_is_left_open():
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    run("pass", stdin=b"x")
    with pytest.raises(VerbError):
        run("import time; time.sleep(9)", timeout_s=0.1)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
