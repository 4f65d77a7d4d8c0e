"""What becomes of workers whose tuner is killed, and of what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).resolve().parents[2]

# As `python -m tunekit.evaluate.worker` begins: kept, and then whatever a kernel does.
KEPT = """
import os, re, signal, subprocess, sys, time
from tunekit.evaluate.keeper import keep

requests, answers = int(sys.argv[1]), int(sys.argv[2])
keep(requests)

def say(word):
    os.write(answers, word.encode())

def daemon():
    if not os.fork():
        os.setsid()
        if not os.fork():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)

say("ready")
"""


class Kept:
    """A process that is kept, and the pipes to it."""

    def __init__(self, script: str, environment: dict[str, str]) -> None:
        their_in, self.requests = os.pipe()
        self.answers, their_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEPT + script, str(their_in), str(their_out)],
            pass_fds=(their_in, their_out),
            env=environment,
            start_new_session=True,
        )
        os.close(their_in)
        os.close(their_out)
        assert os.read(self.answers, 5) == b"ready"

    def close(self) -> None:
        for descriptor in (self.requests, self.answers):
            os.close(descriptor)
        self.process.wait()


@pytest.fixture
def marked() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TUNEKIT_TEST_MARK": str(uuid4())}


def _living(environment: dict[str, str]) -> int:
    mark = f"TUNEKIT_TEST_MARK={environment['TUNEKIT_TEST_MARK']}".encode()
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                count += mark in (process / "environ").read_bytes()
            except OSError:
                continue
    return count


def _await_none(environment: dict[str, str], within_s: float = 10.0) -> None:
    until = time.monotonic() + within_s
    while _living(environment):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("os._exit(3)", 3),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), 2)", -2),
    ],
)
def test_it_ends_as_the_worker_did_and_so_does_all_that_is_left(
    script: str, code: int, marked: dict[str, str]
) -> None:
    kept = Kept("daemon()\nsubprocess.Popen(['sleep', '600'])\n" + script, marked)
    assert kept.process.wait(20) == code
    assert os.read(kept.answers, 1) == b""  # nobody holds the pipe
    kept.close()
    _await_none(marked)


@pytest.mark.parametrize(
    "script",
    [
        "while True: pass",
        "re.match(r'(a+)+$', 'a' * 64 + 'b')",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(600)",
        "daemon(); os.closerange(0, 4096); time.sleep(600)",
        "os.kill(os.getpid(), signal.SIGSTOP)",
    ],
)
def test_whatever_the_worker_does_it_does_not_outlive_the_tuner(
    script: str, marked: dict[str, str]
) -> None:
    kept = Kept(script, marked)
    assert _living(marked) >= 2
    kept.close()  # as the system does when the tuner is killed
    _await_none(marked)


def test_a_worker_that_notices_itself_is_given_the_time(
    tmp_path: Path, marked: dict[str, str]
) -> None:
    note = tmp_path / "note"
    script = f"os.read(requests, 1); open({str(note)!r}, 'w').write('in time'); os._exit(0)"
    kept = Kept(script, marked)
    kept.close()
    assert note.read_text() == "in time"
    assert kept.process.returncode == 0


def test_without_its_keeper_a_worker_ends(marked: dict[str, str]) -> None:
    kept = Kept("time.sleep(600)", marked)
    kept.process.kill()
    kept.close()
    _await_none(marked)


def test_workers_of_a_tuner_that_is_killed(tmp_path: Path, marked: dict[str, str]) -> None:
    """The real thing: a tuner with both workers of an estimate, killed while one hangs."""
    hanging = tmp_path / "hanging.py"
    hanging.write_text(
        "import os, re, time\n"
        f"open({str(tmp_path / 'hangs')!r}, 'w').close()\n"
        "re.match(r'(a+)+$', 'a' * 64 + 'b')\n"
    )
    script = f"""
from tunekit.core.config import Config
from tunekit.evaluate.estimate_pool import EstimatePool
from tunekit.evaluate.job import Job
config = Config(BLOCK_SIZE=128, VEC=1, num_warps=4, num_stages=1)
job = Job({str(hanging) + ":x"!r}, (64,), "float32", {{}}, config, "rtx4090")
list(EstimatePool("rtx4090").evaluate([job]))
"""
    with subprocess.Popen([sys.executable, "-c", script], env=marked) as tuner:
        until = time.monotonic() + 60
        while not (tmp_path / "hangs").exists():
            assert time.monotonic() < until
            assert tuner.poll() is None
            time.sleep(0.02)
        tuner.kill()
    _await_none(marked)


def test_a_worker_that_kills_its_group_leaves_its_keeper(marked: dict[str, str]) -> None:
    kept = Kept("daemon(); os.killpg(0, signal.SIGKILL)", marked)
    assert kept.process.wait(20) == -signal.SIGKILL
    kept.close()
    _await_none(marked)
