"""What the evaluations of one problem in one run share: jobs, rows, the race, the decision."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.errors import DeviceMemoryError, NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job, Outcome
from tunekit.kernels.kernel import Kernel
from tunekit.search.decide import Finalist, decide, rank_estimates, simplicity
from tunekit.store.database import Store

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

    def begin(self, total: int, known: Iterable[Evaluation]) -> None:
        """Start on a problem of which some evaluations are known."""
        self.total, self.done, self.best_us = total, 0, None
        self.statuses.clear()
        for evaluation in known:
            self._count(evaluation)
        self.on_change(self)

    def add(self, evaluation: Evaluation) -> None:
        """Count one evaluation and tell whoever watches."""
        self._count(evaluation)
        self.on_change(self)

    def _count(self, evaluation: Evaluation) -> None:
        self.done += 1
        self.statuses[evaluation.status] += 1
        if evaluation.verified and evaluation.time_us is not None:
            self.best_us = min(self.best_us or evaluation.time_us, evaluation.time_us)


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


@dataclass(frozen=True)
class Session:
    """Evaluates configurations of one problem, stores what it learns, and decides."""

    task: Task
    host: Host
    store: Store
    problem: Problem
    provenance: Provenance
    progress: Progress

    @classmethod
    def start(cls, task: Task, host: Host, store: Store, progress: Progress) -> Session:
        """A session of the problem that `task` is on the host's device.

        Raises:
            DeviceMemoryError: the inputs and the output do not fit in the device's memory.
        """
        launch = task.kernel.launch_for(task.shape, task.dtype, host.device)
        needed = task.kernel.bytes_moved(launch)
        if needed > host.device.dram_bytes:
            raise DeviceMemoryError(
                f"{task.kernel.name} at {','.join(map(str, task.shape))} {task.dtype}: inputs and "
                f"output take {needed / 1e9:.4g} GB and {host.device.slug} has "
                f"{host.device.dram_bytes / 1e9:.4g} GB: use a smaller --shape"
            )
        problem = task.kernel.problem_of(launch, host.device)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return cls(task, host, store, problem, host.provenance(now), progress)

    def space_context(self) -> dict[str, int]:
        """What the space's expressions see: dims, itemsize, the device's facts."""
        return context(dict(self.problem.dims), self.problem.itemsize, self.host.device)

    def default(self) -> Config:
        """The space's default configuration."""
        return self.task.kernel.load_space().default(self.space_context())

    def known(self) -> dict[Config, Evaluation]:
        """Earlier evaluations that count as this run's: same source, GPU, versions, protocol.

        None where none is verified: what failed them all, a mistake in the reference perhaps, may
        have been mended, and the problem does not know of it.
        """
        same: dict[Config, Evaluation] = {}
        for evaluation in self.store.evaluations(self.problem, source=self.host.source):
            then = evaluation.provenance
            if replace(then, created_at=self.provenance.created_at) == self.provenance:
                same[evaluation.config] = evaluation
        return same if any(evaluation.verified for evaluation in same.values()) else {}

    def evaluate(self, configs: Sequence[Config]) -> Iterator[Evaluation]:
        """Evaluate and store, one by one."""
        jobs = [self._job(config) for config in configs]
        for index, outcome in self.host.pool.evaluate(jobs):
            evaluation = self._evaluation(configs[index], outcome)
            self.store.add([evaluation])
            self.progress.add(evaluation)
            yield evaluation

    def conclude(
        self, found: Mapping[Config, Evaluation], *, known: int, space_size: int, began: float
    ) -> Result:
        """Race the finalists if there is a GPU to race on, decide, store the decision.

        Raises:
            NothingTunedError: no configuration is verified.
        """
        verified = sorted(
            (evaluation for evaluation in found.values() if evaluation.verified),
            key=lambda evaluation: (evaluation.time_us, simplicity(evaluation.config)),
        )
        if not verified:
            raise NothingTunedError(self._failure(found))
        decide_by = (
            self._decide_measured if self.host.source is Source.MEASURED else self._decide_estimated
        )
        winner, default, decision = decide_by(verified, self.default())
        kernel, device = self.task.kernel, self.host.device
        launch = kernel.launch_for(self.task.shape, self.task.dtype, device)
        return Result(
            problem=self.problem,
            shape=self.task.shape,
            winner=winner,
            default=default,
            decision=decision,
            evaluated=len(found) - known,
            known=known,
            space_size=space_size,
            statuses=dict(self.progress.statuses),
            bytes_moved=kernel.bytes_moved(launch),
            device=device,
            elapsed_s=time.monotonic() - began,
        )

    def _decide_estimated(
        self, verified: Sequence[Evaluation], default: Config
    ) -> tuple[Evaluation, Evaluation | None, Decision]:
        rows = {row.config: row for row in verified}
        times = {row.config: row.time_us for row in verified if row.time_us is not None}
        ranked = [rows[config] for config in rank_estimates(times, default)]
        winner, default_row = ranked[0], rows.get(default)
        if winner is default_row:
            reason = f"the default: none of {len(ranked)} is estimated clearly faster"
        else:
            reason = f"lowest estimate of {len(ranked)}"
        decision = self._decision(winner, default_row, ranked[:_FINALISTS], reason, None)
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
            disturbance=outcome.disturbance,
        )

    def _raced(self, row: Evaluation, finalist: Finalist) -> Evaluation:
        """The finalist's evaluation again, with the samples of the race."""
        return replace(
            row,
            provenance=replace(self.provenance, protocol=f"{self.provenance.protocol}-race"),
            time_us=finalist.median_us,
            samples_us=finalist.samples_us,
        )

    def _failure(self, found: Mapping[Config, Evaluation]) -> str:
        if not found:
            return (
                f"{self.problem.kernel}: no configuration was evaluated within "
                f"{self.task.timeout_s:g} s, nothing is cached; use a longer --timeout"
            )
        counts = Counter(str(evaluation.status) for evaluation in found.values())
        what = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        reasons = Counter(evaluation.reason for evaluation in found.values() if evaluation.reason)
        worst = max(
            (row for row in found.values() if row.max_error is not None),
            key=lambda row: row.max_error or 0.0,
            default=None,
        )
        said = worst.reason if worst else next(iter(reasons), "no reason is known")
        return (
            f"{self.problem.kernel}: none of {len(found)} configurations can be used ({what}), "
            f"nothing is cached; {said}"
        )
