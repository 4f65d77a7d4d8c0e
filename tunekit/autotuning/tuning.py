"""Tune on a miss, in the process that calls: measure what no database knows, race, decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import triton

from tunekit._version import __version__
from tunekit.autotuning.live import Decorated, GpuLostError, Live
from tunekit.autotuning.problem import Described
from tunekit.autotuning.timing import BenchTiming, GraphTiming, Racing, Timing
from tunekit.core.config import Config
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status
from tunekit.errors import ClaimedError, NothingTunedError, StoreError
from tunekit.evaluate.job import Outcome
from tunekit.evaluate.text import one_line
from tunekit.gpu import PresentGpu
from tunekit.notices import warn
from tunekit.paths import user_database
from tunekit.search import race
from tunekit.search.decide import Finalist, Verdict, decide, simplicity
from tunekit.search.leaders import Leaders
from tunekit.store.claims import claim
from tunekit.store.database import Store

_HOPELESS = 1.5
"""A first sample this many times the best so far is the last one."""
MOST_TRIED = 60
"""Configurations of a space that are measured; of a list all are."""
_PATIENCE_S = 900.0
_LOOK_S = 0.2
"""How long to wait for another process that tunes the same problem, and how often to look."""


@dataclass(frozen=True)
class Request:
    """What is to be tuned.

    Attributes:
        described: the problem.
        decorated: the kernel.
        args, kwargs: of the call that missed.
        configs: in order of preference, the default first.
        stored: whether a database can hold them.
        is_space: whether they are the points of a space, of which some may do.
        gpu: the current GPU.
        do_bench: the person's own benchmark, if there is one.
        again: what the call is served by now; asked when another process has been waited for.
    """

    described: Described
    decorated: Decorated
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    configs: Mapping[Config, triton.Config]
    stored: bool
    is_space: bool
    gpu: PresentGpu
    do_bench: Callable[..., Any] | None
    again: Callable[[], Config | None]


@dataclass(frozen=True)
class Tuned:
    """How it ended.

    Attributes:
        times_us: of every configuration that passed, in this run or an earlier one.
    """

    winner: Config
    times_us: Mapping[Config, float]


def timing_of(request: Request) -> Timing:
    """Who takes the times."""
    if request.do_bench is not None:
        return BenchTiming(request.do_bench)
    return GraphTiming(request.gpu.index)


def tune(request: Request) -> Tuned:
    """Measure, store and decide; the caller's tensors are not touched.

    Raises:
        NothingTunedError: no configuration passed, or nothing can be compared.
        DeviceMemoryError: a copy of the tensors does not fit.
        ClaimedError: another process tunes the same, and takes too long.
        GpuLostError: a configuration broke the GPU's context.
    """
    timing = timing_of(request)
    with torch.no_grad(), _opened(request) as store:
        if store is None:
            return _Run(request, timing, None).tune()
        work = f"{request.described.problem.key} {timing.protocol}"
        with _claimed(store.path, work, request.decorated.name) as waited:
            if waited and (winner := request.again()) is not None:
                return Tuned(winner, {})
            return _Run(request, timing, store).tune()


@contextmanager
def _opened(request: Request) -> Iterator[Store | None]:
    """The person's database; None where nothing can be kept, which is said."""
    name, store = request.decorated.name, None
    if request.stored:
        try:
            store = Store.open(user_database())
        except StoreError as error:
            warn(f"{name}: what is measured is not kept: {error}")
    else:
        warn(
            f"{name}: what is measured is not kept: a database holds whole numbers, and its "
            "configurations have other values, or differ in their hooks alone"
        )
    try:
        yield store
    finally:
        if store is not None:
            store.close()


@contextmanager
def _claimed(database: Path, work: str, told: str) -> Iterator[bool]:
    """Hold the claim on a problem; yields whether somebody else had it first."""
    until, waited = time.monotonic() + _PATIENCE_S, False
    while True:
        held = claim(database, work, told)
        try:
            held.__enter__()
            break
        except ClaimedError:
            if time.monotonic() > until:
                raise
            waited = True
            time.sleep(_LOOK_S)
    try:
        yield waited
    finally:
        held.__exit__(None, None, None)


