"""Derivatives of a kernel: forward by the kernel, backward by its eager reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from tunekit.kernels.kernel import Kernel

Forward = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Computes the kernel's result into a new tensor."""


def is_recorded(*tensors: torch.Tensor | None) -> bool:
    """Whether autograd follows what is done with one of them."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return True
    return forward_ad._current_level >= 0


def differentiable(
    kernel: Kernel,
    scalars: Mapping[str, float],
    forward: Forward,
    inputs: Sequence[torch.Tensor],
) -> torch.Tensor:
    """The result of `forward`, with a backward that recomputes through the reference.

    Only the inputs are kept for it. It can be differentiated again; forward-mode differentiation
    and `vmap` raise a RuntimeError.
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
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needed = ctx.needs_input_grad[3:]
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # A view each: the same tensor given twice has a derivative for each place.
            inputs = [
                x.view_as(x) if again else x.detach().requires_grad_(wanted)
                for x, wanted in zip(ctx.saved_tensors, needed, strict=True)
            ]
            result = ctx.kernel.reference(*inputs, **ctx.scalars)
        wanted = [x for x, is_wanted in zip(inputs, needed, strict=True) if is_wanted]
        found = iter(
            torch.autograd.grad(result, wanted, grads, create_graph=again, allow_unused=True)
        )
        return None, None, None, *(next(found) if is_wanted else None for is_wanted in needed)
