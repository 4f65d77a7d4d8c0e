"""Convolutions that end in a fused op: the bias is folded into it, the format is what was tuned.

Each is the PyTorch module it was made of, with the same parameters under the same names.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._C._functorch import peek_interpreter_stack
from torch.compiler import is_dynamo_compiling

from tunekit.errors import KernelError
from tunekit.kernels.kernel import Kernel
from tunekit.nn import formats, quick
from tunekit.runtime.call import can_launch
from tunekit.runtime.channels import suggests_channels_last, to_format, with_bias
from tunekit.runtime.compute import eager
from tunekit.runtime.graph import is_seen
from tunekit.runtime.graph_channels import call_with_bias

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_DTYPES = frozenset({torch.float32, torch.float16, torch.bfloat16})


class Fused:
    """What the fused convolutions share; mixed into one of PyTorch's modules.

    Attributes:
        kernel: the pointwise kernel that follows the convolution.
        scalars: values of its scalars.
    """

    kernel: Kernel
    scalars: Mapping[str, float]
    weight: torch.Tensor
    bias: torch.Tensor | None

    def forward(
        self, input: torch.Tensor, output_size: Sequence[int] | None = None
    ) -> torch.Tensor:
        """The op of the convolution, its result stored as PyTorch's own module would store it.

        Args:
            input: (N, C) and one to three spatial dims.
            output_size: of a transposed convolution, as PyTorch's own takes it.
        """
        x = input  # PyTorch's name, by which it may be given
        if output_size is None and not is_dynamo_compiling():
            op = quick.known(self, x)
            if op is not None:
                y = self._bare(x, None)
                inputs = (y,) if self.bias is None else (y, self.bias)
                result = op.several(inputs, tuple(self.scalars.values()), y)
                return self._followed(y) if result is None else result
        if not (can_launch(x) and x.dtype in _DTYPES and x.dim() == self.weight.dim()):
            return self.unfused(x, output_size)
        if is_seen((x, self.weight)) or peek_interpreter_stack() is not None:
            return self._followed(self._bare(x, output_size))
        x = _as_autocast(x)
        last = formats.stays_last(self, x)
        chosen = formats.choose(self, x)
        result = self.in_format(x, chosen, last, output_size)
        if x is input and chosen is last and output_size is None:
            quick.learn(self, x, result)
        return result

    def _followed(self, y: torch.Tensor) -> torch.Tensor:
        """The op after the convolution, whoever has to see it; stored as that is."""
        if is_seen((y,)):
            return call_with_bias(self.kernel, y, self.bias, self.scalars)
        inplace = peek_interpreter_stack() is None  # else a transform of torch.func follows it
        return with_bias(self.kernel, y, self.bias, self.scalars, inplace=inplace)

    def in_format(
        self,
        x: torch.Tensor,
        channels_last: bool,
        result_last: bool,
        output_size: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """The op of the convolution, which runs in the one memory format or the other."""
        y = self._bare(to_format(x, channels_last), output_size, channels_last=channels_last)
        # PyTorch's own result is stored as its convolution stores it, its rule notwithstanding.
        stored = None if channels_last is result_last else result_last
        return with_bias(
            self.kernel, y, self.bias, self.scalars, channels_last=stored, inplace=True
        )

    def unfused(self, x: torch.Tensor, output_size: Sequence[int] | None = None) -> torch.Tensor:
        """The same by PyTorch alone: convolution, bias, eager reference."""
        y = self._bare(x, output_size, bias=True)
        return eager(self.kernel, (y,), None, self.scalars)

    def _bare(
        self,
        x: torch.Tensor,
        output_size: Sequence[int] | None,
        *,
        channels_last: bool | None = None,
        bias: bool = False,
    ) -> torch.Tensor:
        """The convolution alone; PyTorch's own rule decides the format unless one is given."""
        weight = self.weight
        if channels_last is False and suggests_channels_last(weight):
            weight = to_format(weight.contiguous(), channels_last=False)
        return self._convolve(x, weight, self.bias if bias else None, output_size)

    @abstractmethod
    def _convolve(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        output_size: Sequence[int] | None,
    ) -> torch.Tensor:
        """The convolution of the class that this is mixed into."""

    def extra_repr(self) -> str:
        """What the module's own says, and the op."""
        scalars = "".join(f", {name}={value:g}" for name, value in self.scalars.items())
        return f"{super().extra_repr()}, then {self.kernel.name}{scalars}"  # type: ignore[misc]


