"""Rules `masks` and `coverage`: nothing beside the tensors is touched, and all of the outputs."""

from __future__ import annotations

import numpy as np

from tunekit.rules.cover import never_stored
from tunekit.rules.doubts import broken, doubts_of
from tunekit.rules.elements import distinct
from tunekit.rules.finding import Finding, Verdict, counted, listed, places_of
from tunekit.rules.memory import Memory
from tunekit.rules.ranges import Array
from tunekit.rules.subject import Subject
from tunekit.rules.survey import Written
from tunekit.rules.trace import Event, is_masked

_ADVICE = "a smaller problem is followed in full"
_MEETING = "several lanes of a block go to one element"
_MOST_MISSED = 1 << 22
"""Elements at most that are looked for one by one among those that programs were seen to store."""


def check_masks(subject: Subject) -> Finding:
    """Every access is masked, or nobody who comes there lies outside the tensor."""
    reaches = subject.reaches("load", "store", "atomic")
    bare = [each for each in reaches if not is_masked(each.op) and not each.clipped]
    fact = _masks_fact(subject)
    if outside := _first_outside(subject):
        event, program, offset = outside
        memory = subject.memories[event.memory or 0]
        how = "although it is masked" if is_masked(event.op) else "and has no mask"
        says = (
            f"A {event.kind} of {memory} goes outside it, {how}: program {program} touches element "
            f"{offset // event.size}, and the last is {memory.meta.extent - 1}."
        )
        return broken("masks", says, fact, [event.op])
    if unknown := [each for each in bare if each.why]:
        says = (
            f"Whether {counted(len(unknown), 'access')} without a mask {stay(len(unknown))} "
            f"inside: that depends on {listed(dict.fromkeys(each.why for each in unknown))}."
        )
        return Finding("masks", Verdict.UNDECIDED, says, fact, places_of(e.op for e in unknown))
    if not subject.survey.is_complete and (bare or not reaches):
        return Finding(
            "masks", Verdict.UNDECIDED, doubts_of(subject), fact, places_of(e.op for e in bare)
        )
    doubtful = [each for each in bare if each.outside_count and not subject.sample.is_all]
    if doubtful:
        says = (
            f"Whether {counted(len(doubtful), 'access')} without a mask {stay(len(doubtful))} "
            f"inside in every program: in the {subject.followed()} that were followed, yes."
        )
        return Finding("masks", Verdict.UNDECIDED, says, fact, places_of(e.op for e in doubtful))
    if not bare:
        says = "Every access has a mask."
    elif len(bare) == len(reaches):
        says = "No access has a mask, and none needs one at this size."
    else:
        says = "What has no mask is reached only by programs whose block lies inside the tensor."
    return Finding("masks", Verdict.OK, says, fact, places_of(each.op for each in bare))


def stay(count: int) -> str:
    """`stays` of one, `stay` of several."""
    return "stays" if count == 1 else "stay"


def _masks_fact(subject: Subject) -> str:
    masked = [each.op for each in subject.reaches("load", "store", "atomic") if is_masked(each.op)]
    clipped = [each.op for each in subject.reaches("load", "store", "atomic") if each.clipped]
    count = len(subject.reaches("load", "store", "atomic"))
    more = f", {len(clipped)} by tensor descriptors" if clipped else ""
    return f"{len(masked)} of {counted(count, 'access')} masked{more}"


def _first_outside(subject: Subject) -> tuple[Event, int, int] | None:
    """An access that goes outside its tensor: what, the program's number, the first such byte."""
    sample = subject.sample
    for index, event in sample.known():
        if event.clipped or event.memory is None:
            continue
        extent = subject.memories[event.memory].extent_bytes
        for program, number in enumerate(sample.numbers):
            offsets = sample.touched(index, program).offsets
            outside = offsets[(offsets < 0) | (offsets + event.size > extent)]
            if len(outside):
                return event, number, int(outside[0])
    return None


