"""The way of a fused convolution's call whose kind was seen before and which changes no format.

Of such a call only the op that follows the convolution is to be known, and `runtime.fast` checks
what may have changed since. That saves a call most of what it costs the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from tunekit.kernels.folded import folded
from tunekit.kernels.layouts import Layout
from tunekit.runtime.call import on_reload
from tunekit.runtime.channels import is_channels_last, is_in_both
from tunekit.runtime.fast import Fast, fast_of

if TYPE_CHECKING:
    from tunekit.nn.conv import Fused

_MOST_KINDS = 4096
_Kind = tuple[object, ...]
_ways: WeakKeyDictionary[Any, dict[_Kind, Fast]] = WeakKeyDictionary()
on_reload.append(_ways.clear)


def known(module: Fused, x: torch.Tensor) -> Fast | None:
    """What launches the op after the convolution of such an x; None if it is not known."""
    ways = _ways.get(module)
    return None if ways is None else ways.get(_kind(module, x))


def learn(module: Fused, x: torch.Tensor, result: torch.Tensor) -> None:
    """An x like this needs no other format: the result is stored as the convolution's was."""
    if not result.is_cuda or is_in_both(result):
        return
    layout = Layout.CHANNELS_LAST if is_channels_last(result) else Layout.CONTIGUOUS
    made = module.kernel if module.bias is None else folded(module.kernel, layout)
    ways = _ways.setdefault(module, {})
    if len(ways) >= _MOST_KINDS:
        ways.clear()
    ways[_kind(module, x)] = fast_of(made)


def _kind(module: Fused, x: torch.Tensor) -> _Kind:
    weight = module.weight
    tf32 = torch.backends.cudnn.allow_tf32
    op = id(module.kernel)
    return (x.shape, x.stride(), x.dtype, x.get_device(), weight.stride(), tf32, op)
