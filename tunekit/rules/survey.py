"""What every program of a launch does, each block as one range: proofs that need no lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tunekit.rules.follow import follow
from tunekit.rules.memory import Memory
from tunekit.rules.ranges import Array
from tunekit.rules.trace import Event, Trace
from tunekit.rules.ttir import Function, Op
from tunekit.rules.values import Known

MOST_PROGRAMS = 1 << 22
"""Programs of a launch that are all surveyed; of more only some are followed."""
_CHUNK = 1 << 15
_ALLOWED = 1 << 28
"""Array elements that the survey of a launch may compute."""
_KEPT = 64
"""Programs kept of those that may do something."""


def ids_of(numbers: Array, grid: tuple[int, int, int]) -> Array:
    """Program ids on axes 0, 1, 2 by their number in launch order: axis 0 counts fastest."""
    x, y, _ = grid
    return np.stack([numbers % x, numbers // x % y, numbers // (x * y)], axis=1)


@dataclass(eq=False, slots=True)
class Reach:
    """What an access of the code does in all programs together.

    Attributes:
        memories: the parameters it goes to.
        runs: how often a program executes it, summed over programs; counting each that may.
        surely: the same, counting only those that certainly do.
        outside: programs in which a lane without a mask may lie outside the tensor: some of them.
        outside_count: how many executions that is.
        why: why its addresses, or its mask, are not known; empty if they are.
    """

    op: Op
    kind: str
    size: int
    lanes: int
    clipped: bool
    memories: set[int] = field(default_factory=set)
    runs: int = 0
    surely: int = 0
    outside: list[int] = field(default_factory=list)
    outside_count: int = 0
    why: str = ""

    @property
    def bytes(self) -> int:
        """That all programs ask for, masks left aside."""
        return self.runs * self.lanes * self.size


@dataclass(eq=False, slots=True)
class Written:
    """Runs of bytes that programs certainly write in full, and who writes a part of a block.

    Attributes:
        starts, ends: of each run, bytes; arrays to be joined.
        parts: programs that write some lanes of a block only: some of them.
        part_count: how many such there are.
        unclear: why more may be written than can be told, empty if it can.
    """

    starts: list[Array] = field(default_factory=list)
    ends: list[Array] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    part_count: int = 0
    unclear: str = ""


@dataclass(eq=False, slots=True)
class Survey:
    """All programs of a launch.

    Attributes:
        programs: how many there are.
        surveyed: how many were looked at: all, or none where there are too many.
        reaches: by access.
        written: by parameter.
        doubts, overflows, stopped: as in `Trace`.
    """

    programs: int
    surveyed: int = 0
    reaches: dict[Op, Reach] = field(default_factory=dict)
    written: dict[int, Written] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    overflows: list[Op] = field(default_factory=list)
    stopped: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every program was followed to its end."""
        return self.surveyed == self.programs and not self.stopped and not self.doubts

    @property
    def lanes_a_program(self) -> float:
        """Elements of blocks that a program accesses."""
        total = sum(reach.runs * reach.lanes for reach in self.reaches.values())
        return total / max(self.surveyed, 1)


def survey(
    function: Function,
    arguments: Sequence[Known],
    memories: Mapping[int, Memory],
    grid: tuple[int, int, int],
) -> Survey:
    """Follow every program, block by block."""
    total = grid[0] * grid[1] * grid[2]
    found = Survey(total)
    if total > MOST_PROGRAMS:
        found.stopped = f"{total} programs are more than are followed here"
        return found
    share = max(_ALLOWED // -(-total // _CHUNK), 1) if total else _ALLOWED
    for first in range(0, total, _CHUNK):
        numbers = np.arange(first, min(first + _CHUNK, total), dtype=np.int64)
        trace = follow(function, arguments, grid, ids_of(numbers, grid), lanes=False, allowed=share)
        _add(found, trace, numbers, memories)
        found.surveyed += len(numbers)
        if trace.stopped:
            break
    return found


def _add(found: Survey, trace: Trace, numbers: Array, memories: Mapping[int, Memory]) -> None:
    found.overflows += trace.overflows
    found.stopped = found.stopped or trace.stopped
    found.doubts += [each for each in trace.doubts if each not in found.doubts]
    for event in trace.events:
        reach = found.reaches.setdefault(
            event.op, Reach(event.op, event.kind, event.size, event.lanes, event.clipped)
        )
        reach.runs += int(event.may.sum())
        reach.surely += int((event.may & event.must).sum())
        reach.why = reach.why or event.why
        if event.memory is None:
            continue
        reach.memories.add(event.memory)
        if event.perhaps is None and event.memory in memories:
            _note_outside(reach, event, numbers, memories[event.memory].extent_bytes)
        if event.kind == "store":
            _note_written(found.written.setdefault(event.memory, Written()), event, numbers)


def _flat(array: Array, count: int) -> Array:
    """One entry a program."""
    return np.broadcast_to(array.reshape(len(array), -1)[:, 0], (count,))


def _note_outside(reach: Reach, event: Event, numbers: Array, extent: int) -> None:
    lo, hi = _flat(event.lo, len(numbers)), _flat(event.hi, len(numbers))
    outside = event.may & ((lo < 0) | (hi + event.size > extent))
    reach.outside_count += int(outside.sum())
    if outside.any():
        there = numbers[outside]
        # The first and the last: what runs over does so at an edge of the grid.
        some = np.concatenate([there[: _KEPT // 4], there[-_KEPT // 4 :]])
        reach.outside = sorted({*reach.outside, *map(int, some)})[:_KEPT]


def _note_written(written: Written, event: Event, numbers: Array) -> None:
    count = len(numbers)
    lo, hi = _flat(event.lo, count), _flat(event.hi, count)
    if event.surely is None or event.perhaps is None:
        every, some = event.must, event.may
    else:
        every = event.must & (_flat(event.surely, count) == 1)
        some = event.may & (_flat(event.perhaps, count) == 1)
    if event.lanes == 1:
        dense = every
    else:
        dense = every & (hi - lo + event.size == event.lanes * event.size)
    if (every & ~dense).any() and not written.unclear:
        written.unclear = "a block that is no run of memory"
    written.starts.append(lo[dense])
    written.ends.append(hi[dense] + event.size)
    parts = numbers[some & ~dense]
    written.part_count += len(parts)
    written.parts = (written.parts + list(map(int, parts[:_KEPT])))[:_KEPT]
