"""The study that Optuna's tools open says what the evaluations say."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from tunekit.core.config import Config
from tunekit.core.evaluation import (
    Binary,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.errors import StoreError, StoreLockedError, StoreVersionError
from tunekit.search import projection
from tunekit.search.projection import project, study_name
from tunekit.store.database import Store

AXES = {"BLOCK_SIZE": [128, 256, 512, 1024], "num_warps": [1, 2, 4], "num_stages": [1, 2, 3]}
PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4096}, "float32", "p16", "h100")
PROVENANCE = Provenance(
    "NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-1", "2026-01-31T12:00:00Z"
)


def evaluated(time_us: float | None, block: int = 1024, **changes: Any) -> Evaluation:
    return Evaluation(
        **{
            "problem": PROBLEM,
            "shape": (64, 64),
            "config": Config(BLOCK_SIZE=block, num_warps=4, num_stages=1),
            "status": Status.OK if time_us else Status.CRASHED,
            "source": Source.MEASURED,
            "provenance": PROVENANCE,
            "verified_by": VerifiedBy.DEVICE if time_us else None,
            "time_us": time_us,
            "binary": Binary("beef", 32, 0, 0, 16, 16),
        }
        | changes
    )


ROWS = [
    evaluated(2.5),
    evaluated(0.1 + 0.2, 512),
    evaluated(None, 256, status=Status.REJECTED, reason="too many registers", binary=None),
    evaluated(None, 128),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some folder {x}" / "studies?.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        store.add(ROWS)
        yield store


@pytest.fixture
def load(path: Path, tmp_path: Path) -> Iterator[Callable[..., optuna.Study]]:
    """Loads the study as anybody's program would, from a copy under a plainer name."""
    opened = []

    def load_study(name: str = PROBLEM.key) -> optuna.Study:
        copy = tmp_path / f"copy-{len(opened)}.db"
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        storage = optuna.storages.RDBStorage(f"sqlite:///{copy}", skip_compatibility_check=True)
        opened.append(storage)
        return optuna.load_study(study_name=name, storage=storage)

    yield load_study
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


def test_the_study_says_what_the_evaluations_say(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    project(path, PROBLEM, store.evaluations(), AXES)
    study = load()
    assert study.best_value == 0.1 + 0.2
    assert study.best_params == {"BLOCK_SIZE": 512, "num_warps": 4, "num_stages": 1}
    assert study.direction is optuna.study.StudyDirection.MINIMIZE
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL,
    ]  # fmt: skip
    assert [trial.user_attrs["uid"] for trial in study.trials] == [row.uid for row in ROWS]
    assert [trial.user_attrs["status"] for trial in study.trials] == [
        "ok", "ok", "rejected", "crashed",
    ]  # fmt: skip


