"""A recorded problem that is fastest at one configuration, slower a step at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.core.problem import Problem
from tunekit.search.landscape import Landscape, Point

CONFIGS = [
    Config(BLOCK=block, VEC=vec, num_warps=warps)
    for block, vec, warps in itertools.product((64, 128, 256, 512, 1024), (1, 2, 4), (1, 2, 4, 8))
]
PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 2**20}, "float32", "p16", "h100")


def time_us_of(config: Config, best: int = 256) -> float:
    """Fastest at one configuration of block `best`, 10 to 30 % slower a step along an axis."""
    steps = abs(math.log2(config["BLOCK"] / best))
    return 10 * (
        1 + 0.3 * steps + 0.2 * math.log2(4 / config["VEC"]) + 0.1 * abs(config["num_warps"] - 4)
    )


def best_at(best: int) -> Config:
    return Config(BLOCK=best, VEC=4, num_warps=4)


def landscape_at(
    best: int = 256,
    n: int = 2**21,
    *,
    configs: Iterable[Config] = CONFIGS,
    failed: Sequence[Config] = (),
    **changes: str,
) -> Landscape:
    """What was recorded of a neighbour that is fastest at block `best`."""
    points = [
        Point(config, Status.WRONG, None)
        if config in failed
        else Point(config, Status.OK, 3 * time_us_of(config, best), 0.001)
        for config in configs
    ]
    problem = replace(PROBLEM, dims=(("n", n),), **changes)
    return Landscape(problem, tuple(points), "graph-cold-1")
