"""What a recorded problem costs the program, and what tuning it is expected to gain.

Plain data in and out: listing a recording loads neither PyTorch nor a kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tunekit.core.evaluation import Source
from tunekit.core.problem import Problem
from tunekit.recorded import Recorded, Served, Timed
from tunekit.store.cache import CacheRow

MEAN_LOSS: Mapping[Served, tuple[float, float]] = {
    Served.EXACT: (0.0034, 0.0023),
    Served.NEAREST: (0.0096, 0.0097),
    Served.ESTIMATED: (0.0136, 0.0203),
    Served.DEFAULT: (0.0216, 0.0229),
}
"""Time over the best's, less one, of whatever serves: the means that benchmarks/nearest.py prints
of the problems recorded on an H100 and on an H200."""

_mean_loss = {served: sum(losses) / len(losses) for served, losses in MEAN_LOSS.items()}

EXPECTED_GAIN: Mapping[Served, float] = {
    served: loss - _mean_loss[Served.EXACT] for served, loss in _mean_loss.items()
}
"""Share of a call's time that tuning is expected to take off, by what serves it."""


class Tuned:
    """Which problems are tuned.

    Args:
        rows: of the databases, one a problem.
    """

    def __init__(self, rows: Iterable[CacheRow]) -> None:
        self._rows = {row.problem: row for row in rows}
        self._sources = {(_kind(problem), row.source) for problem, row in self._rows.items()}

    def measured(self, problem: Problem) -> CacheRow | None:
        """The row that was measured of the very problem."""
        row = self._rows.get(problem)
        return row if row is not None and row.source is Source.MEASURED else None

    def served(self, problem: Problem) -> Served:
        """What a call is served, but for rows whose configuration does not suit its size."""
        if self.measured(problem) is not None:
            return Served.EXACT
        kind = _kind(problem)
        if (kind, Source.MEASURED) in self._sources:
            return Served.NEAREST
        return Served.ESTIMATED if (kind, Source.ESTIMATED) in self._sources else Served.DEFAULT


@dataclass(frozen=True, slots=True)
class Weighed:
    """A recorded problem and what it is worth to tune it.

    Attributes:
        served: what a call is served now: exact where it was tuned since it was recorded.
        time_us: of a call, µs; None where it is not known.
        timed: where that is from.
        total_us: of all its calls, 0 where the time is not known.
        share: of the recording's total.
        gain: share of its time that tuning is expected to take off; 0 where it cannot be tuned.
        is_aligned: whether tuning can: it allocates tensors that start at a multiple of 16 bytes.
    """

    recorded: Recorded
    served: Served
    time_us: float | None
    timed: Timed
    total_us: float
    share: float
    gain: float
    is_aligned: bool

    @property
    def worth_us(self) -> float:
        """What tuning is expected to save of the total."""
        return self.total_us * self.gain


def weigh(recorded: Iterable[Recorded], tuned: Tuned) -> list[Weighed]:
    """What tuning each is worth, what is worth most first.

    Of those with nothing to gain what costs most is first; where no time is known, what moves most.
    """
    found = [_weighed(each, tuned) for each in recorded]
    total_us = sum(each.total_us for each in found)
    shared = [replace(each, share=each.total_us / total_us if total_us else 0.0) for each in found]
    return sorted(shared, key=lambda each: order(each.worth_us, each.total_us, each.recorded))


def order(worth_us: float, total_us: float, recorded: Recorded) -> tuple[object, ...]:
    """What is worth most first, then what costs most; the same whatever the file's order."""
    return -worth_us, -total_us, -recorded.count * recorded.bytes_moved, recorded.problem.key


def is_aligned(problem: Problem) -> bool:
    """Whether all tensors start at a multiple of 16 bytes, as those that tuning allocates."""
    return "p1" not in problem.alignment.split(",")


def _weighed(recorded: Recorded, tuned: Tuned) -> Weighed:
    problem = recorded.problem
    row, served = tuned.measured(problem), recorded.served
    time_us, timed = recorded.time_us, recorded.timed
    if row is not None:
        served, time_us, timed = Served.EXACT, row.time_us, Timed.MEASURED
    elif served is Served.EXACT:  # of a database that is not at hand
        served = tuned.served(problem)
    aligned = is_aligned(problem)
    return Weighed(
        recorded=recorded,
        served=served,
        time_us=time_us,
        timed=timed,
        total_us=recorded.count * (time_us or 0.0),
        share=0.0,
        gain=EXPECTED_GAIN[served] if aligned else 0.0,
        is_aligned=aligned,
    )


def _kind(problem: Problem) -> Problem:
    """The problem without its size."""
    return replace(problem, dims=())
