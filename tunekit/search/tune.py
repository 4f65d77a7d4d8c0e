"""Tune one problem: ask, evaluate, store, tell; then the finalists, then the decision."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Source
from tunekit.errors import StoreError
from tunekit.evaluate.host import Host
from tunekit.notices import warn
from tunekit.search.events import Offered, Tell, tell_nobody
from tunekit.search.first import First
from tunekit.search.knowledge import Knowledge
from tunekit.search.neighbours import unmeasured
from tunekit.search.projection import project, study_name
from tunekit.search.session import Session
from tunekit.search.stopping import Stopping
from tunekit.search.strategies import BATCH, Strategy, make_strategy
from tunekit.search.task import Progress, Result, Task
from tunekit.store.claims import claim
from tunekit.store.database import Store

_AHEAD = 8
"""Configurations compiled while others are measured: two batches, as the first may be wrong."""
_ALL_AT_ONCE = 32


def tune(
    task: Task,
    host: Host,
    store: Store,
    progress: Progress,
    *,
    knowledge: Knowledge | None = None,
    write_study: bool = True,
    tell: Tell = tell_nobody,
) -> Result:
    """Find, verify and store the best configuration of one problem.

    Every evaluation is stored as soon as it is known, so that an interrupt loses nothing.

    Args:
        task: what to tune and how long.
        host: where it is evaluated.
        store: takes every evaluation and the decision.
        progress: told of every evaluation.
        knowledge: what is known of other problems; the store's if not given.
        write_study: bring the Optuna study in the database up to date in the end, which costs
            Optuna several queries a configuration; whoever tunes many problems may do that once.
        tell: told of every event.

    Raises:
        ClaimedError: another process tunes that problem, into the same database.
        NothingTunedError: no configuration passed; nothing is cached.
        TunekitError: the space, the device or the store refuses.
    """
    began = time.monotonic()
    session = Session.start(task, host, store, progress, tell)
    # What another run's evaluations count for, and nothing else, is the same work.
    conditions = replace(session.provenance, created_at="").key
    work = f"{study_name(session.problem, host.source)} {conditions}"
    shape = task.kernel.shape_text(task.shape)
    what = f"{task.kernel.name} at {shape} {task.dtype} for {host.device.slug}"
    with claim(store.path, work, what):
        return _tune(session, knowledge or Knowledge(None, [store]), write_study, began)


def _tune(session: Session, knowledge: Knowledge, write_study: bool, began: float) -> Result:
    task, host = session.task, session.host
    space, context = task.kernel.load_space(), session.space_context()
    before = knowledge.winners_before(session.problem, host.source)
    first = First.of(space, context, before, knowledge.candidates(session.problem))
    configs, valid = first.configs, set(first.configs)
    # What an earlier space held and this one does not is not served either.
    known = {config: row for config, row in session.known().items() if config in valid}
    budget = len(configs) if task.trials is None else min(task.trials, len(configs))
    session.begin(max(budget, len(known)), known.values())
    if first.origins:
        session.tell(Offered(len(first.origins), first.off_list))
    landscapes = knowledge.near(session.problem, warm=host.warm)
    floor_us = knowledge.floor_us(session.problem, warm=host.warm)
    strategy = make_strategy(
        task.strategy, session.problem, configs, first.order, landscapes, task.seed
    )
    for row in known.values():
        strategy.tell(row.config, row.time_us if row.verified else None)
    found = dict(known)
    try:
        if budget == len(configs):
            rest = [config for config in [*first.order, *configs] if config not in found]
            stopped = _evaluate_all(session, list(dict.fromkeys(rest)), found, began)
        else:
            # Estimates cost no measurement, and the floor was measured.
            measuring = host.source is Source.MEASURED
            stopping = Stopping(least_gain=0.0)
            if measuring:
                strange = unmeasured(session.problem, configs, landscapes)
                stopping = Stopping.of_space(len(configs), floor_us, strange)
            stopped = _search(session, strategy, stopping, budget, first.origins, found, began)
        result = session.conclude(
            found,
            known=len(known),
            space_size=len(configs),
            began=began,
            stopped=stopped,
            landscapes=landscapes,
        )
        return replace(result, imported=first.imported(found, result.winner.config))
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


def _search(
    session: Session,
    strategy: Strategy,
    stopping: Stopping,
    budget: int,
    imported: Collection[Config],
    found: dict[Config, Evaluation],
    began: float,
) -> str:
    """Evaluate what the strategy asks for until there is a reason to stop, which is returned.

    What was imported is evaluated whatever is expected of it, as far as budget and time go.
    """
    while True:
        best_us = _best_us(found)
        measured = sum(row.verified for row in found.values())
        if len(found) >= budget:
            return f"the budget of {budget} configurations"
        if not strategy.open_count:
            return "every configuration evaluated"
        if all(config in found for config in imported) and (
            reason := stopping.reason(measured, best_us, strategy.expected_gain())
        ):
            return reason
        if reason := _late(session, began):
            return reason
        asked = strategy.ask(min(BATCH, budget - len(found)))
        ahead = strategy.peek(min(_AHEAD, budget - len(found) - len(asked)))
        for row in session.evaluate(asked, ahead, best_us):
            strategy.tell(row.config, row.time_us if row.verified else None)
            found[row.config] = row


def _evaluate_all(
    session: Session, configs: Sequence[Config], found: dict[Config, Evaluation], began: float
) -> str:
    for start in range(0, len(configs), _ALL_AT_ONCE):
        if reason := _late(session, began):
            return reason
        ahead = configs[start + _ALL_AT_ONCE : start + 2 * _ALL_AT_ONCE]
        for row in session.evaluate(configs[start : start + _ALL_AT_ONCE], ahead, _best_us(found)):
            found[row.config] = row
    return "every configuration evaluated"


def _late(session: Session, began: float) -> str:
    limit_s = session.task.timeout_s
    if limit_s is None or time.monotonic() - began <= limit_s:
        return ""
    return f"the timeout of {limit_s:g} s"


def _best_us(found: dict[Config, Evaluation]) -> float | None:
    times = (row.time_us for row in found.values() if row.verified)
    return min((time_us for time_us in times if time_us is not None), default=None)
