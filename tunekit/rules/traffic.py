"""Rules `width`, `runs` and `bytes`: how memory is asked for, and how much of it."""

from __future__ import annotations

import numpy as np

from tunekit.rules.doubts import doubts_of
from tunekit.rules.elements import SECTOR, distinct, runs, sectors
from tunekit.rules.finding import Finding, Verdict, counted, listed, places_of
from tunekit.rules.memory import Memory
from tunekit.rules.ranges import Array
from tunekit.rules.subject import Subject
from tunekit.rules.survey import Reach
from tunekit.rules.widths import BULK

WIDEST = 16
"""Bytes that one instruction of a thread can move."""
SHORT_RUN = 1024
"""Bytes in one place below which DRAM opens a row for too little: the hand-written original whose
neighbours share runs of 256 reached 43.5 % of the bandwidth, those that are streams 93 %."""
_MORE = 1.1
"""Times the fewest bytes from which more is worth a word."""
_NEIGHBOURS = 32
"""Programs in launch order that have to be followed to say that their runs do not join."""
_PROGRAMS = 24
"""Programs whose runs are looked at for the width of an access."""


def check_width(subject: Subject) -> Finding:
    """Each load and store moves 16 bytes a thread, or as many as its addresses allow."""
    main = [each for each in subject.main("load", "store") if each.lanes > 1]
    found, narrow, unread = [], [], []
    for reach in main:
        widths = subject.widths.get((reach.kind, reach.op.place.key))
        if widths is None:
            unread.append(reach)
            continue
        if widths == {BULK}:
            found.append(f"{reach.kind} of whole tiles (TMA)")
            continue
        width, possible = min(widths - {BULK}), _possible(subject, reach)
        found.append(f"{reach.kind} {width} of {possible or WIDEST} bytes")
        if possible and width < possible:
            narrow.append((reach, width, possible))
    fact = listed(dict.fromkeys(found))
    if narrow:
        reach, width, possible = narrow[0]
        each_thread = reach.lanes * reach.size // subject.threads
        if each_thread < possible:
            why = f"a block gives each of its {subject.threads} threads {each_thread} bytes"
        else:
            why = "that neighbours, and their masks, come in aligned groups is not known to Triton"
        says = f"A {reach.kind} moves {width} bytes a thread where {possible} are possible: {why}."
        places = places_of(each.op for each, _, _ in narrow)
        return Finding("width", Verdict.BROKEN, says, fact, places)
    places = places_of(each.op for each in main)
    if unread:
        says = (
            f"How wide {listed(places_of(each.op for each in unread))} is: the machine code names "
            "no instruction of that place."
        )
        return Finding("width", Verdict.UNDECIDED, says, fact, places)
    if not main:
        says = "No access of a block is known."
        return Finding("width", Verdict.UNDECIDED, says, fact, places)
    says = "Loads and stores are as wide as can be."
    return Finding("width", Verdict.OK, says, fact, places)


def _possible(subject: Subject, reach: Reach) -> int:
    """Bytes a thread could move at once where most programs access; 0 where that is not known."""
    sample = subject.sample
    powers: list[int] = []
    for index, event in sample.known((reach.kind,)):
        if event.op is not reach.op or event.memory is None:
            continue
        shift = subject.memories[event.memory].meta.misalignment
        for program in list(sample.chosen)[:_PROGRAMS]:
            offsets = sample.touched(index, program).offsets
            if len(offsets) == reach.lanes:
                powers.append(_alignment(offsets + shift, event.size))
        if len(powers) > _PROGRAMS:
            break
    return int(np.median(powers)) if powers else 0


def _alignment(offsets: Array, size: int) -> int:
    """The largest power of two up to 16 that starts and lengths of all runs are divisible by."""
    starts, lengths = runs(offsets, size)
    power = WIDEST
    while power > size and ((starts % power).any() or (lengths % power).any()):
        power //= 2
    return power


