"""A kernel's call as one operator of PyTorch's dispatcher, for those who have to see it.

torch.compile, torch.export, make_fx and fake tensors see `tunekit::pointwise` as one node. Plain
eager calls do not come here: the dispatcher costs more than a launch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tunekit.kernels.kernel import Kernel, kernel_of
from tunekit.runtime.compute import compute
from tunekit.runtime.gradient import reference_gradients, with_batch

_SCHEMA = "(str kernel, Tensor[] inputs, float[] scalars) -> Tensor"


def is_seen(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether somebody has to see a call on these tensors as one operator."""
    if torch.compiler.is_dynamo_compiling():
        return True
    if torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return True
    plain = torch.Tensor.__torch_dispatch__
    return any(type(x).__torch_dispatch__ is not plain for x in tensors)


def call_operator(
    kernel: Kernel, inputs: Sequence[torch.Tensor], values: Mapping[str, float]
) -> torch.Tensor:
    """The kernel's result in a new tensor, by way of the dispatcher."""
    result: torch.Tensor = _operator(kernel.handle, list(inputs), list(values.values()))
    return result


def _run(kernel: str, inputs: Sequence[torch.Tensor], scalars: Sequence[float]) -> torch.Tensor:
    found = kernel_of(kernel)
    return compute(found, inputs, None, _values(found, scalars))


def _fake(kernel: str, inputs: Sequence[torch.Tensor], scalars: Sequence[float]) -> torch.Tensor:
    return torch.empty_like(inputs[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.kernel, tensors, ctx.scalars = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    kernel = kernel_of(ctx.kernel)
    tensors = ctx.saved_tensors
    needed = [x.requires_grad for x in tensors]
    values = _values(kernel, ctx.scalars)
    found = reference_gradients(kernel, values, tensors, needed, grad)
    # PyTorch takes an empty list for one of tensors, and wants as many derivatives.
    return None, found, None if ctx.scalars else []


def _vmap(
    info: Any,
    in_dims: tuple[Any, ...],
    kernel: str,
    inputs: Sequence[torch.Tensor],
    scalars: Sequence[float],
) -> tuple[torch.Tensor, int]:
    return _operator(kernel, with_batch(inputs, in_dims[1], info.batch_size), scalars), 0


def _values(kernel: Kernel, scalars: Sequence[float]) -> dict[str, float]:
    return dict(zip(kernel.scalars, scalars, strict=True))


_operator: Any = torch.library.custom_op(
    "tunekit::pointwise", _run, mutates_args=(), schema=_SCHEMA
)
_operator.register_fake(_fake)
_operator.register_autograd(_backward, setup_context=_setup_context)
_operator.register_vmap(_vmap)
