"""What other problems' landscapes say about this one, and what to measure next.

Of every configuration a time relative to the best is expected before anything is measured: the mean
over the recorded problems, the nearer ones weighing more. How they differ from that mean says which
configurations rise and fall together, so that each measurement moves the expectation of the others:
a Gaussian process whose mean and covariance are learned from neighbouring problems, on log times.
docs/search.md derives it and gives its figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunekit.core.config import Config
from tunekit.core.problem import ITEMSIZES, Problem
from tunekit.search.landscape import Landscape

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distances:
    """How far problems are from each other: what is added to the square of the distance.

    Chosen by hand on the recorded landscapes of an H100; benchmarks/search.py judges them there
    with whole sizes and ops left out, and on an H200 that had no part in it.

    Attributes:
        octaves: a size that differs by so many powers of two is at distance 1.
        itemsize, dtype, kernel, alignment, device: when these differ; `dtype` counts only where the
            itemsize is the same.
    """

    octaves: float = 2.2
    itemsize: float = 4.0
    dtype: float = 0.2
    kernel: float = 0.7
    alignment: float = 3.0
    device: float = 2.0

    def weight(self, one: Problem, other: Problem) -> float:
        """exp(−d²/2) of the distance d; 0 where the sizes have other names."""
        sizes, others = dict(one.dims), dict(other.dims)
        if sizes.keys() != others.keys():
            return 0.0
        octaves = (_octaves(sizes[name]) - _octaves(others[name]) for name in sizes)
        square = sum((step / self.octaves) ** 2 for step in octaves)
        if one.dtype != other.dtype:
            same = ITEMSIZES.get(one.dtype) == ITEMSIZES.get(other.dtype)
            square += self.dtype if same else self.itemsize
        square += self.kernel * (one.kernel != other.kernel)
        square += self.alignment * (one.alignment != other.alignment)
        square += self.device * (one.device != other.device)
        return math.exp(-square / 2)


DISTANCES = Distances()


def _octaves(value: int) -> float:
    return math.log2(max(value, 0.5))  # a size or an axis may be 0: one step below 1


_WORST = 0.4
"""Log times above the best by more are cut: how bad a bad one is teaches nothing."""
_OWN_DEVIATION, _STRANGE_DEVIATION = 0.015, 0.15
"""Deviation of what is a problem's own, in log time: with neighbours, and with none."""
_OWN_STEPS, _STRANGE_STEPS = 0.8, 1.6
"""Steps along an axis over which what is a problem's own stays alike."""
_LEVEL_DEVIATION = 0.1
"""Deviation of a problem's level: its best time is not known beforehand."""
_NOISE = 0.004
"""Deviation of a measurement, in log time."""
_OUTLYING = 4.0
"""Deviations above what is expected at which a measurement is cut."""
_LEAST_WEIGHT = 1e-6
_AS_GOOD = 0.005
"""Log time above a problem's best that still counts as good there."""


class Transfer:
    """Expects a time of every configuration and learns from what is measured.

    Args:
        problem: what is tuned.
        configs: the candidates.
        landscapes: of other problems, or of this one from before; those with other axes or sizes
            of other names do not count.
        first: asked before any other, in this order.
        distances: between problems.

    Attributes:
        neighbours: landscapes that count.
    """

    def __init__(
        self,
        problem: Problem,
        configs: Sequence[Config],
        landscapes: Iterable[Landscape],
        first: Sequence[Config] = (),
        distances: Distances = DISTANCES,
    ) -> None:
        self._configs = list(configs)
        self._place = {config: index for index, config in enumerate(self._configs)}
        table, weights = _table(problem, self._place, landscapes, distances)
        self.neighbours = len(weights)
        self._mean, learned = _moments(table, weights)
        strange = math.exp(-float(weights.sum()))
        deviation = _between(_OWN_DEVIATION, _STRANGE_DEVIATION, strange)
        steps = _between(_OWN_STEPS, _STRANGE_STEPS, strange)
        own = deviation**2 * _likeness(self._configs, steps)
        self._covariance = learned + own + _LEVEL_DEVIATION**2
        places = (self._place[config] for config in first if config in self._place)
        self._first = list(dict.fromkeys(places))
        self._logs: dict[int, float] = {}
        self._open = dict.fromkeys(range(len(self._configs)))
        self._asked: set[int] = set()

    @property
    def open_count(self) -> int:
        """Configurations that were neither asked nor told."""
        return len(self._open)

    def ask(self, count: int) -> list[Config]:
        """Up to `count` configurations, the most promising first.

        Those after the first, and after any not told yet, are chosen as if the ones before had
        come out as expected.
        """
        chosen = self._choose(count)
        for index in chosen:
            del self._open[index]
            self._asked.add(index)
        return [self._configs[index] for index in chosen]

    def peek(self, count: int) -> list[Config]:
        """What `ask` would answer now."""
        return [self._configs[index] for index in self._choose(count)]

    def tell(self, config: Config, time_us: float | None) -> None:
        """What was measured; None where there is no time."""
        index = self._place.get(config)
        if index is None:
            return
        self._open.pop(index, None)
        self._asked.discard(index)
        if time_us is not None:
            self._logs[index] = math.log(time_us)

    def expected_gain(self) -> float:
        """What the most promising configuration is expected to gain on the best, as a share.

        Infinite before anything is measured, 0 when nothing is left.
        """
        if not self._logs or not self._open:
            return math.inf if self._open else 0.0
        mean, deviation = self._posterior(self._logs)
        gain = _expected_gain(min(self._logs.values()), mean, deviation)
        return float(gain[list(self._open)].max())

    def expected(self) -> dict[Config, float]:
        """Log of each configuration's time over the best's, as expected now."""
        mean, _ = self._posterior(self._logs)
        return dict(zip(self._configs, (mean - mean.min()).tolist(), strict=True))

    def _choose(self, count: int) -> list[int]:
        chosen = [index for index in self._first if index in self._open][:count]
        logs = dict(self._logs)
        supposed = [*self._asked, *chosen]
        while True:
            if supposed:
                mean, _ = self._posterior(logs)
                logs.update((index, float(mean[index])) for index in supposed)
            left = [index for index in self._open if index not in logs]
            if len(chosen) >= count or not left:
                return chosen
            mean, deviation = self._posterior(logs)
            best = min(logs.values(), default=None)
            score = -mean if best is None else _expected_gain(best, mean, deviation)
            supposed = [max(left, key=lambda index: (score[index], -index))]
            chosen += supposed

    def _posterior(self, logs: dict[int, float]) -> tuple[Array, Array]:
        """Mean and deviation of every log time, given some (Rasmussen and Williams, eq. 2.23-24).

        The level of the problem is the median of what was measured above what was expected; its
        own uncertainty is part of the covariance.
        """
        variance = self._covariance.diagonal()
        if not logs:
            return self._mean, np.sqrt(variance)
        seen = list(logs)
        measured = np.array(list(logs.values()))
        above = measured - self._mean[seen]
        level = float(np.median(above))
        across = self._covariance[seen]
        among = across[:, seen] + _NOISE**2 * np.eye(len(seen))
        gain = np.linalg.solve(among, across)
        # What is far slower than expected teaches no more than that: it may be one bad sample.
        own = np.sqrt(np.maximum(variance[seen] - _LEVEL_DEVIATION**2, 0.0) + _NOISE**2)
        residual = np.minimum(above - level, np.minimum(_OUTLYING * own, _WORST))
        mean = level + self._mean + residual @ gain
        left = variance - np.einsum("ij,ij->j", across, gain)
        return mean, np.sqrt(np.maximum(left, 1e-12))


