"""Linear layers with what follows them, as a model calls them; part of `tunekit.ops`.

    y = ops.linear_gelu(x, layer.weight, layer.bias)

x has any number of dims, the last of K features; the weight is (N, K), as `nn.Linear` has it, and
may be a transposed or sliced tensor, as x may; the bias is (N,). All are of one dtype: float32,
float16 or bfloat16. The result is (…, N), contiguous. Sums are float32. float32 is multiplied as
TF32 where `torch.backends.cuda.matmul.allow_tf32` says so, as in PyTorch.

On the CPU, and where torch.compile, torch.func or another tracer looks on, the eager reference
runs. Autograd: the backward recomputes through that reference and keeps only the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from tunekit.errors import KernelError
from tunekit.kernels import linear_library
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.matmul import precision_of
from tunekit.runtime import call
from tunekit.runtime.gradient import differentiable, is_recorded
from tunekit.runtime.graph import is_seen
from tunekit.runtime.outputs import outputs_of

__all__ = [
    "linear_add",
    "linear_gelu",
    "linear_mish",
    "linear_mish_add_hardtanh_scale",
    "linear_relu",
    "linear_scale_add_hardtanh",
    "linear_silu",
]

_DTYPES = frozenset({torch.float32, torch.float16, torch.bfloat16})
_planned_for: dict[str, str] = {}
"""How float32 was multiplied when plans were made, which they depend on."""


def linear_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """gelu(x @ weight.T + bias), the exact GELU.

    Args:
        x: (…, K).
        weight: (N, K).
        bias: (N,).

    Returns:
        (…, N), contiguous.

    Raises:
        KernelError: shapes, dtypes or devices do not go together.
    """
    return _call(linear_library.linear_gelu, (x, weight, bias))


def linear_silu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """silu(x @ weight.T + bias); see `linear_gelu`."""
    return _call(linear_library.linear_silu, (x, weight, bias))


def linear_mish(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """mish(x @ weight.T + bias); see `linear_gelu`."""
    return _call(linear_library.linear_mish, (x, weight, bias))


def linear_relu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """relu(x @ weight.T + bias); see `linear_gelu`."""
    return _call(linear_library.linear_relu, (x, weight, bias))


def linear_add(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    """The sum x @ weight.T + bias + residual, which is (…, N); see `linear_gelu`."""
    return _call(linear_library.linear_add, (x, weight, bias, residual))


def linear_scale_add_hardtanh(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    scale: float = 2.0,
    add_value: float = 0.5,
) -> torch.Tensor:
    """clamp((x @ weight.T + bias) · scale + add_value, -1, 1); see `linear_gelu`."""
    values = {"scale": float(scale), "add_value": float(add_value)}
    return _call(linear_library.linear_scale_add_hardtanh, (x, weight, bias), values)


def linear_mish_add_hardtanh_scale(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    add_value: float = 0.5,
    scale: float = 2.0,
) -> torch.Tensor:
    """clamp(mish(x @ weight.T + bias) + add_value, -1, 1) · scale; see `linear_gelu`."""
    values = {"add_value": float(add_value), "scale": float(scale)}
    return _call(linear_library.linear_mish_add_hardtanh_scale, (x, weight, bias), values)


def _call(
    kernel: Kernel, inputs: Sequence[torch.Tensor], scalars: Mapping[str, float] | None = None
) -> torch.Tensor:
    values = scalars or {}
    if not is_dynamo_compiling():
        _check(kernel, inputs)
    if is_dynamo_compiling() or not _launches(inputs):
        result: torch.Tensor = kernel.by_reference(inputs, values)
        return result
    if is_recorded(*inputs):
        return differentiable(kernel, values, lambda tensors: _run(kernel, tensors, values), inputs)
    return _run(kernel, inputs, values)


def _launches(inputs: Sequence[torch.Tensor]) -> bool:
    """Whether the kernel runs: where it can, has work, and nobody has to see each operation."""
    if forward_ad._current_level >= 0 or peek_interpreter_stack() is not None or is_seen(inputs):
        return False
    return call.can_launch(inputs[0]) and all(each.numel() for each in inputs)


def _run(
    kernel: Kernel, inputs: Sequence[torch.Tensor], values: Mapping[str, float]
) -> torch.Tensor:
    x, weight, bias, *residuals = inputs
    _heed_precision(x)
    columns = weight.shape[0]
    flat = [x.reshape(-1, x.shape[-1]), weight, bias.contiguous()]
    flat += [each.reshape(-1, columns) for each in residuals]
    (result,) = outputs_of(kernel, flat, values)
    return result.view(*x.shape[:-1], columns)


def _heed_precision(x: torch.Tensor) -> None:
    """Plan again where PyTorch's setting for float32 is another than it was."""
    if x.dtype is not torch.float32:
        return
    now = precision_of("float32")
    if _planned_for.setdefault("float32", now) != now:
        _planned_for["float32"] = now
        call.reload()


def _check(kernel: Kernel, inputs: Sequence[Any]) -> None:
    for index, each in enumerate(inputs):
        if not isinstance(each, torch.Tensor):
            kind = type(each).__name__
            raise KernelError(f"{kernel.name}: input {index} is {kind}, not a tensor")
    x, weight, bias, *residuals = inputs
    if x.dtype not in _DTYPES:
        dtype = str(x.dtype).removeprefix("torch.")
        raise KernelError(f"{kernel.name} takes float32, float16 and bfloat16 tensors, not {dtype}")
    for index, each in enumerate(inputs):
        if (each.dtype, each.device) != (x.dtype, x.device):
            raise KernelError(
                f"{kernel.name}: input {index} is {each.dtype} on {each.device}, input 0 "
                f"{x.dtype} on {x.device}; they must be the same"
            )
    if x.dim() < 1 or weight.dim() != 2 or x.shape[-1] != weight.shape[1]:
        raise KernelError(
            f"{kernel.name}: x has shape {tuple(x.shape)} and the weight {tuple(weight.shape)}; "
            "expected (…, K) and (N, K)"
        )
    columns = weight.shape[0]
    if bias.shape != (columns,):
        raise KernelError(
            f"{kernel.name}: the bias has shape {tuple(bias.shape)}, expected ({columns},)"
        )
    wanted = (*x.shape[:-1], columns)
    for residual in residuals:
        if residual.shape != wanted:
            raise KernelError(
                f"{kernel.name}: the residual has shape {tuple(residual.shape)}, expected {wanted}"
            )
