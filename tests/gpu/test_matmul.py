"""The matmul template on a GPU, against float64."""

from __future__ import annotations

import pytest
import torch

from tunekit import ops
from tunekit.core.config import Config
from tunekit.core.space import context
from tunekit.evaluate.compile import compile_launch, ordered_arguments
from tunekit.evaluate.tensors import empty_of
from tunekit.evaluate.verify import expected_outputs, largest_error, tolerance_of
from tunekit.gpu import device_at
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.linear_library import LINEAR_KERNELS, linear_gelu
from tunekit.kernels.plan import TensorMeta

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::tunekit.notices.TunekitWarning"),
]

DTYPES = ("float16", "bfloat16", "float32")


def _launched(
    kernel: Kernel, inputs: list[torch.Tensor], config: Config | None, times: int
) -> float:
    """Largest error of several launches of a configuration, the default's if none is given."""
    device = device_at(0)
    launch = kernel.plan([TensorMeta.of(each) for each in inputs], device)
    config = config or kernel.default(launch, device)
    scalars = kernel.scalar_values()
    compiled = compile_launch(launch, config, scalars)
    (expected,) = expected_outputs(kernel, launch, inputs, scalars)
    tolerance = tolerance_of(kernel, launch, 0, expected)
    worst = 0.0
    for _ in range(times):
        outputs = [empty_of(meta, "cuda") for meta in launch.outputs]
        for index, output in enumerate(outputs):
            output.fill_(0 if launch.start_of(index) == 0 else float("nan"))
        arguments = launch.bind(inputs, outputs, scalars, config)
        compiled.launch(launch.grid(config), ordered_arguments(launch.function, arguments))
        worst = max(worst, largest_error(outputs[0], expected, tolerance))
    return worst


def _inputs(m: int, n: int, k: int, dtype: str) -> list[torch.Tensor]:
    torch.manual_seed(0)
    sizes = ((m, k), (n, k), (n,))
    inputs = [torch.randn(size, device="cuda") for size in sizes]
    inputs[1] *= k**-0.5
    return [each.to(getattr(torch, dtype)) for each in inputs]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(256, 256, 256), (1000, 1000, 1000), (1, 77, 13), (16, 4096, 4096), (300, 500, 999)]
)
def test_the_default_is_right(shape: tuple[int, int, int], dtype: str) -> None:
    assert _launched(linear_gelu, _inputs(*shape, dtype), None, 1) <= 1.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["x across", "weight across", "odd rows", "every other"])
def test_operands_are_read_where_they_lie(layout: str, dtype: str) -> None:
    x, weight, bias = _inputs(192, 160, 128, dtype)
    if layout == "x across":
        x = x.T.contiguous().T
    elif layout == "weight across":
        weight = weight.T.contiguous().T
    elif layout == "odd rows":
        x = torch.nn.functional.pad(x, (0, 1))[:, :-1]
    else:
        x = x.repeat_interleave(2, 1)[:, ::2]
    assert _launched(linear_gelu, [x, weight, bias], None, 1) <= 1.0


@pytest.mark.parametrize("schedule", [1, 2])
@pytest.mark.parametrize("layout", ["contiguous", "odd rows"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tiles_of_three_strips_are_right(dtype: str, layout: str, schedule: int) -> None:
    x, weight, bias = _inputs(300, 1000, 256, dtype)
    if layout == "odd rows":
        x = torch.nn.functional.pad(x, (0, 1))[:, :-1]
    axes = {"BLOCK_M": 128, "BLOCK_N": 192, "BLOCK_K": 64, "GROUP_M": 8, "SPLIT_K": 1}
    config = Config(axes | {"SCHEDULE": schedule, "num_warps": 8, "num_stages": 3})
    assert _launched(linear_gelu, [x, weight, bias], config, 3) <= 1.0


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_split_sum_is_right_whoever_comes_last(parts: int) -> None:
    shape = (512, 512, 4096)
    launch = linear_gelu.launch_for(shape, "float16", device_at(0))
    space = linear_gelu.load_space()
    configs = space.configs(context(launch.dims, 2, device_at(0)))
    config = next(each for each in configs if each["SPLIT_K"] == parts)
    assert _launched(linear_gelu, _inputs(*shape, "float16"), config, 50) <= 1.0


def test_tf32_is_right_and_is_used() -> None:
    before = torch.get_float32_matmul_precision()
    x, weight, bias = _inputs(256, 256, 512, "float32")
    exact = ops.linear_relu(x, weight, bias)
    torch.set_float32_matmul_precision("high")
    try:
        rounded = ops.linear_relu(x, weight, bias)
        assert _launched(linear_gelu, [x, weight, bias], None, 1) <= 1.0
    finally:
        torch.set_float32_matmul_precision(before)
    assert 0.0 < float((rounded - exact).abs().max()) < 0.02


@pytest.mark.parametrize("name", list(LINEAR_KERNELS))
def test_every_op(name: str) -> None:
    kernel = LINEAR_KERNELS[name]
    inputs = [each.view(4, 64, -1) if each.dim() == 2 and len(each) == 256 else each
              for each in _inputs(256, 320, 512, "float16")]  # fmt: skip
    if kernel.input_count == 4:
        inputs.append(torch.randn(4, 64, 320, device="cuda", dtype=torch.float16))
    result = getattr(ops, name)(*inputs)
    expected = kernel.by_reference([each.double() for each in inputs], kernel.scalars)
    torch.testing.assert_close(result.double(), expected, rtol=2e-3, atol=4e-3)
    again = getattr(ops, name)(*inputs)
    assert torch.equal(result, again)
