"""What a run leaves: lines that are whole, a folder that does not grow, and never a failed run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunekit import runlog
from tunekit.core.config import Config
from tunekit.core.evaluation import (
    Binary,
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.evaluate.job import Job, Outcome, Race
from tunekit.evaluate.job_file import read_job
from tunekit.notices import TunekitWarning
from tunekit.runlog import RunLog, make_room
from tunekit.search.events import Asked, Began, Decided, Evaluated, Offered, Raced, Ready, Shared

ROOT = Path(__file__).resolve().parent.parent
CONFIG = Config(BLOCK_SIZE=1024, num_warps=4)
JOB = Job("mish_mish", (64, 66), "float32", {}, CONFIG, "h100")
WRONG = Outcome(
    Status.WRONG,
    reason="differs",
    binary=Binary("beef", 32, 0, 0, 16, 16),
    max_error=float("inf"),
    grid=(5, 1, 1),
    samples_us=(1.0, 2.0),
    details="all that\nwas said",
)
PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4224}, "float32", "p16", "h100")
ROW = Evaluation(
    PROBLEM, (64, 66), CONFIG, Status.OK, Source.MEASURED,
    Provenance("H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-1", "2026-01-31T00:00:00Z"),
    verified_by=VerifiedBy.DEVICE, time_us=5.0,
)  # fmt: skip


def read(log: RunLog) -> list[dict[str, Any]]:
    assert log.path is not None
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def tell_often(log: RunLog, times: int) -> None:
    for _ in range(times):
        log.tell(Evaluated(JOB, WRONG))


def test_a_line_an_event(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "deep" / "logs", {"command": "tunekit tune"})
    decision = Decision(PROBLEM, Source.MEASURED, ROW.uid, "", "fastest", "2026-01-31T00:00:00Z")
    race = Race([(1.0, 2.0, 4.0)], (1.0, 1.5, 1.0), "power cap", ("",))
    for event in (
        Ready("device:0", 2.5),
        Began(PROBLEM, (64, 66), 60, 3),
        Offered(5, 2),
        Asked([CONFIG]),
        Evaluated(JOB, WRONG),
        Shared(JOB, ROW),
        Raced([CONFIG], race),
        Decided(ROW, decision, "the budget"),
    ):
        log.tell(event)
    log.close()
    lines = read(log)
    assert log.lines == len(lines) == 9
    assert not log.is_open
    assert all(re.fullmatch(r"20\d\d-.+T.+\+00:00", line["at"]) for line in lines)
    names = ["run", "ready", "began", "offered", "asked", "evaluated", "shared"]
    assert [line["event"] for line in lines] == [*names, "raced", "decided"]
    first, ready, began, offered, asked, evaluated, shared, raced, decided = lines
    assert (first["format"], first["command"]) == (runlog.FORMAT, "tunekit tune")
    assert (ready["worker"], ready["import_s"]) == ("device:0", 2.5)
    assert (began["problem"]["kernel"], began["total"], began["known"]) == ("mish_mish", 60, 3)
    assert (offered["count"], offered["off_list"]) == (5, 2)
    assert asked["configs"] == [dict(CONFIG)]
    assert evaluated["outcome"]["details"] == "all that\nwas said"
    assert evaluated["outcome"]["max_error"] == "inf"
    assert evaluated["outcome"].keys() == WRONG.to_json().keys() - {"samples_us"}
    assert shared["outcome"] == {"status": "ok", "reason": ""}
    assert (raced["medians_us"], raced["copy_us"], raced["rounds"]) == ([2.0], 1.0, 3)
    assert (raced["disturbance"], raced["faults"]) == ("power cap", [""])
    assert (decided["config"], decided["stopped"]) == (dict(CONFIG), "the budget")


def test_a_job_can_be_read_from_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = RunLog(tmp_path, {})
    log.tell(Evaluated(JOB, WRONG))
    log.tell(Shared(replace(JOB, kernel="mine.py:GELU", seed=3), ROW))
    log.tell(Evaluated(replace(JOB, kernel="package.mine:GELU+bias"), WRONG))
    assert read_job(f"{log.path}:2") == JOB
    # From wherever it is repeated.
    assert read_job(f"{log.path}:3") == replace(JOB, kernel=f"{tmp_path}/mine.py:GELU", seed=3)
    assert read_job(f"{log.path}:4").kernel == "package.mine:GELU+bias"
    log.close()


def test_it_is_for_the_person_alone(tmp_path: Path) -> None:
    log = RunLog(tmp_path, {})
    assert log.path is not None
    assert log.path.stat().st_mode & 0o777 == 0o600
    log.close()


def test_no_log_is_wanted() -> None:
    log = RunLog(None, {})
    log.tell(Evaluated(JOB, WRONG))
    log.close()
    assert (log.path, log.lines) == (None, 0)


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "logs"):
        with pytest.warns(
            TunekitWarning, match=r"file.*: no log is written: .*TUNEKIT_LOG"
        ) as told:
            log = RunLog(folder, {})
        log.tell(Evaluated(JOB, WRONG))
        log.close()
        assert (log.path, log.lines, len(told)) == (None, 0, 1)


def test_a_disk_that_is_full_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(tmp_path, {})
    log.tell(Evaluated(JOB, WRONG))

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.warns(TunekitWarning, match="No space left") as told:
        tell_often(log, 2)
    log.close()
    assert (len(told), len(read(log)), log.lines) == (1, 2, 2)
    assert not log.is_open


def test_a_log_that_is_too_long_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "MOST_BYTES_A_RUN", 10_000)
    log = RunLog(tmp_path, {})
    with pytest.warns(TunekitWarning, match="the log is full") as told:
        tell_often(log, 100)
    lines = read(log)
    assert len(told) == 1
    assert lines[-1]["event"] == "full"
    assert 5 < log.lines == len(lines) < 100
    assert log.path is not None
    assert log.path.stat().st_size < 10_100


def old_log(folder: Path, day: int, size: int = 1) -> Path:
    path = folder / f"202601{day:02}-000000.000-7.jsonl"
    path.write_bytes(b"x" * size)
    return path


def test_the_oldest_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "MOST_FILES", 3)
    paths = [old_log(tmp_path, day) for day in range(1, 7)]
    others = [tmp_path / name for name in ("notes.jsonl", "20260101-000000.000-7.jsonl.bak")]
    for path in others:
        path.touch()
    log = RunLog(tmp_path, {})
    assert {*tmp_path.iterdir()} == {*paths[-2:], *others, log.path}
    log.close()


def test_no_more_than_so_many_bytes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runlog, "MOST_BYTES", 1000)
    monkeypatch.setattr(runlog, "MOST_BYTES_A_RUN", 400)
    paths = [old_log(tmp_path, day, size=250) for day in range(1, 6)]
    make_room(tmp_path)
    assert {*tmp_path.iterdir()} == {*paths[-2:]}


def test_a_log_that_is_being_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "MOST_FILES", 1)
    path = old_log(tmp_path, 1)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        make_room(tmp_path)
        assert path.exists()
    make_room(tmp_path)
    assert not path.exists()
    log = RunLog(tmp_path, {})
    make_room(tmp_path)
    assert log.path is not None
    assert log.path.exists()
    log.close()


KILLED = """
import sys
from pathlib import Path
from tests.test_runlog import JOB, WRONG
from tunekit.runlog import RunLog
from tunekit.search.events import Evaluated

log = RunLog(Path(sys.argv[1]), {})
while True:
    log.tell(Evaluated(JOB, WRONG))
    print(log.lines, flush=True)
"""


def test_a_run_that_is_killed_leaves_lines_that_are_whole(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 200:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    (path,) = tmp_path.iterdir()
    lines = path.read_text().splitlines()
    assert len(lines) > 200
    assert [json.loads(line)["event"] for line in lines] == ["run"] + ["evaluated"] * (
        len(lines) - 1
    )
    assert read_job(f"{path}:{len(lines)}") == JOB
