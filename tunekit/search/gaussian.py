"""Gaussian processes over configurations: which are alike, and what some times say of others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunekit.core.config import Config

Array = NDArray[np.float64]

NOISE = 0.004
"""Deviation of a measurement, in log time."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """What some measurements say of all configurations.

    Attributes:
        shift: expected above the prior mean, in log time.
        variance: what is left of it.
        surprise: mean square of the measurements above the prior mean, in units of what was
            expected of them together: 1 on average where the covariance is right.
    """

    shift: Array
    variance: Array
    surprise: float


def condition(covariance: Array, seen: Sequence[int], above: Array) -> Posterior:
    """Condition on log times, `above` the prior mean (Rasmussen and Williams, eq. 2.23-24).

    Args:
        covariance: of all configurations, (n, n).
        seen: those that were measured, at least one.
        above: of each of them, in the same order.
    """
    across = covariance[seen]
    among = across[:, seen] + NOISE**2 * np.eye(len(seen))
    solved = np.linalg.solve(among, np.column_stack([across, above]))
    gain, told = solved[:, :-1], solved[:, -1]
    variance = covariance.diagonal() - np.einsum("ij,ij->j", across, gain)
    return Posterior(above @ gain, variance, float(above @ told) / len(seen))


def likeness(configs: Sequence[Config], steps: float) -> Array:
    """exp(−d²/2) of the distance between configurations; so many doublings of an axis are 1."""
    axes = list(configs[0]) if configs else []
    places: Array = np.array([[octaves(config[axis]) for axis in axes] for config in configs])
    square = (((places[:, None] - places[None]) / steps) ** 2).sum(axis=-1)
    alike: Array = np.exp(-square / 2)
    return alike


def octaves(value: int) -> float:
    """log2 of a size or of an axis's value, which may be 0: one step below 1."""
    return math.log2(max(value, 0.5))
