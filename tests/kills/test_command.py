"""The real command and its real worker processes: killed, and interrupted, at any moment."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tunekit.core.evaluation import Status
from tunekit.store.database import Store

ROOT = Path(__file__).resolve().parents[2]
MARK = "TUNEKIT_TEST_MARK"
INTERRUPTED = (
    "tunekit: interrupted; every finished evaluation is stored, and the same command goes on from "
    "there"
)
LONGEST_S = 240.0
"""For a step that takes seconds on an idle machine."""
LEAVE_S = 20.0


class Command:
    """`tunekit tune` for a GPU that is not here, whose processes can be told by a mark."""

    def __init__(self, database: Path, mark: str, trials: int, **variables: str) -> None:
        self.database, self._mark = database, f"{MARK}={mark}".encode()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: mark}
        environment |= variables
        tune = ["tune", "identity", "--shape", "4096", "--target", "rtx4090"]
        options = ["--trials", str(trials), "--db", str(database)]
        self._errors = database.with_name(f"{mark}.err")
        with self._errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunekit", *tune, *options],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )

    @property
    def said(self) -> list[str]:
        return self._errors.read_text().strip().splitlines()

    def others(self, holding: str = "") -> dict[int, list[str]]:
        """The processes that came of it, but for itself: their command lines by their numbers."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_bytes().decode().split("\0")
                    found[int(folder.name)] = words
            except OSError:
                continue  # it has ended, or is another user's
        found.pop(self.process.pid, None)
        return {pid: words for pid, words in found.items() if holding in "\0".join(words)}

    def wait_for(self, what: Callable[[], object]) -> bool:
        """Whether it comes true before the command ends."""
        until = time.monotonic() + LONGEST_S
        while not what():
            assert time.monotonic() < until, self.said[-3:]
            if self.process.poll() is not None:
                return False
            time.sleep(0.005)
        return True

    def wait_for_rows(self, count: int) -> bool:
        return self.wait_for(lambda: self.rows() >= count)

    def rows(self) -> int:
        return len(stored(self.database))

    def end(self) -> int:
        return self.process.wait(LONGEST_S)

    def left(self) -> dict[int, list[str]]:
        """Which of the processes that it started are there for seconds after it."""
        until = time.monotonic() + LEAVE_S
        while (others := self.others()) and time.monotonic() < until:
            time.sleep(0.05)
        return others


def stored(database: Path) -> list[tuple[str, str]]:
    """Configuration and status of what is in the file."""
    if not database.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as raw:
            return raw.execute("SELECT config, status FROM evaluations").fetchall()
    except sqlite3.OperationalError:
        return []  # its tables are being made


def is_sound(database: Path) -> bool:
    if not database.exists():
        return True
    with closing(sqlite3.connect(database)) as raw:
        return raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


