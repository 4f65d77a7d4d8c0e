"""Kills tuners at random moments and at statements of SQL, and looks at what each leaves.

Used by server.py, a process that has imported everything once: each tuner is a fork of it, so that
a kill costs a fraction of a second. What is wrong is raised.
"""

from __future__ import annotations

import gc
import os
import random
import select
import signal
import sqlite3
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import optuna
from recorded_pool import host_of, library_landscapes, task_of

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.core.space import context
from tunekit.search import tune as tuning
from tunekit.search.knowledge import Knowledge
from tunekit.search.landscape import Landscape
from tunekit.search.projection import study_name
from tunekit.search.task import Progress
from tunekit.store import schema
from tunekit.store.cache import read_cache
from tunekit.store.database import Store

Last = int | str | None
"""The statement of SQL at which a tuner ends: its number, or how it begins."""
PAUSE_S = 0.0005
KILLS_A_FILE = 9
PROBLEMS = 4
LONGEST_S = 60.0
"""No tuner here takes nearly as long."""

# What a tuner says it has come to, and what a kill after that is counted as.
LANDED = {
    "": "before it began",
    "began": "while the file was made or migrated",
    "opened": "while evaluating",
    "race": "in the race or the decision",
    "projecting": "while the Optuna study was written",
    "projected": "after everything was written",
}
# At what a kill is aimed: how often, at what the tuner says, and up to how many seconds later.
AIMS = (
    (2, "", 0.01),
    (3, "began", 0.02),
    (5, "evaluation", 0.01),
    (4, "race", 0.04),
    (4, "projecting", 0.4),
    (2, "", 0.6),
)


class Told(Store):
    """A store that says what was stored, when that has returned."""

    say: Callable[[str], None]

    def add(self, evaluations: Iterable[Evaluation]) -> int:
        rows = list(evaluations)
        added = super().add(rows)
        for row in rows:
            self.say(f"evaluation {row.uid}")
        return added

    def decide(self, decision: Decision) -> None:
        super().decide(decision)
        self.say(f"decision {decision.uid}")


@dataclass
class Study:
    """One problem being tuned into one file, by one tuner after another.

    Attributes:
        acknowledged: uids of what some tuner was told to be stored.
    """

    path: Path
    landscape: Landscape
    trials: int | None
    acknowledged: set[str] = field(default_factory=set)

    @property
    def space_size(self) -> int:
        """Valid configurations."""
        task = task_of(self.landscape, None)
        known = context(dict(self.landscape.problem.dims), 4, DEVICES["h100"])
        return len(task.kernel.load_space().configs(known))

    def tune(self, pipe: int, last: Last = None) -> NoReturn:
        """What a tuner does, in a process of its own, until a statement of SQL if one is given."""
        status = 1

        def say(text: str) -> None:
            os.write(pipe, f"{text}\n".encode())

        def project(session: Any) -> None:
            say("projecting")
            projects(session)
            say("projected")

        projects, tuning.project_study = tuning.project_study, project
        if last is not None:
            end_at_statement(last, say)
        try:
            warnings.simplefilter("error")
            Told.say = staticmethod(say)
            say("began")
            with Told.open(self.path) as store:
                say("opened")
                host = host_of(self.landscape, PAUSE_S, say)
                knowledge = Knowledge(None, [store])
                task = task_of(self.landscape, self.trials)
                tuning.tune(task, host, store, Progress(), knowledge=knowledge)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)


