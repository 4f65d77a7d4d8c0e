"""The command line where the disk takes no more, and where the file or its folder is read-only.

Used by server.py; the command runs in forks of that process.
"""

from __future__ import annotations

import io
import os
import resource
import sqlite3
import stat
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import killer
from killer import Study
from recorded_pool import host_of, library_landscapes, task_of

from tunekit import arguments, cli, hosts
from tunekit.evaluate.host import Host
from tunekit.store import database

NOBODY = 65534
NO_ROOM = ("the disk is full", "the disk reports an error", "cannot open the file")
"""What is said where there is no room: with none for its first page SQLite cannot even open."""


@dataclass
class Ended:
    """How a command ended, and what it said."""

    status: int
    said: str
    stored: set[str]


def tune_by_command(study: Study, before: Callable[[], None] = lambda: None) -> Ended:
    """`tunekit tune` in a fork, whose GPU answers from a recorded landscape.

    Args:
        study: what is tuned.
        before: called in the fork when everything is imported.
    """
    said, theirs = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        _run(study, before, theirs, tell)
    os.close(theirs)
    os.close(tell)
    with os.fdopen(said) as stderr, os.fdopen(told) as lines:
        text, stored = stderr.read(), {line.split()[1] for line in lines}
    return Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text, stored)


def _run(study: Study, before: Callable[[], None], stderr: int, tell: int) -> None:
    status = 99
    try:
        sys.stderr = os.fdopen(stderr, "w", buffering=1)
        sys.stdout = io.StringIO()
        killer.Told.say = staticmethod(lambda text: os.write(tell, f"{text}\n".encode()))
        task = task_of(study.landscape, None)

        def make_host(*_: object) -> Host:
            return host_of(study.landscape, 0.0)

        hosts.make_host = make_host  # type: ignore[assignment]
        arguments.shape_tasks = lambda *_: [task]  # type: ignore[assignment]
        database.Store = killer.Told
        before()
        status = cli.main(["tune", "it", "--shape", "1", "--exhaustive", "--db", str(study.path)])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def fill(sizes: list[int], folder: Path) -> dict[str, Any]:
    """Let no file grow past each of these sizes, in bytes, and then go on with room.

    A limit on the size of a file stands in for a full disk.
    """
    (landscape, *_) = library_landscapes()
    totals: Counter[str] = Counter()
    for size in sizes:
        study = Study(folder / f"{size}.db", landscape, None)

        def limit(size: int = size) -> None:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

        for _ in range(2):  # the second finds what the first left, and no more room
            ended = tune_by_command(study, limit)
            study.acknowledged |= ended.stored
            killer.check(study)
            if ended.status:
                _is_one_line(ended, study, NO_ROOM)
                totals["full"] += 1
        totals["kept"] += len(study.acknowledged)
        killer.finish(study)
    return totals


def forbid(folder: Path) -> dict[str, Any]:
    """Read-only files and folders: by another user where this one may do anything."""
    (landscape, *_) = library_landscapes()
    totals: Counter[str] = Counter()
    folder.chmod(0o755)
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    for name, file_mode, folder_mode in (
        ("file", 0o444, 0o777),
        ("folder", 0o666, 0o555),
        ("both", 0o444, 0o555),
    ):
        place = folder / name
        place.mkdir()
        study = Study(place / "studies.db", landscape, None)
        killer.finish(study)
        before = killer.check(study)
        with closing(sqlite3.connect(study.path)) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for each in place.iterdir():
            each.chmod(file_mode)
        place.chmod(folder_mode)
        ended = tune_by_command(study, _become_nobody)
        place.chmod(0o777)
        for each in place.iterdir():
            each.chmod(0o666)
        _is_one_line(ended, study, ("cannot write to it", "cannot open the file", "its rights"))
        assert not ended.stored
        assert killer.check(study) == before
        killer.finish(study)
        totals["refused"] += 1
    return totals


def _become_nobody() -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _is_one_line(ended: Ended, study: Study, expected: tuple[str, ...]) -> None:
    assert ended.status == 1, (ended.status, ended.said)
    lines = ended.said.strip().splitlines()
    assert len(lines) == 1, ended.said
    assert lines[0].startswith(f"tunekit: {study.path}: "), ended.said
    assert any(what in lines[0] for what in expected), ended.said
    assert "; " in lines[0], "it does not say what to do"
