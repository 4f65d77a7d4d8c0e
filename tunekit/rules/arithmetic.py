"""Rules `arithmetic` and `both sides`: what is computed for each element."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tunekit.evaluate.binary import full_block_path, parse_ptx
from tunekit.rules.finding import Finding, Verdict, listed, places_of
from tunekit.rules.subject import Subject
from tunekit.rules.ttir import Block, Op, Value, ops_in

_SPECIAL = {
    "math.exp": "exp", "math.exp2": "exp2", "math.log": "log", "math.log2": "log2",
    "math.sqrt": "sqrt", "tt.precise_sqrt": "sqrt", "math.rsqrt": "rsqrt", "math.sin": "sin",
    "math.cos": "cos", "math.erf": "erf", "math.tanh": "tanh", "arith.divf": "division",
    "tt.precise_divf": "division", "math.powf": "pow",
}  # fmt: skip
"""Operations that take a unit of their own, or many instructions."""
_SLOWER = 1.25
"""Times as long as its bytes take from which arithmetic is said to bind."""


def check_arithmetic(subject: Subject) -> Finding:
    """Arithmetic takes no longer than moving the bytes."""
    ops = _on_the_main_way(subject)
    special = [op for op in ops if _name(op)]
    main = subject.main("load", "store", "atomic")
    elements = max((each.lanes for each in main), default=0)
    fact = _counts(special, elements)
    places = places_of(special)
    if opaque := [op for op in ops if op.name in ("tt.elementwise_inline_asm", "tt.call")]:
        says = f"How long it computes: {listed(places_of(opaque))} cannot be looked into."
        return Finding("arithmetic", Verdict.UNDECIDED, says, fact, places_of(opaque))
    if subject.ops("tt.dot", "tt.dot_scaled"):
        says = "How long a matrix product takes depends on the matrix unit, which is not looked at."
        return Finding("arithmetic", Verdict.UNDECIDED, says, fact, places)
    path = full_block_path(parse_ptx(subject.ptx))
    device = subject.device
    fewest = subject.kernel.bytes_moved(subject.launch)
    repeats = _repeats(subject) if path.each.issued else 0.0
    if repeats is None or not elements or not device.dram_bytes_per_s or not device.sm_clock_hz:
        why = (
            "how often its loops repeat is not known" if repeats is None
            else "the GPU's speed, or what is accessed, is not known"
        )  # fmt: skip
        says = f"Whether arithmetic or memory binds: {why}."
        return Finding("arithmetic", Verdict.UNDECIDED, says, fact, places)
    warps = subject.programs * subject.num_warps
    clocks = device.sm_count * device.sm_clock_hz
    issued = path.once.issued + repeats * path.each.issued
    issue_s = warps * issued / device.schedulers_per_sm / clocks
    special_s = warps * device.warp_size * (path.once.special + repeats * path.each.special)
    special_s /= device.special_function_per_clock * clocks
    memory_s = fewest / device.dram_bytes_per_s
    slowest = max(issue_s, special_s)
    accessed = max(each.runs * each.lanes for each in main)
    an_element = warps * issued * device.warp_size / max(accessed, 1)
    among = "among them " if special else ""
    fact = f"{an_element:.0f} instructions an element, {among}{fact}"
    if slowest > _SLOWER * memory_s:
        what = "instructions" if issue_s > special_s else "special functions"
        says = (
            f"Arithmetic binds on {device.names[0]}: its {what} take {slowest / memory_s:.1f} × as "
            "long as its bytes."
        )
        return Finding("arithmetic", Verdict.BROKEN, says, fact, places)
    says = (
        f"Memory binds on {device.names[0]}: arithmetic takes {slowest / memory_s:.2f} × as long "
        "as the bytes."
    )
    return Finding("arithmetic", Verdict.OK, says, fact, places)


def _repeats(subject: Subject) -> float | None:
    """How often programs repeat their loop on average; None where there is no one such loop."""
    loops = subject.ops("scf.for", "scf.while")
    if len(loops) != 1 or not subject.survey.is_complete:
        return None
    inside = {op for region in loops[0].regions for op in ops_in(region)}
    runs = [each.runs for each in subject.survey.reaches.values() if each.op in inside]
    return max(runs) / subject.programs if runs else None


def check_both_sides(subject: Subject) -> Finding:
    """No select chooses between two results that both cost special functions."""
    ops = _on_the_main_way(subject)
    costly = []
    lost: Counter[str] = Counter()
    for op in ops:
        if op.name != "arith.select" or len(op.operands) != 3:
            continue
        yes, no = (_special_before(each) for each in op.operands[1:])
        if yes - no and no - yes:
            costly.append(op)
            lost.update(_name(each) for each in ops if each in no - yes)
    if costly:
        number = "select" if len(costly) == 1 else f"{len(costly)} selects"
        says = (
            f"Both sides of {'a' if len(costly) == 1 else 'each of'} {number} are computed for "
            f"every element, and one is thrown away: {_listed_counts(lost)} too many."
        )
        fact = f"{len(costly)} arith.select with special functions on both sides"
        return Finding("both sides", Verdict.BROKEN, says, fact, places_of(costly))
    selects = [op for op in ops if op.name == "arith.select"]
    says = "No special function is computed to be thrown away by a select."
    fact = f"{len(selects)} arith.select"
    return Finding("both sides", Verdict.OK, says, fact, places_of(selects))


def _on_the_main_way(subject: Subject) -> list[Op]:
    """Operations of the way that most elements take: the odd last block may have its own."""
    return _reached(subject.function.blocks, {each.op for each in subject.main("store", "atomic")})


def _reached(blocks: Iterable[Block], main: set[Op]) -> list[Op]:
    found: list[Op] = []
    for block in blocks:
        for op in block.ops:
            found.append(op)
            holding = [
                region for region in op.regions if any(each in main for each in ops_in(region))
            ]
            # Of two ways the one that stores; of one that stores nothing, everything.
            taken = holding if op.name == "scf.if" and holding else op.regions
            if op.name in ("tt.reduce", "tt.scan"):
                continue
            for region in taken:
                found += _reached(region, main)
    return found


def _special_before(value: Value | None) -> set[Op]:
    """Special functions that a value is computed with."""
    found: set[Op] = set()
    seen: set[Value] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if each is None or each in seen or each.op is None:
            continue
        seen.add(each)
        if _name(each.op):
            found.add(each.op)
        if not each.op.name.startswith("tt.load"):
            waiting += each.op.operands
    return found


def _counts(special: list[Op], elements: int) -> str:
    """`4 exp, 4 log and 2 sigmoid`, an element of what is stored."""
    sigmoids = [op for op in special if _is_sigmoid(op)]
    parts = {_exponential(op) for op in sigmoids}
    counts: Counter[str] = Counter()
    for op in special:
        if op not in parts:
            counts["sigmoid" if op in sigmoids else _name(op)] += op.width
    if not counts:
        return "no special function"
    return listed(f"{count / max(elements, 1):.3g} {name}" for name, count in counts.items())


def _listed_counts(counts: Counter[str]) -> str:
    return listed(f"{count} {name}" for name, count in counts.items())


def _name(op: Op) -> str:
    """Of a special function; empty for an operation that is none."""
    if op.name == "tt.extern_elementwise":  # of libdevice
        symbol = re.search(r'symbol = "(?:__nv_)?(\w+)"', op.text)
        return symbol[1] if symbol else "external function"
    return _SPECIAL.get(op.name, "")


def _is_sigmoid(op: Op) -> bool:
    return _exponential(op) is not None


def _exponential(op: Op) -> Op | None:
    """The exponential of `1 / (1 + exp(…))`."""
    if op.name != "arith.divf" or len(op.operands) != 2:
        return None
    over, under = op.operands
    if not _is_one(over) or under is None or under.op is None or under.op.name != "arith.addf":
        return None
    for one, other in (under.op.operands, under.op.operands[::-1]):
        power = other.op if other is not None else None
        if _is_one(one) and power is not None and power.name in ("math.exp", "math.exp2"):
            return power
    return None


def _is_one(value: Value | None) -> bool:
    op = value.op if value is not None else None
    return op is not None and op.name == "arith.constant" and "1.000000e+00" in op.text
