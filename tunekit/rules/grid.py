"""Rules `grid` and `blocks`: how work is divided among programs."""

from __future__ import annotations

import numpy as np

from tunekit.rules.boxes import block_shape
from tunekit.rules.finding import Finding, Verdict, counted, listed, places_of
from tunekit.rules.overlaps import looked_at
from tunekit.rules.subject import Subject

_NAMES = "xyz"
_MIXING = (
    "tt.dot", "tt.dot_scaled", "tt.reduce", "tt.scan", "tt.gather", "tt.histogram", "tt.trans",
    "tt.descriptor_load", "tt.descriptor_store",
)  # fmt: skip


def check_grid(subject: Subject) -> Finding:
    """Axes of the grid are read, and element-wise work has one."""
    read = {op.text for op in subject.ops("tt.get_program_id")}
    used = [_NAMES[axis] for axis, size in enumerate(subject.grid) if size > 1]
    unread = [axis for axis in used if axis not in read]
    sizes = " × ".join(map(str, subject.grid))
    fact = f"grid {sizes}; program_id of {listed(sorted(read)) if read else 'no axis'} read"
    places = places_of(subject.ops("tt.get_program_id"))
    if unread:
        says = (
            f"Nothing depends on axis {listed(unread)} of the grid: its programs all do the same."
        )
        return Finding("grid", Verdict.BROKEN, says, fact, places)
    if len(used) > 1 and (straight := _is_straight(subject)) is not False:
        if straight is None:
            says = "Whether the work is element-wise, for which one axis is enough, is not known."
            return Finding("grid", Verdict.UNDECIDED, says, fact, places)
        says = (
            f"Element-wise work on {len(used)} axes: each result needs the inputs at its own place "
            "alone, so one axis over memory as it lies does, without dividing by sizes."
        )
        return Finding("grid", Verdict.BROKEN, says, fact, places)
    if not used:
        says = "One program does all."
    elif len(used) == 1:
        says = "Programs are numbered along one axis."
    else:
        says = f"Work that is not element-wise is divided along {len(used)} axes."
    return Finding("grid", Verdict.OK, says, fact, places)


def _is_straight(subject: Subject) -> bool | None:
    """Whether each lane loads what it stores to: the same offsets in every main access."""
    if subject.ops(*_MIXING):
        return False
    sample = subject.sample
    main = {each.op for each in subject.main("load", "store")}
    if subject.unknown("load", "store") or not sample.is_complete:
        return None
    for program in looked_at(sample):
        offsets = [
            sample.touched(index, program).offsets // event.size
            for index, event in sample.known(("load", "store"))
            if event.op in main
        ]
        if any(not np.array_equal(each, offsets[0]) for each in offsets):
            return False
    return True


def check_blocks(subject: Subject) -> Finding:
    """Blocks are powers of two: Triton has no others."""
    shapes = dict.fromkeys(block_shape(each.op) for each in subject.main("load", "store"))
    blocks = [" × ".join(map(str, shape)) for shape in shapes if shape]
    config = ", ".join(
        f"{name}={size}" for name, size in subject.config.meta().items() if name != "num_stages"
    )
    fact = f"blocks of {listed(blocks) or '1'} elements; {config}"
    odd = [
        f"{name}={size}"
        for name, size in subject.config.meta().items()
        if "BLOCK" in name.upper() and size & (size - 1)
    ]
    if odd:
        says = f"{listed(odd)} {'is' if len(odd) == 1 else 'are'} no power of two."
        return Finding("blocks", Verdict.BROKEN, says, fact)
    return Finding(
        "blocks", Verdict.OK, f"{counted(len(blocks), 'shape')} of block, all powers of two.", fact
    )
