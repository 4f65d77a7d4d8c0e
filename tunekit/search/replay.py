"""A search over recorded evaluations: no GPU, and the same every time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.search.knowledge import floor_us, left_out
from tunekit.search.landscape import Landscape
from tunekit.search.neighbours import unmeasured
from tunekit.search.stopping import Stopping
from tunekit.search.strategies import BATCH, DRAWN, check_strategy, make_strategy

CHECKPOINTS = (1, 5, 10, 20, 40)
"""Distinct measured configurations after which a regret is read."""
TRIALS = 60
"""Distinct measured configurations after which a tuning ends, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Run:
    """One replayed search of one problem.

    Attributes:
        measured: configurations in the order they were measured; those that failed are not.
        stopped: how many had been measured when tuning would have stopped, None if it would not.
        saved: configurations not measured because they are the binary of one that was.
    """

    landscape: Landscape
    measured: tuple[Config, ...]
    stopped: int | None
    saved: int = 0

    def regret(self, count: int, *, tied: bool = True) -> float:
        """Regret of the fastest among the first `count`.

        With `tied` a configuration that cannot be told from the best has none, otherwise its
        recorded time counts as it is.
        """
        times = self.landscape.times_us
        best = min(self.measured[:count], key=lambda config: times[config])
        if tied:
            return self.landscape.regrets[best]
        return times[best] / min(times.values()) - 1.0


@dataclass(frozen=True, slots=True)
class Regret:
    """Regrets over many runs, as shares of the exhaustive best time."""

    mean: float
    p95: float
    worst: float

    @classmethod
    def of(cls, regrets: Iterable[float]) -> Regret:
        """Of one regret a run; the 95th percentile is that of the nearest rank."""
        ordered = sorted(regrets)
        rank = math.ceil(0.95 * len(ordered)) - 1
        return cls(statistics.fmean(ordered), ordered[rank], ordered[-1])


@dataclass(frozen=True, slots=True)
class Replayed:
    """A strategy's runs over many problems, each from several seeds if it draws."""

    strategy: str
    leave_out: str
    runs: tuple[Run, ...]

    def regret(self, count: int, *, tied: bool = True) -> Regret:
        """After so many distinct measured configurations; see `Run.regret`."""
        return Regret.of(run.regret(count, tied=tied) for run in self.runs)

    def stopped(self) -> tuple[float, Regret]:
        """Where tuning would have stopped: configurations measured on average, and the regret."""
        counts = [run.stopped or len(run.measured) for run in self.runs]
        regrets = [run.regret(count) for run, count in zip(self.runs, counts, strict=True)]
        return statistics.fmean(counts), Regret.of(regrets)

    @property
    def saved(self) -> int:
        """Configurations not measured because they are the binary of one that was."""
        return sum(run.saved for run in self.runs)


def replay_all(
    landscapes: Sequence[Landscape],
    known: Sequence[Landscape],
    strategies: Iterable[str],
    leave_out: str,
    seeds: int,
    most: int = CHECKPOINTS[-1],
    defaults: Mapping[Problem, Config] | None = None,
) -> list[Replayed]:
    """Replay strategies on problems, each with everything known but what is left out.

    Args:
        landscapes: the problems.
        known: recorded problems to learn from, those being judged among them or not.
        strategies: by name.
        leave_out: one of `knowledge.LEFT_OUT`.
        seeds: from how many seeds a strategy is run that draws.
        most: distinct measured configurations of a run.
        defaults: of the space at each problem, where it is known: measured first, as tuning does.

    Raises:
        UsageError: there is no strategy of that name.
    """
    names = list(strategies)
    for name in names:
        check_strategy(name)
    found = []
    for name in names:
        runs = []
        for landscape in landscapes:
            others = [
                each
                for each in left_out(leave_out, landscape.problem, known)
                if each.warm == landscape.warm
            ]
            configs = [point.config for point in landscape.points]
            stopping = Stopping.of_space(
                len(configs),
                floor_us(landscape.problem, others),
                unmeasured(landscape.problem, configs, others),
            )
            first = _first(landscape, defaults or {})
            for seed in range(seeds if name in DRAWN else 1):
                runs.append(replay(landscape, name, others, seed, most, stopping, first))
        found.append(Replayed(name, leave_out, tuple(runs)))
    return found


def searched(
    landscape: Landscape, defaults: Mapping[Problem, Config] | None = None, most: int = TRIALS
) -> Landscape:
    """What a search that knew of no other problem would have left of a recorded one.

    Args:
        landscape: a complete one.
        defaults: see `replay_all`.
        most: distinct measured configurations of that search, if nothing stops it before.
    """
    count = len(landscape.points)
    stopping = Stopping.of_space(count, None, count)
    first = _first(landscape, defaults or {})
    run = replay(landscape, "transfer", (), 0, most, stopping, first)
    left = set(run.measured[: run.stopped])
    return replace(landscape, points=tuple(p for p in landscape.points if p.config in left))


def replay(
    landscape: Landscape,
    name: str,
    known: Iterable[Landscape],
    seed: int,
    most: int = CHECKPOINTS[-1],
    stopping: Stopping | None = None,
    first: Sequence[Config] = (),
) -> Run:
    """Search a recorded problem as `tunekit tune` would, looking its times up.

    Args:
        landscape: the problem; its configurations are the space.
        name: of the strategy.
        known: what is known of other problems.
        seed: of the strategy.
        most: distinct measured configurations.
        stopping: when tuning would stop; the replay goes on all the same.
        first: asked before any other, of those that were recorded.
    """
    points = {point.config: point for point in landscape.points}
    strategy = make_strategy(name, landscape.problem, list(points), first, known, seed)
    measured: list[Config] = []
    by_binary: dict[str, float | None] = {}
    stopped, saved = None, 0
    while len(measured) < most and strategy.open_count:
        for config in strategy.ask(BATCH):
            point = points[config]
            binary = point.binary.hash if point.binary else ""
            known_us = by_binary.get(binary)
            strategy.tell(config, point.time_us if known_us is None else known_us)
            # One that failed is not tried again, unless it is recorded to have run another time.
            if known_us is not None or (binary in by_binary and point.time_us is None):
                saved += 1
            elif point.time_us is not None:
                measured.append(config)
            if binary and known_us is None:
                by_binary[binary] = point.time_us
        if stopped is None and stopping is not None and measured:
            best_us = min(landscape.times_us[config] for config in measured)
            if stopping.reason(len(measured), best_us, strategy.expected_gain()):
                stopped = min(len(measured), most)
    return Run(landscape, tuple(measured[:most]), stopped, saved)


def _first(landscape: Landscape, defaults: Mapping[Problem, Config]) -> tuple[Config, ...]:
    default = defaults.get(landscape.problem)
    recorded = any(point.config == default for point in landscape.points)
    return (default,) if default is not None and recorded else ()
