"""A search space as a person writes it beside a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunekit.core.space import Space


def space_from(space: Any, name: str) -> Space | str:
    """A space as a person gives it: a name or path, a mapping of axes, or all that a file says.

    Of a mapping of axes the first value of each is the default.

    Raises:
        SpaceError: it is none.
    """
    if isinstance(space, Space | str):
        return space
    origin = f"space of {name}"
    if not isinstance(space, Mapping):
        return str(space)
    if "axes" in space:
        plain = {key: _plain(value) for key, value in space.items()}
        return Space.of(plain, origin, "inline")
    axes = {str(axis): _plain(values) for axis, values in space.items()}
    default = {}  # of what is no axis anything: the space says what is wrong with it
    for axis, values in axes.items():
        first = values.get("from") if isinstance(values, dict) else values
        default[axis] = first[0] if isinstance(first, list) and first else first
    return Space.of({"axes": axes, "default": default}, origin, "inline")


def _plain(value: Any) -> Any:
    """As TOML would have it."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple | range) else value
