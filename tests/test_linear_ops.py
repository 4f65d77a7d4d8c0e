from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tunekit import linear_ops, ops
from tunekit.errors import KernelError
from tunekit.kernels.linear_library import LINEAR_KERNELS
from tunekit.kernels.registry import find_kernel, library_kernels


def test_in_the_interpreter(pass_interpreted: Callable[..., None]) -> None:
    pass_interpreted(Path(__file__).with_name("linear_ops_interpreted.py"))


def test_each_op_has_a_kernel_of_its_name() -> None:
    assert sorted(linear_ops.__all__) == sorted(LINEAR_KERNELS)
    for name, kernel in LINEAR_KERNELS.items():
        assert kernel.name == name
        assert find_kernel(name) is kernel
        assert library_kernels()[name] is kernel
        assert getattr(ops, name) is getattr(linear_ops, name)
        assert kernel.summary


def test_on_the_cpu_the_reference_runs() -> None:
    x, weight, bias = torch.randn(2, 3, 8), torch.randn(5, 8), torch.randn(5)
    assert torch.equal(ops.linear_gelu(x, weight, bias), F.gelu(F.linear(x, weight, bias)))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 8), (5, 9), (5,)), "expected (…, K) and (N, K)"),
        (((3, 8), (5,), (5,)), "expected (…, K) and (N, K)"),
        (((3, 8), (5, 8), (4,)), "the bias has shape (4,), expected (5,)"),
    ],
)
def test_shapes_that_do_not_go_together(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(KernelError) as raised:
        ops.linear_gelu(*(torch.ones(shape) for shape in shapes))
    assert message in str(raised.value)


def test_other_arguments_that_are_refused() -> None:
    x, weight, bias = torch.ones(3, 8), torch.ones(5, 8), torch.ones(5)
    with pytest.raises(KernelError, match="the residual has shape"):
        ops.linear_add(x, weight, bias, torch.ones(5))
    with pytest.raises(KernelError, match=r"input 1 is torch.float16 on cpu"):
        ops.linear_gelu(x, weight.half(), bias)
    with pytest.raises(KernelError, match="not float64"):
        ops.linear_gelu(x.double(), weight, bias)
    with pytest.raises(KernelError, match="input 2 is NoneType, not a tensor"):
        ops.linear_gelu(x, weight, None)  # type: ignore[arg-type]


def test_torch_compile_sees_the_reference() -> None:
    x, weight, bias = torch.randn(3, 8), torch.randn(5, 8), torch.randn(5)
    compiled = torch.compile(ops.linear_mish, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, weight, bias), F.mish(F.linear(x, weight, bias)))
