"""What prune drops, and that nothing that is served changes with it."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.evaluation import Decision, Evaluation, Source, Status
from tunekit.errors import ClaimedError, StoreError
from tunekit.search.projection import project, study_name
from tunekit.store import prune as pruning
from tunekit.store.cache import read_cache
from tunekit.store.claims import claim
from tunekit.store.database import Store
from tunekit.store.prune import prune, would_prune

MakeEvaluation = Callable[..., Evaluation]
MakeDecision = Callable[..., Decision]
AXES = {"BLOCK_SIZE": [64, 4096], "num_warps": [4]}


def schema_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as raw:
        wanted = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
        return raw.execute(wanted).fetchall()


def content(path: Path) -> tuple[list[Evaluation], list[Decision]]:
    with Store.open(path, readonly=True) as store:
        return store.evaluations(), store.decisions()


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as raw:
        broken = raw.execute("PRAGMA foreign_key_check").fetchall()
        return not broken and raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def searched(
    path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> tuple[Path, list[Evaluation], Decision]:
    """A search of eight configurations that was decided twice; and its Optuna study."""
    rows = [make_evaluation(2.0 + index, 64 << index) for index in range(7)]
    rows.append(make_evaluation(None, 3, status=Status.WRONG, reason="differs " * 450))
    first = make_decision(rows[2], rows=(rows[2].uid, rows[3].uid))
    last = make_decision(
        rows[0], at="13:00:00", default=rows[1].uid, rows=(rows[0].uid, rows[4].uid)
    )
    with Store.open(path) as store:
        store.add(rows)
        store.decide(first)
        store.decide(last)
    project(path, rows[0].problem, rows, AXES)
    return path, rows, last


def test_what_the_last_decision_rests_on_is_kept(
    searched: tuple[Path, list[Evaluation], Decision],
) -> None:
    path, rows, last = searched
    cache = read_cache(path)
    pruned = prune(path)
    assert content(path) == ([rows[0], rows[1], rows[4]], [last])
    assert read_cache(path) == cache != []
    assert pruned.dropped == {
        "evaluations": 5,
        "decisions": 1,
        "candidates": 0,
        "counters": 0,
        "problems": 0,
        "runs": 0,
    }
    assert pruned.kept == {
        "evaluations": 3,
        "decisions": 1,
        "candidates": 0,
        "counters": 0,
        "problems": 1,
        "runs": 1,
    }
    assert pruned.compacted
    assert pruned.after_bytes == path.stat().st_size < pruned.before_bytes
    assert sound(path)


def test_a_trial_run_says_the_same_and_changes_nothing(
    searched: tuple[Path, list[Evaluation], Decision],
) -> None:
    path, _, _ = searched
    before = path.read_bytes()
    told = would_prune(path)
    assert path.read_bytes() == before
    assert told == prune(path)


def test_twice_drops_nothing_more(searched: tuple[Path, list[Evaluation], Decision]) -> None:
    path, _, _ = searched
    prune(path)
    again = prune(path)
    assert not any(again.dropped.values())
    assert again.studies == 0


def test_the_file_is_as_append_only_as_a_new_one(
    searched: tuple[Path, list[Evaluation], Decision], tmp_path: Path
) -> None:
    path, rows, _ = searched
    before = schema_of(path)
    prune(path)
    assert schema_of(path) == before
    Store.open(tmp_path / "new.db").close()
    project(tmp_path / "new.db", rows[0].problem, rows, AXES)
    assert schema_of(tmp_path / "new.db") == before
    with closing(sqlite3.connect(path)) as raw:
        for table in ("problems", "runs", "evaluations", "decisions"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(f"DELETE FROM {table}")


def test_problems_and_runs_that_nothing_names_are_dropped(
    path: Path, make_evaluation: MakeEvaluation, make_problem: Callable[..., Any]
) -> None:
    with Store.open(path) as store:
        store.add([make_evaluation(problem=make_problem(64), at="01:00:00")])
    assert prune(path).dropped == {
        "evaluations": 1,
        "decisions": 0,
        "candidates": 0,
        "counters": 0,
        "problems": 1,
        "runs": 1,
    }
    with Store.open(path, readonly=True) as store:
        assert store.problems() == []


def test_measured_and_estimated_decisions_are_both_kept(
    path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    measured, estimated = make_evaluation(), make_evaluation(source=Source.ESTIMATED)
    decisions = [make_decision(measured), make_decision(estimated, at="14:00:00")]
    with Store.open(path) as store:
        store.add([measured, estimated])
        for decision in decisions:
            store.decide(decision)
    prune(path)
    assert content(path) == ([measured, estimated], decisions)


def test_only_one_kernel(
    path: Path, make_evaluation: MakeEvaluation, make_problem: Callable[..., Any]
) -> None:
    mine = make_evaluation()
    other = make_evaluation(problem=make_problem(kernel="other"))
    with Store.open(path) as store:
        store.add([mine, other])
    prune(path, kernel="other")
    assert content(path) == ([mine], [])


def test_only_what_is_old(
    path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    old = make_evaluation()
    now = (datetime.now(UTC) - timedelta(hours=23)).isoformat(timespec="seconds")
    new = make_evaluation(
        2.0, provenance=type(old.provenance)("", 132, "", "", "", "", "graph-1", now)
    )
    superseded = make_decision(new)
    with Store.open(path) as store:
        store.add([old, new])
        store.decide(superseded)
        store.decide(make_decision(new, created_at=now))
        store.decide(make_decision(new, created_at=now.replace("+00:00", "Z"), reason="again"))
    pruned = prune(path, older_than_days=1)
    assert (pruned.dropped["evaluations"], pruned.dropped["decisions"]) == (1, 1)
    assert content(path)[0] == [new]


def test_a_study_that_lost_trials_is_written_again_from_what_is_left(
    searched: tuple[Path, list[Evaluation], Decision],
) -> None:
    import optuna

    path, rows, _ = searched
    problem = rows[0].problem
    pruned = prune(path)
    assert pruned.studies == 1
    with closing(sqlite3.connect(path)) as raw:
        for table in ("studies", "trials", "trial_params", "trial_user_attributes"):
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    project(path, problem, content(path)[0], AXES)
    study = optuna.load_study(study_name=study_name(problem), storage=f"sqlite:///{path}")
    assert [trial.value for trial in study.trials] == [2.0, 3.0, 6.0]


def test_studies_of_others_are_left_alone(
    searched: tuple[Path, list[Evaluation], Decision],
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    make_problem: Callable[..., Any],
) -> None:
    path, _, _ = searched
    row = make_evaluation(problem=make_problem(64))
    with Store.open(path) as store:
        store.add([row])
        store.decide(make_decision(row))
    project(path, row.problem, [row], AXES)
    prune(path)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT study_name FROM studies").fetchall() == [(row.problem.key,)]
        assert raw.execute("SELECT count(*) FROM trials").fetchone() == (1,)


def test_an_error_in_the_middle_changes_nothing(
    searched: tuple[Path, list[Evaluation], Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, _ = searched
    before, tables = content(path), schema_of(path)
    monkeypatch.setattr(pruning, "_DELETIONS", (*pruning._DELETIONS[:2], "DELETE FROM nowhere"))
    with pytest.raises(StoreError, match="nowhere"):
        prune(path)
    assert (content(path), schema_of(path)) == (before, tables)


def test_nothing_is_dropped_while_something_is_tuned(
    searched: tuple[Path, list[Evaluation], Decision],
) -> None:
    path, _, _ = searched
    before = content(path)
    with claim(path, "a problem", "a problem"), pytest.raises(ClaimedError, match="is tuning"):
        prune(path)
    assert content(path) == before
    assert prune(path).dropped["evaluations"] == 5


def test_a_reader_keeps_the_file_from_being_compacted(
    searched: tuple[Path, list[Evaluation], Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows, last = searched
    monkeypatch.setattr("tunekit.store.connection.BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM evaluations").fetchone()
        prune(path)
        assert reader.execute("SELECT count(*) FROM evaluations").fetchone() == (8,)
    assert content(path) == ([rows[0], rows[1], rows[4]], [last])


def test_there_is_nothing_to_prune(path: Path) -> None:
    for way in (prune, would_prune):
        with pytest.raises(StoreError, match="no such database"):
            way(path)
    assert not path.exists()


KILLED = """
import os, signal, sqlite3, sys, threading, time
from pathlib import Path
from tunekit.store import prune
threading.Thread(
    target=lambda: (time.sleep(float(sys.argv[2])), os.kill(os.getpid(), signal.SIGKILL)),
    daemon=True,
).start()
prune.prune(Path(sys.argv[1]))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [3, pytest.param(40, marks=pytest.mark.soak)])
def test_killed_at_any_moment_what_is_served_is_the_same(
    searched: tuple[Path, list[Evaluation], Decision],
    tmp_path: Path,
    count: int,
    tally: Callable[[str, str, int], None],
) -> None:
    path, rows, last = searched
    cache, full = read_cache(path), content(path)
    left = ([rows[0], rows[1], rows[4]], [last])
    rng = random.Random(count)
    for number in range(count):
        copy = tmp_path / f"copy-{number}.db"
        copy.write_bytes(path.read_bytes())
        tables = schema_of(copy)
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", KILLED, str(copy), str(rng.uniform(0.0, 0.05))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
            capture_output=True,
        )
        assert time.monotonic() - began < 60
        assert read_cache(copy) == cache
        assert content(copy) in (full, left)
        assert schema_of(copy) == tables
        assert sound(copy)
        prune(copy)
        assert content(copy) == left
        tally("Kills", "prunes killed", 1)


