"""Convolutions that end in a fused op, and models made of them.

fusion = tunekit.nn.fuse(model)
print(fusion)  # what was fused, what was left and why
tunekit.nn.tune(fusion.model, x)
y = fusion.model(x)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tunekit.nn.conv import fused_conv
from tunekit.nn.fusing import fuse
from tunekit.nn.fusion import Fusion
from tunekit.nn.patterns import Pattern

if TYPE_CHECKING:
    from tunekit.nn.tuning import tune

__all__ = ["Fusion", "Pattern", "fuse", "fused_conv", "tune"]


def __getattr__(name: str) -> object:
    # Tuning loads the search and the databases; who runs a model needs neither.
    if name != "tune":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = importlib.import_module("tunekit.nn.tuning").tune
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
