"""What holds of the ops wherever they run.

On the CPU that is the eager reference; `test_ops_interpreter.py` runs this file again in Triton's
interpreter, where the same tensors go through the kernels.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl  # noqa: F401, the interpreter looks for it in a kernel's module

import tunekit
from tunekit import linear_ops, ops
from tunekit.errors import KernelError
from tunekit.kernels import library
from tunekit.kernels.kernel import Kernel
from tunekit.runtime.call import INTERPRETED

# Triton's interpreter computes with NumPy, which warns where a GPU says inf or nan.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PRECISION = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
OPS: dict[str, Callable[..., torch.Tensor]] = {
    "mish_mish": ops.mish_mish,
    "mish_add_hardtanh_scale": ops.mish_add_hardtanh_scale,
    "add_min_gelu_mul": ops.add_min_gelu_mul,
}


@triton.jit
def _gated(x, gate, weight, offset):
    return x * gate * weight + offset


GATED = tunekit.pointwise(
    "gated",
    epilogue=_gated,
    reference=lambda x, gate, weight, offset: x * gate * weight + offset,
    scalars={"weight": 2.0, "offset": 0.5},
    input_count=2,
)


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 2).to(dtype)


def expected(kernel: Kernel, *inputs: torch.Tensor, **scalars: float) -> torch.Tensor:
    exact = kernel.reference(*(x.detach().double() for x in inputs), **kernel.scalars | scalars)
    return exact.to(inputs[0].dtype)


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    precision = PRECISION[wanted.dtype]
    torch.testing.assert_close(
        got.detach(), wanted, rtol=precision, atol=precision, check_stride=False
    )


LAYOUTS: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "contiguous": lambda dtype: values(3, 5, 7, dtype=dtype),
    "channels last": lambda dtype: values(2, 3, 5, 7, dtype=dtype).to(
        memory_format=torch.channels_last
    ),
    "permuted": lambda dtype: values(3, 5, 7, dtype=dtype).permute(2, 0, 1),
    "unaligned": lambda dtype: values(100, dtype=dtype)[1:],
    "0-dim": lambda dtype: values(dtype=dtype),
    "one": lambda dtype: values(1, 1, dtype=dtype),
}
SLICED: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "columns": lambda dtype: values(9, 11, dtype=dtype)[:, 2:],
    "every second": lambda dtype: values(4, 6, 5, dtype=dtype)[:, ::2],
    "sliced channels last": lambda dtype: values(2, 3, 5, 8, dtype=dtype).to(
        memory_format=torch.channels_last
    )[..., :5],
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPS)
def test_every_op_and_dtype(name: str, dtype: torch.dtype) -> None:
    x = values(3, 345, dtype=dtype)
    before = x.clone()
    y = OPS[name](x)
    assert (y.dtype, y.shape, y.device) == (x.dtype, x.shape, x.device)
    assert_close(y, expected(library.KERNELS[name], x))
    assert torch.equal(x, before)
    assert not y.requires_grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dense_input_keeps_its_strides(layout: str, dtype: torch.dtype) -> None:
    x = LAYOUTS[layout](dtype)
    y = ops.mish_mish(x)
    assert y.stride() == x.stride()
    assert_close(y, expected(library.mish_mish, x))


@pytest.mark.parametrize("layout", SLICED)
def test_a_sliced_input_gives_a_dense_output_in_its_order(layout: str) -> None:
    x = SLICED[layout](torch.float32)
    y = ops.mish_mish(x)
    assert y.stride() == x.clone().stride()
    assert_close(y, expected(library.mish_mish, x))


def test_an_expanded_input() -> None:
    x = values(5, 1).expand(5, 9)
    y = ops.mish_mish(x)
    assert y.shape == x.shape
    assert_close(y, expected(library.mish_mish, x))


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    x = torch.empty(shape)
    assert ops.mish_mish(x).shape == x.shape
    assert ops.mish_mish(x, inplace=True) is x
    out = torch.empty(shape)
    assert ops.mish_mish(x, out=out) is out
    x.requires_grad_()
    ops.mish_mish(x).sum().backward()
    assert x.grad is not None


def test_the_defaults_are_those_of_the_kernels() -> None:
    for name, op in OPS.items():
        parameters = inspect.signature(op).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        del defaults["x"]
        assert defaults == library.KERNELS[name].scalars


def test_scalars_are_numbers() -> None:
    x = values(77)
    exact = expected(library.mish_add_hardtanh_scale, x, add_value=-0.25, scale=3)
    for add_value, scale in ((-0.25, 3), (np.float32(-0.25), np.array(3)), (-0.25, np.int64(3))):
        assert_close(ops.mish_add_hardtanh_scale(x, add_value, scale), exact)
    assert_close(ops.mish_add_hardtanh_scale(x, scale=3, add_value=-0.25), exact)
    assert_close(ops.call(library.mish_add_hardtanh_scale, x, add_value=-0.25, scale=3), exact)
    halves = expected(library.add_min_gelu_mul, x, add_value=-0.5, multiply_value=0.5)
    assert_close(ops.add_min_gelu_mul(x, -0.5, multiply_value=0.5), halves)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor(2.0), r"scalar scale is a tensor; .* scale=t\.item\(\)"),
        ("2", "scalar scale is '2', not a number"),
        (None, "not a number"),
        (2j, "not a number"),
        (np.ones(1), "not a number"),
        (10**400, "not a number"),
    ],
)
def test_what_is_no_scalar(value: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        ops.mish_add_hardtanh_scale(values(3), scale=value)


def test_a_scalar_the_kernel_does_not_have() -> None:
    with pytest.raises(KernelError, match="no scalar 'slope'; it has: add_value, scale"):
        ops.call(library.mish_add_hardtanh_scale, values(3), slope=1.0)


@pytest.mark.parametrize("layout", [*LAYOUTS, *SLICED])
def test_in_place(layout: str) -> None:
    for inplace in (True, False):
        x = (LAYOUTS | SLICED)[layout](torch.float32)
        around = x._base.clone() if x._base is not None else None
        exact = expected(library.mish_mish, x)
        y = ops.mish_mish(x, inplace=True) if inplace else ops.mish_mish(x, out=x)
        assert y is x
        assert_close(x, exact)
        if around is not None:
            assert x._base is not None
            changed = (x._base != around).sum()
            assert changed <= x.numel()


@pytest.mark.parametrize("layout", [*LAYOUTS, *SLICED])
def test_out_of_any_layout(layout: str) -> None:
    like = (LAYOUTS | SLICED)[layout](torch.float32)
    x = values(*like.shape, seed=1)
    out = like.fill_(float("nan"))
    assert ops.mish_mish(x, out=out) is out
    assert_close(out, expected(library.mish_mish, x))


def test_out_leaves_what_is_between_its_elements() -> None:
    memory = torch.full((20, 20), 7.0)
    ops.mish_mish(values(20, 10), out=memory[:, ::2])
    assert (memory[:, 1::2] == 7.0).all()
    assert (memory[:, ::2] != 7.0).all()


def test_a_copied_input_is_not_written_to() -> None:
    memory = values(9, 11)
    before = memory.clone()
    ops.mish_mish(memory[:, 2:])
    ops.call(GATED, memory[:, 2:], memory[:, :9])
    assert torch.equal(memory, before)


def test_a_new_output_is_new_memory() -> None:
    x = values(10)
    assert ops.call(library.identity, x).data_ptr() != x.data_ptr()
    assert torch.equal(ops.call(library.identity, x), x)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.empty(4, 3), r"out has shape \(4, 3\), input 0 has \(3, 4\)"),
        (torch.empty(3, 4).half(), "out has dtype float16, input 0 has float32"),
        (torch.empty(3, 4, device="meta"), "out has device meta, input 0 has cpu"),
        (torch.empty(3, 1).expand(3, 4), "more than one element"),
        (torch.empty(6).unfold(0, 4, 1), "more than one element"),
        ([1.0], "out is list, not a tensor"),
    ],
)
def test_what_cannot_be_the_output(out: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        ops.mish_mish(values(3, 4), out=out)


def test_in_place_on_an_expanded_tensor_is_refused() -> None:
    with pytest.raises(KernelError, match=r"expanded tensor; clone\(\) it"):
        ops.mish_mish(values(3, 1).expand(3, 4), inplace=True)


def test_partial_overlap_is_refused() -> None:
    x = values(65)
    with pytest.raises(KernelError, match="input 0 overlap partly"):
        ops.mish_mish(x[1:], out=x[:-1])
    with pytest.raises(KernelError, match="input 1 overlap partly"):
        ops.call(GATED, values(64), x[1:], out=x[:-1])
    square = values(8, 8)
    with pytest.raises(KernelError, match="overlap partly"):
        ops.mish_mish(square, out=square.t())


def test_out_may_be_the_same_memory_as_an_input() -> None:
    x, gate = values(64), values(64, seed=1)
    exact = expected(GATED, x, gate)
    assert ops.call(GATED, x, gate, out=gate) is gate
    assert_close(gate, exact)
    exact = expected(library.mish_mish, x)
    alias = x.view(64)
    assert ops.mish_mish(x, out=alias) is alias
    assert_close(x, exact)


def test_out_that_interleaves_with_the_input_is_computed_first() -> None:
    memory = values(8, 9)
    exact = expected(library.mish_mish, memory[:, 1:])
    ops.mish_mish(memory[:, 1:], out=memory[:, :-1])
    assert_close(memory[:, :-1], exact)


def test_out_and_inplace_together() -> None:
    x = values(5)
    exact = expected(library.mish_mish, x)
    assert ops.mish_mish(x, out=x, inplace=True) is x
    assert_close(x, exact)
    with pytest.raises(KernelError, match="not both"):
        ops.mish_mish(x, out=torch.empty(5), inplace=True)


def test_several_inputs() -> None:
    x, gate = values(3, 35), values(3, 35, seed=1)
    assert_close(ops.call(GATED, x, gate), expected(GATED, x, gate))
    y = ops.call(GATED, x, gate, weight=-1, offset=0.0)
    assert_close(y, expected(GATED, x, gate, weight=-1, offset=0.0))
    assert_close(ops.call(GATED, x, x), expected(GATED, x, x))
    assert ops.call(GATED, x, x, inplace=True) is x


@pytest.mark.parametrize("first", ["contiguous", "permuted", "columns"])
@pytest.mark.parametrize("second", ["contiguous", "permuted", "columns", "expanded"])
def test_inputs_of_different_layouts(first: str, second: str) -> None:
    def laid(layout: str, seed: int) -> torch.Tensor:
        return {
            "contiguous": values(6, 8, seed=seed),
            "permuted": values(8, 6, seed=seed).t(),
            "columns": values(6, 10, seed=seed)[:, 2:],
            "expanded": values(6, 1, seed=seed).expand(6, 8),
        }[layout]

    x, gate = laid(first, 0), laid(second, 1)
    y = ops.call(GATED, x, gate)
    assert_close(y, expected(GATED, x, gate))
    out = torch.empty(6, 8)
    assert_close(ops.call(GATED, x, gate, out=out), expected(GATED, x, gate))


def test_axes_of_size_1_may_have_any_stride() -> None:
    x = values(12).as_strided((4, 1, 3), (3, 77, 1))
    gate = values(4, 1, 3, seed=1)
    assert_close(ops.call(GATED, x, gate), expected(GATED, x, gate))


def test_inputs_that_do_not_go_together() -> None:
    x = values(3, 4)
    for other, message in (
        (values(4, 3), r"input 1 has shape \(4, 3\), input 0 has \(3, 4\)"),
        (values(3, 4).half(), "input 1 has dtype float16, input 0 has float32"),
        (values(3, 4).to("meta"), "input 1 has device meta, input 0 has cpu"),
        (2.0, "input 1 is float, not a tensor"),
    ):
        with pytest.raises(KernelError, match=message):
            ops.call(GATED, x, other)
    with pytest.raises(KernelError, match="gated takes 2 tensors, got 1"):
        ops.call(GATED, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.complex64, torch.bool])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    message = f"mish_mish takes float32, float16 and bfloat16 tensors, not {name}"
    with pytest.raises(KernelError, match=message):
        ops.mish_mish(torch.zeros(3, dtype=dtype))


def test_other_devices_are_refused() -> None:
    with pytest.raises(KernelError, match="CUDA and CPU tensors, not on meta"):
        ops.mish_mish(torch.empty(3, device="meta"))


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "columns"])
@pytest.mark.parametrize("name", OPS)
def test_gradients_are_those_of_the_reference(name: str, layout: str) -> None:
    x = (LAYOUTS | SLICED)[layout](torch.float32).requires_grad_()
    other = x.detach().clone().requires_grad_()
    y = OPS[name](x)
    reference = library.KERNELS[name].reference(other, **library.KERNELS[name].scalars)
    weight = values(*x.shape, seed=3)
    y.backward(weight)
    reference.backward(weight)
    torch.testing.assert_close(x.grad, other.grad, check_stride=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_in_16_bits(dtype: torch.dtype) -> None:
    x = values(50, dtype=dtype).requires_grad_()
    ops.mish_add_hardtanh_scale(x, 0.1, 3.0).sum().backward()
    other = x.detach().clone().requires_grad_()
    library.mish_add_hardtanh_scale.reference(other, add_value=0.1, scale=3.0).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


def test_gradients_are_the_slopes_of_the_result() -> None:
    x = values(200)
    x.requires_grad_()
    ops.mish_mish(x).sum().backward()
    with torch.no_grad():
        step = 1e-2
        slope = (ops.mish_mish(x + step) - ops.mish_mish(x - step)) / (2 * step)
    torch.testing.assert_close(x.grad, slope, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (True, True)])
def test_gradients_of_several_inputs(wanted: tuple[bool, bool]) -> None:
    inputs = [values(6, 8, seed=i).requires_grad_(w) for i, w in enumerate(wanted)]
    ops.call(GATED, *inputs, weight=3.0).sum().backward()
    x, gate = (x.detach() for x in inputs)
    for tensor, is_wanted, exact in zip(inputs, wanted, (3 * gate, 3 * x), strict=True):
        if is_wanted:
            torch.testing.assert_close(tensor.grad, exact)
        else:
            assert tensor.grad is None


def test_the_gradient_of_a_tensor_given_twice() -> None:
    for create_graph in (False, True):
        x = values(20).requires_grad_()
        (grad,) = torch.autograd.grad(
            ops.call(GATED, x, x, weight=1.0).sum(), x, create_graph=create_graph
        )
        torch.testing.assert_close(grad, 2 * x)


def test_second_derivatives() -> None:
    x = values(40).requires_grad_()
    found = []
    for y in (ops.mish_mish(x), library.mish_mish.reference(x)):
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(grad.exp().sum(), x)
        found.append(second)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_nothing_is_recorded_without_grad_mode() -> None:
    x = values(5).requires_grad_()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert not ops.mish_mish(x).requires_grad
    with torch.no_grad():
        exact = expected(library.mish_mish, x)
        assert ops.mish_mish(x, inplace=True) is x
    assert_close(x, exact)


def test_in_place_on_a_leaf_that_requires_grad_is_refused() -> None:
    x = values(5).requires_grad_()
    for arguments in ({"inplace": True}, {"out": x}):
        with pytest.raises(KernelError, match="leaf tensor that requires grad"):
            ops.mish_mish(x, **arguments)


def test_in_place_under_autograd() -> None:
    x = values(5, 9).requires_grad_()
    y = (x * 1.5).t()
    assert ops.mish_mish(y, inplace=True) is y
    y.sum().backward()
    other = x.detach().clone().requires_grad_()
    library.mish_mish.reference(other * 1.5).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


def test_in_place_with_another_input_that_requires_grad() -> None:
    x, gate = values(9), values(9, seed=1).requires_grad_()
    before = x.clone()
    assert ops.call(GATED, x, gate, inplace=True).requires_grad
    x.sum().backward()
    torch.testing.assert_close(gate.grad, 2 * before)


def test_out_under_autograd_is_refused() -> None:
    x = values(5).requires_grad_()
    with pytest.raises(KernelError, match="out= does not support automatic differentiation"):
        ops.mish_mish(x, out=torch.empty(5))
    with pytest.raises(KernelError, match="out= does not support automatic differentiation"):
        ops.mish_mish(values(5), out=torch.empty(5, requires_grad=True))
    with torch.no_grad():
        ops.mish_mish(x, out=torch.empty(5))


@pytest.mark.parametrize("how", ["inplace", "out", "strided out"])
def test_autograd_notices_what_was_overwritten(how: str) -> None:
    x = values(5, 5).requires_grad_()
    y = x.exp()  # its backward needs y
    with torch.no_grad():
        if how == "inplace":
            ops.mish_mish(y, inplace=True)
        elif how == "out":
            ops.mish_mish(values(5, 5), out=y)
        else:
            ops.mish_mish(values(5, 3), out=y[:, ::2])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_inference_tensors() -> None:
    with torch.inference_mode():
        x = values(5)
        exact = expected(library.mish_mish, x)
        ops.mish_mish(x, inplace=True)
        assert_close(x, exact)


def test_functional_gradients() -> None:
    x = values(7)
    grad = torch.func.grad(lambda x: ops.mish_mish(x).sum())(x)
    exact = torch.func.grad(lambda x: library.mish_mish.reference(x).sum())(x)
    torch.testing.assert_close(grad, exact)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_is_never_cut_off() -> None:
    """The eager reference has it; the kernel refuses."""
    x, ones = values(7), torch.ones(7)
    if INTERPRETED:
        with pytest.raises(RuntimeError, match="jvp"):
            torch.func.jvp(ops.mish_mish, (x,), (ones,))
    else:
        _, tangent = torch.func.jvp(ops.mish_mish, (x,), (ones,))
        _, exact = torch.func.jvp(library.mish_mish.reference, (x,), (ones,))
        torch.testing.assert_close(tangent, exact)


def test_a_kernel_that_is_not_elementwise_is_refused() -> None:
    kernel = dataclasses.replace(library.mish_mish, elementwise=False)
    with pytest.raises(KernelError, match="not element-wise"):
        ops.call(kernel, values(3))


def test_the_public_names() -> None:
    assert sorted(ops.__all__) == sorted([*OPS, *linear_ops.__all__, "call"])
    for name in (*OPS, "call", "linear_gelu"):  # the other linear ops say what differs from that
        assert "Raises:" in (getattr(ops, name).__doc__ or "")
    for name in ops.__all__:
        assert getattr(ops, name).__doc__
