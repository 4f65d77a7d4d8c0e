"""The final race: who takes part, and how long it goes on.

All are sampled in turn, A B C A B C …, and only samples of the same round are compared, so that
what drifts, drifts for all. The race goes on while more samples could change the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunekit.core.config import Config
from tunekit.search.decide import (
    CLEAR,
    TIE_BAND,
    Finalist,
    beats,
    fastest_of,
    gap,
    in_order,
    simplicity,
)

BLOCKS = (8, 8, 16, 32)
"""Rounds between two looks: each look doubles what is known, and there are at most four, which is
what `CLEAR` allows for."""
MARGIN = 0.03
"""What was first measured this much slower than the fastest may still be within the tie band.

Two measurements of different minutes, each off by 0.5 %, differ by 2.1 % in three standard
deviations, and the band comes on top."""
FASTEST, PREFERRED = 4, 4
"""Most that are raced for their time, and most that are raced for being preferred when tied."""

Sample = Callable[[int], Sequence[Sequence[float]]]
"""Samples so many further rounds: µs of each entrant in order, then of what else is timed."""


@dataclass(frozen=True, slots=True)
class Raced:
    """How a race went.

    Attributes:
        finalists: the entrants, with the samples of this race.
        others: samples of what was timed beside them, such as a plain copy.
        settled: whether more rounds would hardly have changed the winner.
    """

    finalists: tuple[Finalist, ...]
    others: tuple[tuple[float, ...], ...]
    rounds: int
    settled: bool

    @property
    def stopped(self) -> str:
        """Why it ended, for people."""
        return f"{'settled' if self.settled else 'tied'} after {self.rounds} rounds"


def entrants(
    measured: Sequence[Finalist], default: Config, preference: Mapping[Config, float] | None = None
) -> list[Finalist]:
    """Those that could win by what the search measured, and the default.

    The fastest, which set the mark, and of all that may be tied with them the first in order of
    preference. The latter hardly depend on the noise of the search, so that the configuration that
    wins among equals is there in every tuning.

    Args:
        measured: every verified configuration with its samples of the search.
        default: enters if it was measured.
        preference: as `decide` takes it.
    """
    limit = fastest_of(measured).median_us * (1.0 + MARGIN)
    close = [each for each in measured if each.median_us <= limit]
    chosen = sorted(close, key=lambda each: (each.median_us, simplicity(each.config)))[:FASTEST]
    chosen += [close[place] for place in in_order(close, default, preference)[:PREFERRED]]
    chosen += [each for each in measured if each.config == default]
    return list({each.config: each for each in chosen}.values())


def run(
    entrants: Sequence[Finalist],
    default: Config,
    sample: Sample,
    preference: Mapping[Config, float] | None = None,
    blocks: Sequence[int] = BLOCKS,
) -> Raced:
    """Sample block after block until the race is settled or the blocks are used up.

    Args:
        entrants: who takes part; the samples they bring do not count.
        default: the space's default configuration.
        sample: asked for each block.
        preference: as `decide` takes it.
        blocks: rounds of each block.
    """
    finalists = [replace(each, samples_us=()) for each in entrants]
    others: list[tuple[float, ...]] = []
    rounds = 0
    for block in blocks:
        rows = [tuple(row) for row in sample(block)]
        if any(len(row) != block for row in rows):
            raise ValueError(f"a round of {block} is incomplete: its samples would not pair up")
        own, beside = rows[: len(finalists)], rows[len(finalists) :]
        finalists = [
            replace(each, samples_us=each.samples_us + row)
            for each, row in zip(finalists, own, strict=True)
        ]
        others = [a + b for a, b in zip(others or [()] * len(beside), beside, strict=True)]
        rounds += block
        if settled(finalists, default, preference):
            return Raced(tuple(finalists), tuple(others), rounds, True)
    return Raced(tuple(finalists), tuple(others), rounds, False)


def settled(
    finalists: Sequence[Finalist], default: Config, preference: Mapping[Config, float] | None = None
) -> bool:
    """Whether more samples would hardly change the winner.

    So it is when the winner lies clearly inside the tie band, everything preferred to it clearly
    outside, and it clearly beats the default. What comes after it in the order need not be told
    apart, nor need the fastest be known: the gap to any of the fastest is the same.
    """
    fastest = fastest_of(finalists)
    default_us = next((each.samples_us for each in finalists if each.config == default), None)
    for place in in_order(finalists, default, preference):
        finalist = finalists[place]
        behind, error = gap(finalist, fastest)
        if abs(behind - TIE_BAND) <= CLEAR * error:
            return False
        if behind < TIE_BAND:
            is_default = finalist.config == default
            return is_default or default_us is None or beats(default_us, finalist.samples_us)
    raise AssertionError("the fastest is always within the band")
