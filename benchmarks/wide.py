"""mish_mish with the wider space of benchmarks/spaces, for a worker to import."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tunekit.kernels.library import KERNELS

_SPACE = Path(__file__).resolve().parent / "spaces" / "pointwise-wide.toml"

mish_mish_wide = dataclasses.replace(KERNELS["mish_mish"], space=str(_SPACE), _spaces=[])