def test_random_histories_keep_their_cache(
    tmp_path: Path,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    make_problem: Callable[..., Any],
) -> None:
    for seed in range(6):
        rng, path = random.Random(seed), tmp_path / f"{seed}.db"
        rows = [
            make_evaluation(
                rng.uniform(1, 9),
                64 << rng.randrange(6),
                problem=make_problem(64 << rng.randrange(3)),
                at=f"0{rng.randrange(9)}:00:00",
                source=rng.choice(list(Source)),
                **({} if rng.random() < 0.8 else {"verified_by": None}),
            )
            for _ in range(30)
        ]
        with Store.open(path) as store:
            store.add(rows)
            for winner in rng.sample([row for row in rows if row.verified], 10):
                alike = [
                    row.uid
                    for row in rows
                    if (row.problem, row.source) == (winner.problem, winner.source)
                ]
                store.decide(
                    make_decision(
                        winner,
                        at=f"1{rng.randrange(9)}:00:00",
                        rows=tuple(alike[: rng.randrange(4)]),
                        default=rng.choice(["", *alike]),
                    )
                )
        cache = read_cache(path)
        before = set(map(repr, content(path)[0]))
        prune(path)
        assert read_cache(path) == cache != []
        evaluations, decisions = content(path)
        assert set(map(repr, evaluations)) < before
        needed = {uid for each in decisions for uid in (each.winner, each.default, *each.rows)}
        assert {each.uid for each in evaluations} == needed - {""}
        assert sound(path)