class Tuner:
    """A fork that tunes, and what it has said."""

    def __init__(self, study: Study, last: Last = None) -> None:
        self.lines: list[str] = []
        self._rest = b""
        self._pipe, theirs = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._pipe)
            study.tune(theirs, last)
        os.close(theirs)

    def listen(self, until: Callable[[str], bool]) -> bool:
        """Hear what it says until a line is found; False if it ends before that."""
        heard = 0
        deadline = time.monotonic() + LONGEST_S
        while True:
            for line in self.lines[heard:]:
                if until(line):
                    return True
            heard = len(self.lines)
            if not select.select([self._pipe], [], [], deadline - time.monotonic())[0]:
                os.kill(self._pid, signal.SIGKILL)
                raise AssertionError(f"a tuner does not get on: {self.lines[-3:]}")
            data = os.read(self._pipe, 2**16)
            if not data:
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.lines += [line.decode() for line in lines]

    def end(self, kill: bool) -> int:
        """Its exit status, the negated signal if it was killed."""
        if kill:
            os.kill(self._pid, signal.SIGKILL)
        self.listen(lambda line: False)
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    @property
    def phase(self) -> str:
        """The last thing it came to."""
        said = [line for line in self.lines if line in LANDED]
        return said[-1] if said else ""

    @property
    def stored(self) -> set[str]:
        """Uids it was told to be stored."""
        return {
            line.split()[1] for line in self.lines if line.startswith(("evaluation", "decision"))
        }


def end_at_statement(last: int | str, say: Callable[[str], None]) -> None:
    """This process kills itself where it begins its `last`-th statement, or one that begins so."""
    begun = 0
    connect = sqlite3.connect

    def begin(statement: str) -> None:
        nonlocal begun
        begun += 1
        if begun == last or (isinstance(last, str) and statement.startswith(last)):
            say(f"statement {' '.join(statement.split()[:3])}")
            os.kill(os.getpid(), signal.SIGKILL)

    def connect_and_watch(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **more)
        connection.set_trace_callback(begin)
        return connection

    sqlite3.connect = connect_and_watch  # type: ignore[assignment]


def kill_once(study: Study, draw: random.Random) -> str:
    """Start a tuner and kill it; says what it was at, "" if it was through before."""
    _, aim, within_s = draw.choices(AIMS, [weight for weight, _, _ in AIMS])[0]
    to_come = draw.randrange(1, 8)

    def reached(line: str) -> bool:
        nonlocal to_come
        to_come -= line.startswith("evaluation ")
        return to_come <= 0 if aim == "evaluation" else line == aim

    tuner = Tuner(study)
    if aim == "" or tuner.listen(reached):
        time.sleep(draw.uniform(0.0, within_s))
    status = tuner.end(kill=True)
    study.acknowledged |= tuner.stored
    if status == 0:
        return ""
    assert status == -signal.SIGKILL, f"a tuner failed: {tuner.lines[-3:]}"
    if not study.path.exists():
        return "before the file existed"
    return LANDED[tuner.phase]


