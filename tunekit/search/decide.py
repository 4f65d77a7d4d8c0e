"""Which configuration wins: only one that beats the default by more than the noise."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunekit.core.config import Config

_LEAST_GAIN = 0.002
"""Gains below 0.2 % are called ties whatever the samples say."""
_MODEL_RESOLUTION = 0.01
"""Estimates closer than this are ties; on recorded landscapes 0.3 to 3 % do equally well."""


@dataclass(frozen=True, slots=True)
class Finalist:
    """A configuration and its samples of one interleaved race."""

    config: Config
    samples_us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        """Its time."""
        return float(statistics.median(self.samples_us))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who won and why.

    Attributes:
        winner, default: places among the finalists; default is None when it did not run.
        speedup: default's time over the winner's.
    """

    winner: int
    default: int | None
    speedup: float | None
    reason: str


def paired_gain(slower: Sequence[float], faster: Sequence[float]) -> tuple[float, float]:
    """Median of the paired ratios less one, and its standard error.

    The error comes from the median absolute deviation: 1.4826·MAD estimates a normal
    distribution's deviation, and a median's is 1.2533 times a mean's.
    """
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    middle = statistics.median(ratios)
    spread = 1.4826 * statistics.median(abs(ratio - middle) for ratio in ratios)
    return middle - 1.0, 1.2533 * spread / len(ratios) ** 0.5


def beats(slower: Sequence[float], faster: Sequence[float]) -> bool:
    """Whether `faster` wins by more than three standard errors and more than nothing."""
    gain, error = paired_gain(slower, faster)
    return gain > max(3.0 * error, _LEAST_GAIN)


def decide(finalists: Sequence[Finalist], default: Config) -> Verdict:
    """The winner of a race.

    The fastest and whatever it does not beat are tied; of those the default is preferred, then the
    one with fewer stages, warps, and elements a program: ties end the same way every time. Where
    the fastest beats the default, whatever does not is out.
    """
    fastest = min(finalists, key=lambda finalist: finalist.median_us)
    tied = [
        finalist
        for finalist in finalists
        if finalist is fastest or not beats(finalist.samples_us, fastest.samples_us)
    ]
    places = {finalist.config: place for place, finalist in enumerate(finalists)}
    default_place = places.get(default)
    if default_place is not None and finalists[default_place] not in tied:
        default_us = finalists[default_place].samples_us
        tied = [
            finalist
            for finalist in tied
            if finalist is fastest or beats(default_us, finalist.samples_us)
        ]
    winner = min(
        tied, key=lambda finalist: (finalist.config != default, simplicity(finalist.config))
    )
    if default_place is None:
        return Verdict(places[winner.config], None, None, "fastest; the default did not run")
    gain, error = paired_gain(finalists[default_place].samples_us, winner.samples_us)
    if winner.config == default:
        reason = "the default: none beat it by more than the noise"
    else:
        among = f", chosen among {len(tied)} tied" if len(tied) > 1 else ""
        reason = f"beat the default by {gain:.1%} ± {3 * error:.1%}{among}"
    return Verdict(places[winner.config], default_place, 1.0 + gain, reason)


def rank_estimates(times_us: Mapping[Config, float], default: Config) -> list[Config]:
    """Configurations by estimate; the default first unless another is estimated clearly faster.

    What the model cannot tell apart it should not choose between, and the default is the one
    configuration chosen with measurements in mind.
    """
    ranked = sorted(times_us, key=lambda config: (times_us[config], simplicity(config)))
    if default in times_us and times_us[default] <= times_us[ranked[0]] * (1 + _MODEL_RESOLUTION):
        ranked.remove(default)
        ranked.insert(0, default)
    return ranked


def simplicity(config: Config) -> tuple[int, ...]:
    """Order among equals: fewer stages, fewer warps, smaller blocks, wider vectors."""
    return (
        config.get("num_stages", 1),
        config.get("num_warps", 1),
        *(value for axis, value in sorted(config.meta().items()) if axis != "VEC"),
        -config.get("VEC", 0),
    )
