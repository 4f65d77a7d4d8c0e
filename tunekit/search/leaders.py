"""Nothing is measured twice: configurations that are the same binary and grid are one candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Evaluation

Grid = Callable[[Config], tuple[int, int, int]]


class Leaders:
    """For each binary and grid the configuration that was first, and what became of it.

    Args:
        grid: the launch grid of a configuration.

    Attributes:
        saved: evaluations that were copied instead of made.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._first: dict[tuple[str, tuple[int, int, int]], Config] = {}
        self._evaluations: dict[Config, Evaluation] = {}
        self.saved = 0

    def of(self, config: Config, binary: Binary | None) -> Config:
        """The first configuration with that binary and grid: this one, if there was none."""
        if binary is None or not binary.hash:
            return config
        return self._first.setdefault((binary.hash, self._grid(config)), config)

    def add(self, evaluation: Evaluation) -> None:
        """What became of a configuration."""
        self.of(evaluation.config, evaluation.binary)
        self._evaluations[evaluation.config] = evaluation

    def copy(self, config: Config, leader: Config) -> Evaluation:
        """The leader's evaluation as that of `config`, which says so."""
        self.saved += 1
        found = self._evaluations[leader]
        told = f"not measured again: the same binary and grid as {leader}"
        reason = "; ".join(filter(None, (found.reason, told)))
        return replace(found, config=config, reason=reason)