class _Run:
    """One tuning.

    Args:
        request: what to tune.
        timing: takes the times.
        store: keeps what is learned; None keeps nothing.
    """

    def __init__(self, request: Request, timing: Timing, store: Store | None) -> None:
        self._request, self._timing, self._store = request, timing, store
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._provenance = _provenance(request.gpu, timing.protocol, now)
        self._found: dict[Config, Evaluation] = self._known()

    def tune(self) -> Tuned:
        """Evaluate what is not known, then decide."""
        try:
            return self._tune()
        except GpuLostError as error:
            # So that the next process passes over what ended this one.
            outcome = Outcome(Status.CRASHED, reason=one_line(error))
            self._learn(self._evaluation(error.config, outcome))
            raise

    def _tune(self) -> Tuned:
        request = self._request
        crashed = {c for c, row in self._found.items() if row.status is Status.CRASHED}
        live = Live(
            request.decorated,
            request.args,
            request.kwargs,
            {config: given for config, given in request.configs.items() if config not in crashed},
            request.gpu.device,
            self._timing,
        )
        leaders = Leaders(live.grid)
        for row in self._found.values():
            leaders.add(row)
        rest = [config for config in request.configs if config not in self._found]
        if request.is_space and len(request.configs) > MOST_TRIED:
            live.prepare()
            self._search(live, leaders)
        else:
            made = live.compile(rest)
            live.prepare()  # which launches the first: it is compiled by now, with the others
            self._evaluate(live, leaders, made)
        return self._conclude(live)

    def _known(self) -> dict[Config, Evaluation]:
        """Earlier evaluations that count as this run's: same GPU, versions and protocol.

        Where none is verified only what ended a process: see `search.session.Session.known`.
        """
        if self._store is None:
            return {}
        problem, now = self._request.described.problem, self._provenance
        same = {
            row.config: row
            for row in self._store.evaluations(problem, source=Source.MEASURED)
            if replace(row.provenance, created_at=now.created_at) == now
            and row.config in self._request.configs
        }
        if any(row.verified for row in same.values()):
            return same
        return {config: row for config, row in same.items() if row.status is Status.CRASHED}

    def _search(self, live: Live, leaders: Leaders) -> None:
        """As `tunekit tune` searches a space, without what is known of other kernels."""
        from tunekit.search.stopping import Stopping
        from tunekit.search.strategies import BATCH, make_strategy  # loads Optuna

        configs = list(self._request.configs)
        problem = self._request.described.problem
        strategy = make_strategy("transfer", problem, configs, [configs[0]], [], 0)
        for row in self._found.values():
            strategy.tell(row.config, row.time_us if row.verified else None)
        stopping = Stopping.of_space(len(configs), None, unmeasured=len(configs))
        while strategy.open_count and len(self._found) < MOST_TRIED:
            measured = sum(row.verified for row in self._found.values())
            if stopping.reason(measured, self._best_us(), strategy.expected_gain()):
                return
            asked = strategy.ask(min(BATCH, MOST_TRIED - len(self._found)))
            for row in self._evaluate(live, leaders, live.compile(asked)):
                strategy.tell(row.config, row.time_us if row.verified else None)

    def _evaluate(
        self, live: Live, leaders: Leaders, compiled: Mapping[Config, Outcome]
    ) -> list[Evaluation]:
        """Evaluate and store, one by one; what is the same binary and grid is measured once."""
        found = []
        for config, made in compiled.items():
            leader = leaders.of(config, made.binary)
            if leader != config and leader in self._found:
                row = leaders.copy(config, leader)
            else:
                row = self._evaluation(config, self._outcome(live, config, made))
            self._learn(row)
            leaders.add(row)
            found.append(row)
        return found

    def _outcome(self, live: Live, config: Config, made: Outcome) -> Outcome:
        if made.status is not Status.OK:
            return made
        best_us = self._best_us()
        return live.evaluate(config, made, None if best_us is None else _HOPELESS * best_us)

    def _conclude(self, live: Live) -> Tuned:
        """Race the best, decide, store the decision.

        Raises:
            NothingTunedError: no configuration is verified.
        """
        verified = sorted(
            (row for row in self._found.values() if row.verified),
            key=lambda row: (row.time_us, simplicity(row.config)),
        )
        if not verified:
            raise NothingTunedError(self._failure())
        default = next(iter(self._request.configs))
        rows = {row.config: row for row in verified}
        finalists = [Finalist(row.config, row.samples_us, row.binary) for row in verified]
        stopped = "as its own benchmark says"
        if isinstance(self._timing, Racing):
            finalists, rows, stopped = self._raced(self._timing, live, finalists, default, rows)
        verdict = decide(finalists, default)
        entered = [rows[each.config] for each in finalists]
        winner = entered[verdict.winner]
        if self._store is not None:
            self._store.decide(self._decision(verdict, entered, stopped))
        assert winner.time_us is not None
        times = {row.config: row.time_us for row in verified if row.time_us is not None}
        return Tuned(winner.config, times)

    def _raced(
        self,
        timing: Racing,
        live: Live,
        measured: Sequence[Finalist],
        default: Config,
        rows: Mapping[Config, Evaluation],
    ) -> tuple[list[Finalist], dict[Config, Evaluation], str]:
        """Those that remain of a race, their evaluations by it, and why it ended."""
        entrants = race.entrants(measured, default)
        configs = [each.config for each in entrants]
        disturbances: list[str] = []

        def sample(rounds: int) -> list[tuple[float, ...]]:
            series, disturbance = live.race(timing, configs, rounds)
            if disturbance:
                disturbances.append(disturbance)
            return series

        run = race.run(entrants, default, sample)
        faults = {config: live.fault(config) for config in configs}
        protocol = f"{self._provenance.protocol}-race"
        raced: dict[Config, Evaluation] = {}
        for each in run.finalists:
            if fault := faults[each.config]:
                outcome = Outcome(Status.WRONG, reason=f"in the race: {fault}")
                self._learn(replace(self._evaluation(each.config, outcome), binary=each.binary))
                continue
            raced[each.config] = replace(
                rows[each.config],
                provenance=replace(self._provenance, protocol=protocol),
                time_us=each.median_us,
                samples_us=each.samples_us,
                disturbance="; ".join(dict.fromkeys(disturbances)),
            )
        if not raced:
            raise NothingTunedError(
                f"{self._request.decorated.name}: every configuration of the race is wrong, "
                f"nothing is kept; {next(iter(faults.values()))}"
            )
        if self._store is not None:
            self._store.add(raced.values())
        left = [each for each in run.finalists if each.config in raced]
        return left, raced, run.stopped

    def _decision(self, verdict: Verdict, entered: Sequence[Evaluation], stopped: str) -> Decision:
        winner = entered[verdict.winner]
        default = None if verdict.default is None else entered[verdict.default]
        speedup = None
        if default is not None and default.time_us and winner.time_us:
            speedup = default.time_us / winner.time_us
        return Decision(
            problem=self._request.described.problem,
            source=Source.MEASURED,
            winner=winner.uid,
            default=default.uid if default else "",
            reason=f"{verdict.reason}; {stopped}; the output of the first was the reference",
            created_at=self._provenance.created_at,
            rows=tuple(row.uid for row in entered),
            speedup=speedup,
        )

    def _learn(self, row: Evaluation) -> None:
        self._found[row.config] = row
        if self._store is not None:
            self._store.add([row])

    def _evaluation(self, config: Config, outcome: Outcome) -> Evaluation:
        return Evaluation(
            problem=self._request.described.problem,
            shape=self._request.described.shape,
            config=config,
            status=outcome.status,
            source=Source.MEASURED,
            provenance=self._provenance,
            reason=outcome.reason,
            verified_by=outcome.verified_by,
            time_us=outcome.time_us,
            samples_us=outcome.samples_us,
            binary=outcome.binary,
            max_error=outcome.max_error,
            disturbance=outcome.disturbance,
        )

    def _best_us(self) -> float | None:
        times = (row.time_us for row in self._found.values() if row.verified)
        return min((time_us for time_us in times if time_us is not None), default=None)

    def _failure(self) -> str:
        said = next((row.reason for row in self._found.values() if row.reason), "no reason known")
        return (
            f"{self._request.decorated.name}: none of {len(self._found)} configurations can be "
            f"used; {said}"
        )


def _provenance(gpu: PresentGpu, protocol: str, now: str) -> Provenance:
    return Provenance(
        gpu_name=gpu.device.names[0],
        sm_count=gpu.device.sm_count,
        driver=gpu.driver,
        torch=version("torch"),
        triton=version("triton"),
        tunekit=__version__,
        protocol=protocol,
        created_at=now,
    )
