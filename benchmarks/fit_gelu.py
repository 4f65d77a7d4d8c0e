"""Fit the polynomial of `tunekit.kernels.epilogues.gelu_nonpositive`.

GELU of x <= 0 is x·Φ(x), and with z = -x the normal distribution's tail Φ(-z) is 2^P(z), where P
is nearly quadratic. P is fitted on [0, 9] to log2 Φ(-z), not for the least error of P itself but
of what the kernel returns: an error of P counts in proportion to Φ(-z) and to z·Φ(-z), so it is
kept small where GELU is large, and within about a thousandth where GELU is next to nothing.

Lawson's iteration turns least squares into a minimax fit: the weights grow where the error is
large, until it is equally large everywhere. The basis is Chebyshev's, because on [0, 9] powers of
z are so nearly dependent that rounding alone would change the seventh digit of the result.

    python benchmarks/fit_gelu.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.polynomial.chebyshev import chebpts1, chebvander

DEGREE = 10
LARGEST = 9.0
"""End of the fit: 9·Φ(-9) is 1e-18."""
NODES = 4000
ITERATIONS = 200

_AIM = 1e-7
"""Absolute error of GELU that weighs 1."""
_TAIL = 1e-2
"""Error of log2 Φ that weighs 1 where GELU is too small to ask for more."""
_KEEP = 1e-3
"""Least share of its weight that a node keeps in an iteration, squared."""


@dataclass(frozen=True)
class Accuracy:
    """How far x·Φ(x), evaluated in float32, is from the truth.

    Attributes:
        absolute: largest error for any x <= 0.
        where: the x of that error.
        relative: largest relative error for -3 < x < 0.
    """

    absolute: float
    where: float
    relative: float


def tail(z: np.ndarray) -> np.ndarray:
    """Φ(-z), the normal distribution beyond z, in float64; exact to rounding up to z = 37."""
    return np.array([math.erfc(each / math.sqrt(2.0)) / 2.0 for each in z])


def weights(z: np.ndarray) -> np.ndarray:
    """What an error of log2 Φ(-z) costs, in units of the error aimed at."""
    p = tail(z)
    return np.maximum(np.maximum(p, p * z) * math.log(2.0) / _AIM, 1.0 / _TAIL)


def fit() -> tuple[np.ndarray, float]:
    """The coefficients of P, constant first, and the largest weighted error that is left."""
    nodes = chebpts1(NODES)
    z = (nodes + 1.0) * LARGEST / 2.0
    wanted, weight = np.log2(tail(z)), weights(z)
    basis = chebvander(nodes, DEGREE)
    lawson = weight.copy()
    for _ in range(ITERATIONS):
        solution = np.linalg.lstsq(basis * lawson[:, None], wanted * lawson, rcond=None)[0]
        error = np.abs(basis @ solution - wanted) * weight
        lawson *= np.sqrt(error / error.max() + _KEEP)
        lawson *= weight.max() / lawson.max()
    powers = Chebyshev(solution, domain=[0.0, LARGEST]).convert(kind=Polynomial)
    return powers.coef, float(error.max())


def gelu_nonpositive(x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """x·2^P(-x) as the kernel evaluates it, every step rounded to float32."""
    x = x.astype(np.float32)
    z = -x
    p = np.full_like(z, np.float32(coefficients[-1]))
    for each in coefficients[-2::-1]:
        p = p * z + np.float32(each)
    return x * np.exp2(p)


def accuracy(coefficients: np.ndarray) -> Accuracy:
    """Compare with the truth at float32 values of x, from 0 to where Φ has no float32 left."""
    x = -np.linspace(0.0, 16.0, 400_001).astype(np.float32)
    truth = x * tail(-x.astype(np.float64))
    error = np.abs(gelu_nonpositive(x, coefficients) - truth)
    worst = int(error.argmax())
    middle = (x > -3.0) & (x < 0.0)
    relative = error[middle] / np.abs(truth[middle])
    return Accuracy(float(error[worst]), float(x[worst]), float(relative.max()))


def main() -> None:
    """Print the coefficients, as float32 holds them, and what they are worth."""
    coefficients, weighted = fit()
    print(f"P(z) of degree {DEGREE} on [0, {LARGEST:g}], from the highest power down:")
    for power in range(DEGREE, -1, -1):
        print(f"  z^{power:<2d} {float(np.float32(coefficients[power])): }")
    reached = accuracy(coefficients)
    print(f"largest weighted error of the fit: {weighted:.4f}")
    print(f"x·Φ(x) in float32, largest error for x <= 0: {reached.absolute:.2e}", end=" ")
    print(f"(at x = {reached.where:.4f}); relative for -3 < x < 0: {reached.relative:.2e}")


if __name__ == "__main__":
    main()
