"""The way of a call whose kind was seen before: one look into a dict, allocate, launch.

What decides a launch is in the key: shape, strides, dtype and device of each input. What may change
between two calls with one key is checked at each: that autograd, a tracer or a launch hook does not
have to see the call, that a tensor's sign is in memory (a conjugate's imaginary part has it not),
that the device is the current one, that pointers are aligned. Where one of these fails the answer
is None, and the call goes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import torch
import triton
from torch.autograd import forward_ad
from torch.autograd.graph import increment_version

from tunekit.kernels.kernel import Kernel
from tunekit.runtime.direct import Direct

_ALIGNED = 15
"""Bits of an address that are 0 when it is a multiple of 16."""
_MOST_KINDS = 4096
_Scalars = tuple[float, ...]

PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
_KNOBS = triton.knobs.runtime
_ENTER, _EXIT = _KNOBS.launch_enter_hook, _KNOBS.launch_exit_hook
# A PyTorch without CUDA has neither, and no kind is ever learned there.
stream_of: Any = getattr(torch._C, "_cuda_getCurrentRawStream", None)
current_device: Any = getattr(torch._C, "_cuda_getDevice", None)
_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._get_tracing_state


class Fast:
    """Calls of one kernel on tensors of kinds that were seen before.

    Args:
        kernel: an element-wise one, or one whose result is laid out as it says itself.
    """

    __slots__ = ("__weakref__", "_kinds", "kernel")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel  # kept: its `id` names it
        self._kinds: dict[tuple[Any, ...], Direct] = {}

    def of(
        self, inputs: Sequence[torch.Tensor], scalars: _Scalars, inplace: bool = False
    ) -> torch.Tensor | None:
        """The result, for any number of inputs; None if the call has to go the ordinary way."""
        if len(inputs) == 1:
            return self.one(inputs[0], scalars, inplace)
        return None if inplace else self.several(inputs, scalars)

    def one(self, x: torch.Tensor, scalars: _Scalars, inplace: bool = False) -> torch.Tensor | None:
        """The result of a kernel of one input; None if the call has to go the ordinary way.

        Args:
            x: anything.
            scalars: floats, in the kernel's order.
            inplace: whether the result goes into `x`.
        """
        if type(x) not in PLAIN:
            return None
        device = x.get_device()
        direct = self._kinds.get((x.shape, x.stride(), x.dtype, device))
        if direct is None or must_be_seen() or device != current_device() or x.is_neg():
            return None
        if x.requires_grad and torch.is_grad_enabled():
            return None
        y = x if inplace else torch.empty_like(x)
        try:
            source, target = x.data_ptr(), y.data_ptr()
        except RuntimeError:  # a tensor that stands for others, as under vmap
            return None
        if (source | target) & _ALIGNED:
            return None
        direct(stream_of(device), (source, target), scalars)
        if inplace:
            increment_version(x)  # autograd must notice, as it does any other write
        return y

    def several(
        self,
        inputs: Sequence[torch.Tensor],
        scalars: _Scalars,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """The same for a kernel of several inputs.

        Args:
            inputs: anything.
            scalars: floats, in the kernel's order.
            out: where the result goes, laid out as the kernel writes it, overlapping none of the
                inputs but the first, and that one wholly; None for a new tensor like the first.
        """
        if any(type(x) not in PLAIN for x in inputs):
            return None
        first = inputs[0]
        device = first.get_device()
        direct = self._kinds.get(kind_of(inputs))
        if direct is None or must_be_seen() or device != current_device():
            return None
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            return None
        if any(x.is_neg() for x in inputs):
            return None
        y = torch.empty_like(first) if out is None else out
        try:
            pointers = tuple([x.data_ptr() for x in (*inputs, y)])
        except RuntimeError:
            return None
        if any(pointer & _ALIGNED for pointer in pointers):
            return None
        direct(stream_of(device), pointers, scalars)
        if out is not None:
            increment_version(out)
        return y

    def learn(self, inputs: Sequence[torch.Tensor], direct: Direct) -> None:
        """Tensors like these, dense, aligned and on a GPU, are launched so from now on."""
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind_of(inputs)] = direct

    def forget(self) -> None:
        """Know no kind any more."""
        self._kinds.clear()


_fasts: dict[int, Fast] = {}
_all: WeakSet[Fast] = WeakSet()


def fast_of(kernel: Kernel) -> Fast:
    """The kernel's, always the same until there are too many."""
    fast = _fasts.get(id(kernel))
    if fast is None:
        if len(_fasts) >= _MOST_KINDS:
            _fasts.clear()
        fast = _fasts[id(kernel)] = Fast(kernel)
        _all.add(fast)
    return fast


def forget() -> None:
    """Know no kind of any kernel any more."""
    for fast in list(_all):
        fast.forget()


def must_be_seen() -> bool:
    """Whether somebody else has to see this call: a mode, a tracer, a profiler's launch hook."""
    return bool(_modes() or _tracing() is not None or forward_ad._current_level >= 0 or is_hooked())


def is_hooked() -> bool:
    """Whether Triton has a launch hook, which only its own call runs."""
    return bool(
        _ENTER.calls
        or _EXIT.calls
        or _KNOBS.launch_enter_hook is not _ENTER
        or _KNOBS.launch_exit_hook is not _EXIT
    )


def kind_of(inputs: Sequence[torch.Tensor]) -> tuple[Any, ...]:
    """What decides how tensors are launched, but for their alignment."""
    if len(inputs) == 1:
        (x,) = inputs
        return (x.shape, x.stride(), x.dtype, x.get_device())
    return tuple([(x.shape, x.stride(), x.dtype, x.get_device()) for x in inputs])
