"""Proof that what was timed did the work, each time, and was right when it was timed."""

from __future__ import annotations

import math

from tunekit.evaluate.guards import FINITE, prepare_all
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.rotation import Rotation
from tunekit.evaluate.timer import Timer
from tunekit.evaluate.trial import Checked

_TRIES = 3
"""A round may be slow because something else disturbed it; a kernel that skips work always is."""
_MOST_COMPARED = 8
"""Buffer sets whose outputs are compared; a kernel cannot know which."""
_SLOWER = 2.0
_GRAPH_START_US = 10.0
"""What a graph of one launch may take longer than its share of a long one."""


def prove(timer: Timer, rotation: Rotation, judge: Judge, time_us: float) -> Checked:
    """Launch once more on each buffer set, its output overwritten before, and look at both.

    Between two timed launches nobody writes the output but the kernel. One that leaves work out
    where its result is there already, by whatever it remembers, was timed doing nothing: here its
    output is wrong, or this round takes longer.

    Args:
        timer: of the launches that were timed.
        rotation: their buffers.
        judge: knows what each should write.
        time_us: of one launch, as it was measured.
    """
    outputs = rotation.outputs[: timer.sets_touched]
    launch, inputs = rotation.launch, rotation.inputs[0]
    compared = outputs[:: max(1, -(-len(outputs) // _MOST_COMPARED))]
    first_us = math.inf
    for _ in range(_TRIES):
        first_us = timer.first_touch_us(lambda: prepare_all(launch, inputs, outputs, FINITE))
        place, error = judge.worst_of(compared)
        if error > 1.0:
            where = "when it was timed, its output overwritten before"
            return Checked(error, judge.describe(compared[place], error, FINITE, where))
        if first_us <= _SLOWER * time_us + _GRAPH_START_US / len(outputs):
            return Checked(error)
    return Checked(
        math.inf,
        f"skips work: takes {first_us:.4g} µs where its output is not there yet and {time_us:.4g} "
        "µs where it is",
    )


def least_us(bytes_moved: int, l2_bytes: int, dram_bytes_per_s: float) -> float:
    """Time that no launch beats: of what cannot stay in the L2 cache at the memory's peak rate.

    Args:
        bytes_moved: the fewest a launch reads and writes.
        l2_bytes: what may have stayed in the cache since the launch before.
        dram_bytes_per_s: peak rate of the memory.
    """
    return max(bytes_moved - l2_bytes, 0) / dram_bytes_per_s * 1e6
