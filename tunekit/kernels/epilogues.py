"""Device functions applied to values in registers, in float32.

Each uses only what the interpreter runs too: no libdevice, no inline assembly.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def reciprocal_in_pairs(d):
    """1/d of a block, two elements sharing one special-function operation.

    1/a = b/(ab) and 1/b = a/(ab), with 1/(ab) taken as rsqrt(ab)². The products of neighbours must
    stay within float32. Where the special-function unit binds, as in 16-bit mish(mish(x)) on
    an H200, this costs least.
    """
    a, b = tl.split(tl.reshape(d, (d.shape[0] // 2, 2)))
    root = tl.rsqrt(a * b)
    inverse = root * root
    return tl.reshape(tl.join(inverse * b, inverse * a), (d.shape[0],))


@triton.jit
def mish(x):
    """x·tanh(log(1 + eˣ)), with one exponential and half a reciprocal.

    tanh(log(s)) = (s² - 1)/(s² + 1); with s = 1 + e and n = e(e + 2) that is n/(n + 2). Above 20
    the quotient is 1 in float32; e is held there, so that n + 2 stays within [2, 2.4e17], and
    nan and infinity meet only their own element, in the last product.
    """
    e = tl.exp2(tl.where(x < 20.0, x, 20.0) * LOG2_E)  # nan: 20
    n = e * (e + 2.0)
    return x * (n * reciprocal_in_pairs(n + 2.0))


@triton.jit
def gelu_nonpositive(x):
    """Exact GELU, x·Φ(x), of x <= 0, with one exponential.

    Φ(-z) = 2^P(z): log2 of the normal distribution's tail is smooth, and a polynomial of degree
    10, fitted by Lawson's iteration on [0, 9] (benchmarks/fit_gelu.py), gives x·Φ(x) within
    5e-8. Past 9 P falls faster than the tail, to -inf at infinity, so -inf gives nan as eager does.
    """
    z = -x
    p = -1.2158488438274162e-08 * z + 4.517607408160984e-07
    p = p * z - 6.914965524629224e-06
    p = p * z + 5.5077209253795445e-05
    p = p * z - 0.00021429441403597593
    p = p * z - 0.00011894118506461382
    p = p * z + 0.007073736749589443
    p = p * z - 0.05251603573560715
    p = p * z - 0.45919933915138245
    p = p * z - 1.1511064767837524
    p = p * z - 0.9999999403953552
    return x * tl.exp2(p)


@triton.jit
def identity(x):
    """The value itself: a copy through the template."""
    return x


@triton.jit
def mish_mish(x):
    """mish(mish(x))."""
    return mish(mish(x))


@triton.jit
def mish_add_hardtanh_scale(x, add_value, scale):
    """clamp(mish(x) + add_value, -1, 1) · scale; nan stays nan."""
    return tl.clamp(mish(x) + add_value, -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL) * scale


@triton.jit
def add_min_gelu_mul(x, add_value, multiply_value):
    """gelu(min(x + add_value, 0)) · multiply_value; nan stays nan."""
    low = tl.minimum(x + add_value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return gelu_nonpositive(low) * multiply_value


@triton.jit
def add_bias(x, bias):
    """A channel's bias added."""
    return x + bias


@triton.jit
def multiply_scale(x, scale):
    """Times a channel's scale."""
    return x * scale


@triton.jit
def scale_add_bias(x, scale, bias):
    """Times a channel's scale, plus its bias: a normalisation that is folded."""
    return x * scale + bias


@triton.jit
def relu(x):
    """max(x, 0); nan stays nan."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def silu(x):
    """x·sigmoid(x), of blocks of any shape."""
    return x / (1.0 + tl.exp2(-x * LOG2_E))


@triton.jit
def gelu(x):
    """Exact GELU, x·Φ(x), of blocks of any shape: Φ(-|x|) as in `gelu_nonpositive`."""
    # Written out again: shared, it would change the hash under which that one's rows ship.
    z = tl.abs(x)
    p = -1.2158488438274162e-08 * z + 4.517607408160984e-07
    p = p * z - 6.914965524629224e-06
    p = p * z + 5.5077209253795445e-05
    p = p * z - 0.00021429441403597593
    p = p * z - 0.00011894118506461382
    p = p * z + 0.007073736749589443
    p = p * z - 0.05251603573560715
    p = p * z - 0.45919933915138245
    p = p * z - 1.1511064767837524
    p = p * z - 0.9999999403953552
    tail = tl.exp2(p)
    return x * tl.where(x > 0.0, 1.0 - tail, tail)


@triton.jit
def mish_by_division(x):
    """`mish` of blocks of any shape: each element has a reciprocal of its own."""
    e = tl.exp2(tl.where(x < 20.0, x, 20.0) * LOG2_E)  # nan: 20
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


@triton.jit
def mish_by_division_add_hardtanh_scale(x, add_value, scale):
    """`mish_add_hardtanh_scale` of blocks of any shape."""
    low = mish_by_division(x) + add_value
    return tl.clamp(low, -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL) * scale


@triton.jit
def scale_add_hardtanh(x, scale, add_value):
    """clamp(x · scale + add_value, -1, 1); nan stays nan."""
    return tl.clamp(x * scale + add_value, -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def add(x, residual):
    """The sum of two values, such as a residual connection."""
    return x + residual
