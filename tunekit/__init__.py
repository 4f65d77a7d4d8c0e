"""Autotuning for fused Triton kernels: tune once, serve the verified best configuration.

    import tunekit

    y = tunekit.ops.mish_mish(x)                       # runs what is tuned for this size and GPU
    tunekit.lookup("mish_mish", (64, 128, 254, 254))   # which configuration that is, and why

Names are loaded when they are first used: `import tunekit` alone loads neither PyTorch nor Triton.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tunekit._version import __version__
from tunekit.errors import TunekitError
from tunekit.notices import TunekitWarning

if TYPE_CHECKING:
    import tunekit.nn as nn
    import tunekit.ops as ops
    import tunekit.testing as testing
    from tunekit.autotuning.decorator import autotune
    from tunekit.core.config import Config
    from tunekit.kernels.draft import descriptor, launch
    from tunekit.kernels.kernel import Kernel, pointwise
    from tunekit.planned import kernel
    from tunekit.runtime.call import reload
    from tunekit.runtime.lookup import lookup
    from tunekit.runtime.precompile import precompile
    from tunekit.runtime.recording import record

__all__ = [
    "Config",
    "Kernel",
    "TunekitError",
    "TunekitWarning",
    "__version__",
    "autotune",
    "descriptor",
    "kernel",
    "launch",
    "lookup",
    "nn",
    "ops",
    "pointwise",
    "precompile",
    "record",
    "reload",
    "testing",
]

_HOME = {
    "Config": "tunekit.core.config",
    "Kernel": "tunekit.kernels.kernel",
    "autotune": "tunekit.autotuning.decorator",
    "descriptor": "tunekit.kernels.draft",
    "kernel": "tunekit.planned",
    "launch": "tunekit.kernels.draft",
    "lookup": "tunekit.runtime.lookup",
    "pointwise": "tunekit.kernels.kernel",
    "precompile": "tunekit.runtime.precompile",
    "record": "tunekit.runtime.recording",
    "reload": "tunekit.runtime.call",
}
"""The module each name that is loaded late comes from."""


def __getattr__(name: str) -> object:
    if name in ("nn", "ops", "testing"):
        return importlib.import_module(f"tunekit.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
