"""What to measure next, learning from other problems' landscapes and from each measurement.

Of every configuration a time relative to the best is expected before anything is measured: the mean
over the recorded problems, the nearer ones weighing more. How they differ from that mean says which
configurations rise and fall together, so that each measurement moves the expectation of the others:
a Gaussian process whose mean and covariance are learned from neighbouring problems, on log times.
docs/search.md derives it and gives its figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.search.gaussian import NOISE, Array, condition, likeness
from tunekit.search.landscape import Landscape
from tunekit.search.neighbours import (
    DISTANCES,
    STRANGE_DEVIATION,
    STRANGE_STEPS,
    WORST,
    Distances,
    Neighbours,
)

_OWN_DEVIATION, _OWN_STEPS = 0.015, 0.8
"""With neighbours: deviation of what is a problem's own, in log time, and over how many steps along
an axis that stays alike."""
_LEVEL_DEVIATION = 0.1
"""Deviation of a problem's level: its best time is not known beforehand."""
_OUTLYING = 4.0
"""Deviations above what is expected at which a measurement is cut."""
_FEW, _MOST_SURPRISED = 4, 4.0
"""Measurements from which their surprise counts, and how many times as wide it makes deviations."""
_DIGITS = 9
"""Of expected gains: what differs by less is equal, whatever a processor rounds to."""


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
        neighbours = Neighbours.of(problem, self._configs, landscapes, distances)
        self.neighbours = len(neighbours.weights)
        self._mean, learned = neighbours.moments()
        strange = math.exp(-float(neighbours.weights.sum()))
        deviation = _between(_OWN_DEVIATION, STRANGE_DEVIATION, strange)
        own = likeness(self._configs, _between(_OWN_STEPS, STRANGE_STEPS, strange))
        self._covariance = learned + deviation**2 * own + _LEVEL_DEVIATION**2
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
            score = np.round(score, _DIGITS)
            supposed = [max(left, key=lambda index: (score[index], -index))]
            chosen += supposed

    def _posterior(self, logs: dict[int, float]) -> tuple[Array, Array]:
        """Mean and deviation of every log time, given some.

        The level of the problem is the median of what was measured above what was expected; its
        own uncertainty is part of the covariance. Where the measurements surprise, the others may
        too: deviations widen by the scale under which the measurements are likeliest.
        """
        variance = self._covariance.diagonal()
        if not logs:
            return self._mean, np.sqrt(variance)
        seen = list(logs)
        above = np.array(list(logs.values())) - self._mean[seen]
        told = len(self._logs)  # the first of them; the others are supposed to be as expected
        level = float(np.median(above[:told])) if told else 0.0
        # What is far slower than expected teaches no more than that: it may be one bad sample.
        own = np.sqrt(np.maximum(variance[seen] - _LEVEL_DEVIATION**2, 0.0) + NOISE**2)
        residual = np.minimum(above - level, np.minimum(_OUTLYING * own, WORST))
        found = condition(self._covariance, seen, residual)
        deviation = np.sqrt(np.maximum(found.variance, 1e-12))
        if told >= _FEW:
            surprise = found.surprise * len(seen) / told  # what is supposed adds nothing to it
            deviation *= min(math.sqrt(max(surprise, 1.0)), _MOST_SURPRISED)
        return level + self._mean + found.shift, deviation


def _between(one: float, other: float, share: float) -> float:
    return one + share * (other - one)


def _expected_gain(best: float, mean: Array, deviation: Array) -> Array:
    """Expected improvement on `best` (Jones, Schonlau and Welch 1998, eq. 15), in log time."""
    z = (best - mean) / deviation
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    gain: Array = (best - mean) * below + deviation * density
    return gain
