"""The kernels that ship: each an epilogue, its eager reference and its name."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tunekit.kernels import epilogues
from tunekit.kernels.kernel import pointwise


def _mish_add_hardtanh_scale(x: torch.Tensor, add_value: float, scale: float) -> torch.Tensor:
    return F.hardtanh(F.mish(x) + add_value) * scale


def _add_min_gelu_mul(x: torch.Tensor, add_value: float, multiply_value: float) -> torch.Tensor:
    return F.gelu((x + add_value).clamp(max=0.0)) * multiply_value


mish_add_hardtanh_scale = pointwise(
    "mish_add_hardtanh_scale",
    epilogue=epilogues.mish_add_hardtanh_scale,
    reference=_mish_add_hardtanh_scale,
    scalars={"add_value": 0.5, "scale": 2.0},
    summary="hardtanh(mish(x) + add_value) * scale",
)

add_min_gelu_mul = pointwise(
    "add_min_gelu_mul",
    epilogue=epilogues.add_min_gelu_mul,
    reference=_add_min_gelu_mul,
    scalars={"add_value": 0.5, "multiply_value": 2.0},
    summary="gelu(min(x + add_value, 0)) * multiply_value, exact GELU",
)

mish_mish = pointwise(
    "mish_mish",
    epilogue=epilogues.mish_mish,
    reference=lambda x: F.mish(F.mish(x)),
    summary="mish(mish(x))",
)

identity = pointwise(
    "identity",
    epilogue=epilogues.identity,
    reference=lambda x: x,
    summary="x itself: what the template costs without arithmetic",
)

KERNELS = {
    kernel.name: kernel
    for kernel in (mish_add_hardtanh_scale, add_min_gelu_mul, mish_mish, identity)
}
