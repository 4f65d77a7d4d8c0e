"""Compare what a configuration leaves with what the first one left."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from tunekit.evaluate.tensors import same_bits
from tunekit.evaluate.verify import describe_difference, largest_error
from tunekit.kernels.kernel import Tolerance

_UNITS = {
    "float64": 2.0**-40,
    "float32": 2.0**-10,
    "float16": 2.0**-9,
    "bfloat16": 2.0**-6,
    "float8_e4m3fn": 2.0**-2,
    "float8_e5m2": 2.0**-1,
}
"""What two configurations may differ by, of a value and of the root mean square of them all.

Two units in the last place; float32 one of TF32, which may be what it was multiplied in. They add
up in another order, both rounded, so neither is the truth; a block too few or too many is off by
much more. Whole numbers have to be equal.
"""


class Expected:
    """What every configuration should leave.

    Args:
        values: of the first configuration, by argument; copied.
    """

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        self._values = {name: _comparable(value).clone() for name, value in values.items()}
        self._tolerances = {name: _tolerance(value) for name, value in self._values.items()}

    def difference(self, values: Mapping[str, torch.Tensor]) -> tuple[float, str]:
        """The largest error in units of what is allowed, and what is wrong; empty if nothing."""
        worst, fault = 0.0, ""
        for name, expected in self._values.items():
            found, tolerance = _comparable(values[name]), self._tolerances[name]
            if same_bits(found, expected):  # the usual case, read once
                continue
            error = largest_error(found, expected, tolerance)
            if error > 1.0 and error > worst:
                said = describe_difference(found, expected, tolerance, None)
                fault = (
                    f"{name} differs from what the first configuration leaves: {error:.3g} times "
                    f"the allowed error ({said})"
                )
            worst = max(worst, error)
        return worst, fault


def _comparable(value: torch.Tensor) -> torch.Tensor:
    """As numbers that can be subtracted, of dtypes that PyTorch cannot: their bytes."""
    if value.is_complex():
        value = torch.view_as_real(value)
    name = str(value.dtype).removeprefix("torch.")
    if value.is_floating_point() and name not in _UNITS:
        return value.contiguous().view(torch.uint8)
    return value


def _tolerance(expected: torch.Tensor) -> Tolerance:
    unit = _UNITS.get(str(expected.dtype).removeprefix("torch."))
    if unit is None or not expected.numel():
        return Tolerance(0.0, 0.0)
    exact = expected.double() if expected.numel() <= 2**20 else expected.float()
    finite = exact[exact.isfinite()]
    square = float(finite.square().mean()) if finite.numel() else 0.0
    root = math.sqrt(square) if math.isfinite(square) else 0.0
    return Tolerance(unit, unit * root + torch.finfo(expected.dtype).tiny)
