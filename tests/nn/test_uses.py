"""Which kernels a fused convolution may launch, and so which are tuned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tunekit.kernels.library import mish_mish
from tunekit.nn.conv import fused_conv
from tunekit.nn.uses import Use, formats_of, kernels_of, uses_of


def _use(conv: nn.Module, shape: tuple[int, ...], *, last: bool = False) -> Use:
    module: Any = fused_conv(conv, mish_mish)
    result = tuple(conv(torch.zeros(shape)).shape)
    return Use("conv", module, shape, last, torch.float32, result)


def _names(use: Use) -> dict[str, tuple[int, ...]]:
    return {kernel.name: shape for kernel, shape in kernels_of(use)}


def test_a_contiguous_input() -> None:
    x, y = (2, 4, 8, 8), (2, 6, 6, 6)
    assert _names(_use(nn.Conv2d(4, 6, 3), x)) == {
        "mish_mish+bias": y,
        "mish_mish+bias/to_contiguous": y,
        "identity/to_channels_last": x,
    }


def test_a_channels_last_input() -> None:
    x, y = (2, 4, 8, 8), (2, 6, 6, 6)
    assert _names(_use(nn.Conv2d(4, 6, 3), x, last=True)) == {
        "mish_mish+bias/to_channels_last": y,
        "mish_mish+bias/channels_last": y,
        "identity/to_contiguous": x,
    }


def test_without_a_bias_the_op_alone_follows_where_the_format_stays() -> None:
    x, y = (2, 4, 8, 8), (2, 6, 6, 6)
    assert _names(_use(nn.Conv2d(4, 6, 3, bias=False), x)) == {
        "mish_mish": y,
        "mish_mish/to_contiguous": y,
        "identity/to_channels_last": x,
    }


@pytest.mark.parametrize(
    ("conv", "shape", "count"),
    [
        (nn.Conv1d(4, 6, 3), (2, 4, 9), 1),
        (nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5), 2),
        (nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 5), 2),
    ],
)
def test_formats_are_those_that_pytorch_has(
    conv: nn.Module, shape: tuple[int, ...], count: int
) -> None:
    assert len(formats_of(_use(conv, shape))) == count


def test_what_runs_on_the_cpu_is_no_use_and_hooks_are_gone() -> None:
    module = fused_conv(nn.Conv2d(4, 6, 3), mish_mish)
    assert uses_of(module, (), {"input": torch.zeros(1, 4, 8, 8)}) == []
    assert not module._forward_hooks
