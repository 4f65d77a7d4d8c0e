"""Kernels of one activation each, for what ordinary models put after a convolution.

tunekit tune tunekit.nn.activations:relu+bias/channels_last --shape 64,128,56,56
"""

from __future__ import annotations

import torch.nn.functional as F
import triton
import triton.language as tl

from tunekit.kernels import epilogues
from tunekit.kernels.epilogues import LOG2_E
from tunekit.kernels.kernel import pointwise


@triton.jit
def _clamp(x, low, high):
    """min(max(x, low), high); nan stays nan, and where low > high it is high, as in PyTorch."""
    raised = tl.maximum(x, low, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(raised, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _relu(x):
    """max(x, 0); nan stays nan."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _leaky_relu(x, slope):
    """Values that are not positive times the slope."""
    return tl.where(x > 0.0, x, x * slope)


@triton.jit
def _logistic(x):
    """1/(1 + e⁻ˣ) as e/(1 + e), e = eˣ held at x = 20, where the quotient is 1; of nan it is 1.

    So 1 + e stays within [1, 4.9e8], as `reciprocal_in_pairs` needs.
    """
    e = tl.exp2(tl.where(x < 20.0, x, 20.0) * LOG2_E)
    return e * epilogues.reciprocal_in_pairs(1.0 + e)


@triton.jit
def _sigmoid(x):
    """1/(1 + e⁻ˣ); nan stays nan."""
    return tl.where(x == x, _logistic(x), x)


@triton.jit
def _silu(x):
    """x/(1 + e⁻ˣ)."""
    return x * _logistic(x)


@triton.jit
def _tanh(x):
    """2/(1 + e⁻²ˣ) - 1, and near zero, where that loses digits, the series."""
    square = x * x
    p = -0.00886323552990219 * square + 0.021869488536155203
    p = p * square - 0.05396825396825397
    p = p * square + 0.13333333333333333
    p = p * square - 0.3333333333333333
    far = 2.0 * _logistic(2.0 * x) - 1.0
    return tl.where(square < 0.09, x + x * (square * p), tl.where(x == x, far, x))


@triton.jit
def _gelu(x):
    """Exact GELU: max(x, 0) + GELU(-|x|), the latter held at -20, where it is 0 in float32."""
    low = tl.where(x > 0.0, tl.where(x < 20.0, -x, -20.0), x)
    return tl.where(x > 0.0, x, 0.0) + epilogues.gelu_nonpositive(low)


@triton.jit
def _hardswish(x):
    """X · clamp(x + 3, 0, 6) / 6."""
    return x * (_clamp(x + 3.0, 0.0, 6.0) * 0.16666666666666666)


relu = pointwise("relu", epilogue=_relu, reference=F.relu, summary="max(x, 0)")

clamp = pointwise(
    "clamp",
    epilogue=_clamp,
    reference=lambda x, low, high: x.clamp(low, high),
    scalars={"low": 0.0, "high": 6.0},
    summary="clamp(x, low, high)",
)

leaky_relu = pointwise(
    "leaky_relu",
    epilogue=_leaky_relu,
    reference=lambda x, slope: F.leaky_relu(x, slope),
    scalars={"slope": 0.01},
    summary="x where x > 0, else x * slope",
)

sigmoid = pointwise(
    "sigmoid", epilogue=_sigmoid, reference=lambda x: x.sigmoid(), summary="sigmoid(x)"
)

tanh = pointwise("tanh", epilogue=_tanh, reference=lambda x: x.tanh(), summary="tanh(x)")

silu = pointwise("silu", epilogue=_silu, reference=F.silu, summary="x * sigmoid(x)")

mish = pointwise("mish", epilogue=epilogues.mish, reference=F.mish, summary="mish(x)")

gelu = pointwise("gelu", epilogue=_gelu, reference=lambda x: F.gelu(x), summary="exact GELU")

hardswish = pointwise(
    "hardswish", epilogue=_hardswish, reference=F.hardswish, summary="x * clamp(x + 3, 0, 6) / 6"
)
