"""The fused ops, as a model calls them.

    from tunekit import ops

    y = ops.mish_mish(x)
    ops.mish_mish(x, inplace=True)
    ops.call(my_kernel, x, residual, scale=0.5)

Every op takes float32, float16 or bfloat16 tensors of any shape, computes in float32 in registers
and runs the configuration that is tuned for that size, dtype and GPU (`tunekit.lookup`); nothing is
ever tuned during a call. On the CPU the eager reference runs instead.

Layout: contiguous, channels-last and permuted tensors are used as they are and the result has
their strides. A sliced or expanded input is first copied, once, to a dense tensor with the axes in
the same order, and the result has the layout of that copy. Several inputs lie as the first does;
one that does not is copied.

torch.compile, torch.export, vmap and torch.func see a call on a GPU as one operator,
`tunekit::pointwise`; on the CPU they see the eager reference.

Autograd: the backward recomputes through the eager reference and keeps only the inputs.

Linear layers with what follows them, `linear_gelu` and so on, are in `tunekit.linear_ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

from tunekit.errors import KernelError
from tunekit.kernels import library
from tunekit.kernels.kernel import Kernel
from tunekit.linear_ops import (
    linear_add,
    linear_gelu,
    linear_mish,
    linear_mish_add_hardtanh_scale,
    linear_relu,
    linear_scale_add_hardtanh,
    linear_silu,
)
from tunekit.runtime.call import can_launch
from tunekit.runtime.compute import compute, eager
from tunekit.runtime.fast import fast_of
from tunekit.runtime.gradient import differentiable, is_recorded
from tunekit.runtime.graph import call_operator, is_seen
from tunekit.runtime.layout import may_overlap_itself, overlaps_partly, shares_memory

__all__ = [
    "add_min_gelu_mul",
    "call",
    "linear_add",
    "linear_gelu",
    "linear_mish",
    "linear_mish_add_hardtanh_scale",
    "linear_relu",
    "linear_scale_add_hardtanh",
    "linear_silu",
    "mish_add_hardtanh_scale",
    "mish_mish",
]

_DTYPES = frozenset({torch.float32, torch.float16, torch.bfloat16})


def mish_mish(
    x: torch.Tensor, *, out: torch.Tensor | None = None, inplace: bool = False
) -> torch.Tensor:
    """mish(mish(x)), where mish(x) = x·tanh(log(1 + eˣ)).

    Args:
        x: float32, float16 or bfloat16, any shape.
        out: where to put the result: shape, dtype and device of `x`; may be `x`.
        inplace: put it into `x`.

    Returns:
        `out`, `x` if in place, else a new tensor with the shape and dtype of `x`.

    Raises:
        KernelError: an argument is wrong, see `call`.
    """
    if out is None and not is_dynamo_compiling():
        result = fast_of(library.mish_mish).one(x, (), inplace)
        if result is not None:
            return result
    return call(library.mish_mish, x, out=out, inplace=inplace)


def mish_add_hardtanh_scale(
    x: torch.Tensor,
    add_value: float = 0.5,
    scale: float = 2.0,
    *,
    out: torch.Tensor | None = None,
    inplace: bool = False,
) -> torch.Tensor:
    """clamp(mish(x) + add_value, -1, 1) · scale; nan stays nan.

    Args:
        x: float32, float16 or bfloat16, any shape.
        add_value: a number, not a tensor.
        scale: a number, not a tensor.
        out: where to put the result: shape, dtype and device of `x`; may be `x`.
        inplace: put it into `x`.

    Returns:
        `out`, `x` if in place, else a new tensor with the shape and dtype of `x`.

    Raises:
        KernelError: an argument is wrong, see `call`.
    """
    if out is None and not is_dynamo_compiling() and _floats(add_value, scale):
        result = fast_of(library.mish_add_hardtanh_scale).one(x, (add_value, scale), inplace)
        if result is not None:
            return result
    return call(
        library.mish_add_hardtanh_scale,
        x,
        out=out,
        inplace=inplace,
        add_value=add_value,
        scale=scale,
    )


def add_min_gelu_mul(
    x: torch.Tensor,
    add_value: float = 0.5,
    multiply_value: float = 2.0,
    *,
    out: torch.Tensor | None = None,
    inplace: bool = False,
) -> torch.Tensor:
    """gelu(min(x + add_value, 0)) · multiply_value, with the exact GELU; nan stays nan.

    Args:
        x: float32, float16 or bfloat16, any shape.
        add_value: a number, not a tensor.
        multiply_value: a number, not a tensor.
        out: where to put the result: shape, dtype and device of `x`; may be `x`.
        inplace: put it into `x`.

    Returns:
        `out`, `x` if in place, else a new tensor with the shape and dtype of `x`.

    Raises:
        KernelError: an argument is wrong, see `call`.
    """
    if out is None and not is_dynamo_compiling() and _floats(add_value, multiply_value):
        result = fast_of(library.add_min_gelu_mul).one(x, (add_value, multiply_value), inplace)
        if result is not None:
            return result
    return call(
        library.add_min_gelu_mul,
        x,
        out=out,
        inplace=inplace,
        add_value=add_value,
        multiply_value=multiply_value,
    )


def call(
    kernel: Kernel,
    *inputs: torch.Tensor,
    out: torch.Tensor | None = None,
    inplace: bool = False,
    **scalars: float,
) -> torch.Tensor:
    """Run any pointwise kernel on tensors.

    Args:
        kernel: what `tunekit.pointwise` makes.
        inputs: float32, float16 or bfloat16 tensors of one shape, dtype and device.
        out: where to put the result: shape, dtype and device of the inputs; any strides, but no
            two elements in one place. May be one of the inputs, may not overlap one partly.
        inplace: put the result into the first input.
        scalars: values of the kernel's scalars: Python numbers or what `float` makes one of, not
            tensors; those not given have the kernel's own values.

    Returns:
        `out`, the first input if in place, else a new tensor.

    Raises:
        KernelError: an argument is none of the above; or autograd records the call and `out` is
            given, or the call is in place on a leaf that requires grad.
    """
    values = _scalar_values(kernel, scalars)
    if out is None and inputs and not is_dynamo_compiling():
        result = fast_of(kernel).of(inputs, tuple(values.values()), inplace)
        if result is not None:
            return result
    _check_inputs(kernel, inputs)
    if can_launch(inputs[0]) and is_seen(inputs):
        result = call_operator(kernel, inputs, values)
        if inplace or out is not None:
            return _chosen(kernel, inputs, out, inplace).copy_(result)
        return result
    target = _target(kernel, inputs, out, inplace)
    if is_recorded(*inputs, target):
        return _recorded(kernel, inputs, target, values)
    return compute(kernel, inputs, target, values)


def _recorded(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    out: torch.Tensor | None,
    values: Mapping[str, float],
) -> torch.Tensor:
    """The call under autograd, which never gets a result that is cut off from its inputs."""
    if out is None:
        return _differentiable(kernel, inputs, values)
    if not any(out is x for x in inputs):
        raise KernelError(
            f"{kernel.name}: out= does not support automatic differentiation, but a tensor "
            "requires grad; leave out= away or call under torch.no_grad()"
        )
    if out.is_leaf and out.requires_grad:
        raise KernelError(
            f"{kernel.name}: a leaf tensor that requires grad cannot be changed in place; "
            "leave inplace away or call under torch.no_grad()"
        )
    # The backward needs the input as it was before it is overwritten.
    kept = [x.clone() if x is out or shares_memory(x, out) else x for x in inputs]
    return out.copy_(_differentiable(kernel, kept, values))


def _differentiable(
    kernel: Kernel, inputs: Sequence[torch.Tensor], values: Mapping[str, float]
) -> torch.Tensor:
    if not can_launch(inputs[0]):
        return eager(kernel, inputs, None, values)

    def forward(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return compute(kernel, tensors, None, values)

    return differentiable(kernel, values, forward, inputs)


def _floats(one: object, other: object) -> bool:
    return type(one) is float and type(other) is float


def _scalar_values(kernel: Kernel, given: Mapping[str, Any]) -> Mapping[str, float]:
    if not given:
        return kernel.scalars
    numbers = {name: _number(kernel, name, value) for name, value in given.items()}
    return kernel.scalar_values(numbers)


def _number(kernel: Kernel, name: str, value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, torch.Tensor):
        raise KernelError(
            f"{kernel.name}: scalar {name} is a tensor; pass a number such as {name}=t.item()"
        )
    try:
        if isinstance(value, str | bytes) or getattr(value, "shape", ()) != ():
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise KernelError(f"{kernel.name}: scalar {name} is {value!r}, not a number") from None


def _check_inputs(kernel: Kernel, inputs: Sequence[torch.Tensor]) -> None:
    if not kernel.elementwise:
        raise KernelError(f"{kernel.name} is not element-wise: tunekit.ops.call cannot run it")
    if len(inputs) != kernel.input_count:
        raise KernelError(f"{kernel.name} takes {kernel.input_count} tensors, got {len(inputs)}")
    for index, x in enumerate(inputs):
        if not isinstance(x, torch.Tensor):
            raise KernelError(f"{kernel.name}: input {index} is {type(x).__name__}, not a tensor")
    first = inputs[0]
    if first.dtype not in _DTYPES:
        raise KernelError(
            f"{kernel.name} takes float32, float16 and bfloat16 tensors, not {_name(first.dtype)}"
        )
    if not (first.is_cuda or first.is_cpu):
        raise KernelError(f"{kernel.name} runs on CUDA and CPU tensors, not on {first.device}")
    for index in range(1, len(inputs)):
        _check_alike(kernel, f"input {index}", inputs[index], first)


def _check_alike(kernel: Kernel, what: str, tensor: torch.Tensor, first: torch.Tensor) -> None:
    """Refuse a tensor that differs from input 0 in shape, dtype or device."""
    if (tensor.shape, tensor.dtype, tensor.device) == (first.shape, first.dtype, first.device):
        return
    for name in ("shape", "dtype", "device"):
        got, needed = getattr(tensor, name), getattr(first, name)
        if got != needed:
            raise KernelError(
                f"{kernel.name}: {what} has {name} {_name(got)}, input 0 has {_name(needed)}; "
                "they must be the same"
            )


def _name(value: object) -> str:
    if isinstance(value, torch.Size):
        return str(tuple(value))
    return str(value).removeprefix("torch.")


def _target(
    kernel: Kernel, inputs: Sequence[torch.Tensor], out: torch.Tensor | None, inplace: bool
) -> torch.Tensor | None:
    """The tensor to write to, None for a new one."""
    if not inplace and out is None:
        return None
    out = _chosen(kernel, inputs, out, inplace)
    if may_overlap_itself(out):
        raise KernelError(
            f"{kernel.name}: more than one element of the tensor to write to may be in one place "
            "of memory, as in an expanded tensor; clone() it first"
        )
    for index, x in enumerate(inputs):
        if overlaps_partly(out, x):
            raise KernelError(
                f"{kernel.name}: the tensor to write to and input {index} overlap partly; "
                "clone() one of them first"
            )
    return out


def _chosen(
    kernel: Kernel, inputs: Sequence[torch.Tensor], out: torch.Tensor | None, inplace: bool
) -> torch.Tensor:
    """The tensor that was given to write to."""
    if inplace:
        if out is not None and out is not inputs[0]:
            raise KernelError(f"{kernel.name}: give out= or inplace=True, not both")
        return inputs[0]
    if not isinstance(out, torch.Tensor):
        raise KernelError(f"{kernel.name}: out is {type(out).__name__}, not a tensor")
    if out is not inputs[0]:
        _check_alike(kernel, "out", out, inputs[0])
    return out
