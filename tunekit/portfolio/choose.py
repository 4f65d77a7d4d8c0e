"""Which K configurations serve many problems with the least worst-case loss.

The loss of a portfolio on a problem is the best time among its configurations over the best time
known of that problem, less one: 0.02 is 2 % slower. What was not measured on a problem cannot
serve it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from tunekit.core.config import Config
from tunekit.portfolio.cover import Budget, OutOfWorkError, cover, greedy_cover
from tunekit.search.decide import simplicity

P = TypeVar("P", bound=Hashable)

WORST_STEPS = 20_000
"""Steps of the search for the least worst-case loss before greed has to do: a few seconds."""
MEAN_STEPS = 10_000
"""The same for the least mean loss among portfolios with the least worst-case loss."""
_COMPARED = 1_000
_DEEPEST = 200
"""Configurations of a portfolio past which nothing is searched for but by greed."""

_Losses = tuple[float, ...]
"""Of one configuration or portfolio: a loss a problem, infinite where it cannot serve."""


@dataclass(frozen=True, slots=True)
class Portfolio(Generic[P]):
    """A few configurations and what they cost.

    Attributes:
        configs: at most as many as were asked for, what needs least of the GPU first; fewer where
            more would gain nothing.
        served_by: for each problem the index of the fastest of them; none for what is `uncovered`.
        losses: the loss on each problem served; `worst` is where it is largest.
        uncovered: problems on which none of the configurations was measured; empty unless no
            choice serves them all.
        exact: no choice has a smaller worst-case loss; else greed found this one and none better
            was found within the bound on work.
        mean_exact: of those with that worst-case loss none has a smaller mean.
    """

    configs: tuple[Config, ...]
    served_by: Mapping[P, int]
    losses: Mapping[P, float]
    uncovered: tuple[P, ...]
    exact: bool
    mean_exact: bool

    @property
    def worst(self) -> P:
        """The problem with the largest loss, of equals the first."""
        return max(self.losses, key=lambda problem: self.losses[problem])

    @property
    def worst_loss(self) -> float:
        """The largest loss."""
        return self.losses[self.worst]

    @property
    def mean_loss(self) -> float:
        """The mean over the problems."""
        return math.fsum(self.losses.values()) / len(self.losses)


def choose(
    times_us: Mapping[P, Mapping[Config, float]],
    count: int,
    *,
    worst_steps: int = WORST_STEPS,
    mean_steps: int = MEAN_STEPS,
) -> Portfolio[P]:
    """The `count` configurations with the least worst-case loss.

    Of several the one with the least mean loss, then with the fewest configurations, then the one
    that needs least of the GPU.

    Args:
        times_us: of each problem, the time of every configuration measured on it, in µs; times of
            one problem must be comparable with each other. At least one problem, none of them
            empty.
        count: at least 1.
        worst_steps: most steps of the search for the least worst-case loss; past it the result
            says that it is not exact.
        mean_steps: the same for the least mean loss.
    """
    problems = list(times_us)
    count = min(count, len(problems))
    if count > _DEEPEST:
        worst_steps = mean_steps = 0
    losses = _losses_of_each(times_us)
    configs = _undominated(losses)
    rows = [losses[config] for config in configs]
    worst = _least_worst(rows, len(problems), count, worst_steps)
    if worst.uncovered:
        return _described(problems, [configs[index] for index in worst.chosen], losses, worst.exact)
    chosen, mean_exact = _least_mean(rows, worst.chosen, count, mean_steps)
    portfolio = [configs[index] for index in chosen]
    return _described(problems, portfolio, losses, worst.exact, mean_exact)


def _losses_of_each(times_us: Mapping[P, Mapping[Config, float]]) -> dict[Config, _Losses]:
    """What each configuration loses on each problem; what needs least of the GPU comes first."""
    best = {problem: min(times.values()) for problem, times in times_us.items()}
    found = {config for times in times_us.values() for config in times}
    return {
        config: tuple(
            times[config] / best[problem] - 1 if config in times else math.inf
            for problem, times in times_us.items()
        )
        for config in sorted(found, key=_order)
    }


def _order(config: Config) -> tuple[object, ...]:
    return simplicity(config), sorted(config.items())


def _undominated(losses: Mapping[Config, _Losses]) -> list[Config]:
    """Without the configurations that one which needs less replaces at no loss anywhere."""
    kept: list[Config] = []
    for config, own in losses.items():
        # Comparing with so many takes longer than it can save later.
        if not any(all(map(float.__le__, losses[other], own)) for other in kept[:_COMPARED]):
            kept.append(config)
    return kept


@dataclass(frozen=True, slots=True)
class _Worst:
    chosen: list[int]
    exact: bool
    uncovered: bool = False


def _least_worst(rows: Sequence[_Losses], problems: int, count: int, steps: int) -> _Worst:
    """Search the losses that occur for the smallest within which `count` serve every problem."""
    wanted = (1 << problems) - 1
    levels = sorted({loss for row in rows for loss in row if loss < math.inf})
    budget = Budget(steps)
    masks = _within(rows, levels[-1])
    try:
        best = cover(masks, wanted, count, budget)
        exact = True
    except OutOfWorkError:
        best, exact = None, False
    if best is None:
        return _Worst(greedy_cover(masks, wanted, count), exact, uncovered=True)
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            found = cover(_within(rows, levels[middle]), wanted, count, budget)
        except OutOfWorkError:
            found, exact = None, False
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    return _Worst(best, exact)


def _within(rows: Sequence[_Losses], level: float) -> list[int]:
    """Of each configuration the problems it serves with no larger loss, as bits."""
    return [sum(1 << problem for problem, loss in enumerate(row) if loss <= level) for row in rows]


def _least_mean(
    rows: Sequence[_Losses], chosen: Sequence[int], count: int, steps: int
) -> tuple[list[int], bool]:
    """The best portfolio that loses nowhere more than `chosen`, and whether that is proven."""
    search = _MeanSearch(rows, count, max(_served(rows, chosen)), Budget(steps))
    search.offer(sorted(chosen))
    # An exchange looks at every configuration of the portfolio, a step of the other search at one.
    with suppress(OutOfWorkError):
        search.improve(Budget(8 * steps // count))
    try:
        search.visit(0, [], (math.inf,) * len(rows[0]))
    except OutOfWorkError:
        return search.best, not any(_served(rows, search.best))  # no mean is below 0
    return search.best, True


class _MeanSearch:
    """Branch and bound over the configurations in order: take one or leave it.

    Args:
        rows: losses of each configuration; the one that needs least of the GPU comes first.
        count: most that may be taken.
        limit: the loss that no problem may exceed.
        budget: of steps.
    """

    def __init__(self, rows: Sequence[_Losses], count: int, limit: float, budget: Budget) -> None:
        self.rows, self.count, self.limit, self.budget = rows, count, limit, budget
        self.best: list[int] = []
        self._value: tuple[float, int, list[int]] = (math.inf, 0, [])
        # What the configurations from an index on could bring each problem down to.
        rest: list[_Losses] = []
        for row in reversed(rows):
            rest.append(tuple(map(min, row, rest[-1])) if rest else row)
        self._rest = rest[::-1]

    def offer(self, chosen: list[int]) -> bool:
        """Keep this choice if it is allowed and the best so far."""
        losses = _served(self.rows, chosen)
        value = (_rounded_sum(losses), len(chosen), chosen)
        if len(chosen) > self.count or max(losses) > self.limit or value >= self._value:
            return False
        self.best, self._value = chosen, value
        return True

    def improve(self, budget: Budget) -> None:
        """Add or exchange one at a time while that helps: a good start prunes most of the rest.

        Raises:
            OutOfWorkError: the budget ran out; the best so far is kept.
        """
        better = True
        while better:
            better = False
            for added in range(len(self.rows)):
                rest = [index for index in self.best if index != added]
                fewer = [[*rest[:i], *rest[i + 1 :]] for i in range(len(rest))]
                for others in (rest, *fewer):
                    budget.spend()
                    better |= self.offer(sorted([*others, added]))

    def visit(self, start: int, chosen: list[int], losses: _Losses) -> None:
        """Try every choice that begins with `chosen` and goes on from the index `start`.

        Raises:
            OutOfWorkError: the budget ran out; the best so far is kept.
        """
        for index in range(start, len(self.rows)):
            self.budget.spend()
            reachable = tuple(map(min, losses, self._rest[index]))
            # Equal sums are looked into: of those fewer, or earlier, configurations win.
            if max(reachable) > self.limit or _rounded_sum(reachable) > self._value[0]:
                return
            taken = tuple(map(min, losses, self.rows[index]))
            if taken == losses:
                continue
            self.offer([*chosen, index])
            if len(chosen) + 1 < self.count:
                self.visit(index + 1, [*chosen, index], taken)


def _served(rows: Sequence[_Losses], chosen: Sequence[int]) -> _Losses:
    """What is lost on each problem when the best of those chosen serves it."""
    return tuple(map(min, zip(*(rows[index] for index in chosen), strict=True)))


def _rounded_sum(losses: _Losses) -> float:
    """Sums that differ by the last bits only are equal."""
    return round(math.fsum(losses), 9)


def _described(
    problems: Sequence[P],
    configs: Sequence[Config],
    losses: Mapping[Config, _Losses],
    exact: bool,
    mean_exact: bool = False,
) -> Portfolio[P]:
    ordered = tuple(sorted(configs, key=_order))
    served: dict[P, int] = {}
    least: dict[P, float] = {}
    for place, problem in enumerate(problems):
        loss, index = min((losses[config][place], i) for i, config in enumerate(ordered))
        if loss < math.inf:
            served[problem], least[problem] = index, loss
    uncovered = tuple(problem for problem in problems if problem not in served)
    return Portfolio(ordered, served, least, uncovered, exact, mean_exact)
