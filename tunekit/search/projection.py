"""The Optuna study of a problem, written into the same database for Optuna's own tools.

The study is derived: evaluations are the truth, and the study can be made again from them.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from tunekit.core.evaluation import Evaluation, Source, Status
from tunekit.core.problem import Problem
from tunekit.errors import StoreError
from tunekit.store.connection import BUSY_TIMEOUT_S, explain
from tunekit.store.database import Store


def study_name(problem: Problem, source: Source = Source.MEASURED) -> str:
    """The name of a problem's study: its key; estimates have a study of their own."""
    return problem.key if source is Source.MEASURED else f"{problem.key}:{source}"


def project(
    store_path: str | Path,
    problem: Problem,
    evaluations: Iterable[Evaluation],
    space_axes: Mapping[str, Sequence[int]],
) -> None:
    """Add to the problem's study one finished trial for each evaluation it lacks.

    Args:
        store_path: of a tunekit database; it is created when absent.
        problem: whose study it is.
        evaluations: all of the problem's. A study whose parameters no longer fit the space is
            made again, and only from these.
        space_axes: the values each axis may take; what an evaluation used is added to them.

    Raises:
        StoreError: the database cannot be written, or another Optuna made its tables.
    """
    path = Path(store_path)
    chosen = [evaluation for evaluation in evaluations if evaluation.problem == problem]
    # Optuna would write into any file: this one has to be a tunekit database first.
    with Store.open(path):
        pass
    with _turn(path.absolute().parent), _quiet(), _explained(path), _storage(path) as storage:
        for source in Source:
            rows = [evaluation for evaluation in chosen if evaluation.source is source]
            if rows:
                _project(storage, study_name(problem, source), rows, space_axes)


def _project(
    storage: optuna.storages.RDBStorage,
    name: str,
    evaluations: Sequence[Evaluation],
    space_axes: Mapping[str, Sequence[int]],
) -> None:
    distributions = _distributions(evaluations, space_axes)
    study = _open_study(storage, name)
    trials = study.get_trials(deepcopy=False)
    if _outdated(trials, distributions):
        optuna.delete_study(study_name=name, storage=storage)
        study, trials = _open_study(storage, name), []
    there = {trial.user_attrs.get("uid") for trial in trials}
    study.add_trials(
        _trial(evaluation, distributions)
        for evaluation in evaluations
        if evaluation.uid not in there
    )


def _open_study(storage: optuna.storages.RDBStorage, name: str) -> optuna.Study:
    return optuna.create_study(
        storage=storage, study_name=name, direction="minimize", load_if_exists=True
    )


def _distributions(
    evaluations: Iterable[Evaluation], space_axes: Mapping[str, Sequence[int]]
) -> dict[str, IntDistribution]:
    values = {axis: set(allowed) for axis, allowed in space_axes.items()}
    for evaluation in evaluations:
        for axis, value in evaluation.config.items():
            values.setdefault(axis, set()).add(value)
    return {axis: _distribution(found) for axis, found in values.items() if found}


def _distribution(values: set[int]) -> IntDistribution:
    """The range of an axis, on a logarithmic scale if it is one of powers of two."""
    powers = all(value > 0 and value.bit_count() == 1 for value in values)
    return IntDistribution(min(values), max(values), log=powers and len(values) > 1)


def _outdated(trials: Iterable[FrozenTrial], distributions: Mapping[str, BaseDistribution]) -> bool:
    """Whether Optuna would refuse a trial: one parameter cannot have two scales in a study."""
    scales = {
        (name, getattr(distribution, "log", False))
        for trial in trials
        for name, distribution in trial.distributions.items()
    }
    return any(
        (name, not getattr(distribution, "log", False)) in scales
        for name, distribution in distributions.items()
    )


def _trial(evaluation: Evaluation, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    state = _state(evaluation)
    trial = optuna.trial.create_trial(
        state=state,
        value=evaluation.time_us if state is TrialState.COMPLETE else None,
        params=dict(evaluation.config),
        distributions={axis: distributions[axis] for axis in evaluation.config},
        user_attrs=_attributes(evaluation),
    )
    # Optuna's times are local and say no zone.
    began = datetime.fromisoformat(evaluation.provenance.created_at).astimezone()
    trial.datetime_start = trial.datetime_complete = began.replace(tzinfo=None)
    return trial


def _state(evaluation: Evaluation) -> TrialState:
    if evaluation.status is Status.OK:
        return TrialState.COMPLETE
    # The device cannot hold it: nothing went wrong.
    return TrialState.PRUNED if evaluation.status is Status.REJECTED else TrialState.FAIL


def _attributes(evaluation: Evaluation) -> dict[str, str]:
    """What leads from a trial to its evaluation; no more, for each costs Optuna several queries."""
    return {"uid": evaluation.uid, "status": evaluation.status.value}


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One projection at a time in a folder, without keeping anyone from adding evaluations.

    Optuna creates its tables and adds trials in many transactions, so that two processes would
    trip over each other.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems lock no folders; writing a trial twice is the worst there.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Cursor(sqlite3.Cursor):
    """Makes tables in transactions, too: left alone, sqlite3 commits each statement that does.

    A process killed in between would leave Optuna's tables without their unique index, and Optuna,
    which looks for tables only, would write a second study of that name the next time.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        if sql.lstrip()[:6].upper() == "CREATE" and not self.connection.in_transaction:
            super().execute("BEGIN IMMEDIATE")
        return super().execute(sql, parameters)


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


@contextmanager
def _storage(path: Path) -> Iterator[optuna.storages.RDBStorage]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, factory=_Connection
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    # A creator instead of the path in the URL: a path may hold what a URL gives a meaning.
    try:
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
    except RuntimeError as error:
        raise StoreError(
            f"{path}: its Optuna tables are of another Optuna version; run `optuna storage upgrade "
            f"--storage sqlite:///{path}` or update Optuna; measurements are not affected"
        ) from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines and no warnings of Optuna's, and its settings as they were afterwards."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what Optuna and SQLAlchemy raise into a StoreError of one line."""
    try:
        yield
    except (StorageInternalError, DBAPIError) as error:
        database_error = error.__cause__ if isinstance(error, StorageInternalError) else error
        cause = getattr(database_error, "orig", None)
        if isinstance(cause, sqlite3.Error):
            raise explain(path, cause) from None
        raise StoreError(f"{path}: Optuna cannot write its study: {error}") from None
