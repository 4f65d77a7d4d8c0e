"""Rules `loads` and `stores`: one load an input, one store an output."""

from __future__ import annotations

from collections.abc import Sequence

from tunekit.kernels.plan import Output
from tunekit.rules.doubts import broken, ok_unless_doubtful
from tunekit.rules.finding import Finding, counted, listed
from tunekit.rules.overlaps import looked_at, repeated, stored_by_several
from tunekit.rules.subject import Subject
from tunekit.rules.survey import Reach

_NOTABLE = 1 / 16
"""Share of what a program loads from which loading it again is worth a word."""


def check_loads(subject: Subject) -> Finding:
    """Each input is loaded, and by one program no element of it twice."""
    loads = subject.reaches("load")
    ops = [each.op for each in loads]
    fact = _fact(subject, loads, "load", len(subject.launch.inputs), "input")
    if again := repeated(subject.sample, "load", _NOTABLE):
        memory, where, times = again
        says = (
            f"One program loads the same elements of {subject.memories[memory]} {times} times: "
            "load them once, and keep them in registers where a block holds them."
        )
        return broken("loads", says, fact, where)
    read = {number for each in subject.reaches("load", "atomic") for number in each.memories}
    unread = [
        f"input {index}"
        for index in range(len(subject.launch.inputs))
        if not read & set(subject.parameters_of(index))
    ]
    if unread and not subject.unknown("load") and subject.survey.is_complete:
        says = f"{_capital(listed(unread))} {_are(unread)} never loaded."
        return broken("loads", says, fact, ops)
    return ok_unless_doubtful(
        subject, "loads", ("load",), "No program loads an element of an input twice", fact
    )


def check_stores(subject: Subject) -> Finding:
    """Each output is stored, no element of it twice; no input is."""
    stores = subject.reaches("store", "atomic")
    ops = [each.op for each in stores]
    fact = _fact(subject, stores, "store", len(subject.launch.outputs), "output")
    for reach in stores:
        for number in reach.memories:
            if not subject.memories[number].is_output:
                says = f"It writes {subject.memories[number]}, which the plan calls an input."
                return broken("stores", says, fact, [reach.op])
    if again := repeated(subject.sample, "store"):
        memory, where, times = again
        says = (
            f"One program stores the same elements of {subject.memories[memory]} {times} times: "
            "all but the last are intermediate results, which belong in registers."
        )
        return broken("stores", says, fact, where)
    written = {subject.memories[number].slot for reach in stores for number in reach.memories}
    unwritten = [
        f"output {index}"
        for index in range(len(subject.launch.outputs))
        if Output(index) not in written
    ]
    if unwritten and not subject.unknown("store", "atomic") and subject.survey.is_complete:
        says = f"{_capital(listed(unwritten))} {_are(unwritten)} never stored."
        return broken("stores", says, fact, ops)
    if several := stored_by_several(subject.sample):
        memory, where = several
        says = (
            f"Several programs store the same elements of {subject.memories[memory]}: all but one "
            "in vain, and if the values differ it depends on who is last."
        )
        return broken("stores", says, fact, where)
    return ok_unless_doubtful(
        subject, "stores", ("store", "atomic"), "No element of an output is stored twice", fact
    )


def _fact(subject: Subject, reaches: Sequence[Reach], verb: str, tensors: int, noun: str) -> str:
    """`1 load on a way through the code, 1 input`."""
    sample = subject.sample
    ways = {
        len({event.op for event in sample.trace.events if event.must[program]}
            & {each.op for each in reaches})
        for program in looked_at(sample)
    }  # fmt: skip
    few, many = min(ways, default=0), max(ways, default=0)
    number = counted(many, verb) if few == many else f"{few} to {counted(many, verb)}"
    often = max((each.runs / max(subject.survey.surveyed, 1) for each in reaches), default=0.0)
    looped = f", {often:.0f} times in a loop" if often > 1.5 else ""
    return f"{number} on a way through the code{looped}; {counted(tensors, noun)}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