Begin = Callable[..., Command]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts the command, of so many trials, on one database; in the end nothing of it is left."""
    begun: list[Command] = []

    def start(trials: int, **variables: str) -> Command:
        mark = f"{os.getpid()}-{tmp_path.name}-{len(begun)}"
        begun.append(Command(tmp_path / "studies.db", mark, trials, **variables))
        return begun[-1]

    yield start
    for command in begun:
        if command.process.poll() is None:
            command.process.kill()
            command.process.wait()
        for pid in command.others():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "kills", [1, pytest.param(12, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]
)
def test_a_tuner_that_is_killed_leaves_no_process_and_its_command_goes_on(
    kills: int, begin: Begin, tally: Callable[[str, str, int], None]
) -> None:
    draw = random.Random(11)
    seen: list[tuple[str, str]] = []
    trials = 4 + 2 * kills
    for number in range(kills):
        command = begin(trials)
        # Now and then anywhere in its start, else while it evaluates.
        if number % 3 != 2:
            rows = len(seen) + draw.randrange(1, 3)
            assert command.wait_for_rows(rows)
            time.sleep(draw.uniform(0.0, 0.05))
        else:
            time.sleep(draw.uniform(0.0, 4.0))
        command.process.kill()
        assert command.end() == -signal.SIGKILL
        assert not command.left()
        assert is_sound(command.database)
        now = stored(command.database)
        assert now[: len(seen)] == seen
        seen = now
    command = begin(trials)
    assert command.end() == 0, command.said[-3:]
    assert not command.left()
    rows = stored(command.database)
    assert rows[: len(seen)] == seen
    assert Counter(config for config, _ in rows).most_common(1)[0][1] == 1
    assert len(rows) == trials
    assert {status for _, status in rows} == {"ok"}
    with Store.open(command.database, readonly=True) as store:
        assert len(store.cache()) == 1
    tally("Kills", "tuners with real workers killed, no process left", kills)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_costs_one_configuration_at_most(
    begin: Begin, tally: Callable[[str, str, int], None]
) -> None:
    draw = random.Random(5)
    trials, kills = 60, 0
    command = begin(trials)
    while kills < 8 and command.wait_for(lambda least=2 + kills: starts() >= least):
        time.sleep(draw.uniform(0.0, 0.3))
        of_mode = workers(command, draw.choice(["compile", "interpret"]))
        # The process that evaluates, or the one that sees to its end.
        if len(of_mode) == 2:
            os.kill(draw.choice(of_mode), signal.SIGKILL)
            kills += 1
    assert command.end() == 0, command.said[-3:]
    assert not command.left()
    assert kills >= 3
    rows = stored(command.database)
    assert len(rows) == trials
    statuses = Counter(status for _, status in rows)
    assert statuses.keys() <= {Status.OK, Status.CRASHED}
    assert statuses[Status.CRASHED] <= kills
    tally("Kills", "workers killed while their tuner lived", kills)
    tally("Kills", "configurations which that cost", statuses[Status.CRASHED])


def starts() -> int:
    """How many workers have started, by the log of the run."""
    logs = Path(os.environ["XDG_STATE_HOME"]).rglob("*.jsonl")
    return sum(log.read_text().count('"event": "ready"') for log in logs)


def workers(command: Command, mode: str) -> list[int]:
    """The worker of a mode and its parent, without what the worker started."""
    found = command.others(f"worker\0{mode}")
    parents = [pid for pid in found if parent_of(pid) == command.process.pid]
    return parents + [pid for pid in found if parent_of(pid) in parents]


def parent_of(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("signals", "pause_s", "status"),
    [
        pytest.param((signal.SIGINT,), 0.0, 130, marks=pytest.mark.soak),
        ((signal.SIGINT, signal.SIGINT), 0.0, 130),
        pytest.param((signal.SIGINT, signal.SIGINT), 0.3, 130, marks=pytest.mark.soak),
        pytest.param((signal.SIGINT,) * 3, 0.02, 130, marks=pytest.mark.soak),
        pytest.param((signal.SIGTERM,), 0.0, 143, marks=pytest.mark.soak),
        pytest.param((signal.SIGTERM, signal.SIGINT), 0.02, 143, marks=pytest.mark.soak),
        pytest.param((signal.SIGHUP,), 0.0, 129, marks=pytest.mark.soak),
    ],
)
def test_an_interrupt_is_one_line_however_often_it_comes(
    signals: tuple[int, ...], pause_s: float, status: int, begin: Begin
) -> None:
    command = begin(60)
    assert command.wait_for_rows(2)
    for number in signals:
        command.process.send_signal(number)
        time.sleep(pause_s)
    assert command.end() == status, command.said
    assert command.said == [INTERRUPTED]
    assert not command.left()
    assert is_sound(command.database)
    assert 2 <= command.rows() < 60


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_an_interrupt_at_any_moment_of_the_start_is_one_line(begin: Begin) -> None:
    draw = random.Random(3)
    for _ in range(6):
        command = begin(60)
        time.sleep(draw.uniform(1.5, 4.0))  # Python itself has come as far as to the command
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 130
        assert command.said == [INTERRUPTED]
        assert not command.left()


@pytest.mark.soak
def test_a_compiler_that_can_write_no_file_fails_no_configuration(
    begin: Begin, tmp_path: Path
) -> None:
    """Or each would be recorded as one that does not compile, and never be tried again."""
    file = tmp_path / "file"
    file.touch()
    command = begin(5, TRITON_CACHE_DIR=str(file / "cache"))
    assert command.end() == 1
    (line,) = command.said
    assert line.startswith("tunekit: the compiler cannot write its files: ")
    assert not command.left()
    assert stored(command.database) == []
    assert begin(5).end() == 0