def check_runs(subject: Subject) -> Finding:
    """Programs that run at the same time touch long runs of memory together."""
    sample, shortest = subject.sample, None
    facts = []
    for reach in subject.main("load", "store"):
        for number in reach.memories:
            memory = subject.memories[number]
            offsets = np.concatenate(
                [sample.everything(reach.kind, number, [program]) for program in sample.window]
            )
            if not len(offsets):
                continue
            lines = SECTOR * sectors(offsets, reach.size, memory.meta.misalignment)
            length = _typical(runs(lines, SECTOR)[1])
            possible = _longest(memory)
            facts.append(f"{reach.kind} of {memory.name} {_bytes(length)}")
            if length < min(possible, SHORT_RUN) and (shortest is None or length < shortest[0]):
                shortest = (length, reach, memory, offsets)
    programs = len(sample.window)
    found = listed(dict.fromkeys(facts)) or "none"
    fact = f"runs of {counted(programs, 'program')} in launch order: {found}"
    ops = [each.op for each in subject.main("load", "store")]
    if shortest is None or not sample.is_complete:
        if not facts or not sample.is_complete:
            doubts = doubts_of(subject, "load", "store")
            return Finding("runs", Verdict.UNDECIDED, doubts, fact, places_of(ops))
        says = "Neighbouring programs read and write long runs of memory."
        return Finding("runs", Verdict.OK, says, fact, places_of(ops))
    length, reach, memory, offsets = shortest
    if len(offsets) > 1.5 * len(distinct(offsets)):
        says = (
            f"Runs of {memory} are {_bytes(length)}, and programs share them: whether DRAM sees "
            "them one by one is the L2 cache's to decide."
        )
        return Finding("runs", Verdict.UNDECIDED, says, fact, places_of([reach.op]))
    if programs < min(_NEIGHBOURS, subject.programs, subject.resident):
        says = (
            f"Runs of {memory} are {_bytes(length)} in {counted(programs, 'program')}: too few "
            "were followed to tell what those that run at the same time touch together."
        )
        return Finding("runs", Verdict.UNDECIDED, says, fact, places_of([reach.op]))
    says = (
        f"Neighbouring programs touch {memory} in runs of {_bytes(length)} far apart, and DRAM "
        "opens a row for each: let neighbours in launch order take neighbouring elements."
    )
    return Finding("runs", Verdict.BROKEN, says, fact, places_of([reach.op]))


def _typical(lengths: Array) -> int:
    """The length of the run that the middle byte lies in."""
    ordered = np.sort(lengths)
    return int(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)])


def _longest(memory: Memory) -> int:
    """Bytes of the longest run without gaps that the tensor's strides have."""
    elements = 1
    for stride, size in sorted(zip(memory.meta.strides, memory.meta.shape, strict=True)):
        if size > 1:
            if stride != elements:
                break
            elements *= size
    return elements * memory.meta.itemsize


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= 10 * size:
            return f"{count / size:.0f} {unit}"
    return f"{count:.0f} bytes"


def check_bytes(subject: Subject) -> Finding:
    """Programs ask for no more bytes than there are: each input once, each result once."""
    fewest = subject.kernel.bytes_moved(subject.launch)
    sample = subject.sample
    ops = [each.op for each in subject.main("load", "store", "atomic")]
    if subject.unknown("load", "store", "atomic") or not sample.is_complete or not fewest:
        doubts = doubts_of(subject, "load", "store", "atomic")
        says = f"{doubts} At least {_bytes(fewest)} have to move."
        return Finding("bytes", Verdict.UNDECIDED, says, "", places_of(ops))
    asked = sum(_asked(subject, program) for program in sample.chosen)
    total = asked / len(sample.chosen) * subject.programs
    ratio = total / fewest
    about = "" if sample.is_all else "about "
    fact = (
        f"{about}{_bytes(total)} in sectors of {SECTOR} bytes, {ratio:.2f} × the fewest, "
        f"{_bytes(fewest)}; {subject.followed()} followed"
    )
    used, touched = _of_window(subject)
    if touched > _MORE * used:
        says = (
            f"Of the bytes that DRAM delivers {used / touched:.0%} are used: neighbouring programs "
            "leave the rest of each sector untouched."
        )
        return Finding("bytes", Verdict.BROKEN, says, fact, places_of(ops))
    if ratio > _MORE:
        says = (
            f"Programs ask for {ratio:.2f} × the fewest bytes, as the same is touched more than "
            "once: how much of that caches serve is not known."
        )
        return Finding("bytes", Verdict.UNDECIDED, says, fact, places_of(ops))
    if ratio < 1 / _MORE:
        says = (
            "Programs ask for fewer bytes than there are: a part of the tensors is never touched."
        )
        return Finding("bytes", Verdict.UNDECIDED, says, fact, places_of(ops))
    says = "Programs ask for no more bytes than there are to move."
    return Finding("bytes", Verdict.OK, says, fact, places_of(ops))


def _asked(subject: Subject, program: int) -> int:
    """Bytes of the sectors that a program touches, each execution of an access for itself."""
    sample, total = subject.sample, 0
    for index, event in sample.known():
        offsets = sample.touched(index, program).offsets
        if event.memory is not None and len(offsets):
            shift = subject.memories[event.memory].meta.misalignment
            total += SECTOR * len(sectors(offsets, event.size, shift))
    return total


def _of_window(subject: Subject) -> tuple[int, int]:
    """Bytes that neighbouring programs use together, and bytes of the sectors they lie in."""
    used = touched = 0
    for number, memory in subject.memories.items():
        for kind in ("load", "store"):
            offsets = subject.sample.everything(kind, number, subject.sample.window)
            if not len(offsets):
                continue
            size = memory.meta.itemsize
            used += size * len(distinct(offsets))
            # A window has two ends: what lies in half a sector there is no waste.
            lines = len(sectors(offsets, size, memory.meta.misalignment))
            starts, _ = runs(offsets, size)
            touched += SECTOR * max(lines - (2 if len(starts) == 1 else 0), 0)
    return used, touched
