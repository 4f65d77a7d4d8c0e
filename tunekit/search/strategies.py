"""Strategies: which configuration to measure next. One is used to tune, all can be replayed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Protocol

from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.errors import UsageError
from tunekit.search.landscape import Landscape
from tunekit.search.sampler import Sampler, gp, tpe
from tunekit.search.transfer import Transfer

MOST_TRANSFERRED = 2000
"""Largest space whose configurations' covariances are kept, as a dense matrix of 32 MB."""

STRATEGIES = ("transfer", "transfer-tpe", "tpe", "gp", "random")
DRAWN = frozenset({"transfer-tpe", "tpe", "gp", "random"})
"""Strategies whose choices depend on the seed."""

BATCH = 4
"""Configurations asked at a time. Few, because each is chosen in view of the times of those before;
the next ones are compiled meanwhile."""

_BEGIN = 5


class Strategy(Protocol):
    """Asks for configurations and is told their times."""

    @property
    def open_count(self) -> int:
        """Configurations that were neither asked nor told."""
        ...

    def ask(self, count: int) -> list[Config]:
        """Up to `count` configurations to measure, none twice."""
        ...

    def peek(self, count: int) -> list[Config]:
        """What may well be asked next, to be compiled ahead; none if that is not known."""
        ...

    def tell(self, config: Config, time_us: float | None) -> None:
        """What was measured, asked for or not; None where there is no time."""
        ...

    def expected_gain(self) -> float:
        """What going on is expected to gain, as a share; infinite if it cannot say."""
        ...


class Random:
    """Every configuration once, in random order.

    Args:
        configs: the valid configurations.
        first: asked before any other.
        seed: of the order.
    """

    def __init__(self, configs: Sequence[Config], first: Sequence[Config], seed: int) -> None:
        first = [config for config in first if config in configs]
        rest = [config for config in configs if config not in first]
        random.Random(seed).shuffle(rest)
        self._open = dict.fromkeys([*first, *rest])

    @property
    def open_count(self) -> int:
        """Configurations that were neither asked nor told."""
        return len(self._open)

    def ask(self, count: int) -> list[Config]:
        """The next ones."""
        asked = self.peek(count)
        for config in asked:
            del self._open[config]
        return asked

    def peek(self, count: int) -> list[Config]:
        """The next ones, which stay the next."""
        return list(self._open)[:count]

    def tell(self, config: Config, time_us: float | None) -> None:
        """A configuration that need not be asked; its time teaches nothing."""
        self._open.pop(config, None)

    def expected_gain(self) -> float:
        """Infinite: it expects nothing."""
        return math.inf if self._open else 0.0


def check_strategy(name: str) -> None:
    """Refuse what is no strategy.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in STRATEGIES:
        raise UsageError(f"--strategy {name!r}: expected one of {', '.join(STRATEGIES)}")


def make_strategy(
    name: str,
    problem: Problem,
    configs: Sequence[Config],
    first: Sequence[Config],
    landscapes: Iterable[Landscape],
    seed: int,
) -> Strategy:
    """A strategy by its name, one of `STRATEGIES`.

    Args:
        name: `transfer` is what tuning uses; `transfer-tpe` begins with its first five and leaves
            the rest to Optuna's TPE; `tpe`, `gp` are Optuna's samplers; `random`.
        problem: what is tuned.
        configs: the valid configurations, all of the same axes.
        first: asked before any other.
        landscapes: what is known of other problems.
        seed: where the strategy draws.

    Raises:
        UsageError: there is no strategy of that name.
    """
    check_strategy(name)
    if name == "random":
        return Random(configs, first, seed)
    if name == "gp":
        return Sampler(configs, gp(seed), first)
    if name == "tpe" or len(configs) > MOST_TRANSFERRED:
        return Sampler(configs, tpe(seed), first)
    transfer = Transfer(problem, configs, landscapes, first)
    if name == "transfer-tpe":
        return Sampler(configs, tpe(seed), transfer.peek(_BEGIN))
    return transfer
