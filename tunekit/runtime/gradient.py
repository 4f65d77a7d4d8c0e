"""Derivatives of a kernel: forward by the kernel, backward by its eager reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

from tunekit.errors import KernelError
from tunekit.kernels.kernel import Kernel

Forward = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Computes the kernel's result into a new tensor."""


def is_recorded(*tensors: torch.Tensor | None) -> bool:
    """Whether autograd, or a transform of torch.func, follows what is done with one of them."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return True
    return forward_ad._current_level >= 0 or peek_interpreter_stack() is not None


def differentiable(
    kernel: Kernel,
    scalars: Mapping[str, float],
    forward: Forward,
    inputs: Sequence[torch.Tensor],
) -> torch.Tensor:
    """The result of `forward`, with a backward that recomputes through the reference.

    Only the inputs are kept for it. It can be differentiated again, and mapped by `vmap`;
    forward-mode differentiation raises a RuntimeError.
    """
    apply: Callable[..., torch.Tensor] = _Fused.apply
    return apply(kernel, scalars, forward, *inputs)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        kernel: Kernel, scalars: Mapping[str, float], forward: Forward, *inputs: torch.Tensor
    ) -> torch.Tensor:
        return forward(inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.kernel, ctx.scalars, _, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Sequence[int | None],
        kernel: Kernel,
        scalars: Mapping[str, float],
        forward: Forward,
        *inputs: torch.Tensor,
    ) -> tuple[torch.Tensor, int]:
        if not kernel.elementwise:
            whole, sizes = among_images(kernel, inputs, in_dims[3:])
            return differentiable(kernel, scalars, forward, whole).unflatten(0, sizes), 0
        batched = with_batch(inputs, in_dims[3:], info.batch_size)
        return differentiable(kernel, scalars, forward, batched), 0

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needed = ctx.needs_input_grad[3:]
        found = reference_gradients(ctx.kernel, ctx.scalars, ctx.saved_tensors, needed, *grads)
        return None, None, None, *found


def with_batch(
    inputs: Sequence[torch.Tensor], dims: Sequence[int | None], size: int
) -> list[torch.Tensor]:
    """The inputs with the batch as their first dim: for an element-wise kernel it is one more."""
    return [
        x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(inputs, dims, strict=True)
    ]


def among_images(
    kernel: Kernel, inputs: Sequence[torch.Tensor], dims: Sequence[int | None]
) -> tuple[tuple[torch.Tensor, ...], torch.Size]:
    """The inputs of a channelwise kernel with the batch among x's images, and the two's sizes.

    Raises:
        KernelError: a parameter of the channels is mapped over.
    """
    x, *parameters = inputs
    if dims[0] is None or any(dim is not None for dim in dims[1:]):
        raise KernelError(
            f"{kernel.name}: vmap over the bias is not supported; map over the input, or loop"
        )
    whole = x.movedim(dims[0], 0)
    return (whole.flatten(0, 1), *parameters), whole.shape[:2]


def reference_gradients(
    kernel: Kernel,
    scalars: Mapping[str, float],
    tensors: Sequence[torch.Tensor],
    needed: Sequence[bool],
    grad: torch.Tensor,
) -> list[torch.Tensor | None]:
    """Derivatives of the reference at these inputs, for each that needs one.

    They can be differentiated again if autograd records when this is called.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # A view each: the same tensor given twice has a derivative for each place.
        inputs = [
            x.view_as(x) if again else x.detach().requires_grad_(wanted)
            for x, wanted in zip(tensors, needed, strict=True)
        ]
        result = kernel.by_reference(inputs, scalars)
    wanted = [x for x, is_wanted in zip(inputs, needed, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(result, wanted, grad, create_graph=again, allow_unused=True))
    return [next(found) if is_wanted else None for is_wanted in needed]
