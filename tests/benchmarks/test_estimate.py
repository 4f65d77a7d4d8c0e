from __future__ import annotations

import estimate
import pytest

from tunekit.core.device import device_named
from tunekit.core.evaluation import Binary, Status
from tunekit.core.space import context
from tunekit.evaluate.binary import BlockPath, Mix
from tunekit.kernels.library import KERNELS
from tunekit.paths import shipped_landscapes
from tunekit.search.landscape import Landscape, Point, read

H100 = device_named("h100")
MISH = KERNELS["mish_mish"]


def test_the_committed_landscapes_are_complete() -> None:
    for name in ("h100", "h200"):
        _, recorded = read(shipped_landscapes() / f"{name}.csv.gz")
        assert len(recorded) == {"h100": 174, "h200": 141}[name]
        for landscape in recorded:
            problem = landscape.problem
            kernel = KERNELS[problem.kernel]
            # Of this very kernel: a changed formula needs new recordings.
            assert problem.kernel_hash == kernel.source_hash
            launch = estimate.launch_of(landscape, device_named(name))
            space = context(launch.dims, problem.itemsize, device_named(name))
            valid = set(kernel.load_space().configs(space))
            assert {point.config for point in landscape.points} == valid
            assert all(point.status is Status.OK for point in landscape.points)


def landscape_of(times_us: dict[int, float]) -> Landscape:
    """One aligned problem whose time depends on BLOCK_SIZE alone."""
    shape = (2**24,)
    launch = MISH.launch_for(shape, "float32", H100)
    configs = MISH.load_space().configs(context(launch.dims, 4, H100))
    points = tuple(
        Point(config, Status.OK, times_us[config["BLOCK_SIZE"]])
        for config in configs
        if config["BLOCK_SIZE"] in times_us and config["num_stages"] == 1
    )
    return Landscape(MISH.problem_of(launch, H100), points)


def made(landscape: Landscape) -> dict[object, estimate.Compiled]:
    binary = Binary("0" * 16, 32, 0, 0, 16, 16)
    path = BlockPath(Mix(issued=200, special=24, loads=2, stores=2), Mix())
    return {point.config: (binary, path) for point in landscape.points}


def test_losses_are_against_the_exhaustive_best() -> None:
    # The default has 1024: the estimates tie it or prefer it, so the first choice costs 10 %.
    landscape = landscape_of({128: 100.0, 1024: 110.0, 2048: 120.0})
    result = estimate.score(landscape, made(landscape), H100)  # type: ignore[arg-type]
    assert result.default == pytest.approx(0.10)
    assert result.first == pytest.approx(0.10)
    assert result.first >= result.five >= 0.0
    assert 0.0 < result.random < 0.20


def test_a_goal_that_is_missed_says_so() -> None:
    assert estimate.verdict("loss", 0.05, 0.05) == "PASS  loss: 5.00% (at most 5%)"
    assert estimate.verdict("loss", 0.0501, 0.05).startswith("FAIL  loss")


def test_the_table_has_every_group() -> None:
    landscape = landscape_of({128: 100.0, 1024: 110.0})
    scored = estimate.score(landscape, made(landscape), H100)  # type: ignore[arg-type]
    lines = list(estimate.table([scored, scored]))
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "all",
        "up to 2^24",
        "float32",
        "mish_mish",
    ]
