"""Rules `store-then-load`, `atomics` and `addresses`: no program waits for what is computed."""

from __future__ import annotations

from tunekit.rules.doubts import broken, doubts_of, ok_unless_doubtful
from tunekit.rules.finding import Finding, Verdict, counted, listed, places_of
from tunekit.rules.overlaps import loaded_after_stored, loaded_by_others
from tunekit.rules.subject import Subject
from tunekit.rules.trace import ACCESSES, roles
from tunekit.rules.ttir import Op


def check_store_then_load(subject: Subject) -> Finding:
    """Nothing is loaded that was stored by this launch, or that nobody has written."""
    rule, loads = "store-then-load", subject.reaches("load")
    if after := loaded_after_stored(subject.sample):
        memory, load, store = after
        says = (
            f"A program loads from {subject.memories[memory]} what it has stored there: the value "
            "goes to memory and back, where registers would do."
        )
        return broken(rule, says, "a load from addresses stored to before", [store, load])
    if across := loaded_by_others(subject.sample):
        memory, load, store = across
        says = (
            f"One program loads from {subject.memories[memory]} what another stores: blocks run in "
            "any order, so it depends on who is first."
        )
        return broken(
            rule, says, "a load from addresses that another program stores", [store, load]
        )
    for reach in (each for each in loads if each.surely):
        for number in reach.memories:
            memory_of = subject.memories[number]
            if memory_of.is_output and memory_of.start is None and not subject.unknown("store"):
                says = f"It loads from {memory_of}, which holds nothing before the launch."
                return broken(rule, says, "a load from an output", [reach.op])
    stored = {number for each in subject.reaches("store", "atomic") for number in each.memories}
    both = [each.op for each in loads if each.memories & stored]
    places = places_of(each.op for each in subject.reaches("store", "atomic"))
    if not subject.unknown("load", "store", "atomic") and not both:
        fact = "no load goes to a tensor that is stored to"
        return Finding(rule, Verdict.OK, "Nothing that is stored is loaded.", fact, places)
    kinds = ("load", "store", "atomic")
    if subject.unknown(*kinds):
        return Finding(rule, Verdict.UNDECIDED, doubts_of(subject, *kinds), "", places)
    return ok_unless_doubtful(
        subject,
        rule,
        kinds,
        "Each element is loaded before it is stored, by the program that stores it",
        "loads and stores of one tensor, in place",
    )


def check_atomics(subject: Subject) -> Finding:
    """Nothing is accumulated across programs."""
    atomics = [each.op for each in subject.reaches("atomic")]
    reductions = subject.ops("tt.reduce", "tt.scan")
    if atomics:
        kinds = {op.text.partition(",")[0].strip() for op in atomics if op.name == "tt.atomic_rmw"}
        what = listed(sorted(kinds)) or "compare and swap"
        says = (
            f"Programs meet in memory by atomics ({what}): they wait for each other, floats add up "
            "in another order each time, and outputs have to be reset before each launch."
        )
        return broken("atomics", says, counted(len(atomics), "atomic operation"), atomics)
    if reductions:
        widths = sorted({op.operands[0].type.numel for op in reductions if op.operands[0]})
        fact = f"{counted(len(reductions), 'reduction')} over blocks of {listed(map(str, widths))}"
        says = "Reductions stay within a program: none waits for another."
        return Finding("atomics", Verdict.OK, says, fact, places_of(reductions))
    return Finding("atomics", Verdict.OK, "No program waits for another.", "no atomic operation")


def check_addresses(subject: Subject) -> Finding:
    """Addresses follow from sizes and program ids, and fit into 32 bits where those are used."""
    unknown = subject.unknown("load", "store", "atomic")
    if overflows := _overflows(subject):
        says = (
            "An offset overflows 32 bits at this size, and what is accessed lies elsewhere: "
            "compute it in 64 bits."
        )
        return broken("addresses", says, "offsets in 32 bits", overflows)
    if unknown:
        says = (
            f"Where {counted(len(unknown), 'access')} {'goes' if len(unknown) == 1 else 'go'} "
            f"depends on {listed(dict.fromkeys(each.why for each in unknown))}: rules about "
            "addresses can say nothing of it."
        )
        places = places_of(each.op for each in unknown)
        return Finding("addresses", Verdict.UNDECIDED, says, "data-dependent addresses", places)
    if subject.survey.is_complete:
        says = "Every address follows from sizes and program ids alone."
        fact = f"all {subject.programs} programs followed"
        return Finding("addresses", Verdict.OK, says, fact)
    return Finding("addresses", Verdict.UNDECIDED, doubts_of(subject), "")


def _overflows(subject: Subject) -> list[Op]:
    """Operations that overflow 32 bits on the way to an address; a hash may do so elsewhere."""
    overflowing = {*subject.survey.overflows, *subject.sample.trace.overflows}
    if not overflowing:
        return []
    before: set[Op] = set()
    pointers = [roles(op)[0] for op in subject.function.ops() if op.name in ACCESSES]
    waiting = [each.op for each in pointers if each is not None]
    while waiting:
        op = waiting.pop()
        if op is not None and op not in before:
            before.add(op)
            waiting += [each.op for each in op.operands if each is not None]
    return [op for op in subject.function.ops() if op in overflowing & before]
