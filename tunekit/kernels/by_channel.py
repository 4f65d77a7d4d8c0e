"""A fused kernel in which each channel has parameters of its own, from its epilogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tunekit.errors import KernelError
from tunekit.kernels import epilogues
from tunekit.kernels.channelwise import (
    channelwise_check_shape,
    channelwise_kernel,
    plan_channelwise,
)
from tunekit.kernels.jit import is_jit
from tunekit.kernels.kernel import Kernel, Reference
from tunekit.kernels.layouts import Layout, channelwise_metas
from tunekit.kernels.planes import plan_planes, planes_check_shape, planes_kernel

if TYPE_CHECKING:
    import torch

_COMBINATIONS: dict[tuple[str, ...], tuple[Any, Callable[..., torch.Tensor]]] = {
    (): (epilogues.identity, lambda x: x),
    ("bias",): (epilogues.add_bias, lambda x, bias: x + bias),
    ("scale",): (epilogues.multiply_scale, lambda x, scale: x * scale),
    ("scale", "bias"): (epilogues.scale_add_bias, lambda x, scale, bias: x * scale + bias),
}
"""What is done with a channel's parameters, as device function and in eager PyTorch."""

_SPACES = {
    Layout.CONTIGUOUS: "channelwise",
    Layout.CHANNELS_LAST: "channelwise-last",
    Layout.TO_CONTIGUOUS: "channelwise-transposed",
    Layout.TO_CHANNELS_LAST: "channelwise-transposed",
}


def channelwise(
    name: str,
    *,
    epilogue: Any,
    reference: Reference,
    scalars: Mapping[str, float] | None = None,
    parameters: tuple[str, ...] = ("bias",),
    layout: Layout = Layout.CONTIGUOUS,
    space: str = "",
    summary: str = "",
) -> Kernel:
    """A fused kernel for (N, C, *spatial): each channel's parameters, then an epilogue.

    Args:
        name: how it is called.
        epilogue: a `@triton.jit` function of one float32 value, then the scalars.
        reference: the epilogue in eager PyTorch, `reference(x, **scalars)`.
        scalars: run-time scalars and the values tuning uses, in the epilogue's order.
        parameters: of shape (C,), in the order the kernel takes them after x: `bias` is added,
            `scale` multiplied, `scale, bias` both in this order; or none.
        layout: how x and the result are stored.
        space: a shipped space or a path; by default the one for the layout.
        summary: one line that says what it computes.

    Raises:
        KernelError: the epilogue is no `@triton.jit` function, or the parameters are others.
    """
    if not is_jit(epilogue):
        raise KernelError(f"{name}: the epilogue must be a @triton.jit function, got {epilogue!r}")
    if parameters not in _COMBINATIONS:
        known = "; ".join(", ".join(each) or "none" for each in _COMBINATIONS)
        raise KernelError(f"{name}: parameters {parameters!r}: expected one of: {known}")
    scalars = {each: float(value) for each, value in (scalars or {}).items()}
    combine, eager = _COMBINATIONS[parameters]

    if layout is Layout.CONTIGUOUS:
        function, check_shape = planes_kernel, planes_check_shape
        plan = plan_planes(combine, epilogue, tuple(scalars))
    else:
        function, check_shape = channelwise_kernel, channelwise_check_shape
        plan = plan_channelwise(combine, epilogue, tuple(scalars), layout)

    def whole(x: torch.Tensor, *tensors: torch.Tensor, **values: float) -> torch.Tensor:
        spread = [each.view(-1, *[1] * (x.dim() - 2)) for each in tensors]
        result: torch.Tensor = reference(eager(x, *spread), **values)
        return result

    return Kernel(
        name=name,
        plan=plan,
        reference=whole,
        space=space or _SPACES[layout],
        input_count=1 + len(parameters),
        scalars=scalars,
        functions=(function, combine, epilogue),
        check_shape=check_shape,
        batched=True,
        metas=lambda shape, dtype: channelwise_metas(shape, dtype, layout, len(parameters)),
        summary=summary,
    )
