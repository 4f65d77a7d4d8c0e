"""Tune one problem: ask, evaluate, store, tell; then the finalists, then the decision."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import (
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.errors import NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job, Outcome
from tunekit.kernels.kernel import Kernel
from tunekit.search.decide import Finalist, decide, simplicity
from tunekit.search.projection import project
from tunekit.search.sampler import Sampler
from tunekit.store.database import Store

_BATCH = 16
"""Configurations asked at a time: enough to compile in parallel, few enough to learn from."""
_FINALISTS = 6
_RACE_ROUNDS = 21


@dataclass(frozen=True, slots=True)
class Task:
    """What to tune and how long.

    Attributes:
        reference: how a worker finds the kernel.
        trials: distinct configurations to evaluate in all, earlier runs counted.
        timeout_s: stop asking after so long; what is under way is finished.
    """

    kernel: Kernel
    reference: str
    shape: tuple[int, ...]
    dtype: str
    scalars: Mapping[str, float]
    trials: int | None = 60
    timeout_s: float | None = None
    seed: int = 0


@dataclass(slots=True)
class Progress:
    """What a person watches; `on_change` is called after each evaluation."""

    total: int = 0
    done: int = 0
    best_us: float | None = None
    statuses: Counter[Status] = field(default_factory=Counter)
    on_change: Callable[[Progress], None] = lambda progress: None

    def add(self, evaluation: Evaluation) -> None:
        """Count one evaluation."""
        self.done += 1
        self.statuses[evaluation.status] += 1
        if evaluation.verified and evaluation.time_us is not None:
            self.best_us = min(self.best_us or evaluation.time_us, evaluation.time_us)
        self.on_change(self)


@dataclass(frozen=True, slots=True)
class Result:
    """How tuning ended.

    Attributes:
        default: the default configuration's evaluation, None if it failed.
        evaluated: configurations evaluated in this run; `known` were so before.
        bytes_moved: the fewest bytes of DRAM traffic of a launch.
    """

    problem: Problem
    shape: tuple[int, ...]
    winner: Evaluation
    default: Evaluation | None
    decision: Decision
    evaluated: int
    known: int
    space_size: int
    statuses: Mapping[Status, int]
    bytes_moved: int
    device: Device
    elapsed_s: float


def tune(task: Task, host: Host, store: Store, progress: Progress) -> Result:
    """Find, verify and store the best configuration of one problem.

    Every evaluation is stored as soon as it is known, so that an interrupt loses nothing.

    Raises:
        NothingTunedError: no configuration passed; nothing is cached.
        TunekitError: the space, the device or the store refuses.
    """
    began = time.monotonic()
    kernel, device = task.kernel, host.device
    launch = kernel.launch_for(task.shape, task.dtype, device)
    problem = kernel.problem_of(launch, device)
    space = kernel.load_space()
    space_context = context(launch.dims, problem.itemsize, device)
    sampler = Sampler(space, space_context, task.seed)
    space_size = sampler.open_count
    provenance = host.provenance(datetime.now(UTC).isoformat(timespec="milliseconds"))
    known = _comparable(store.evaluations(problem), provenance, host.source)
    sampler.known(known.values())
    budget = space_size if task.trials is None else min(task.trials, space_size)
    progress.total, progress.done = budget, len(known)
    for evaluation in known.values():
        progress.statuses[evaluation.status] += 1
    found = dict(known)
    session = _Session(task, host, store, problem, provenance, progress)
    try:
        while len(found) < budget and not _expired(began, task.timeout_s):
            count = min(_BATCH, budget - len(found))
            configs = sampler.ask_all() if budget == space_size else sampler.ask(count)
            for batch in _batches(configs):
                if _expired(began, task.timeout_s):
                    break
                for evaluation in session.evaluate(batch):
                    sampler.tell(evaluation)
                    found[evaluation.config] = evaluation
        default = space.default(space_context)
        winner, default_row, decision = session.conclude(found, default)
    finally:
        axes = {axis.name: axis.values for axis in space.axes}
        project(store.path, problem, store.evaluations(problem), axes)
    return Result(
        problem=problem,
        shape=task.shape,
        winner=winner,
        default=default_row,
        decision=decision,
        evaluated=len(found) - len(known),
        known=len(known),
        space_size=space_size,
        statuses=dict(progress.statuses),
        bytes_moved=kernel.bytes_moved(launch),
        device=device,
        elapsed_s=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Session:
    """What every evaluation of one run shares."""

    task: Task
    host: Host
    store: Store
    problem: Problem
    provenance: Provenance
    progress: Progress

    def evaluate(self, configs: Sequence[Config]) -> Iterable[Evaluation]:
        """Evaluate and store, one by one."""
        jobs = [self._job(config) for config in configs]
        for index, outcome in self.host.pool.evaluate(jobs):
            evaluation = self._evaluation(configs[index], outcome)
            self.store.add([evaluation])
            self.progress.add(evaluation)
            yield evaluation

    def conclude(
        self, found: Mapping[Config, Evaluation], default: Config
    ) -> tuple[Evaluation, Evaluation | None, Decision]:
        """Race the finalists if there is a GPU to race on, decide, store the decision."""
        verified = sorted(
            (evaluation for evaluation in found.values() if evaluation.verified),
            key=lambda evaluation: (evaluation.time_us, simplicity(evaluation.config)),
        )
        if not verified:
            raise NothingTunedError(self._failure(found))
        if self.host.source is Source.ESTIMATED:
            return self._decide_estimated(verified, default)
        return self._decide_measured(verified, default)

    def _decide_estimated(
        self, verified: Sequence[Evaluation], default: Config
    ) -> tuple[Evaluation, Evaluation | None, Decision]:
        winner = verified[0]
        default_row = next((row for row in verified if row.config == default), None)
        if default_row is not None and default_row.time_us == winner.time_us:
            winner = default_row
        reason = f"lowest estimate of {len(verified)}; measured nowhere yet"
        decision = self._decision(winner, default_row, verified[:_FINALISTS], reason, None)
        return winner, default_row, decision

    def _decide_measured(
        self, verified: Sequence[Evaluation], default: Config
    ) -> tuple[Evaluation, Evaluation | None, Decision]:
        entrants = list(verified[:_FINALISTS])
        if not any(row.config == default for row in entrants):
            entrants += [row for row in verified if row.config == default]
        jobs = [self._job(row.config) for row in entrants]
        *samples, copy = self.host.race(jobs, _RACE_ROUNDS)
        finalists = [
            Finalist(row.config, times) for row, times in zip(entrants, samples, strict=True)
        ]
        raced = [
            self._raced(row, finalist) for row, finalist in zip(entrants, finalists, strict=True)
        ]
        self.store.add(raced)
        verdict = decide(finalists, default)
        winner = raced[verdict.winner]
        default_row = None if verdict.default is None else raced[verdict.default]
        copy_us = Finalist(Config(), copy).median_us
        decision = self._decision(winner, default_row, raced, verdict.reason, copy_us)
        return winner, default_row, decision

    def _decision(
        self,
        winner: Evaluation,
        default: Evaluation | None,
        rows: Sequence[Evaluation],
        reason: str,
        copy_us: float | None,
    ) -> Decision:
        speedup = None
        if default is not None and default.time_us and winner.time_us:
            speedup = default.time_us / winner.time_us
        decision = Decision(
            problem=self.problem,
            source=self.host.source,
            winner=winner.uid,
            default=default.uid if default else "",
            reason=reason,
            created_at=self.provenance.created_at,
            rows=tuple(row.uid for row in rows),
            speedup=speedup,
            copy_us=copy_us,
        )
        self.store.decide(decision)
        return decision

    def _job(self, config: Config) -> Job:
        task = self.task
        return Job(
            kernel=task.reference,
            shape=task.shape,
            dtype=task.dtype,
            scalars=task.scalars,
            config=config,
            target=self.host.device.slug,
            seed=task.seed,
        )

    def _evaluation(self, config: Config, outcome: Outcome) -> Evaluation:
        return Evaluation(
            problem=self.problem,
            shape=self.task.shape,
            config=config,
            status=outcome.status,
            source=self.host.source,
            provenance=self.provenance,
            reason=outcome.reason,
            verified_by=outcome.verified_by,
            time_us=outcome.time_us,
            samples_us=outcome.samples_us,
            binary=outcome.binary,
            max_error=outcome.max_error,
        )

    def _raced(self, row: Evaluation, finalist: Finalist) -> Evaluation:
        """The finalist's evaluation again, with the samples of the race."""
        return replace(
            row,
            provenance=replace(self.provenance, protocol=f"{self.provenance.protocol}-race"),
            verified_by=VerifiedBy.DEVICE,
            time_us=finalist.median_us,
            samples_us=finalist.samples_us,
        )

    def _failure(self, found: Mapping[Config, Evaluation]) -> str:
        counts = Counter(str(evaluation.status) for evaluation in found.values())
        what = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        reasons = Counter(evaluation.reason for evaluation in found.values() if evaluation.reason)
        worst = max(
            (row for row in found.values() if row.max_error is not None),
            key=lambda row: row.max_error or 0.0,
            default=None,
        )
        said = worst.reason if worst else next(iter(reasons), "no configuration was evaluated")
        return (
            f"{self.problem.kernel}: none of {len(found)} configurations can be used "
            f"({what or 'none evaluated'}), nothing is cached; {said}"
        )


def _comparable(
    evaluations: Iterable[Evaluation], now: Provenance, source: Source
) -> dict[Config, Evaluation]:
    """Earlier evaluations that count as made by this run: same source, GPU, versions, protocol."""
    same: dict[Config, Evaluation] = {}
    for evaluation in evaluations:
        then = evaluation.provenance
        if evaluation.source is source and replace(then, created_at=now.created_at) == now:
            same[evaluation.config] = evaluation
    return same


def _expired(began: float, timeout_s: float | None) -> bool:
    return timeout_s is not None and time.monotonic() - began > timeout_s


def _batches(configs: Sequence[Config]) -> Iterable[Sequence[Config]]:
    for start in range(0, len(configs), 2 * _BATCH):
        yield configs[start : start + 2 * _BATCH]
