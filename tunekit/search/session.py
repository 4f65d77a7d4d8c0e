"""What the evaluations of one problem in one run share: jobs, rows, the race, the decision."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tunekit.core.config import Config
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.errors import DeviceMemoryError, NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job, Outcome
from tunekit.search import race
from tunekit.search.decide import Finalist, decide, rank_estimates, simplicity
from tunekit.search.events import Asked, Began, Decided, Evaluated, Raced, Shared, Tell, tell_nobody
from tunekit.search.landscape import Landscape
from tunekit.search.leaders import Leaders
from tunekit.search.task import Progress, Result, Task
from tunekit.search.transfer import preference
from tunekit.store.database import Store

_ESTIMATED_FINALISTS = 6
_HOPELESS = 1.5
"""A first sample this many times the best so far is the last one."""
_RECORDED_MARGIN = 0.1
_RECORDED_ROUNDS = 12
"""Of a complete landscape all within this share of the best are measured side by side, so often:
what tells near equals apart, and a noise floor for replays."""


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
    _disturbances: list[str] = field(default_factory=list)
    _faults: dict[Config, str] = field(default_factory=dict)

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
        needed = task.kernel.bytes_moved(launch)
        if needed > host.device.dram_bytes:
            raise DeviceMemoryError(
                f"{task.kernel.name} at {','.join(map(str, task.shape))} {task.dtype}: inputs and "
                f"output take {needed / 1e9:.4g} GB and {host.device.slug} has "
                f"{host.device.dram_bytes / 1e9:.4g} GB: use a smaller --shape"
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
        jobs = self._jobs(configs)
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
        self.host.pool.compile_ahead(self._jobs(ahead))
        hopeless_us = None if best_us is None else _HOPELESS * best_us
        jobs = self._jobs(leaders, hopeless_us)
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
        return self._add(self._evaluation(job.config, outcome))

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
            winner, default, decision = self._decide_measured(
                verified, self.default(), landscapes, complete=len(found) == space_size
            )
        else:
            winner, default, decision = self._decide_estimated(verified, self.default())
        self.tell(Decided(winner, decision, stopped))
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
            saved=self._leaders.saved,
            stopped=stopped,
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
        decision = self._decision(winner, default_row, ranked[:_ESTIMATED_FINALISTS], reason, None)
        return winner, default_row, decision

    def _decide_measured(
        self,
        verified: Sequence[Evaluation],
        default: Config,
        landscapes: Sequence[Landscape],
        *,
        complete: bool,
    ) -> tuple[Evaluation, Evaluation | None, Decision]:
        rows = {row.config: row for row in verified}
        candidates = [Finalist(row.config, row.samples_us, row.binary) for row in verified]
        liked = preference(self.problem, list(rows), landscapes)
        if complete:
            limit_us = (1 + _RECORDED_MARGIN) * candidates[0].median_us
            entrants = [
                each for each in candidates if each.median_us <= limit_us or each.config == default
            ]
            blocks: Sequence[int] = (_RECORDED_ROUNDS,)
        else:
            entrants, blocks = race.entrants(candidates, default, liked), race.BLOCKS
        run = race.run(entrants, default, self._sampler(entrants), liked, blocks)
        finalists = [each for each in run.finalists if each.config not in self._faults]
        self.store.add(self._found_wrong(rows))
        if not finalists:
            raise NothingTunedError(
                f"{self.problem.kernel}: every configuration of the race is wrong, nothing is "
                f"cached; {next(iter(self._faults.values()))}"
            )
        raced = [self._raced(rows[finalist.config], finalist) for finalist in finalists]
        self.store.add(raced)
        verdict = decide(finalists, default, liked)
        winner = raced[verdict.winner]
        default_row = None if verdict.default is None else raced[verdict.default]
        copy_us = statistics.median(run.others[0])
        reason = f"{verdict.reason}; {run.stopped}"
        decision = self._decision(winner, default_row, raced, reason, copy_us)
        return winner, default_row, decision

    def _sampler(self, entrants: Sequence[Finalist]) -> race.Sample:
        """Asks the GPU for rounds: a series for each entrant, and last one for a plain copy."""
        configs = [each.config for each in entrants]
        jobs = self._jobs(configs)

        def sample(rounds: int) -> list[tuple[float, ...]]:
            found = self.host.race(jobs, rounds)
            self.tell(Raced(configs, found))
            if found.disturbance:
                self._disturbances.append(found.disturbance)
            self._faults.update(
                (job.config, fault) for job, fault in zip(jobs, found.faults, strict=False) if fault
            )
            return [*found.samples_us, found.copy_us]

        return sample

    def _found_wrong(self, rows: Mapping[Config, Evaluation]) -> list[Evaluation]:
        """Evaluations of what was right when the search tried it and wrong when it was raced."""
        return [
            replace(
                self._evaluation(config, Outcome(Status.WRONG, reason=f"in the race: {fault}")),
                binary=rows[config].binary,
            )
            for config, fault in self._faults.items()
        ]

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

    def _jobs(self, configs: Iterable[Config], hopeless_us: float | None = None) -> list[Job]:
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
            disturbance="; ".join(dict.fromkeys(self._disturbances)),
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
