"""The memory format a fused convolution runs in: what was tuned for it, else PyTorch's own rule.

A convolution, its op and the sizes of its input are a problem like any other; its configuration
is `CHANNELS_LAST`, 0 or 1, measured on the whole module (`tunekit.nn.tune`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from tunekit.core.config import FORMAT_AXIS, Config
from tunekit.core.problem import DTYPES, Problem
from tunekit.gpu import device_at
from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.layouts import Layout
from tunekit.runtime.call import on_reload
from tunekit.runtime.channels import suggests_channels_last
from tunekit.runtime.lookup import nearest_row

if TYPE_CHECKING:
    from tunekit.nn.conv import Fused

CONTIGUOUS, LAST = Config({FORMAT_AXIS: 0}), Config({FORMAT_AXIS: 1})

_MOST_KINDS = 4096
_chosen: WeakKeyDictionary[Any, dict[tuple[object, ...], bool]] = WeakKeyDictionary()
on_reload.append(_chosen.clear)


def choose(module: Fused, x: torch.Tensor) -> bool:
    """Whether the convolution of x runs channels-last.

    So it does where that was measured to be faster for these sizes, or for the nearest that were
    measured with the same convolution and op. Where nothing was, PyTorch's own rule holds.
    """
    kinds = _chosen.get(module)
    if kinds is None:
        kinds = _chosen[module] = {}
    last = stays_last(module, x)
    key = (x.shape, last, x.dtype, x.get_device(), _uses_tf32(x.dtype))
    found = kinds.get(key)
    if found is None:
        if len(kinds) >= _MOST_KINDS:
            kinds.clear()
        found = kinds[key] = _look_up(module, x, last)
    return found


def stays_last(module: Fused, x: torch.Tensor) -> bool:
    """PyTorch's own rule: a convolution's result is channels-last if x or the weight is."""
    return suggests_channels_last(x) or suggests_channels_last(module.weight)


def can_be_last(x: torch.Tensor) -> bool:
    """Whether PyTorch has a channels-last format for as many dims."""
    return x.dim() in (4, 5)


def can_be_tuned(dtype: torch.dtype) -> bool:
    """Whether tunekit tunes that dtype."""
    return _name(dtype) in DTYPES


def problem_of(module: Fused, x: torch.Tensor, dtype: torch.dtype | None = None) -> Problem:
    """The problem that is the whole module on such an input, on a GPU; `dtype` overrides x's."""
    conv: Any = module
    dtype = dtype or x.dtype
    parts = [
        "channels_last" if stays_last(module, x) else "contiguous",
        *(["tf32"] if _uses_tf32(dtype) else []),
        f"{conv.in_channels}->{conv.out_channels}",
        f"kernel {_text(conv.kernel_size)}",
        f"stride {_text(conv.stride)}",
        f"padding {_text(conv.padding)} {conv.padding_mode}",
        f"output padding {_text(conv.output_padding)}",
        f"dilation {_text(conv.dilation)}",
        f"groups {conv.groups}",
        "bias" if conv.bias is not None else "no bias",
    ]
    sizes = {"images": x.shape[0]} | {f"size_{i}": n for i, n in enumerate(x.shape[2:])}
    kind = type(module).__name__.removeprefix("Fused")
    return Problem.of(
        f"{kind}+{module.kernel.name}",
        _source_hash(module.kernel),
        sizes,
        _name(dtype),
        ", ".join(parts),
        device_at(x.get_device()).slug,
    )


def _source_hash(kernel: Kernel) -> str:
    """Of the op and of both templates that may follow the convolution."""
    hashes = (
        folded(kernel, layout).source_hash for layout in (Layout.CONTIGUOUS, Layout.CHANNELS_LAST)
    )
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


def _look_up(module: Fused, x: torch.Tensor, last: bool) -> bool:
    if not x.is_cuda or not can_be_last(x) or not can_be_tuned(x.dtype):
        return last
    row = nearest_row(problem_of(module, x))
    return last if row is None else bool(row.config.get(FORMAT_AXIS, last))


def _uses_tf32(dtype: torch.dtype) -> bool:
    return dtype is torch.float32 and bool(torch.backends.cudnn.allow_tf32)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