def test_parameters_are_the_values_themselves_on_their_scale(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    project(path, PROBLEM, ROWS, AXES | {"num_warps": [4]})
    assert load().trials[0].distributions == {
        "BLOCK_SIZE": IntDistribution(128, 1024, log=True),
        "num_warps": IntDistribution(4, 4),
        "num_stages": IntDistribution(1, 3),
    }


def test_projecting_again_adds_only_what_is_new(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    project(path, PROBLEM, ROWS[:2], AXES)
    project(path, PROBLEM, ROWS[:2], AXES)
    assert len(load().trials) == 2
    project(path, PROBLEM, ROWS, AXES)
    assert [trial.user_attrs["uid"] for trial in load().trials] == [row.uid for row in ROWS]


def test_an_axis_may_gain_and_lose_values(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    project(path, PROBLEM, ROWS, AXES)
    # 128 and 512 are no longer allowed, 2048 is: the trials stay.
    project(path, PROBLEM, [*ROWS, evaluated(1.0, 2048)], AXES | {"BLOCK_SIZE": [1024, 2048]})
    trials = load().trials
    assert [trial.params["BLOCK_SIZE"] for trial in trials] == [1024, 512, 256, 128, 2048]
    assert trials[-1].distributions["BLOCK_SIZE"] == IntDistribution(128, 2048, log=True)


def test_a_study_whose_scale_changes_is_made_again(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    project(path, PROBLEM, ROWS, AXES)
    rows = [*ROWS, evaluated(1.0, 384)]
    project(path, PROBLEM, rows, AXES | {"BLOCK_SIZE": [128, 384, 512]})
    trials = load().trials
    assert [trial.user_attrs["uid"] for trial in trials] == [row.uid for row in rows]
    assert not any(trial.distributions["BLOCK_SIZE"].log for trial in trials)


def test_an_axis_of_a_former_space_stays_a_parameter(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    former = evaluated(1.0, config=Config(BLOCK_SIZE=128, UNROLL=3))
    project(path, PROBLEM, [*ROWS, former], AXES)
    assert load().trials[-1].params == {"BLOCK_SIZE": 128, "UNROLL": 3}


def test_estimates_have_a_study_of_their_own(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    estimate = evaluated(0.01, source=Source.ESTIMATED, verified_by=VerifiedBy.INTERPRETER)
    project(path, PROBLEM, [*ROWS, estimate], AXES)
    assert load().best_value == 0.1 + 0.2
    assert load(study_name(PROBLEM, Source.ESTIMATED)).best_value == 0.01
    assert study_name(PROBLEM) == PROBLEM.key


def test_only_the_problem_s_own_evaluations_are_its_trials(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    other = replace(ROWS[0], problem=replace(PROBLEM, device="rtx4090"))
    project(path, PROBLEM, [*ROWS, other], AXES)
    assert len(load().trials) == len(ROWS)


def test_our_own_tables_do_not_change(path: Path, store: Store) -> None:
    before = store.evaluations()
    project(path, PROBLEM, before, AXES)
    assert store.evaluations() == before
    # A second connection is not shut out, and the file is still ours.
    with Store.open(path) as again:
        assert again.add([evaluated(7.0)]) == 1
        again.publish(path.with_name("published.db"))
    with Store.open(path.with_name("published.db"), readonly=True) as published:
        assert len(published.evaluations()) == len(before) + 1


def test_a_sampler_can_go_on_from_the_study(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    project(path, PROBLEM, ROWS, AXES)
    study = load()
    assert study.ask(study.trials[0].distributions).params["BLOCK_SIZE"] in range(128, 1025)


def test_optuna_is_silent_and_its_settings_are_as_before(
    path: Path, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    optuna.logging.set_verbosity(logging.DEBUG)
    try:
        project(path, PROBLEM, ROWS, AXES)
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(logging.INFO)
    assert capfd.readouterr() == ("", "")


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE diary (entry TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreVersionError):
        project(path, PROBLEM, ROWS, AXES)
    assert path.read_bytes() == before


def test_tables_of_another_optuna_are_said_to_be_that(path: Path, store: Store) -> None:
    project(path, PROBLEM, ROWS, AXES)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
        raw.commit()
    with pytest.raises(StoreError, match="of another Optuna version; run `optuna storage"):
        project(path, PROBLEM, ROWS, AXES)
    assert store.evaluations() == ROWS


def test_a_locked_file_is_said_to_be_locked(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(path, PROBLEM, ROWS[:1], AXES)
    monkeypatch.setattr(projection, "BUSY_TIMEOUT_S", 0.05)
    # Optuna tries five times, with a pause of up to two seconds.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLockedError, match="another process holds"):
            project(path, PROBLEM, ROWS, AXES)


def test_an_evaluation_is_projected_once_by_however_many_at_a_time(
    path: Path, store: Store, load: Callable[..., optuna.Study]
) -> None:
    with ThreadPoolExecutor() as threads:
        # Each opens the file and takes its turn as another process would.
        waiting = [threads.submit(project, path, PROBLEM, ROWS, AXES) for _ in range(4)]
        for each in waiting:
            each.result()
    assert len(load().trials) == len(ROWS)
