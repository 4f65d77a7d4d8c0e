"""Which programs of a launch are followed lane by lane, and what they touch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tunekit.rules.follow import follow
from tunekit.rules.ranges import Array
from tunekit.rules.survey import Survey, ids_of
from tunekit.rules.trace import Event, Trace
from tunekit.rules.ttir import Function
from tunekit.rules.values import Known

_LANES = 1 << 20
"""Elements of blocks that are followed, all programs together."""
_MOST = 512
"""Programs followed where not all are."""
_ALLOWED = 1 << 28


@dataclass(frozen=True, slots=True)
class Touched:
    """What one program touches with one execution of an access.

    Attributes:
        event: the execution.
        program: index among the programs that are followed.
        offsets: first byte of each element that is not masked off, in the order of its lanes.
    """

    event: Event
    program: int
    offsets: Array

    @property
    def bytes(self) -> int:
        """Of all its elements, each counted once a lane."""
        return len(self.offsets) * self.event.size


@dataclass(eq=False)
class Sample:
    """Programs followed lane by lane.

    Attributes:
        trace: what they do.
        numbers: theirs, in launch order.
        window: indices of those that are neighbours in launch order.
        chosen: indices of those that were picked at random, or are all of them.
        is_all: whether every program of the launch is among them.
    """

    trace: Trace
    numbers: list[int]
    window: range
    chosen: range
    is_all: bool

    def __post_init__(self) -> None:
        self._touched: dict[tuple[int, int], Touched] = {}

    @property
    def is_complete(self) -> bool:
        """Whether each was followed to its end."""
        return not self.trace.stopped and not self.trace.doubts

    def known(self, kinds: Iterable[str] = ("load", "store", "atomic")) -> list[tuple[int, Event]]:
        """Events whose addresses are known, with their place in the order."""
        wanted = set(kinds)
        return [
            (index, event)
            for index, event in enumerate(self.trace.events)
            if event.memory is not None and event.kind in wanted
        ]

    def touched(self, index: int, program: int) -> Touched:
        """What a program touches with one event."""
        key = (index, program)
        if key not in self._touched:
            self._touched[key] = self._read(self.trace.events[index], program)
        return self._touched[key]

    def _read(self, event: Event, program: int) -> Touched:
        def of_program(array: Array) -> Array:
            own = array[program if len(array) > 1 else 0]
            return np.broadcast_to(own, event.shape).reshape(-1)

        nothing = np.empty(0, dtype=np.int64)
        if not event.must[program]:
            return Touched(event, program, nothing)
        offsets = of_program(event.lo)
        if event.surely is not None:
            offsets = offsets[of_program(event.surely) == 1]
        return Touched(event, program, offsets)

    def everything(self, kind: str, memory: int, programs: Iterable[int]) -> Array:
        """Bytes' first elements that some programs touch in one memory, unordered, with repeats."""
        parts = [
            self.touched(index, program).offsets
            for index, event in self.known((kind,))
            if event.memory == memory
            for program in programs
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def sample(
    function: Function,
    arguments: Sequence[Known],
    grid: tuple[int, int, int],
    found: Survey,
    resident: int,
) -> Sample:
    """Follow the corners of the grid, neighbours, some at random and those that are suspected.

    All of them where there are few.

    Args:
        function: the kernel.
        arguments: what each of its parameters is.
        grid: number of programs on axes 0, 1, 2.
        found: what is known of all programs.
        resident: programs that the GPU runs at the same time; neighbours are no more than these.
    """
    total = found.programs
    lanes = max(found.lanes_a_program, 1.0)
    if found.surveyed and total * lanes <= _LANES:
        numbers, window, chosen = list(range(total)), range(min(total, resident)), range(total)
    else:
        numbers, window, chosen = _some(grid, found, max(int(_LANES / lanes), 2), resident)
    ids = ids_of(np.array(numbers, dtype=np.int64), grid)
    trace = follow(function, arguments, grid, ids, lanes=True, allowed=_ALLOWED)
    return Sample(trace, numbers, window, chosen, len(numbers) == total)


def _some(
    grid: tuple[int, int, int], found: Survey, most: int, resident: int
) -> tuple[list[int], range, range]:
    """Numbers of programs: neighbours first, then random ones, then corners and suspects."""
    total = found.programs
    most = min(most, _MOST, total)
    near = max(min(most // 3, resident), 1)
    begin = max(min(total // 2, total - near), 0)
    window = list(range(begin, begin + near))
    generator = np.random.default_rng(0)
    drawn = [int(each) for each in generator.integers(0, total, max(most // 3, 1))]
    numbers = window + drawn
    x, y, z = grid
    edges = itertools.product({0, z - 1}, {0, y - 1}, {0, x - 1})
    corners = sorted(c * x * y + b * x + a for c, b, a in edges)
    # The last program is the one most likely to end in a part of a block.
    suspects = [corners[-1]]
    suspects += [each for reach in found.reaches.values() for each in reach.outside]
    suspects += [each for written in found.written.values() for each in written.parts]
    suspects += corners
    for each in dict.fromkeys(suspects):
        if len(numbers) >= max(most, near + len(drawn) + 2):
            break
        if each not in numbers:
            numbers.append(each)
    return numbers, range(near), range(near, near + len(drawn))
