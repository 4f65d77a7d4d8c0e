"""What the evaluations of one problem in one run share: jobs, rows, the decision."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tunekit.core.config import Config
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.errors import DeviceMemoryError, NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job, Outcome
from tunekit.search.decide import simplicity
from tunekit.search.events import Asked, Began, Decided, Evaluated, Shared, Tell, tell_nobody
from tunekit.search.final import Ending, Final, lowest_estimate
from tunekit.search.landscape import Landscape
from tunekit.search.leaders import Leaders
from tunekit.search.task import Progress, Result, Task
from tunekit.store.database import Store

_HOPELESS = 1.5
"""A first sample this many times the best so far is the last one."""


@dataclass(frozen=True)
class Session:
    """Evaluates configurations of one problem, stores what it learns, and decides."""

    task: Task
    host: Host
    store: Store
    problem: Problem
    provenance: Provenance
    progress: Progress
    tell: Tell
    _leaders: Leaders

    @classmethod
    def start(
        cls, task: Task, host: Host, store: Store, progress: Progress, tell: Tell = tell_nobody
    ) -> Session:
        """A session of the problem that `task` is on the host's device.

        Args:
            task: what to tune.
            host: where it is evaluated.
            store: takes the evaluations and the decision.
            progress: told of every evaluation.
            tell: told of every event.

        Raises:
            DeviceMemoryError: the inputs and the output do not fit in the device's memory.
        """
        launch = task.kernel.launch_for(task.shape, task.dtype, host.device)
        needed = task.kernel.allocated_bytes(launch)
        if needed > host.device.dram_bytes:
            raise DeviceMemoryError(
                f"{task.kernel.name} at {task.kernel.shape_text(task.shape)} {task.dtype}: inputs "
                f"and outputs take {needed / 1e9:.4g} GB and {host.device.slug} has "
                f"{host.device.dram_bytes / 1e9:.4g} GB: use a smaller --shape or --dim"
            )
        problem = task.kernel.problem_of(launch, host.device)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        leaders = Leaders(launch.grid)
        return cls(task, host, store, problem, host.provenance(now), progress, tell, leaders)

    def space_context(self) -> dict[str, int]:
        """What the space's expressions see: dims, itemsize, the device's facts."""
        return context(dict(self.problem.dims), self.problem.itemsize, self.host.device)

    def default(self) -> Config:
        """The space's default configuration."""
        return self.task.kernel.load_space().default(self.space_context())

    def begin(self, total: int, known: Collection[Evaluation] = ()) -> None:
        """Tell that up to `total` configurations are to be evaluated, of which some are known."""
        self.progress.begin(total, known)
        self.tell(Began(self.problem, self.task.shape, total, len(known)))

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
                self._leaders.add(evaluation)
        return same if any(evaluation.verified for evaluation in same.values()) else {}

    def evaluate(
        self, configs: Sequence[Config], ahead: Sequence[Config] = (), best_us: float | None = None
    ) -> Iterator[Evaluation]:
        """Evaluate and store, one by one; what is the same binary and grid is measured once.

        Args:
            configs: none of them evaluated before.
            ahead: may well be asked next: compiled while these are measured.
            best_us: the fastest so far; what is hopeless beside it is given up early.
        """
        jobs = self.jobs(configs)
        self.tell(Asked(configs))
        if self.host.source is Source.ESTIMATED:
            yield from self._learned(jobs, self.host.pool.evaluate(jobs))
            return
        compiled = dict(self.host.pool.compile(jobs))
        leaders: list[Config] = []
        same: list[tuple[Job, Config]] = []
        for index, job in enumerate(jobs):
            outcome = compiled[index]
            leader = self._leaders.of(job.config, outcome.binary)
            if outcome.status is not Status.OK:
                yield self._learn(job, outcome)
            elif leader == job.config:
                leaders.append(leader)
            else:
                same.append((job, leader))
        self.host.pool.compile_ahead(self.jobs(ahead))
        hopeless_us = None if best_us is None else _HOPELESS * best_us
        jobs = self.jobs(leaders, hopeless_us)
        yield from self._learned(jobs, self.host.pool.evaluate(jobs))
        for job, leader in same:
            copy = self._leaders.copy(job.config, leader)
            self.tell(Shared(job, copy))
            yield self._add(copy)

    def _learned(
        self, jobs: Sequence[Job], outcomes: Iterator[tuple[int, Outcome]]
    ) -> Iterator[Evaluation]:
        for index, outcome in outcomes:
            yield self._learn(jobs[index], outcome)

    def _learn(self, job: Job, outcome: Outcome) -> Evaluation:
        self.tell(Evaluated(job, outcome))
        return self._add(self.evaluation(job.config, outcome))

    def _add(self, evaluation: Evaluation) -> Evaluation:
        self.store.add([evaluation])
        self.progress.add(evaluation)
        self._leaders.add(evaluation)
        return evaluation

    def conclude(
        self,
        found: Mapping[Config, Evaluation],
        *,
        known: int,
        space_size: int,
        began: float,
        stopped: str = "",
        landscapes: Sequence[Landscape] = (),
    ) -> Result:
        """Race the finalists if there is a GPU to race on, decide, store the decision.

        Args:
            found: every evaluation.
            known: how many of them are from earlier runs.
            space_size: valid configurations.
            began: `time.monotonic()` when tuning began.
            stopped: why it ended.
            landscapes: of neighbouring problems: where the race cannot tell, what serves them wins.

        Raises:
            NothingTunedError: no configuration is verified.
        """
        verified = sorted(
            (evaluation for evaluation in found.values() if evaluation.verified),
            key=lambda evaluation: (evaluation.time_us, simplicity(evaluation.config)),
        )
        if not verified:
            raise NothingTunedError(self._failure(found))
        if self.host.source is Source.MEASURED:
            complete = len(found) == space_size
            ending = Final(self, verified).run(landscapes, complete=complete)
        else:
            ending = lowest_estimate(self, verified)
        decision = self._decision(ending)
        self.store.decide(decision)
        self.tell(Decided(ending.winner, decision, stopped))
        kernel, device = self.task.kernel, self.host.device
        launch = kernel.launch_for(self.task.shape, self.task.dtype, device)
        return Result(
            problem=self.problem,
            shape=self.task.shape,
            winner=ending.winner,
            default=ending.default,
            decision=decision,
            evaluated=len(found) - known,
            known=known,
            saved=self._leaders.saved,
            stopped=stopped,
            space_size=space_size,
            statuses=dict(self.progress.statuses),
            bytes_moved=kernel.bytes_moved(launch),
            device=device,
            elapsed_s=time.monotonic() - began,
            flops=None if kernel.flops is None else kernel.flops(launch.dims),
        )

    def _decision(self, ending: Ending) -> Decision:
        winner, default = ending.winner, ending.default
        speedup = None
        if default is not None and default.time_us and winner.time_us:
            speedup = default.time_us / winner.time_us
        return Decision(
            problem=self.problem,
            source=self.host.source,
            winner=winner.uid,
            default=default.uid if default else "",
            reason=ending.reason,
            created_at=self.provenance.created_at,
            rows=tuple(row.uid for row in ending.rows),
            speedup=speedup,
            copy_us=ending.copy_us,
        )

    def jobs(self, configs: Iterable[Config], hopeless_us: float | None = None) -> list[Job]:
        """What to ask a worker."""
        task = self.task
        return [
            Job(
                kernel=task.reference,
                shape=task.shape,
                dtype=task.dtype,
                scalars=task.scalars,
                config=config,
                target=self.host.device.slug,
                seed=task.seed,
                warm=self.host.warm,
                hopeless_us=hopeless_us,
            )
            for config in configs
        ]

    def evaluation(self, config: Config, outcome: Outcome) -> Evaluation:
        """What a worker said, with where it was made."""
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
