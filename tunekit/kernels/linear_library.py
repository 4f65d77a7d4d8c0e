"""The linear layers that ship: each an epilogue of the matmul template and its eager reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tunekit.kernels import epilogues
from tunekit.kernels.linear import linear


def _mish_add_hardtanh_scale(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, add_value: float, scale: float
) -> torch.Tensor:
    return F.hardtanh(F.mish(F.linear(x, weight, bias)) + add_value) * scale


def _scale_add_hardtanh(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, add_value: float
) -> torch.Tensor:
    return F.hardtanh(F.linear(x, weight, bias) * scale + add_value)


linear_gelu = linear(
    "linear_gelu",
    epilogue=epilogues.gelu,
    reference=lambda x, weight, bias: F.gelu(F.linear(x, weight, bias)),
    summary="gelu(x @ weight.T + bias), exact GELU",
)

linear_silu = linear(
    "linear_silu",
    epilogue=epilogues.silu,
    reference=lambda x, weight, bias: F.silu(F.linear(x, weight, bias)),
    summary="silu(x @ weight.T + bias)",
)

linear_mish = linear(
    "linear_mish",
    epilogue=epilogues.mish_by_division,
    reference=lambda x, weight, bias: F.mish(F.linear(x, weight, bias)),
    summary="mish(x @ weight.T + bias)",
)

linear_relu = linear(
    "linear_relu",
    epilogue=epilogues.relu,
    reference=lambda x, weight, bias: F.relu(F.linear(x, weight, bias)),
    summary="relu(x @ weight.T + bias)",
)

linear_add = linear(
    "linear_add",
    epilogue=epilogues.add,
    reference=lambda x, weight, bias, residual: F.linear(x, weight, bias) + residual,
    residuals=1,
    summary="x @ weight.T + bias + residual",
)

linear_scale_add_hardtanh = linear(
    "linear_scale_add_hardtanh",
    epilogue=epilogues.scale_add_hardtanh,
    reference=_scale_add_hardtanh,
    scalars={"scale": 2.0, "add_value": 0.5},
    summary="hardtanh((x @ weight.T + bias) * scale + add_value)",
)

linear_mish_add_hardtanh_scale = linear(
    "linear_mish_add_hardtanh_scale",
    epilogue=epilogues.mish_by_division_add_hardtanh_scale,
    reference=_mish_add_hardtanh_scale,
    scalars={"add_value": 0.5, "scale": 2.0},
    summary="hardtanh(mish(x @ weight.T + bias) + add_value) * scale",
)

LINEAR_KERNELS = {
    kernel.name: kernel
    for kernel in (
        linear_gelu,
        linear_silu,
        linear_mish,
        linear_relu,
        linear_add,
        linear_scale_add_hardtanh,
        linear_mish_add_hardtanh_scale,
    )
}
