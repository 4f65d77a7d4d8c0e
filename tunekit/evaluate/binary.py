"""Read the path that a full block takes in PTX.

PTX, not machine code, gives the instruction mix: ptxas keeps the arithmetic of straight-line
kernels one to one, labels survive, and disassembling takes twenty times as long as compiling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = re.compile(r"^\s*(\$\w+):")
_INSTRUCTION = re.compile(
    r"^\s*(?P<guard>@!?%p\d+\s+)?(?P<opcode>[a-z]\w*(?:\.[\w:]+)*)(?P<operands>[^;]*);"
)
_COSTLESS = frozenset({"mov", "pragma"})
"""Register moves: ptxas renames them away."""
_EXPANSIONS = {"div.full": 8, "div.rn": 20, "sqrt.rn": 15, "rcp.rn": 12, "rem": 20, "div": 20}
"""Machine instructions of what PTX writes as one (read in sm_89 and sm_90 machine code)."""
_SPECIAL = frozenset({"ex2", "lg2", "rsqrt", "rcp", "sqrt", "sin", "cos", "tanh", "div"})
"""Opcodes that take one pass of the special-function unit."""


@dataclass(slots=True)
class Mix:
    """Instructions a warp issues.

    Attributes:
        issued: instructions, those PTX writes as one and the machine as several expanded.
        special: passes of the special-function unit.
        loads, stores: global memory instructions.
    """

    issued: int = 0
    special: int = 0
    loads: int = 0
    stores: int = 0


@dataclass(frozen=True, slots=True)
class BlockPath:
    """What a warp executes for a full block: once, and for each repetition of the loop."""

    once: Mix
    each: Mix


@dataclass(frozen=True, slots=True)
class Instruction:
    """One PTX instruction.

    Attributes:
        guarded: whether it runs under a predicate.
        target: index of the instruction a branch goes to.
    """

    opcode: str
    guarded: bool
    target: int | None

    @property
    def base(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.split(".")[0]

    @property
    def accesses(self) -> str:
        """`load` or `store` of global memory, or nothing."""
        if self.opcode.startswith(("ld.global", "cp.async.ca.", "cp.async.cg.")):
            return "load"
        return "store" if self.opcode.startswith("st.global") else ""


def parse_ptx(text: str) -> list[Instruction]:
    """Instructions and branch targets of a PTX module with one kernel."""
    labels: dict[str, int] = {}
    raw: list[tuple[str, bool, str]] = []
    _, _, code = text.partition(".entry")
    for line in code.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(raw)
        elif match := _INSTRUCTION.match(line):
            target = match["operands"].strip() if match["opcode"].startswith("bra") else ""
            raw.append((match["opcode"], match["guard"] is not None, target))
    return [Instruction(opcode, guarded, labels.get(target)) for opcode, guarded, target in raw]


def full_block_path(instructions: list[Instruction]) -> BlockPath:
    """What a warp runs for a full block.

    Of the ways from entry to exit that store to global memory, the one with the fewest
    instructions: the masked tail needs more. A backward branch closes a loop; what lies between
    its target and itself repeats, and if it stores the path must lead through it.
    """
    looped = _loop_body(instructions)
    once, each = Mix(), Mix()
    for index in _shortest_storing_path(instructions, looped):
        if index not in looped:
            _count(once, instructions[index])
    for index in looped:
        _count(each, instructions[index])
    return BlockPath(once, each)


def _count(mix: Mix, instruction: Instruction) -> None:
    if instruction.base in _COSTLESS or instruction.opcode.startswith("ld.param"):
        return
    mix.issued += next(
        (cost for name, cost in _EXPANSIONS.items() if instruction.opcode.startswith(name)), 1
    )
    mix.special += instruction.base in _SPECIAL and not instruction.opcode.startswith("div.rn")
    mix.loads += instruction.accesses == "load"
    mix.stores += instruction.accesses == "store"


def _loop_body(instructions: list[Instruction]) -> frozenset[int]:
    """Indices inside loops."""
    body: set[int] = set()
    for index, instruction in enumerate(instructions):
        if instruction.target is not None and instruction.target <= index:
            body.update(range(instruction.target, index + 1))
    return frozenset(body)


def _shortest_storing_path(instructions: list[Instruction], looped: frozenset[int]) -> list[int]:
    """Fewest instructions from entry to a return after a global store, by dynamic programming.

    Forward edges only, so indices are a topological order; a state is (index, stored yet).
    """
    stores = {i for i, each in enumerate(instructions) if each.accesses == "store"}
    stores = stores & looped or stores
    best: dict[tuple[int, bool], tuple[int, tuple[int, bool] | None]] = {(0, False): (0, None)}
    end: tuple[int, bool] | None = None
    for index, instruction in enumerate(instructions):
        for stored in (False, True):
            state = (index, stored)
            if state not in best:
                continue
            length = best[state][0] + 1
            after = stored or index in stores
            exits = instruction.base == "ret"
            if exits and after and (end is None or length < best[end][0] + 1):
                end = state
            following = []
            if instruction.target is not None and instruction.target > index:
                following.append(instruction.target)
            ends_here = exits or instruction.target is not None
            if (not ends_here or instruction.guarded) and index + 1 < len(instructions):
                following.append(index + 1)
            for successor in following:
                step = (successor, after)
                if step not in best or length < best[step][0]:
                    best[step] = (length, state)
    path: list[int] = []
    while end is not None:
        path.append(end[0])
        end = best[end][1]
    return path[::-1]