def _as_autocast(x: torch.Tensor) -> torch.Tensor:
    """What autocast makes of a convolution's input: before its format is changed, not after."""
    if x.is_cuda and x.dtype is torch.float32 and torch.is_autocast_enabled("cuda"):
        return x.to(torch.get_autocast_dtype("cuda"))
    return x


class _Direct(Fused):
    def _convolve(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        output_size: Sequence[int] | None,
    ) -> torch.Tensor:
        if output_size is not None:
            raise KernelError(f"{type(self).__name__}: output_size is for transposed convolutions")
        forward: Any = self._conv_forward  # type: ignore[attr-defined]
        result: torch.Tensor = forward(x, weight, bias)
        return result


class _Transposed(Fused):
    def _convolve(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        output_size: Sequence[int] | None,
    ) -> torch.Tensor:
        module: Any = self
        dims = weight.dim() - 2
        padding = module._output_padding(
            x, output_size, module.stride, module.padding, module.kernel_size, dims, module.dilation
        )
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        return convolve(
            x, weight, bias, module.stride, module.padding, padding, module.groups, module.dilation
        )


class FusedConv1d(_Direct, nn.Conv1d):
    """A 1-D convolution and a fused op."""


class FusedConv2d(_Direct, nn.Conv2d):
    """A 2-D convolution and a fused op."""


class FusedConv3d(_Direct, nn.Conv3d):
    """A 3-D convolution and a fused op."""


class FusedConvTranspose1d(_Transposed, nn.ConvTranspose1d):
    """A transposed 1-D convolution and a fused op."""


class FusedConvTranspose2d(_Transposed, nn.ConvTranspose2d):
    """A transposed 2-D convolution and a fused op."""


class FusedConvTranspose3d(_Transposed, nn.ConvTranspose3d):
    """A transposed 3-D convolution and a fused op."""


FUSED: dict[type[nn.Module], type[Fused]] = {
    nn.Conv1d: FusedConv1d,
    nn.Conv2d: FusedConv2d,
    nn.Conv3d: FusedConv3d,
    nn.ConvTranspose1d: FusedConvTranspose1d,
    nn.ConvTranspose2d: FusedConvTranspose2d,
    nn.ConvTranspose3d: FusedConvTranspose3d,
}
"""Each of PyTorch's convolutions, exactly that class, and the fused one."""


def fused_conv(
    conv: nn.Module, kernel: Kernel, scalars: Mapping[str, float] | None = None
) -> nn.Module:
    """A convolution followed by an op, as one module with the convolution's own parameters.

    Args:
        conv: one of PyTorch's six convolutions; it is not changed, its parameters are shared.
        kernel: a pointwise one of one input.
        scalars: values of the kernel's scalars, in place of its own.

    Raises:
        KernelError: `conv` is something else, or is changed by a parametrization or hooks that the
            fused module could not keep; the kernel is not pointwise.
    """
    kind = FUSED.get(type(conv))
    if kind is None:
        raise KernelError(f"{type(conv).__name__} is none of PyTorch's convolutions")
    if any(getattr(conv, name) for name in _HOOKS):
        raise KernelError(f"{type(conv).__name__} has hooks, which expect its own result")
    if "forward" in conv.__dict__:
        raise KernelError(f"{type(conv).__name__} has a forward of its own, put in its place")
    if kernel.input_count != 1 or not kernel.elementwise:
        raise KernelError(f"{kernel.name}: expected a pointwise kernel of one input")
    made = kind.__new__(kind)
    # Dicts are copied: what is registered with the one is not with the other.
    for name, value in conv.__dict__.items():
        made.__dict__[name] = copy(value) if isinstance(value, dict) else value
    made.kernel, made.scalars = kernel, kernel.scalar_values(scalars)
    assert isinstance(made, nn.Module)
    return made
