"""Set cover by a given number of sets: by greed, and exactly within a bound on work.

Sets are bit masks: bit p of a mask is element p.
"""

from __future__ import annotations

from collections.abc import Sequence


class OutOfWorkError(Exception):
    """The bound was reached before the answer was known."""


class Budget:
    """How many more steps may be taken, over several searches."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self) -> None:
        """Take one step.

        Raises:
            OutOfWorkError: there are none left.
        """
        if self._left <= 0:
            raise OutOfWorkError
        self._left -= 1


def greedy_cover(masks: Sequence[int], wanted: int, count: int) -> list[int]:
    """At most `count` indices that cover much of `wanted`; of equals the first is taken."""
    chosen: list[int] = []
    while wanted and len(chosen) < count:
        most = max(range(len(masks)), key=lambda index: (masks[index] & wanted).bit_count())
        if not masks[most] & wanted:
            break
        chosen.append(most)
        wanted &= ~masks[most]
    return chosen


def cover(masks: Sequence[int], wanted: int, count: int, budget: Budget) -> list[int] | None:
    """At most `count` indices whose masks cover `wanted`, or None if there are none such.

    Raises:
        OutOfWorkError: greed found none and the budget ran out.
    """
    chosen = greedy_cover(masks, wanted, count)
    if not _left_over(masks, wanted, chosen):
        return chosen
    return _Search(masks, wanted, budget).find(wanted, count)


def _left_over(masks: Sequence[int], wanted: int, chosen: Sequence[int]) -> int:
    for index in chosen:
        wanted &= ~masks[index]
    return wanted


class _Search:
    """Branch on the element that fewest sets cover: one of those has to be among the chosen."""

    def __init__(self, masks: Sequence[int], wanted: int, budget: Budget) -> None:
        self._masks, self._budget = masks, budget
        self._hopeless: set[tuple[int, int]] = set()
        bits = [1 << place for place in range(wanted.bit_length()) if wanted >> place & 1]
        covering = [(bit, [i for i, mask in enumerate(masks) if mask & bit]) for bit in bits]
        self._rarest_first = sorted(covering, key=lambda each: len(each[1]))

    def find(self, wanted: int, count: int) -> list[int] | None:
        """See `cover`."""
        if not wanted:
            return []
        if not count or (wanted, count) in self._hopeless:
            return None
        self._budget.spend()
        largest = max((mask & wanted).bit_count() for mask in self._masks)
        if largest * count >= wanted.bit_count():
            for index in self._candidates(wanted):
                rest = self.find(wanted & ~self._masks[index], count - 1)
                if rest is not None:
                    return [index, *rest]
        self._hopeless.add((wanted, count))
        return None

    def _candidates(self, wanted: int) -> list[int]:
        """The sets that cover the rarest element that is left, the largest first."""
        covering = next(indices for bit, indices in self._rarest_first if bit & wanted)
        return sorted(covering, key=lambda index: -(self._masks[index] & wanted).bit_count())
