"""What `@triton.jit` makes, and what lies around it: heuristics, an autotuner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton

Heuristic = Callable[[dict[str, Any]], Any]
"""From the arguments of a launch by name to one more."""


def is_jit(value: Any) -> bool:
    """Whether it is a `@triton.jit` function, compiled or interpreted."""
    # The interpreter's class by its module, which is not worth importing for this.
    interpreted = type(value).__module__ == "triton.runtime.interpreter"
    return isinstance(value, triton.JITFunction) or interpreted


def is_computed(value: Any) -> bool:
    """Whether it is a `@triton.constexpr_function`: Python that runs as a kernel is compiled."""
    return isinstance(value, getattr(triton.runtime.jit, "ConstexprFunction", ()))


def beneath(value: Any) -> Any:
    """The `@triton.jit` function under such decorators, or what was given."""
    found = value
    while _is_around(found):
        found = found.fn
    return found if is_jit(found) else value


def heuristics_of(value: Any) -> dict[str, Heuristic]:
    """Of all heuristics around a function, the outermost first, as Triton computes them."""
    found: dict[str, Heuristic] = {}
    while _is_around(value):
        if type(value).__name__ == "Heuristics":
            found |= value.values
        value = value.fn
    return found


def _is_around(value: Any) -> bool:
    return not is_jit(value) and hasattr(value, "arg_names") and hasattr(value, "fn")
