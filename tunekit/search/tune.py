"""Tune one problem: ask, evaluate, store, tell; then the finalists, then the decision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation
from tunekit.errors import StoreError
from tunekit.evaluate.host import Host
from tunekit.notices import warn
from tunekit.search.projection import project
from tunekit.search.sampler import Sampler
from tunekit.search.session import Progress, Result, Session, Task
from tunekit.store.database import Store

_BATCH = 16
"""Configurations asked at a time: enough to compile in parallel, few enough to learn from."""


def tune(
    task: Task, host: Host, store: Store, progress: Progress, *, write_study: bool = True
) -> Result:
    """Find, verify and store the best configuration of one problem.

    Every evaluation is stored as soon as it is known, so that an interrupt loses nothing.

    Args:
        task: what to tune and how long.
        host: where it is evaluated.
        store: takes every evaluation and the decision.
        progress: told of every evaluation.
        write_study: bring the Optuna study in the database up to date in the end, which costs
            Optuna several queries a configuration; whoever tunes many problems may do that once.

    Raises:
        NothingTunedError: no configuration passed; nothing is cached.
        TunekitError: the space, the device or the store refuses.
    """
    began = time.monotonic()
    session = Session.start(task, host, store, progress)
    space = task.kernel.load_space()
    valid = set(space.configs(session.space_context()))
    sampler = Sampler(space, session.space_context(), task.seed)
    # What an earlier space held and this one does not is not served either.
    known = {config: row for config, row in session.known().items() if config in valid}
    sampler.known(known.values())
    space_size = len(valid)
    budget = space_size if task.trials is None else min(task.trials, space_size)
    progress.begin(max(budget, len(known)), known.values())
    found = dict(known)
    try:
        for configs in _asked(sampler, budget - len(known), exhaustive=budget == space_size):
            if task.timeout_s is not None and time.monotonic() - began > task.timeout_s:
                break
            for evaluation in session.evaluate(configs):
                sampler.tell(evaluation)
                found[evaluation.config] = evaluation
        return session.conclude(found, known=len(known), space_size=space_size, began=began)
    except StoreError:
        write_study = False  # the study is in the same database
        raise
    finally:
        if write_study:
            project_study(session)


def project_study(session: Session) -> None:
    """Bring the Optuna study in the database up to date with the problem's evaluations.

    Where Optuna cannot write it, that is a warning: the evaluations and the decision are stored.
    """
    axes = {axis.name: axis.values for axis in session.task.kernel.load_space().axes}
    evaluations: list[Evaluation] = session.store.evaluations(session.problem)
    try:
        project(session.store.path, session.problem, evaluations, axes)
    except StoreError as error:
        warn(f"the Optuna study is not up to date: {error}")


def _asked(sampler: Sampler, count: int, *, exhaustive: bool) -> Iterator[Sequence[Config]]:
    """Batches of configurations to evaluate; each is asked when the one before was told."""
    if exhaustive:
        everything = sampler.ask_all()
        for start in range(0, len(everything), 2 * _BATCH):
            yield everything[start : start + 2 * _BATCH]
        return
    while count > 0 and sampler.open_count:
        batch = sampler.ask(min(_BATCH, count))
        count -= len(batch)
        yield batch
