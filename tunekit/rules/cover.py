"""Which elements of an output programs store, all of them followed lane by lane."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunekit.rules.follow import follow
from tunekit.rules.memory import Memory
from tunekit.rules.slices import stores_only
from tunekit.rules.subject import Subject
from tunekit.rules.survey import ids_of
from tunekit.rules.trace import Trace

MOST_LANES = 1 << 25
"""Elements of blocks, of all programs together, up to which that is done."""
_AT_ONCE = 1 << 21
_MOST_BYTES = 1 << 28
"""Of the marks that are kept, one an element."""


def never_stored(subject: Subject, number: int, memory: Memory) -> int | None:
    """How many elements of an output no program stores; None where that is too much to follow.

    Args:
        subject: whose programs are followed.
        number: of the parameter that points to the output.
        memory: what it points to.
    """
    total = subject.programs
    stores = sum(each.runs * each.lanes for each in subject.reaches("store"))
    lanes = max(stores / max(total, 1), 1.0)
    if not subject.survey.is_complete or total * lanes > MOST_LANES:
        return None
    if memory.meta.extent > _MOST_BYTES:
        return None
    size = memory.meta.itemsize
    stored = np.zeros(memory.meta.extent, dtype=np.bool_)
    step = max(int(_AT_ONCE / lanes), 1)
    function = stores_only(subject.function)
    for first in range(0, total, step):
        numbers = np.arange(first, min(first + step, total), dtype=np.int64)
        trace = follow(
            function, subject.arguments, subject.grid, ids_of(numbers, subject.grid),
            lanes=True, allowed=_AT_ONCE << 8,
        )  # fmt: skip
        if trace.stopped or trace.doubts:
            return None
        _mark(stored, trace, number, size)
    return memory.meta.numel - int(stored.sum())


def _mark(stored: npt.NDArray[np.bool_], trace: Trace, number: int, size: int) -> None:
    for event in trace.events:
        if event.kind != "store" or event.memory != number:
            continue
        block = (len(trace.programs), *event.shape)
        there = np.broadcast_to(event.must.reshape(-1, *(1,) * len(event.shape)), block)
        if event.surely is not None:
            there = there & (np.broadcast_to(event.surely, block) == 1)
        elements = np.broadcast_to(event.lo, block)[there] // size
        stored[elements[(elements >= 0) & (elements < len(stored))]] = True
