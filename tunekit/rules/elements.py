"""Sets of elements, by the byte that each begins at."""

from __future__ import annotations

import numpy as np

from tunekit.rules.ranges import Array

SECTOR = 32
"""Bytes that DRAM and the L2 cache are asked for at once (CUDA C++ Best Practices Guide)."""


def distinct(values: Array) -> Array:
    """Each value once, in order. NumPy's `unique` hashes, which takes many times as long."""
    ordered = values if (values[1:] >= values[:-1]).all() else np.sort(values)
    if not len(ordered):
        return ordered
    changes: Array = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.concatenate([ordered[:1], ordered[changes]])


def runs(offsets: Array, size: int) -> tuple[Array, Array]:
    """Contiguous bytes that elements of `size` bytes fill: where each run begins, its length."""
    ordered = distinct(offsets)
    if not len(ordered):
        return ordered, ordered
    breaks = np.flatnonzero(np.diff(ordered) > size) + 1
    first = np.concatenate([[0], breaks])
    last = np.concatenate([breaks, [len(ordered)]]) - 1
    return ordered[first], ordered[last] - ordered[first] + size


def sectors(offsets: Array, size: int, misalignment: int = 0) -> Array:
    """Which sectors elements lie in, each once."""
    first = (offsets + misalignment) // SECTOR
    last = (offsets + misalignment + size - 1) // SECTOR
    if np.array_equal(first, last):
        return distinct(first)
    return distinct(np.concatenate([first, last]))
