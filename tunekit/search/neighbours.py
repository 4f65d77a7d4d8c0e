"""What the landscapes of other problems say of this one's configurations.

docs/search.md derives it and gives its figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tunekit.core.config import Config
from tunekit.core.problem import ITEMSIZES, Problem
from tunekit.search.gaussian import Array, condition, likeness, octaves
from tunekit.search.landscape import Landscape


@dataclass(frozen=True, slots=True)
class Distances:
    """How far problems are from each other: what is added to the square of the distance.

    Chosen by hand on the recorded landscapes of an H100; benchmarks/search.py judges them there and
    on an H200, with whole sizes and ops left out.

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
        steps = (octaves(sizes[name]) - octaves(others[name]) for name in sizes)
        square = sum((step / self.octaves) ** 2 for step in steps)
        if one.dtype != other.dtype:
            same = ITEMSIZES.get(one.dtype) == ITEMSIZES.get(other.dtype)
            square += self.dtype if same else self.itemsize
        square += self.kernel * (one.kernel != other.kernel)
        square += self.alignment * (one.alignment != other.alignment)
        square += self.device * (one.device != other.device)
        return math.exp(-square / 2)


DISTANCES = Distances()

WORST = 0.4
"""Log times above the best by more are cut: how bad a bad one is teaches nothing."""
STRANGE_DEVIATION, STRANGE_STEPS = 0.15, 1.6
"""Where nothing is known: deviation in log time, and over how many steps along an axis alike."""
_LEAST_WEIGHT = 1e-6
_NEAR = 0.3
"""Weight from which a problem is near."""
_AS_GOOD = 0.005
"""Log time above a problem's best that still counts as good there."""
_PRIOR_WEIGHT = 1.0
"""Of the prior, that all configurations are equal: a neighbour at distance 0 is half believed."""
_UNMEASURED = 0.75
"""Quantile of what a search measured at which it is expected what it did not: it had its reasons,
and went for what is fast."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Landscapes of neighbouring problems as a table.

    Attributes:
        configs: the candidates, its columns.
        logs: log of a time over the fastest there, a row a problem, NaN where there is none.
        weights: of the rows, by their distance.
    """

    configs: Sequence[Config]
    logs: Array
    weights: Array

    @classmethod
    def of(
        cls,
        problem: Problem,
        configs: Sequence[Config],
        landscapes: Iterable[Landscape],
        distances: Distances = DISTANCES,
    ) -> Self:
        """Those that are near enough and know one of the candidates.

        Args:
            problem: what is tuned.
            configs: the candidates.
            landscapes: of other problems, or of this one from before.
            distances: between problems.
        """
        place = {config: index for index, config in enumerate(configs)}
        rows, weights = [], []
        for landscape in landscapes:
            weight = distances.weight(problem, landscape.problem)
            if weight >= _LEAST_WEIGHT and any(config in place for config in landscape.times_us):
                rows.append(_row(landscape, place))
                weights.append(weight)
        logs = np.stack(rows) if rows else np.empty((0, len(configs)))
        return cls(configs, logs, np.array(weights))

    def moments(self) -> tuple[Array, Array]:
        """Mean and covariance of the columns: what is expected, and what rises with what.

        The mean is drawn to one for all where the rows weigh little. Those of a search that did not
        measure everything are completed first, and what was completed counts for less.

        Returns:
            (n,) and (n, n); the covariance is positive semidefinite.
        """
        count = len(self.configs)
        if not len(self.weights):
            return np.zeros(count), np.zeros((count, count))
        values, confidence = self._completed()
        weighted = confidence * self.weights[:, None]
        total = weighted.sum(axis=0)
        sums = (weighted * values).sum(axis=0)
        overall = sums.sum() / total.sum()
        mean = np.where(total > 0, sums / np.maximum(total, np.finfo(float).tiny), overall)
        deviations = confidence * (values - mean)
        covariance = (deviations * self.weights[:, None]).T @ deviations / self.weights.sum()
        return overall + (mean - overall) * total / (total + _PRIOR_WEIGHT), covariance

    def _completed(self) -> tuple[Array, Array]:
        """The rows with what they lack as their own measurements let it expect; how sure that is.

        Between 0, nothing like it was measured, and 1, it was.
        """
        values, confidence = self.logs.copy(), np.ones_like(self.logs)
        lacking = np.isnan(self.logs)
        if not lacking.any():
            return values, confidence
        covariance = STRANGE_DEVIATION**2 * likeness(self.configs, STRANGE_STEPS)
        for row in np.flatnonzero(lacking.any(axis=1)):
            unknown, seen = lacking[row], np.flatnonzero(~lacking[row])
            measured = self.logs[row, seen]
            level = float(np.quantile(measured, _UNMEASURED))
            found = condition(covariance, list(seen), measured - level)
            values[row, unknown] = np.clip(level + found.shift[unknown], 0.0, WORST)
            left = found.variance[unknown] / STRANGE_DEVIATION**2
            confidence[row, unknown] = np.clip(1.0 - left, 0.0, 1.0)
        return values, confidence


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
    neighbours = Neighbours.of(problem, configs, landscapes, distances)
    weights = neighbours.weights
    if not len(weights):
        return dict.fromkeys(configs, 0.0)
    good = np.where(np.isnan(neighbours.logs), False, neighbours.logs <= _AS_GOOD)
    shares = (good * weights[:, None]).sum(axis=0) / weights.sum()
    return dict(zip(configs, shares.tolist(), strict=True))


def unmeasured(
    problem: Problem,
    configs: Sequence[Config],
    landscapes: Iterable[Landscape],
    distances: Distances = DISTANCES,
) -> int:
    """How many of the candidates have no time at any near problem."""
    near = [each for each in landscapes if distances.weight(problem, each.problem) >= _NEAR]
    measured = {config for landscape in near for config in landscape.times_us}
    return sum(config not in measured for config in configs)


def _row(landscape: Landscape, place: Mapping[Config, int]) -> Array:
    row = np.full(len(place), np.nan)
    best_us = landscape.best.time_us or math.inf
    for config, time_us in landscape.times_us.items():
        if config in place:
            row[place[config]] = min(math.log(time_us / best_us), WORST)
    return row
