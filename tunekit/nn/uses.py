"""How a model calls its fused convolutions, and what each of them may launch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from tunekit.core.problem import Problem
from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.layouts import Layout
from tunekit.kernels.library import identity
from tunekit.nn import formats
from tunekit.nn.conv import Fused
from tunekit.notices import TunekitWarning
from tunekit.runtime.channels import suggests_channels_last, to_format


@dataclass(slots=True)
class Use:
    """How a module is called in the model.

    Attributes:
        name: of the module; the first of several that are alike.
        shape: of its input, `last` whether that is channels-last.
        dtype: of its result, and of its input after autocast.
    """

    name: str
    module: Fused
    shape: tuple[int, ...]
    last: bool
    dtype: torch.dtype
    result_shape: tuple[int, ...]

    def input(self, device: torch.device) -> torch.Tensor:
        """Random values like those that it was called with."""
        x = torch.randn(self.shape, device=device, dtype=self.dtype)
        return to_format(x, self.last)


@torch.no_grad()
def uses_of(model: nn.Module, inputs: Sequence[Any], more: Mapping[str, Any]) -> list[Use]:
    """Each fused convolution with each kind of input, once."""
    uses: dict[Problem, Use] = {}
    with warnings.catch_warnings(), _watched(model, uses):
        warnings.simplefilter("ignore", TunekitWarning)  # of what is not tuned: it will be
        model(*inputs, **more)
    return list(uses.values())


@contextmanager
def _watched(model: nn.Module, uses: dict[Problem, Use]) -> Iterator[None]:
    handles = []

    def note(
        name: str,
        module: Any,
        args: tuple[Any, ...],
        named: Mapping[str, Any],
        result: torch.Tensor,
    ) -> None:
        x = args[0] if args else named["input"]
        dtype = result.dtype  # under autocast not that of x
        if x.is_cuda and formats.can_be_tuned(dtype):
            use = Use(
                name, module, tuple(x.shape), suggests_channels_last(x), dtype, tuple(result.shape)
            )
            uses.setdefault(formats.problem_of(module, x, dtype), use)

    for name, module in model.named_modules():
        if isinstance(module, Fused):
            handles.append(
                cast(nn.Module, module).register_forward_hook(partial(note, name), with_kwargs=True)
            )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def kernels_of(use: Use) -> Iterator[tuple[Kernel, tuple[int, ...]]]:
    """The kernels that the module may launch, and the shapes of their inputs."""
    module = use.module
    stays = use.last or suggests_channels_last(module.weight)
    bias = module.bias is not None
    for last in formats_of(use):
        layout = Layout(int(last) | 2 * int(stays))
        if bias or layout.transposes:
            yield folded(module.kernel, layout, bias=bias), use.result_shape
        else:
            yield module.kernel, use.result_shape
        if last is not use.last:
            change = Layout.TO_CHANNELS_LAST if last else Layout.TO_CONTIGUOUS
            yield folded(identity, change, bias=False), use.shape


def formats_of(use: Use) -> tuple[bool, ...]:
    """Whether the convolution may run channels-last: no or yes, or no alone."""
    return (False, True) if len(use.shape) in (4, 5) else (False,)
