"""What a run did, as lines of JSON in a file of its own: from its line any job can be repeated.

A line is written whole as soon as it is known, so that a run that is killed leaves all but its end.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from tunekit.evaluate.job import Job, Outcome
from tunekit.notices import warn
from tunekit.report_json import outcome_to_json
from tunekit.search.events import (
    Asked,
    Began,
    Decided,
    Evaluated,
    Event,
    Offered,
    Raced,
    Ready,
    Shared,
)

FORMAT = 1
MOST_FILES = 50
MOST_BYTES = 50_000_000
"""Of all logs in the folder together; beyond either the oldest are deleted when a run begins."""
MOST_BYTES_A_RUN = 20_000_000
"""A longer log ends there, and says so."""

_NAME = re.compile(r"\d{8}-\d{6}\.\d{3}-\d+\.jsonl")


class RunLog:
    """The log of one run, or none: a log that cannot be written is a warning and stops nothing.

    Args:
        folder: where it is made, with those of earlier runs; None for no log.
        about: what the first line says of the run.

    Attributes:
        path: the file, None if there is none.
        lines: how many it has.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        self.path: Path | None = None
        self.lines = 0
        self._size = 0
        self._file = -1
        self._lock = RLock()  # workers start in threads; a warning is written, too
        if folder is None:
            return
        now = datetime.now(UTC)
        name = f"{now:%Y%m%d-%H%M%S}.{now.microsecond // 1000:03}-{os.getpid()}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            make_room(folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._file = os.open(folder / name, flags, 0o600)
        except OSError as error:
            _warn_of(folder, error)
            return
        self.path = folder / name
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.write("run", {"format": FORMAT, "pid": os.getpid(), **about})

    @property
    def is_open(self) -> bool:
        """Whether what is told is written."""
        return self._file >= 0

    def tell(self, event: Event) -> None:
        """Write what happened."""
        match event:
            case Ready(worker, import_s):
                self.write("ready", {"worker": worker, "import_s": round(import_s, 3)})
            case Began(problem, shape, total, known):
                said = {"problem": asdict(problem), "shape": shape, "total": total, "known": known}
                self.write("began", said)
            case Offered(count, off_list):
                self.write("offered", {"count": count, "off_list": off_list})
            case Asked(configs):
                self.write("asked", {"configs": [dict(each) for each in configs]})
            case Evaluated(job, outcome):
                self.write("evaluated", _of_outcome(outcome) | _of_job(job))
            case Shared(job, evaluation):
                said = {"status": evaluation.status, "reason": evaluation.reason}
                self.write("shared", {"outcome": said} | _of_job(job))
            case Raced(configs, race):
                said = {
                    "configs": [dict(each) for each in configs],
                    "medians_us": [statistics.median(each) for each in race.samples_us],
                    "copy_us": statistics.median(race.copy_us) if race.copy_us else None,
                    "rounds": len(race.copy_us),
                    "disturbance": race.disturbance,
                    "faults": race.faults,
                }
                self.write("raced", said)
            case Decided(winner, decision, stopped):
                said = {
                    "config": dict(winner.config),
                    "time_us": winner.time_us,
                    "source": decision.source,
                    "reason": decision.reason,
                    "stopped": stopped,
                    "speedup": decision.speedup,
                    "copy_us": decision.copy_us,
                }
                self.write("decided", said)

    def write(self, event: str, said: Mapping[str, Any]) -> None:
        """One line: what happened, when, and what is to be said of it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "at": now, **said}, default=str)
        with self._lock:
            if self._file < 0:
                return
            if self._size + len(line) >= MOST_BYTES_A_RUN:
                self._append(json.dumps({"event": "full", "at": now}))
                self._end()
                warn(
                    f"{self.path}: the log is full: what comes after {self._size} bytes is left out"
                )
            else:
                self._append(line)

    def close(self) -> None:
        """Nothing is written after that."""
        with self._lock:
            self._end()

    def _append(self, line: str) -> None:
        assert self.path is not None
        data = f"{line}\n".encode()
        try:
            written = os.write(self._file, data)
            if written < len(data):
                os.write(self._file, data[written:])  # which says why
        except OSError as error:
            self._end()
            _warn_of(self.path, error)
            return
        self._size += len(data)
        self.lines += 1

    def _end(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def make_room(folder: Path) -> None:
    """Delete the oldest logs, so that with a new one there are not too many, nor too much.

    One that is being written stays.
    """
    files = size = 0
    for path in sorted(folder.iterdir(), reverse=True):
        if not _NAME.fullmatch(path.name):
            continue
        with suppress(OSError):  # another run deletes it, too
            files += 1
            size += path.stat().st_size
            too_much = files >= MOST_FILES or size > MOST_BYTES - MOST_BYTES_A_RUN
            if too_much and not _is_being_written(path):
                path.unlink()


def _is_being_written(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass  # a file system without locks
    return False


def _of_outcome(outcome: Outcome) -> dict[str, Any]:
    data = outcome_to_json(outcome)
    del data["samples_us"]  # they are in the database
    return {"outcome": data}


def _of_job(job: Job) -> dict[str, Any]:
    """Such that it can be repeated from another folder, too."""
    location, colon, name = job.kernel.rpartition(":")
    if location.endswith(".py"):
        job = replace(job, kernel=f"{os.path.abspath(location)}{colon}{name}")
    return {"job": job.to_json()}


def _warn_of(path: Path, error: OSError) -> None:
    why = error.strerror or str(error)
    warn(f"{path}: no log is written: {why}; TUNEKIT_LOG=FOLDER puts logs elsewhere")