def check_coverage(subject: Subject) -> Finding:
    """The grid covers the results: every element is stored."""
    rule = "coverage"
    reports = []
    for number, memory in subject.memories.items():
        if not memory.is_output or not memory.is_result or not memory.meta.numel:
            continue
        if memory.start is not None and _is_accumulated(subject, number):
            continue  # what is not added to keeps what it held
        if not subject.unknown("store") and number not in subject.survey.written:
            continue  # nothing of it is stored: the rule `stores` says so
        missing, why = _missing(subject, number, memory)
        if missing is not None:
            says = (
                f"At least {missing} of the {memory.meta.numel} elements of {memory} are never "
                "stored: they hold whatever was in memory before."
            )
            stores = [each.op for each in subject.reaches("store") if number in each.memories]
            return broken(rule, says, _coverage_fact(subject), stores)
        reports.append(why)
    doubts = [each for each in reports if each]
    places = places_of(each.op for each in subject.reaches("store"))
    if doubts:
        says = f"Whether every element is stored: {listed(dict.fromkeys(doubts))}."
        return Finding(rule, Verdict.UNDECIDED, says, _coverage_fact(subject), places)
    says = "Every element of the result is stored." if reports else "No result is stored alone."
    if len(reports) > 1:
        says = "Every element of the results is stored."
    return Finding(rule, Verdict.OK, says, _coverage_fact(subject), places)


def _coverage_fact(subject: Subject) -> str:
    blocks = {each.lanes for each in subject.reaches("store")}
    sizes = listed(map(str, sorted(blocks))) or "no"
    return f"{counted(subject.programs, 'program')} × blocks of {sizes} elements stored"


def _is_accumulated(subject: Subject, number: int) -> bool:
    return any(number in each.memories for each in subject.reaches("atomic"))


def _missing(subject: Subject, number: int, memory: Memory) -> tuple[int | None, str]:
    """How many elements nobody stores, or why that is not known; both nothing if none is missed."""
    unknown = subject.unknown("store")
    if unknown:
        return None, f"where a store goes depends on {unknown[0].why}"
    stores = [each for each in subject.reaches("store") if number in each.memories]
    most = sum(each.runs * each.lanes for each in stores)
    if subject.survey.is_complete and most < memory.meta.numel:
        return memory.meta.numel - most, ""
    if not subject.survey.is_complete:
        why = "; ".join(subject.doubts) or subject.survey.stopped
        return None, f"not everything could be followed, as {why}"
    found, why = _gaps(subject, number, memory, subject.survey.written[number])
    if why and (missing := never_stored(subject, number, memory)) is not None:
        return missing or None, ""
    return found, why


def _gaps(
    subject: Subject, number: int, memory: Memory, written: Written
) -> tuple[int | None, str]:
    """What lies between the runs that programs write in full, and no other was seen to write."""
    sample = subject.sample
    if not memory.is_dense:
        return None, f"it has gaps, and {subject.followed()} were followed; {_ADVICE}"
    if written.unclear:
        why = f"a program stores {written.unclear}, and {subject.followed()} were followed"
        return None, f"{why}; {_ADVICE}"
    starts = np.concatenate([*written.starts, np.array([memory.extent_bytes])])
    ends = np.concatenate([*written.ends, np.array([memory.extent_bytes])])
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    before = np.concatenate([np.array([0]), ends[:-1]])
    holes = starts > before
    missing = int((starts - before)[holes].sum()) // memory.meta.itemsize
    if not missing:
        return (None, "") if _distinct(subject, number) else (None, _MEETING)
    if missing > _MOST_MISSED or written.part_count > len(written.parts):
        return (
            None,
            f"too many programs store a part of a block: {subject.followed()} were followed",
        )
    if not set(written.parts) <= set(sample.numbers):
        return (
            None,
            f"not all programs that store a part of a block are among the {subject.followed()}",
        )
    seen = distinct(sample.everything("store", number, range(len(sample.numbers))))
    for start, end in zip(before[holes], starts[holes], strict=True):
        wanted: Array = np.arange(start, end, memory.meta.itemsize)
        missing -= int(np.isin(wanted, seen).sum())
    if missing:
        return missing, ""
    return (None, "") if _distinct(subject, number) else (None, _MEETING)


def _distinct(subject: Subject, number: int) -> bool:
    """Whether each lane of a block goes to an element of its own, in the programs followed."""
    sample = subject.sample
    for index, event in sample.known(("store",)):
        if event.memory == number:
            for program in range(len(sample.numbers)):
                offsets = sample.touched(index, program).offsets
                if len(distinct(offsets)) != len(offsets):
                    return False
    return True
