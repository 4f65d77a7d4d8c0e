"""Which configuration wins a race: the same one every time, and never one slower than the default.

Of the configurations within a band of the fastest the first in a fixed order wins: the default,
then what serves neighbouring problems best, then what needs least of the GPU. A rule that takes
the fastest asks which of many near equals is ahead, and noise answers; this one asks on which
side of the band's edge a configuration lies, and only of those that could win. Against the fastest
that raced it costs at most the band. benchmarks/decide_noise.py has the figures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary

TIE_BAND = 0.008
"""What is at most this much slower than the fastest is tied with it.

As wide as a winner may lose, 1 %, allows with room for the noise of the gap. Whatever the rule,
its answer flips where a true gap lies at an edge; here only a configuration that comes before all
faster ones in the order can flip it, and the wider the band the fewer of those are left.
"""
CLEAR = 3.0
"""Standard errors that count as more than noise.

Four looks at a growing race ask for 2.94 if equals are to be told apart in 1 % of races only
(Pocock's constant; Jennison and Turnbull, Group Sequential Methods, 2000, table 2.1).
"""
_LEAST_GAIN = 0.002
"""Gains below 0.2 % are none whatever the samples say."""
_MODEL_RESOLUTION = 0.01
"""Estimates closer than this are ties; on recorded landscapes 0.3 to 3 % do equally well."""
_WARP_SIZE = 32
_REGISTER_UNIT = 8
"""Registers a thread are handed out in eights (256 a warp, CUDA occupancy calculator)."""


@dataclass(frozen=True)  # no slots: the median is kept once it was asked for
class Finalist:
    """A configuration and its samples of one interleaved race.

    Attributes:
        samples_us: one of each round, in order.
        binary: what the compiler made of it, if known.
    """

    config: Config
    samples_us: tuple[float, ...]
    binary: Binary | None = None

    @cached_property
    def median_us(self) -> float:
        """Its time."""
        return float(statistics.median(self.samples_us))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who won and why.

    Attributes:
        winner, default: places among the finalists; default is None when it did not run.
        speedup: default's time over the winner's.
        tied: places of all that could have won, the winner first, in order of preference.
    """

    winner: int
    default: int | None
    speedup: float | None
    reason: str
    tied: tuple[int, ...] = ()


def paired_gain(slower: Sequence[float], faster: Sequence[float]) -> tuple[float, float]:
    """Median of the paired ratios less one, and its standard error.

    The error comes from the median absolute deviation: 1.4826·MAD estimates a normal
    distribution's deviation, and a median's is 1.2533 times a mean's (√(π/2); Huber and
    Ronchetti, Robust Statistics, 2009, sections 1.2 and 5.1).
    """
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    middle = statistics.median(ratios)
    spread = 1.4826 * statistics.median([abs(ratio - middle) for ratio in ratios])
    return middle - 1.0, 1.2533 * spread / len(ratios) ** 0.5


def beats(slower: Sequence[float], faster: Sequence[float]) -> bool:
    """Whether `faster` wins by more than three standard errors and more than nothing."""
    gain, error = paired_gain(slower, faster)
    return gain > max(CLEAR * error, _LEAST_GAIN)


def fastest_of(finalists: Sequence[Finalist]) -> Finalist:
    """The one with the lowest median; of equals the simplest."""
    return min(finalists, key=lambda each: (each.median_us, simplicity(each.config)))


def gap(finalist: Finalist, fastest: Finalist) -> tuple[float, float]:
    """How much slower it is than the fastest, and the standard error of that."""
    if finalist is fastest:
        return 0.0, 0.0
    return paired_gain(finalist.samples_us, fastest.samples_us)


def decide(
    finalists: Sequence[Finalist], default: Config, preference: Mapping[Config, float] | None = None
) -> Verdict:
    """The winner of a race.

    Tied are the configurations that lie within the band of the fastest. The default wins if it is
    one of them: a smaller gain is not worth another binary, and what is small in this race may be
    nothing in the next. Otherwise the first of the tied in order of preference wins that beats the
    default by more than the noise; if none does, the default.

    Args:
        finalists: with paired samples.
        default: the space's default configuration.
        preference: how well a configuration serves neighbouring problems, higher is better. It
            breaks ties, never more; one that is not named comes last.
    """
    order = in_order(finalists, default, preference)
    fastest = fastest_of(finalists)
    tied = [place for place in order if gap(finalists[place], fastest)[0] <= TIE_BAND]
    default_place = next((i for i, each in enumerate(finalists) if each.config == default), None)
    if default_place is None:
        reason = _among("fastest; the default did not run", tied)
        return Verdict(tied[0], None, None, reason, tuple(tied))
    default_us = finalists[default_place].samples_us
    if default_place not in tied:
        tied = [place for place in tied if beats(default_us, finalists[place].samples_us)]
    if default_place in tied or not tied:
        limit = f"{TIE_BAND:.1%}" if beats(default_us, fastest.samples_us) else "the noise"
        reason = f"the default: none beat it by more than {limit}"
        return Verdict(default_place, default_place, 1.0, reason, tuple(tied) or (default_place,))
    gain, error = paired_gain(default_us, finalists[tied[0]].samples_us)
    reason = _among(f"beat the default by {gain:.1%} ± {CLEAR * error:.1%}", tied)
    return Verdict(tied[0], default_place, 1.0 + gain, reason, tuple(tied))


def in_order(
    finalists: Sequence[Finalist], default: Config, preference: Mapping[Config, float] | None = None
) -> list[int]:
    """Places of the finalists as they are preferred when tied.

    The default, the preferred, the one with fewer resources, the simpler. It depends on what was
    compiled and on nothing that was measured here, so it is the same in every race.
    """
    liked = preference or {}

    def key(place: int) -> tuple[bool, float, tuple[float, ...], tuple[int, ...]]:
        config = finalists[place].config
        return (
            config != default,
            -liked.get(config, -math.inf),
            resources(config, finalists[place].binary),
            simplicity(config),
        )

    return sorted(range(len(finalists)), key=key)


def resources(config: Config, binary: Binary | None) -> tuple[float, ...]:
    """What a block takes of an SM: spilled bytes, shared memory, registers; unknown comes last."""
    if binary is None:
        return (math.inf,)
    threads = config.get("num_warps", 4) * _WARP_SIZE
    a_thread = -(-binary.registers // _REGISTER_UNIT) * _REGISTER_UNIT
    return (binary.spill_bytes, binary.shared_bytes, a_thread * threads)


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


def _among(reason: str, tied: Sequence[int]) -> str:
    return f"{reason}, chosen among {len(tied)} tied" if len(tied) > 1 else reason
