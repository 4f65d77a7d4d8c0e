"""A kernel with a bias folded in as one operator of PyTorch's dispatcher (see `runtime.graph`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel, kernel_of
from tunekit.runtime.call import can_launch
from tunekit.runtime.channels import like_result, with_bias
from tunekit.runtime.compute import eager
from tunekit.runtime.gradient import among_images, reference_gradients

_SCHEMA = "(str kernel, Tensor x, Tensor? bias, float[] scalars) -> Tensor"


def call_with_bias(
    kernel: Kernel, x: torch.Tensor, bias: torch.Tensor | None, values: Mapping[str, float]
) -> torch.Tensor:
    """The kernel of x + bias in a new tensor stored as x, by way of the dispatcher."""
    result: torch.Tensor = _operator(kernel.handle, x, bias, list(values.values()))
    return result


def _run(
    kernel: str, x: torch.Tensor, bias: torch.Tensor | None, scalars: Sequence[float]
) -> torch.Tensor:
    found = kernel_of(kernel)
    values = _values(found, scalars)
    if can_launch(x):
        return with_bias(found, x, bias, values)
    inputs = (x,) if bias is None else (x, bias)
    return eager(folded(found, bias=bias is not None), inputs, like_result(x), values)


def _fake(
    kernel: str, x: torch.Tensor, bias: torch.Tensor | None, scalars: Sequence[float]
) -> torch.Tensor:
    return like_result(x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.kernel, x, bias, ctx.scalars = inputs
    ctx.save_for_backward(x, bias)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    kernel = kernel_of(ctx.kernel)
    x, bias = ctx.saved_tensors
    tensors = (x,) if bias is None else (x, bias)
    needed = ctx.needs_input_grad[1 : 1 + len(tensors)]
    made = folded(kernel, bias=bias is not None)
    found = reference_gradients(made, _values(kernel, ctx.scalars), tensors, needed, grad)
    of_x, of_bias = (*found, None)[:2]
    return None, of_x, of_bias, None


def _vmap(
    info: Any,
    in_dims: tuple[Any, ...],
    kernel: str,
    x: torch.Tensor,
    bias: torch.Tensor | None,
    scalars: Sequence[float],
) -> tuple[torch.Tensor, int]:
    made = folded(kernel_of(kernel), bias=bias is not None)
    inputs, dims = ((x,), in_dims[1:2]) if bias is None else ((x, bias), in_dims[1:3])
    (whole, *_), sizes = among_images(made, inputs, dims)
    result: torch.Tensor = _operator(kernel, whole, bias, scalars)
    return result.unflatten(0, sizes), 0


def _values(kernel: Kernel, scalars: Sequence[float]) -> dict[str, float]:
    return dict(zip(kernel.scalars, scalars, strict=True))


_operator: Any = torch.library.custom_op(
    "tunekit::with_bias", _run, mutates_args=(), schema=_SCHEMA
)
_operator.register_fake(_fake)
_operator.register_autograd(_backward, setup_context=_setup_context)
_operator.register_vmap(_vmap)