def preference(
    problem: Problem,
    configs: Sequence[Config],
    landscapes: Iterable[Landscape],
    distances: Distances = DISTANCES,
) -> dict[Config, float]:
    """What to prefer where measurements cannot decide: what also serves neighbouring problems.

    Returns:
        For each configuration the share of them, by weight, where it is as good as the best.
    """
    place = {config: index for index, config in enumerate(configs)}
    table, weights = _table(problem, place, landscapes, distances)
    if not len(weights):
        return dict.fromkeys(configs, 0.0)
    good = np.where(np.isnan(table), False, table <= _AS_GOOD)
    shares = (good * weights[:, None]).sum(axis=0) / weights.sum()
    return dict(zip(configs, shares.tolist(), strict=True))


def _table(
    problem: Problem,
    place: dict[Config, int],
    landscapes: Iterable[Landscape],
    distances: Distances,
) -> tuple[Array, Array]:
    """Log times over the best's, a row a neighbouring problem, NaN where unknown; and weights."""
    rows, weights = [], []
    for landscape in landscapes:
        weight = distances.weight(problem, landscape.problem)
        shared = [config for config in landscape.times_us if config in place]
        if weight < _LEAST_WEIGHT or not shared:
            continue
        row = np.full(len(place), np.nan)
        best_us = landscape.best.time_us or math.inf
        for config in shared:
            row[place[config]] = min(math.log(landscape.times_us[config] / best_us), _WORST)
        rows.append(row)
        weights.append(weight)
    if not rows:
        return np.empty((0, len(place))), np.empty(0)
    return np.stack(rows), np.array(weights)


def _moments(table: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted mean and covariance of the columns, over the rows that have them.

    A column that no row has is expected at the mean of the others.
    """
    count = table.shape[1]
    if not len(weights):
        return np.zeros(count), np.zeros((count, count))
    known = ~np.isnan(table)
    weighted = known * weights[:, None]
    total = weighted.sum(axis=0)
    sums = (np.where(known, table, 0.0) * weights[:, None]).sum(axis=0)
    there = total > 0
    mean = np.full(count, (sums[there] / total[there]).mean())
    mean[there] = sums[there] / total[there]
    deviations = np.where(known, table - mean, 0.0)
    together = weighted.T @ known
    products = (deviations * weights[:, None]).T @ deviations
    return mean, np.where(together > 0, products / np.where(together > 0, together, 1.0), 0.0)


def _between(one: float, other: float, share: float) -> float:
    return one + share * (other - one)


def _likeness(configs: Sequence[Config], steps: float) -> Array:
    """exp(−d²/2) of the distance between configurations; so many doublings of an axis are 1."""
    axes = list(configs[0]) if configs else []
    places: Array = np.array([[_octaves(config[axis]) for axis in axes] for config in configs])
    square = (((places[:, None] - places[None]) / steps) ** 2).sum(axis=-1)
    likeness: Array = np.exp(-square / 2)
    return likeness


def _expected_gain(best: float, mean: Array, deviation: Array) -> Array:
    """Expected improvement on `best` (Jones, Schonlau and Welch 1998, eq. 15), in log time."""
    z = (best - mean) / deviation
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    gain: Array = (best - mean) * below + deviation * density
    return gain
