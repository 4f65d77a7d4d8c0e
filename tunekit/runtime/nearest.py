"""In which order rows of other sizes may serve a call.

What wins at a size depends on whether the GPU is full. Up to about one round of programs those win
that spread the work over all SMs; from a few rounds on those that move most bytes at a time. So a
row is nearest if its size is and its configuration would do the same kind of work here as there.
benchmarks/nearest.py judges the rule and its limits on recorded problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.problem import Problem
from tunekit.kernels.plan import Launch
from tunekit.runtime.known import Sized, size_of
from tunekit.store.cache import CacheRow


@dataclass(frozen=True, slots=True)
class Limits:
    """Loads are warps launched over those that the GPU can hold at a time.

    Attributes:
        idle: load below which a configuration of a larger size leaves too much of the GPU idle.
        crowded: load above which a configuration of a smaller size is out of its element, unless
            it was at least `full` there.
        full: load from which a GPU is busy all the time.
        misfit: what the distance of such a row is raised to.
        far: how many times smaller its size may be for a crowded one to go before the default.
    """

    idle: float = 1 / 8
    crowded: float = 1 / 2
    full: float = 1.0
    misfit: float = 4.0
    far: float = 4.0


LIMITS = Limits()

_Rank = tuple[float, int, int, tuple[tuple[str, int], ...]]


def neighbours(
    rows: Iterable[Sized],
    problem: Problem,
    launch: Launch,
    device: Device,
    running_triton: str,
    limits: Limits = LIMITS,
    running_driver: str = "",
    *,
    by_dim: bool = False,
) -> tuple[list[CacheRow], list[CacheRow]]:
    """The rows to serve, best first, and those that the default is better than.

    Args:
        rows: of problems that differ from `problem` in dims alone, with the axes of its space.
        problem: what is asked for.
        launch: its launch.
        device: where it runs.
        running_triton: a row of another Triton loses a tie.
        limits: other ones, to judge them.
        running_driver: so does, after that, a row of another driver; empty if it is not known.
        by_dim: whether sizes are near where each dim is, as M, N and K of a matrix product, and not
            where there are as many elements.
    """
    size = max(size_of(problem), 1)
    near: list[tuple[_Rank, CacheRow]] = []
    beyond: list[tuple[_Rank, CacheRow]] = []
    for other in rows:
        config, ratio = other.row.config, other.size / size
        load = _load(launch, config, device)
        # Dividing is exact enough that n/2 and 2n tie, which their logarithms may not.
        distance = ratio if ratio >= 1 else size / max(other.size, 1)
        if by_dim:
            distance = _distance(dict(other.row.problem.dims), dict(problem.dims))
        idle = ratio > 1 and load < limits.idle
        crowded = ratio < 1 and load > limits.crowded and load * ratio < limits.full
        far = crowded and distance > limits.far
        if idle or crowded:
            distance **= limits.misfit
        foreign = 2 * (other.row.provenance.triton != running_triton)
        foreign += bool(running_driver) and other.row.provenance.driver != running_driver
        rank = (distance, foreign, -other.size, other.row.problem.dims)
        (beyond if far else near).append((rank, other.row))
    for found in (near, beyond):
        found.sort(key=lambda pair: pair[0])
    return [row for _, row in near], [row for _, row in beyond]


def _distance(one: dict[str, int], other: dict[str, int]) -> float:
    """The factors between the dims of two problems, multiplied: 1 where all are equal."""
    pairs = [(max(one.get(name, 1), 1), max(size, 1)) for name, size in other.items()]
    return math.prod(max(a / b, b / a) for a, b in pairs)


def _load(launch: Launch, config: Config, device: Device) -> float:
    """Of a loop every repetition counts, as if it were a program of its own."""
    try:
        programs = math.prod(launch.grid(config)) * max(launch.repeats(config), 1.0)
    except ArithmeticError:  # an axis is 0: it will be passed over when it comes to that
        return 0.0
    return programs * config.get("num_warps", 4) / (device.sm_count * device.max_warps_per_sm)
