"""When a search is done: nothing left to gain, near the floor, or out of budget."""

from __future__ import annotations

from dataclasses import dataclass

_FEWEST, _SHARE = 8, 12
"""Measured in any case: so many configurations, and one of so many of the space."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """When to stop.

    Attributes:
        least_gain: an expected gain below this share of the time is not worth a measurement.
        fewest: configurations measured before a small expected gain is believed.
        floor_us: what the same template takes at that size with the identity epilogue, None if
            that is not known.
        near_floor: share above the floor that is near enough.
    """

    least_gain: float = 0.003
    fewest: int = _FEWEST
    floor_us: float | None = None
    near_floor: float = 0.005

    @classmethod
    def of_space(cls, configs: int, floor_us: float | None, unmeasured: int) -> Stopping:
        """For a space of so many configurations: the larger, the later a small gain is believed.

        What neighbouring problems teach is a mean of many; a space of hundreds has corners that
        none of them told about, the more so where none measured them.

        Args:
            configs: in the space.
            floor_us: see `floor_us`.
            unmeasured: how many of them no near problem's search measured; they count twice.
        """
        return cls(fewest=max(_FEWEST, (configs + unmeasured) // _SHARE), floor_us=floor_us)

    def reason(self, measured: int, best_us: float | None, expected_gain: float) -> str:
        """Why to stop now, in one line; empty to go on.

        Args:
            measured: configurations that have a time.
            best_us: the fastest, None if none has.
            expected_gain: the strategy's, as a share of the time.
        """
        if best_us is None:
            return ""
        if self.floor_us is not None and best_us <= self.floor_us * (1 + self.near_floor):
            above = best_us / self.floor_us - 1
            return f"within {self.near_floor:.1%} of the identity epilogue ({above:+.1%})"
        if measured >= self.fewest and expected_gain < self.least_gain:
            return f"expected gain {expected_gain:.2%}"
        return ""
