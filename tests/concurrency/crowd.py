"""Many processes at one database: tuners, readers, and one that keeps the lock for writing.

    python crowd.py TUNERS READERS SECONDS HELD_SECONDS FOLDER

A script and not a test: it has imported everything once, and each process is a fork of it. What it
counted is printed as JSON; what is wrong is raised.
"""

from __future__ import annotations

import json
import mmap
import os
import sqlite3
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kills"))

import optuna
from killer import Told, conditions_of, warm_up
from recorded_pool import host_of, library_landscapes, task_of

from tunekit.errors import ClaimedError
from tunekit.search.knowledge import Knowledge
from tunekit.search.task import Progress
from tunekit.search.tune import tune
from tunekit.store.cache import read_cache, read_cache_like
from tunekit.store.database import Store

SHARED = 3
"""Problems that every tuner has in its list; the others are one tuner's own."""
PAUSE_S = 0.002
READ_PAUSE_S = 0.02


class Lock:
    """The lock for writing, and a number all processes see: odd while it is held."""

    def __init__(self) -> None:
        self._number = mmap.mmap(-1, 8)

    @property
    def number(self) -> int:
        return int.from_bytes(self._number[:8], "little")

    def hold(self, path: Path, until: float, held_s: float) -> Counter[str]:
        """Take it, keep it so long, give it back as long, and again."""
        counted: Counter[str] = Counter()
        with closing(sqlite3.connect(path, timeout=30.0, isolation_level=None)) as raw:
            while time.monotonic() < until:
                raw.execute("BEGIN IMMEDIATE")
                self._count_up()
                time.sleep(held_s)
                self._count_up()
                raw.execute("ROLLBACK")
                counted["held"] += 1
                time.sleep(held_s)
        return counted

    def _count_up(self) -> None:
        self._number[:8] = (self.number + 1).to_bytes(8, "little")


def keep_tuning(which: int, path: Path, until: float, say: Callable[[str], None]) -> Counter[str]:
    """Problem after problem, those first that all have; what was said to be stored is said."""
    counted: Counter[str] = Counter()
    landscapes = library_landscapes()
    own = landscapes[SHARED + which :: 8]
    Told.say = staticmethod(say)
    while time.monotonic() < until:
        for landscape in [*landscapes[:SHARED], *own]:
            if time.monotonic() > until:
                break
            # Each opens the file anew, as another command would.
            with Told.open(path) as store:
                host, knowledge = host_of(landscape, PAUSE_S), Knowledge(None, [store])
                task = task_of(landscape, None)
                try:
                    result = tune(task, host, store, Progress(), knowledge=knowledge)
                except ClaimedError:
                    counted["left to another"] += 1
                else:
                    counted["tuned"] += 1
                    counted["evaluated"] += result.evaluated
    return counted


def keep_reading(path: Path, until: float, lock: Lock) -> Counter[str]:
    """As a program's first calls do, `tunekit show`, and one that reads the shared store."""
    counted: Counter[str] = Counter()
    problem = library_landscapes()[0].problem
    rows = 0

    def all_rows() -> int:
        with Store.open(path, readonly=True) as store:
            return len(store.evaluations(problem))

    readers: list[Callable[[], int]] = [
        lambda: len(read_cache(path)),
        lambda: len(read_cache_like(problem, path)),
        all_rows,
    ]
    while time.monotonic() < until:
        for read in readers:
            began = lock.number
            found = read()
            counted["reads"] += 1
            if began % 2 and lock.number == began:
                counted["reads while the lock was held"] += 1
        time.sleep(READ_PAUSE_S)
        assert found >= rows, "rows are gone"
        rows = found
    return counted


class Member:
    """A process, what it says, and what it counted."""

    def __init__(self, work: Callable[[Callable[[str], None]], Counter[str]], said: Path) -> None:
        self._said = said
        self._pid = os.fork()
        if self._pid:
            return
        status = 1
        try:
            warnings.simplefilter("error")
            with said.open("a", buffering=1) as file:
                counted = work(lambda text: print(text, file=file) and None)
                print(f"counted {json.dumps(counted)}", file=file)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def end(self) -> tuple[set[str], Counter[str]]:
        """Uids it stored, and what it counted."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        assert status == 0, f"{self._said.name} failed"
        lines = [line.split(maxsplit=1) for line in self._said.read_text().splitlines()]
        counted = [json.loads(text) for kind, text in lines if kind == "counted"]
        return {text for kind, text in lines if kind == "evaluation"}, Counter(counted[0])


def check(path: Path, stored: set[str]) -> None:
    """Everything any process was told to be stored is there, once, and every study is complete."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    with Store.open(path, readonly=True) as store:
        rows = store.evaluations()
    assert stored <= {row.uid for row in rows}, "rows were lost"
    times = Counter(
        (row.problem, row.config, conditions_of(row))
        for row in rows
        if not row.provenance.protocol.endswith("-race")
    )
    assert set(times.values()) == {1}, "two tuners evaluated the same"
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        studies = optuna.get_all_study_summaries(storage)
        uids = [
            trial.user_attrs["uid"]
            for summary in studies
            for trial in storage.get_all_trials(summary._study_id, deepcopy=False)
        ]
    finally:
        storage.remove_session()
        storage.engine.dispose()
    assert len({summary.study_name for summary in studies}) == len(studies)
    assert sorted(uids) == sorted(row.uid for row in rows), "a study lacks or repeats a trial"


def main(tuners: int, readers: int, seconds: float, held_s: float, folder: Path) -> dict[str, Any]:
    """What was counted."""
    warm_up(library_landscapes()[0], folder)
    path, lock = folder / "studies.db", Lock()
    Store.open(path).close()
    until = time.monotonic() + seconds
    work: dict[str, Callable[[Callable[[str], None]], Counter[str]]] = {
        "holder": lambda say: lock.hold(path, until, held_s)
    }
    for which in range(tuners):
        work[f"tuner{which}"] = lambda say, which=which: keep_tuning(which, path, until, say)
    for which in range(readers):
        work[f"reader{which}"] = lambda say: keep_reading(path, until, lock)
    members = [Member(each, folder / name) for name, each in work.items()]
    ended = [member.end() for member in members]
    stored = set().union(*(uids for uids, _ in ended))
    check(path, stored)
    counts = [counted for _, counted in ended]
    fewest = min(each["reads while the lock was held"] for each in counts if each["reads"])
    return {
        **sum(counts, Counter()),
        "rows": len(stored),
        "fewest reads while the lock was held": fewest,
    }


if __name__ == "__main__":
    tuners, readers, seconds, held_s, folder = sys.argv[1:]
    counted = main(int(tuners), int(readers), float(seconds), float(held_s), Path(folder))
    print(json.dumps(counted))
