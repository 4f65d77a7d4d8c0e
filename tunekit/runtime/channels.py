"""Run a pointwise kernel with a bias folded in, on (N, C, *spatial) of either memory format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.autograd.graph import increment_version

from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.layouts import Layout, format_strides
from tunekit.runtime.call import can_launch, run
from tunekit.runtime.fast import fast_of
from tunekit.runtime.gradient import differentiable, is_recorded

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""PyTorch's name of the memory format, by number of dims; there is none for others."""


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether it is stored position after position, and PyTorch takes it for that."""
    form = _CHANNELS_LAST.get(x.dim())
    return form is not None and x.is_contiguous(memory_format=form) and suggests_channels_last(x)


def is_in_both(x: torch.Tensor) -> bool:
    """Whether it is stored in both formats at once: it has one channel, or one position."""
    return x.is_contiguous() and x.is_contiguous(memory_format=_last_of(x))


def suggests_channels_last(x: torch.Tensor) -> bool:
    """PyTorch's own rule, by which operators choose the format of their result.

    It goes by strides alone, c10's `is_channels_last_strides`: those of axes of size 1 count, and
    a sliced tensor may be channels-last too.
    """
    if x.dim() not in _CHANNELS_LAST:
        return False
    strides = x.stride()
    if strides[1] > strides[-1] or strides[1] == 0:
        return False
    least = 0
    for axis in (1, *range(x.dim() - 1, 1, -1), 0):
        size, stride = x.shape[axis], strides[axis]
        if size == 0 or stride < least or (axis == 0 and least == strides[1]):
            return False
        least = stride * size
    return True


def to_format(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """The same values in a memory format; autograd follows it where it has to.

    From one of the two to the other a tuned kernel changes it, where kernels run.
    """
    channels_last = channels_last and x.dim() in _CHANNELS_LAST
    last = _last_of(x)
    wanted = last if channels_last else torch.contiguous_format
    if x.is_contiguous(memory_format=wanted):
        # With one channel, or one position, it is stored in both: strides say what it is taken for.
        if x.numel() == 0 or suggests_channels_last(x) is channels_last:
            return x
        return x.as_strided(x.shape, format_strides(x.shape, channels_last))
    other = torch.contiguous_format if channels_last else last
    launched = can_launch(x) and x.is_contiguous(memory_format=other)
    if is_recorded(x) or x.is_neg() or not launched:
        return x.contiguous(memory_format=wanted)
    from tunekit.kernels.library import identity

    layout = Layout.TO_CHANNELS_LAST if channels_last else Layout.TO_CONTIGUOUS
    result = torch.empty_like(x, memory_format=wanted)
    return _launched(folded(identity, layout, bias=False), (x,), result, {})


def with_bias(
    kernel: Kernel,
    x: torch.Tensor,
    bias: torch.Tensor | None,
    values: Mapping[str, float],
    *,
    channels_last: bool | None = None,
    inplace: bool = False,
) -> torch.Tensor:
    """The kernel of x + bias, of each channel its own.

    Args:
        kernel: a pointwise one of one input.
        x: (N, C) or (N, C, *spatial), where kernels run.
        bias: shape (C,), any float dtype, any stride; None adds nothing.
        values: of the kernel's scalars.
        channels_last: how the result is stored; None as x is.
        inplace: the result may take x's memory; where autograd records it never does.
    """
    inputs = (x,) if bias is None else (x, bias)
    if not is_recorded(*inputs):
        return _computed(kernel, inputs, values, channels_last, inplace)

    def forward(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return _computed(kernel, tensors, values, channels_last, inplace=False)

    return differentiable(folded(kernel, bias=bias is not None), values, forward, inputs)


def _computed(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    values: Mapping[str, float],
    channels_last: bool | None,
    inplace: bool,
) -> torch.Tensor:
    x, *parameters = inputs
    is_last = is_channels_last(x)
    wanted = is_last if channels_last is None else channels_last
    x = x if is_last else x.contiguous()
    is_both = is_in_both(x)  # then nothing is transposed
    layout = Layout.CONTIGUOUS if is_both else Layout(is_last | 2 * wanted)
    alike = not parameters and not layout.transposes
    made = kernel if alike else folded(kernel, layout, bias=bool(parameters))
    out = x if inplace and not layout.transposes else _new(x, layout)
    result = _launched(made, (x, *[each.contiguous() for each in parameters]), out, values)
    return to_format(result, wanted) if is_both else result


def like_result(x: torch.Tensor) -> torch.Tensor:
    """An empty tensor stored as `with_bias` stores its result where it is not told how."""
    if is_channels_last(x) or x.is_contiguous():
        return torch.empty_like(x)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _last_of(x: torch.Tensor) -> torch.memory_format:
    """The channels-last format of as many dims; the contiguous one where there is none."""
    return _CHANNELS_LAST.get(x.dim(), torch.contiguous_format)


def _new(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    if not layout.transposes:
        return torch.empty_like(x)
    form = _CHANNELS_LAST[x.dim()] if layout.output_last else torch.contiguous_format
    return torch.empty_like(x, memory_format=form)


def _launched(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    out: torch.Tensor,
    values: Mapping[str, float],
) -> torch.Tensor:
    """The result in `out`, which is laid out as the kernel writes it."""
    if fast_of(kernel).several(inputs, tuple(values.values()), out) is None:
        run(kernel, inputs, out, values)
        increment_version(out)
    return out
