"""Each activation in Triton's interpreter, against eager PyTorch in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Status
from tunekit.core.space import context
from tunekit.evaluate.inputs import SPECIAL_VALUES
from tunekit.evaluate.job import Job
from tunekit.evaluate.pool import Worker
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.kernels.registry import find_kernel
from tunekit.nn import activations
from tunekit.runtime.advice import reference_of

NAMES = (
    "relu", "clamp", "leaky_relu", "sigmoid", "tanh", "silu", "mish", "gelu", "hardswish",
)  # fmt: skip
DTYPES = ("float32", "float16", "bfloat16")
FLAT = Config(BLOCK_SIZE=256, VEC=4, num_warps=4, num_stages=1)
# Every 16-bit value is tried where blocks are large.
WIDE = Config(BLOCK_SIZE=8192, VEC=4, num_warps=8, num_stages=1)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("interpret", "rtx4090") as one:
        yield one


def assert_right(worker: Worker, *jobs: Job) -> None:
    for index, outcome in worker.evaluate(jobs):
        assert outcome.status is Status.OK, (jobs[index], outcome)
        assert outcome.max_error is not None
        assert outcome.max_error <= 1.0


def job(reference: str, dtype: str, config: Config = WIDE, **scalars: float) -> Job:
    return Job(f"tunekit.nn.activations:{reference}", (1000,), dtype, scalars, config, "rtx4090")


@pytest.mark.parametrize("name", NAMES)
def test_within_the_tolerance_in_every_dtype(name: str, worker: Worker) -> None:
    assert_right(worker, *(job(name, dtype, each) for dtype in DTYPES for each in (FLAT, WIDE)))


def test_other_scalars(worker: Worker) -> None:
    inf = float("inf")
    bounds = ((-1.0, 1.0), (-inf, 0.0), (0.5, inf), (2.0, -2.0))
    clamps = [job("clamp", "float32", FLAT, low=low, high=high) for low, high in bounds]
    slopes = [job("leaky_relu", "float32", FLAT, slope=slope) for slope in (0.0, -0.5, 2.0)]
    assert_right(worker, *clamps, *slopes)


@pytest.mark.parametrize("suffix", ["+bias", "+bias/channels_last", "+bias/to_contiguous"])
@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "clamp"])
def test_with_a_bias_folded_in(name: str, suffix: str, worker: Worker) -> None:
    reference, shape, device = f"tunekit.nn.activations:{name}{suffix}", (2, 20, 9, 5), "rtx4090"
    jobs = []
    for dtype in DTYPES:
        launch = find_kernel(reference).launch_for(shape, dtype, DEVICES[device])
        variables = context(launch.dims, launch.inputs[0].itemsize, DEVICES[device])
        config = find_kernel(reference).load_space().default(variables)
        jobs.append(Job(reference, shape, dtype, {}, config, device))
    assert_right(worker, *jobs)


def test_large_and_tiny_values_and_neighbours(worker: Worker) -> None:
    """Reciprocals are taken in pairs: what is strewn in must not change what lies beside it."""
    jobs = [
        Job(f"tunekit.nn.activations:{name}", (1000,), "float32", {}, FLAT, "rtx4090", seed=seed)
        for name in NAMES
        for seed in range(4)
    ]
    assert_right(worker, *jobs)
    assert {float("inf"), float("-inf"), 0.0, -3e4} <= set(SPECIAL_VALUES)


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan_in_the_reference(name: str) -> None:
    kernel: Kernel = getattr(activations, name)
    x = torch.tensor([float("nan"), 1.0], dtype=torch.float64)
    assert kernel.reference(x, **kernel.scalars).isnan().tolist() == [True, False]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_found_by_its_place(name: str) -> None:
    reference = f"tunekit.nn.activations:{name}"
    kernel = find_kernel(reference)
    assert kernel is getattr(activations, name)
    assert kernel.name == name
    assert kernel.summary
    assert reference_of(kernel) == reference
    assert reference_of(find_kernel(f"{reference}+bias")) == f"{reference}+bias"


def test_these_are_all_and_none_is_in_the_library() -> None:
    held = {name for name, each in vars(activations).items() if isinstance(each, Kernel)}
    assert held == set(NAMES)
    assert not held & KERNELS.keys()
    assert len({find_kernel(f"tunekit.nn.activations:{each}").source_hash for each in held}) == 9
