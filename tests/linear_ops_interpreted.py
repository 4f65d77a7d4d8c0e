"""The linear ops in Triton's interpreter; run by `test_linear_ops.py` in a process of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tunekit import linear_ops, ops
from tunekit.kernels.linear_library import LINEAR_KERNELS
from tunekit.kernels.plan import Launch
from tunekit.runtime import call

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """Every launch."""
    launches: list[Launch] = []
    start = call.Planned.start

    def counting(self: call.Planned, *arguments: object) -> object:
        launches.append(self.launch)
        return start(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(call.Planned, "start", counting)
    return launches


def _tensors(*shape: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    *leading, n, k = shape
    sizes = ((*leading, k), (n, k), (n,))
    return [torch.randn(size).to(dtype) for size in sizes]


def _assert_near(result: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    bound = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(result.double(), expected.double(), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_leading_dims(dtype: torch.dtype, launched: list[Launch]) -> None:
    x, weight, bias = _tensors(2, 3, 20, 24, dtype=dtype)
    result = ops.linear_gelu(x, weight, bias)
    assert result.shape == (2, 3, 20)
    assert result.dtype == dtype
    reference = LINEAR_KERNELS["linear_gelu"].by_reference
    _assert_near(result, reference([x.double(), weight.double(), bias.double()], {}), dtype)
    assert [launch.dims for launch in launched] == [{"M": 6, "N": 20, "K": 24}]


@pytest.mark.parametrize("name", linear_ops.__all__)
def test_every_op_is_its_reference(name: str, launched: list[Launch]) -> None:
    inputs = _tensors(5, 18, 16)
    if name == "linear_add":
        inputs.append(torch.randn(5, 18))
    kernel = LINEAR_KERNELS[name]
    own = {each: value + 0.25 for each, value in kernel.scalars.items()}
    op: Callable[..., torch.Tensor] = getattr(ops, name)
    _assert_near(op(*inputs, **own), kernel.by_reference(inputs, own), torch.float32)
    _assert_near(op(*inputs), kernel.by_reference(inputs, kernel.scalars), torch.float32)
    assert len(launched) == 2


def test_gradients_are_the_references(launched: list[Launch]) -> None:
    inputs = [each.requires_grad_() for each in _tensors(4, 6, 8)]
    found = torch.autograd.grad(ops.linear_silu(*inputs).sum(), inputs)
    expected = LINEAR_KERNELS["linear_silu"].by_reference(inputs, {}).sum()
    for one, other in zip(found, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(one, other)
    assert len(launched) == 1


def test_what_follows_every_operation_sees_the_reference(launched: list[Launch]) -> None:
    x, weight, bias = _tensors(4, 6, 8)
    mapped = torch.func.vmap(lambda row: ops.linear_relu(row, weight, bias))(x)
    _assert_near(mapped, torch.relu(x @ weight.T + bias), torch.float32)
    assert ops.linear_relu(x[:0], weight, bias).shape == (0, 6)
    assert launched == []


def test_tf32_is_heeded(launched: list[Launch]) -> None:
    x, weight, bias = _tensors(4, 6, 8)
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("highest", "high", "highest"):
            torch.set_float32_matmul_precision(precision)
            ops.linear_relu(x, weight, bias)
    finally:
        torch.set_float32_matmul_precision(before)
    assert [launch.arguments["PRECISION"].value for launch in launched] == ["ieee", "tf32", "ieee"]  # type: ignore[union-attr]
