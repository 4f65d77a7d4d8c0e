"""What a tuning is given, shows on its way, and ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tunekit.core.device import Device
from tunekit.core.evaluation import Decision, Evaluation, Status
from tunekit.core.problem import Problem
from tunekit.kernels.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Task:
    """What to tune and how long.

    Attributes:
        reference: how a worker finds the kernel.
        trials: distinct configurations to evaluate at most, earlier runs counted; None evaluates
            the complete space.
        timeout_s: stop asking after so long; what is under way is finished.
        strategy: one of `strategies.STRATEGIES`.
    """

    kernel: Kernel
    reference: str
    shape: tuple[int, ...]
    dtype: str
    scalars: Mapping[str, float]
    trials: int | None = 60
    timeout_s: float | None = None
    seed: int = 0
    strategy: str = "transfer"


@dataclass(slots=True)
class Progress:
    """What a person watches; `on_change` is called after each evaluation."""

    total: int = 0
    done: int = 0
    best_us: float | None = None
    statuses: Counter[Status] = field(default_factory=Counter)
    on_change: Callable[[Progress], None] = lambda progress: None

    def begin(self, total: int, known: Iterable[Evaluation]) -> None:
        """Start on a problem of which some evaluations are known."""
        self.total, self.done, self.best_us = total, 0, None
        self.statuses.clear()
        for evaluation in known:
            self._count(evaluation)
        self.on_change(self)

    def add(self, evaluation: Evaluation) -> None:
        """Count one evaluation and tell whoever watches."""
        self._count(evaluation)
        self.on_change(self)

    def _count(self, evaluation: Evaluation) -> None:
        self.done += 1
        self.statuses[evaluation.status] += 1
        if evaluation.verified and evaluation.time_us is not None:
            self.best_us = min(self.best_us or evaluation.time_us, evaluation.time_us)


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the configurations that were imported for a problem.

    Attributes:
        count: those that fit the space's constraints; `off_list` of them have a value that the
            space does not list.
        evaluated: how many of them were.
        won: where the winner is from; empty where it is none of them.
    """

    count: int
    off_list: int
    evaluated: int
    won: str


@dataclass(frozen=True, slots=True)
class Result:
    """How tuning ended.

    Attributes:
        default: the default configuration's evaluation, None if it failed.
        evaluated: configurations evaluated in this run; `known` were so before.
        saved: of those, how many were not measured because another one is the same binary and grid.
        stopped: why the search ended.
        bytes_moved: the fewest bytes of DRAM traffic of a launch.
        flops: floating-point operations of a launch, None where the kernel does not say.
        imported: what was imported for the problem, None for nothing.
    """

    problem: Problem
    shape: tuple[int, ...]
    winner: Evaluation
    default: Evaluation | None
    decision: Decision
    evaluated: int
    known: int
    saved: int
    stopped: str
    space_size: int
    statuses: Mapping[Status, int]
    bytes_moved: int
    device: Device
    elapsed_s: float
    flops: float | None = None
    imported: Imported | None = None
