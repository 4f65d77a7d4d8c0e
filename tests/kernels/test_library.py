from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache

import pytest
import torch

from tunekit.kernels.library import KERNELS

DTYPES = ("float32", "float16", "bfloat16")
OPS = tuple(KERNELS)
# 16-bit: one unit in the last place, which also covers that the interpreter truncates bfloat16.
BOUNDS = {
    "float32": (1e-5, 1e-6),
    "float16": (2.0**-10, 2.0**-19),
    "bfloat16": (2.0**-7, 2.0**-19),
}
# Below a block, around one, and several rounds of a loop over two programs; block 128.
SIZES = (1, 129, 9 * 128 + 1)
SPECIAL = (
    *(math.inf, -math.inf, math.nan, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 20.0, -20.0, 88.0, -88.0),
    *(89.0, -89.0, 1e4, -1e4, 6e4, -6e4, 6e-5, -6e-5),
)

Results = dict[tuple[object, ...], tuple[torch.Tensor, torch.Tensor]]
ResultsOf = Callable[[str, str], Results]


def _config(block: int, stages: int) -> dict[str, int]:
    return {"BLOCK_SIZE": block, "VEC": 4, "num_warps": 4, "num_stages": stages}


def _all_of(dtype: str) -> torch.Tensor:
    """Every value of a 16-bit dtype."""
    return torch.arange(-(2**15), 2**15).to(torch.int16).view(getattr(torch, dtype))


def _special(dtype: str) -> torch.Tensor:
    """Every special value beside every other: a template may compute neighbours together."""
    values = torch.tensor(SPECIAL, dtype=getattr(torch, dtype))
    left, right = torch.meshgrid(values, values, indexing="ij")
    return torch.stack([left.flatten(), right.flatten()], dim=1).flatten()


@pytest.fixture(scope="module")
def results_of(interpret: Callable[..., list[torch.Tensor]]) -> ResultsOf:
    """(input, result) of an op and dtype by case, interpreted when first asked for."""

    @cache
    def run(op: str, dtype: str) -> Results:
        generator = torch.Generator().manual_seed(7)
        cases: dict[tuple[object, ...], tuple[dict[str, int], torch.Tensor]] = {}
        for n, stages in itertools.product(SIZES, (1, 2, 3)):
            x = (2 * torch.randn(n, generator=generator)).to(getattr(torch, dtype))
            cases[n, stages] = _config(128, stages), x
        cases["special",] = _config(256, 1), _special(dtype)
        if dtype != "float32":
            cases["all", 1] = _config(8192, 1), _all_of(dtype)
            cases["all", 2] = _config(8192, 2), _all_of(dtype)
        found = interpret(
            [{"kernel": op, "config": config, "inputs": [x]} for config, x in cases.values()]
        )
        return {
            key: (x, result) for (key, (_, x)), result in zip(cases.items(), found, strict=True)
        }

    return run


def _assert_like_eager(op: str, dtype: str, x: torch.Tensor, result: torch.Tensor) -> None:
    """As eager PyTorch in float64; infinite and nan where that is, once in the dtype."""
    kernel = KERNELS[op]
    expected = kernel.reference(x.double(), **kernel.scalars)
    relative, absolute = BOUNDS[dtype]
    assert result.dtype == x.dtype
    torch.testing.assert_close(
        result.double(), expected, rtol=relative, atol=absolute, equal_nan=True
    )


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_odd_sizes(op: str, dtype: str, n: int, stages: int, results_of: ResultsOf) -> None:
    _assert_like_eager(op, dtype, *results_of(op, dtype)[n, stages])


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("op", OPS)
def test_every_16_bit_value(op: str, dtype: str, stages: int, results_of: ResultsOf) -> None:
    x, result = results_of(op, dtype)["all", stages]
    assert len(x.view(torch.int16).unique()) == 2**16
    _assert_like_eager(op, dtype, x, result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_special_values(op: str, dtype: str, results_of: ResultsOf) -> None:
    x, result = results_of(op, dtype)["special",]
    kernel = KERNELS[op]
    expected = kernel.reference(x.double(), **kernel.scalars)
    assert torch.equal(result.isnan(), expected.isnan())
    assert torch.equal(result.isposinf(), expected.isposinf())
    assert torch.equal(result.isneginf(), expected.isneginf())
    _assert_like_eager(op, dtype, x, result)


def _mish(x: float) -> float:
    return x * math.tanh(math.log1p(math.exp(x)))


def _gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


@pytest.mark.parametrize("x", [-7.5, -1.0, -0.25, 0.0, 0.125, 1.0, 3.0])
@pytest.mark.parametrize(
    ("op", "definition"),
    [
        ("mish_mish", lambda x: _mish(_mish(x))),
        ("mish_add_hardtanh_scale", lambda x: 2.0 * min(max(_mish(x) + 0.5, -1.0), 1.0)),
        ("add_min_gelu_mul", lambda x: 2.0 * _gelu(min(x + 0.5, 0.0))),
        ("identity", lambda x: x),
    ],
)
def test_the_reference_is_what_the_op_is_defined_as(
    op: str, definition: Callable[[float], float], x: float
) -> None:
    kernel = KERNELS[op]
    result = kernel.reference(torch.tensor(x, dtype=torch.float64), **kernel.scalars)
    assert float(result) == pytest.approx(definition(x), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("op", OPS)
def test_every_kernel_is_named_described_and_has_a_space(op: str) -> None:
    kernel = KERNELS[op]
    assert kernel.name == op
    assert kernel.summary
    assert kernel.input_count == 1
    assert kernel.elementwise
    assert {"BLOCK_SIZE", "num_warps", "num_stages"} <= set(kernel.load_space().axis_names)


def test_no_two_kernels_have_the_same_source_hash() -> None:
    assert len({kernel.source_hash for kernel in KERNELS.values()}) == len(KERNELS)
