"""Measure: samples of one configuration, or of several in turn, watched for disturbances."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tunekit.evaluate.noise import (
    Reading,
    Watch,
    spread_disturbance,
    spread_of,
    state_disturbance,
)
from tunekit.evaluate.timer import Timer, settle

PROTOCOL = "graph-cold-3"
"""Name and version of how `measure` times: results of different protocols are not compared."""

_WARM_PROTOCOL = "graph-warm-3"

_SET_US = 12_000.0
_FEWEST_SAMPLES, _MOST_SAMPLES = 5, 25
_RETRIES = 2
_PAUSE_S = 0.05


def protocol_name(warm: bool) -> str:
    """The protocol's name and version, with the inputs in the L2 cache or not."""
    return _WARM_PROTOCOL if warm else PROTOCOL


class Sampled(Protocol):
    """Who can be measured: each sample is one time in µs."""

    def sample_us(self) -> float:
        """Take one."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What `measure` found.

    Attributes:
        samples_us: of one set, µs a launch.
        disturbance: what disturbed this set, after every retry; empty if nothing did.
    """

    samples_us: tuple[float, ...]
    disturbance: str = ""


@dataclass(frozen=True, slots=True)
class _Set:
    """Samples taken together, a series a timer, and what the driver said meanwhile."""

    series: tuple[tuple[float, ...], ...]
    state: str

    @property
    def driftless(self) -> tuple[tuple[float, ...], ...]:
        """The series less what they have in common: a drift disturbs no comparison of theirs."""
        if len(self.series) < 2:
            return self.series
        rounds = [statistics.geometric_mean(samples) for samples in zip(*self.series, strict=True)]
        mean = statistics.geometric_mean(rounds) if rounds else 1.0
        return tuple(
            tuple(sample * mean / one for sample, one in zip(own, rounds, strict=True))
            for own in self.series
        )

    @property
    def spread(self) -> str:
        return next(filter(None, map(spread_disturbance, self.driftless)), "")

    @property
    def disturbance(self) -> str:
        return self.state or self.spread

    @property
    def severity(self) -> tuple[bool, float]:
        """Orders sets: what the driver said counts more than how far the samples spread."""
        return bool(self.state), max(map(spread_of, self.driftless), default=0.0)

    def worth_retrying(self, watch: Watch) -> bool:
        """Whether it is disturbed by something that has not outlasted retries before."""
        return bool(self.spread) or self.state not in ("", watch.lasting)


def measure(timer: Timer, watch: Watch, hopeless_us: float | None = None) -> Measurement:
    """Samples of one configuration: 12 ms of GPU time, but at least 5 and at most 25.

    A set in which something was disturbed is measured again, at most twice. If all are disturbed,
    the samples are the least disturbed set's and the measurement says by what; sets never mix.

    Args:
        timer: the configuration's.
        watch: on its GPU.
        hopeless_us: when the first sample is slower than this it is the only one.
    """
    settle()
    before = watch.read()
    first = timer.sample_us()
    if hopeless_us is not None and first > hopeless_us:
        return Measurement((first,), state_disturbance(before, watch.read()))
    sets = [_sample_set(timer, watch, before, [first])]
    while sets[-1].worth_retrying(watch) and len(sets) <= _RETRIES:
        time.sleep(_PAUSE_S)
        settle()
        sets.append(_sample_set(timer, watch, watch.read()))
    best = min(sets, key=lambda each: each.severity) if sets[-1].disturbance else sets[-1]
    watch.lasting = best.state
    return Measurement(best.series[0], best.disturbance)


def _sample_set(timer: Timer, watch: Watch, before: Reading, first: Sequence[float] = ()) -> _Set:
    samples = timer.samples_us(_SET_US, _FEWEST_SAMPLES, _MOST_SAMPLES, first)
    return _Set((samples,), state_disturbance(before, watch.read()))


def interleaved(
    timers: Sequence[Sampled],
    rounds: int,
    watch: Watch,
    *,
    before_round: Callable[[], None] = lambda: None,
    replays: int = 1,
    shuffle: Random | None = None,
) -> tuple[list[tuple[float, ...]], str]:
    """Sample A B C A B C …, so that what drifts, drifts for all of them.

    A round in which the driver says that something was disturbed is repeated at once, while there
    are fewer repetitions than rounds. If the samples of one timer spread far above normal, all
    rounds are repeated, once, and the calmer ones count.

    Args:
        timers: the candidates'.
        rounds: samples of each.
        watch: on their GPU.
        before_round: called before each.
        replays: a sample is the mean of so many, which go round as well.
        shuffle: draws another order for each turn: what ran just before decides how warm and how
            fast the GPU is, and would favour the same candidate every time.

    Returns:
        Each timer's samples in µs a launch, paired by round, and what remained disturbed, or "".
    """

    def once() -> _Set:
        return _round_set(timers, rounds, watch, before_round, replays, shuffle)

    sets = [once()]
    if sets[0].spread:
        time.sleep(_PAUSE_S)
        sets.append(once())
    best = min(sets, key=lambda each: (bool(each.disturbance), each.severity))
    watch.lasting = best.state
    return list(best.series), best.disturbance


def _round_set(
    timers: Sequence[Sampled],
    rounds: int,
    watch: Watch,
    before_round: Callable[[], None],
    replays: int,
    shuffle: Random | None,
) -> _Set:
    kept: list[list[float]] = []
    repetitions, remained = 0, ""
    while len(kept) < rounds:
        before_round()
        settle()
        before = watch.read()
        turns = [_turn(timers, shuffle) for _ in range(replays)]
        samples = [statistics.fmean(turn) for turn in zip(*turns, strict=True)]
        state = state_disturbance(before, watch.read())
        if state not in ("", watch.lasting) and repetitions < rounds:
            repetitions += 1
            time.sleep(_PAUSE_S)
            continue
        kept.append(samples)
        remained = state or remained
    series = tuple(zip(*kept, strict=True)) if kept else ((),) * len(timers)
    return _Set(series, remained)


def _turn(timers: Sequence[Sampled], shuffle: Random | None) -> list[float]:
    """A sample of each, in the order of the timers whatever the order they were taken in."""
    places = list(range(len(timers)))
    if shuffle is not None:
        shuffle.shuffle(places)
    found = {place: timers[place].sample_us() for place in places}
    return [found[place] for place in range(len(timers))]


def interleaved_us(timers: Sequence[Sampled], rounds: int) -> list[tuple[float, ...]]:
    """Sample A B C A B C …, unwatched."""
    samples: list[list[float]] = [[] for _ in timers]
    for _ in range(rounds):
        for timer, own in zip(timers, samples, strict=True):
            own.append(timer.sample_us())
    return [tuple(own) for own in samples]


def median_us(samples: Sequence[float]) -> float:
    """The figure reported for a set of samples."""
    return float(statistics.median(samples))