def check(study: Study) -> list[Evaluation]:
    """The evaluations in the file, when everything that holds after any kill was found to hold."""
    if not study.path.exists():
        assert not study.acknowledged
        return []
    read_cache(study.path)  # as a program that runs next reads it, before anybody repairs anything
    with closing(sqlite3.connect(study.path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    if not study.path.stat().st_size:
        return []
    with Store.open(study.path, readonly=True) as store:
        rows, decisions, cache = store.evaluations(), store.decisions(), store.cache()
    there = {row.uid for row in rows}
    lost = study.acknowledged - there - {decision.uid for decision in decisions}
    assert not lost, f"lost: {lost}"
    # The finalists are measured again in each race: those are rows of their own run.
    times = Counter(
        (row.problem, row.config, row.source, conditions_of(row))
        for row in rows
        if not row.provenance.protocol.endswith("-race")
    )
    assert set(times.values()) <= {1}, "evaluated twice"
    for decision in decisions:
        assert {decision.winner, *decision.rows} <= there
    assert len(cache) == len({decision.problem for decision in decisions})
    return rows


def conditions_of(row: Evaluation) -> str:
    """What an evaluation shares with those of every run that counts it as its own."""
    return replace(row.provenance, created_at="").key


def finish(study: Study) -> Decision:
    """Tune without a kill; the last decision, when everything was found to be complete."""
    tuner = Tuner(study)
    assert tuner.end(kill=False) == 0, f"a tuner failed: {tuner.lines[-3:]}"
    study.acknowledged |= tuner.stored
    rows = check(study)
    alone = {row.config for row in rows if not row.provenance.protocol.endswith("-race")}
    assert len(alone) == study.trials or len(alone) == study.space_size
    with Store.open(study.path, readonly=True) as store:
        decision = store.decisions()[-1]
        (cached,) = store.cache()
    assert cached.winner == decision.winner
    storage = optuna.storages.RDBStorage(f"sqlite:///{study.path}")
    try:
        name = study_name(decision.problem, decision.source)
        trials = optuna.load_study(study_name=name, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()
    assert sorted(each.user_attrs["uid"] for each in trials) == sorted(row.uid for row in rows)
    by_uid = {row.uid: row for row in rows}
    for trial in trials:
        row = by_uid[trial.user_attrs["uid"]]
        assert trial.state.is_finished()
        assert trial.params == dict(row.config)
        assert trial.value == row.time_us
    return decision


def make_first_version(path: Path) -> None:
    """A file of the first version, which tuning migrates."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("BEGIN")
        schema.MIGRATIONS[0](raw)
        raw.execute("PRAGMA user_version = 1")
        raw.execute("COMMIT")


def tables(path: Path) -> list[tuple[str, str]]:
    """Everything in the schema."""
    with closing(sqlite3.connect(path)) as raw:
        return sorted(raw.execute("SELECT name, coalesce(sql, '') FROM sqlite_master"))


def warm_up(landscape: Landscape, folder: Path) -> None:
    """Load what is loaded when first used: each fork would do it again."""
    with Store.open(folder / "warm.db") as store:
        host, knowledge = host_of(landscape, 0.0), Knowledge(None, [store])
        tuning.tune(task_of(landscape, 2), host, store, Progress(), knowledge=knowledge)
    gc.collect()
    gc.freeze()


def kill_at_random(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill so many tuners at random moments; what was counted."""
    draw = random.Random(seed)
    landscapes = draw.sample(library_landscapes(), PROBLEMS)
    warm_up(landscapes[0], folder)
    undisturbed = [
        Study(folder / f"control-{n}.db", each, None) for n, each in enumerate(landscapes)
    ]
    expected = [config_of_winner(each, finish(each)) for each in undisturbed]
    landed: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    while landed.total() < kills:
        number, which = totals["files"], draw.randrange(PROBLEMS)
        study = Study(folder / f"{number}.db", landscapes[which], None if number % 2 else 5)
        if number % 3 == 2:
            make_first_version(study.path)
        for _ in range(KILLS_A_FILE):
            if landed.total() < kills and (what := kill_once(study, draw)):
                landed[what] += 1
            check(study)
        decision = finish(study)
        if study.trials is None:
            assert config_of_winner(study, decision) == expected[which]
        assert tables(study.path) == tables(undisturbed[0].path)
        totals["files"] += 1
        totals["acknowledged"] += len(study.acknowledged)
    return {"landed": landed, **totals}


def kill_at_statements(step: int, folder: Path) -> dict[str, Any]:
    """Kill a tuner at each `step`-th statement of SQL that it makes; what was counted."""
    kills = 0
    while kill_at_one((kills + 1) * step, f"step-{kills}", folder)["killed"]:
        kills += 1
    return {"killed": kills, "statements": kills * step}


def kill_at_one(last: int | str, name: str, folder: Path) -> dict[str, Any]:
    """Kill a tuner at one statement, by its number or by how it begins; what was counted."""
    study = Study(folder / f"{name}.db", library_landscapes()[0], 2)
    undisturbed = folder / "warm.db"
    if not undisturbed.exists():
        warm_up(study.landscape, folder)
    if isinstance(last, int) and last % 2:
        make_first_version(study.path)
    tuner = Tuner(study, last)
    status = tuner.end(kill=False)
    if status == 0:
        return {"killed": 0}
    assert status == -signal.SIGKILL, f"a tuner failed: {tuner.lines[-3:]}"
    study.acknowledged |= tuner.stored
    try:
        check(study)
        finish(study)
        assert tables(study.path) == tables(undisturbed), "other tables"
    except AssertionError as error:
        raise AssertionError(f"killed at {tuner.lines[-1]}: {error}") from error
    return {"killed": 1}


def config_of_winner(study: Study, decision: Decision) -> Config:
    """What won."""
    with Store.open(study.path, readonly=True) as store:
        return {row.uid: row.config for row in store.evaluations()}[decision.winner]
