"""Measure here what was estimated, or measured under other versions: the top few only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunekit.core.config import Config
from tunekit.core.evaluation import Decision, Evaluation, Source
from tunekit.core.problem import Problem
from tunekit.evaluate.host import Host
from tunekit.kernels.kernel import Kernel
from tunekit.search.events import Tell, tell_nobody
from tunekit.search.session import Session
from tunekit.search.task import Progress, Result, Task
from tunekit.search.tune import project_study
from tunekit.store.cache import CacheRow
from tunekit.store.database import Store

MOST_CONFIRMED = 5
"""Configurations of a problem that are measured, besides the default."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A decision to be confirmed on this GPU.

    Attributes:
        row: what the cache says today.
        candidates: the configurations its decision rests on, best first, with their times in µs.
    """

    row: CacheRow
    candidates: Mapping[Config, float]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a confirmation showed.

    Attributes:
        before: the row as it was.
        expected_us, measured_us: for each configuration measured, the time the row's source gave
            and the one measured here.
    """

    before: CacheRow
    result: Result
    expected_us: Mapping[Config, float]
    measured_us: Mapping[Config, float]


def pending(stores: Sequence[Store], host: Host, kernel: str | None = None) -> list[Pending]:
    """What the databases hold for this GPU that was not measured under the versions here.

    Args:
        stores: by rank: a problem the first knows is not looked up in the next, unless the next
            measured what the first only estimated.
        host: measures.
        kernel: the name of the only kernel to look for.
    """
    best: dict[Problem, tuple[CacheRow, Store]] = {}
    for store in stores:
        for row in store.cache(kernel=kernel, device=host.device.slug):
            there = best.get(row.problem)
            if there is None or _outranks(row, there[0]):
                best[row.problem] = (row, store)
    return [
        Pending(row, _candidates(row, store.decisions(row.problem), store.evaluations(row.problem)))
        for row, store in best.values()
        if _needs_measuring(row, host) and not row.config.is_memory_format
    ]


def confirm(
    item: Pending,
    kernel: Kernel,
    reference: str,
    host: Host,
    store: Store,
    progress: Progress,
    *,
    tell: Tell = tell_nobody,
) -> Confirmed:
    """Measure the candidates and the default, decide anew, store it.

    Args:
        item: what to confirm.
        kernel: its kernel.
        reference: how a worker finds the kernel.
        host: measures.
        store: takes the evaluations and the decision.
        progress: told of every evaluation.
        tell: told of every event.

    Raises:
        NothingTunedError: none of them passed.
    """
    began = time.monotonic()
    row = item.row
    task = Task(kernel, reference, row.shape, row.problem.dtype, kernel.scalar_values())
    session = Session.start(task, host, store, progress, tell)
    configs = list(item.candidates)[:MOST_CONFIRMED]
    default = session.default()
    if default not in configs:
        configs.append(default)
    session.begin(len(configs))
    found = {evaluation.config: evaluation for evaluation in session.evaluate(configs)}
    try:
        result = session.conclude(found, known=0, space_size=len(configs), began=began)
    finally:
        project_study(session)
    measured = {
        config: evaluation.time_us
        for config, evaluation in found.items()
        if evaluation.time_us is not None
    }
    return Confirmed(row, result, dict(item.candidates), measured)


def _outranks(row: CacheRow, there: CacheRow) -> bool:
    return row.source is Source.MEASURED and there.source is Source.ESTIMATED


def _needs_measuring(row: CacheRow, host: Host) -> bool:
    now = host.provenance(row.provenance.created_at)
    versions = (row.provenance.triton, row.provenance.driver)
    return row.source is Source.ESTIMATED or versions != (now.triton, now.driver)


def _candidates(
    row: CacheRow, decisions: Iterable[Decision], evaluations: Iterable[Evaluation]
) -> dict[Config, float]:
    """The verified configurations the row's decision rests on, the winner first."""
    rests_on = {
        uid for decision in decisions if decision.winner == row.winner for uid in decision.rows
    }
    times = {row.config: row.time_us}
    others = [
        (evaluation.time_us, evaluation.config)
        for evaluation in evaluations
        if evaluation.uid in rests_on and evaluation.verified and evaluation.time_us is not None
    ]
    for time_us, config in sorted(others, key=lambda pair: pair[0]):
        times.setdefault(config, time_us)
    return times
