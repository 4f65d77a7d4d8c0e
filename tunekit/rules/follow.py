"""Follow integers and pointers through a kernel, for the programs of a launch that are asked for.

Nothing is loaded and no float is computed: what depends on either is unknown, and says of what.
What comes out is every access to memory with the addresses it goes to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tunekit.rules.boxes import addresses_of, block_shape
from tunekit.rules.ranges import Array, Range, Unknown
from tunekit.rules.trace import ACCESSES, Event, Trace, Truth, roles
from tunekit.rules.ttir import Block, Function, Op, Type, Value, ops_in
from tunekit.rules.values import (
    Described,
    Known,
    TooLongError,
    Values,
    either,
    is_exact,
    merge,
    place_text,
    reason_of,
)

_ENDS = ("scf.yield", "scf.condition")
_SCATTERED = ("tt.descriptor_gather", "tt.descriptor_scatter")


def follow(
    function: Function,
    arguments: Sequence[Known],
    grid: tuple[int, int, int],
    programs: Array,
    *,
    lanes: bool,
    allowed: int,
) -> Trace:
    """What the programs of a launch do.

    Args:
        function: the kernel.
        arguments: what each of its parameters is.
        grid: number of programs on axes 0, 1, 2.
        programs: ids of those to follow, `[programs, 3]`.
        lanes: each lane of each block, rather than one range a block.
        allowed: array elements to compute at most; what is found until then is kept.
    """
    follower = _Follower(arguments, grid, programs, lanes, allowed)
    try:
        follower.run(function)
    except TooLongError as error:
        follower.trace.stopped = str(error)
    return follower.trace


class _Follower:
    def __init__(
        self,
        arguments: Sequence[Known],
        grid: tuple[int, int, int],
        programs: Array,
        lanes: bool,
        allowed: int,
    ) -> None:
        self.trace = Trace(programs)
        self._arguments = arguments
        self._values = Values(programs, grid, lanes, allowed, self.trace)

    def run(self, function: Function) -> None:
        """Every block, once those before it have said who goes there."""
        self._values.update(function.parameters, self._arguments)
        everyone = np.ones(len(self.trace.programs), dtype=np.bool_)
        arriving: dict[str, tuple[Truth, Truth]] = {}
        seen: set[str] = set()
        for number, block in enumerate(function.blocks):
            if number == 0:
                may, must = everyone, everyone
            elif block.label in arriving:
                may, must = arriving[block.label]
            else:
                continue
            seen.add(block.label)
            self._ops(block.ops[:-1], may, must)
            last = block.ops[-1]
            if not last.name.startswith("cf."):
                continue
            for target, values, there, surely in self._successors(last, may, must):
                if target in seen:
                    self.trace.doubt(f"a jump backwards{place_text(last)}")
                    continue
                arguments = next(each.arguments for each in function.blocks if each.label == target)
                old = arriving.get(target)
                if old is not None:
                    values = [
                        self._joined(there, new, argument)
                        for new, argument in zip(values, arguments, strict=True)
                    ]
                self._values.update(arguments, values)
                arriving[target] = (
                    (there, surely) if old is None else (old[0] | there, old[1] | surely)
                )

    def _joined(self, there: Truth, new: Known, argument: Value) -> Known:
        """An argument of a block that two ways lead to."""
        old = self._values.get(argument)
        return new if old is None else merge(there, new, old, len(argument.type.shape))

    def _successors(
        self, op: Op, may: Truth, must: Truth
    ) -> list[tuple[str, list[Known], Truth, Truth]]:
        """Where a branch leads: block, its arguments, who goes there perhaps and surely."""
        targets = re.findall(r"(\^\w+)(?:\(([^)]*)\))?", op.text)
        counts = [len(re.findall(r"%[\w$.\-]+", given.partition(" : ")[0])) for _, given in targets]
        first = len(op.operands) - sum(counts)
        groups, position = [], first
        for count in counts:
            groups.append(
                [self._values.of(each) for each in op.operands[position : position + count]]
            )
            position += count
        if op.name != "cf.cond_br" or len(targets) != 2:
            surely = must if len(targets) == 1 else np.zeros_like(must)
            return [
                (name, group, may, surely) for (name, _), group in zip(targets, groups, strict=True)
            ]
        yes, no, surely, surely_not = self._branches(op, op.operands[0], may, must)
        return [
            (targets[0][0], groups[0], yes, surely),
            (targets[1][0], groups[1], no, surely_not),
        ]

    def _branches(
        self, op: Op, condition: Value | None, may: Truth, must: Truth
    ) -> tuple[Truth, Truth, Truth, Truth]:
        """Who perhaps takes the first way, who the second, and who surely does."""
        known = self._values.of(condition)
        if not isinstance(known, Range):
            if op.name.startswith("cf.") or _touches(op):
                self.trace.doubt(f"the branch{place_text(op)} depends on {reason_of(known)}")
            nobody = np.zeros_like(must)
            return may, may, nobody, nobody
        lo, hi = known.lo.reshape(-1), known.hi.reshape(-1)
        return may & (hi == 1), may & (lo == 0), must & (lo == 1), must & (hi == 0)

    def _ops(self, ops: Sequence[Op], may: Truth, must: Truth) -> None:
        for op in ops:
            self._values.active = may
            if op.name == "scf.if":
                self._if(op, may, must)
            elif op.name == "scf.for":
                self._for(op, may, must)
            elif op.name == "scf.while":
                self._while(op, may, must)
            elif op.name in ACCESSES:
                self._access(op, may, must)
            else:
                self._values.compute(op)

    def _region(self, blocks: Sequence[Block], may: Truth, must: Truth) -> list[Known]:
        """Run a region of one block; what it yields."""
        (block,) = blocks
        if not block.ops or block.ops[-1].name not in _ENDS:  # one that yields nothing is left out
            self._ops(block.ops, may, must)
            return []
        self._ops(block.ops[:-1], may, must)
        return [self._values.of(each) for each in block.ops[-1].operands]

    def _if(self, op: Op, may: Truth, must: Truth) -> None:
        yes, no, surely, surely_not = self._branches(op, op.operands[0], may, must)
        found: list[list[Known]] = []
        regions = [*op.regions, []][:2]
        for blocks, there, sure in zip(regions, (yes, no), (surely, surely_not), strict=True):
            if blocks and there.any():
                found.append(self._region(blocks, there, sure))
            else:
                found.append([Unknown("a way nobody takes")] * len(op.results))
        if not no.any() or not yes.any():
            self._values.set(op, found[0] if yes.any() else found[1])
            return
        condition = self._values.of(op.operands[0])
        self._values.set(
            op,
            [
                either(condition, a, b, len(result.type.shape))
                for result, a, b in zip(op.results, *found, strict=True)
            ],
        )

    def _for(self, op: Op, may: Truth, must: Truth) -> None:
        start, end, step = (self._values.of(each) for each in op.operands[:3])
        carried = [self._values.of(each) for each in op.operands[3:]]
        (block,) = op.regions[0]
        counter, *arguments = block.arguments
        doubt = next((each for each in (start, end, step) if not is_exact(each)), None)
        if doubt is not None:
            self._once(op, op.regions[0], block.arguments, doubt, may)
            return
        assert isinstance(start, Range)
        assert isinstance(end, Range)
        assert isinstance(step, Range)
        at = np.broadcast_to(start.lo, may.shape)
        while (running := may & (at < end.lo)).any():
            self._values.update([counter], [Range.of(at)])
            self._values.update(arguments, carried)
            yielded = self._region(op.regions[0], running, must & running)
            carried = [
                merge(running, new, old, len(each.type.shape))
                for each, new, old in zip(arguments, yielded, carried, strict=True)
            ]
            at = np.where(running, at + step.lo, at)
        self._values.set(op, carried)

    def _while(self, op: Op, may: Truth, must: Truth) -> None:
        before, after = op.regions
        carried = [self._values.of(each) for each in op.operands]
        (first,), (second,) = before, after
        running, sure, left = may, must, carried
        while True:
            self._values.update(first.arguments, carried)
            condition, *passed = self._region(before, running, sure)
            if not is_exact(condition):
                self._once(op, after, second.arguments, condition, running)
                return
            assert isinstance(condition, Range)
            on = running & (condition.lo.reshape(-1) == 1)
            left = (
                [
                    merge(running, new, old, len(each.type.shape))
                    for each, new, old in zip(op.results, passed, left, strict=True)
                ]
                if len(passed) == len(left)
                else passed
            )
            running, sure = on, sure & on
            if not running.any():
                self._values.set(op, left)
                return
            self._values.update(second.arguments, passed)
            carried = self._region(after, running, sure)
            self._values.pay(len(running))

    def _once(
        self, op: Op, region: Sequence[Block], arguments: Sequence[Value], why: Known, may: Truth
    ) -> None:
        """The body of a loop of unknown length: what it touches, not where or how often."""
        if _touches(op):
            text = f"how often the loop{place_text(op)} repeats depends on {reason_of(why)}"
            self.trace.doubt(text)
        unknown = Unknown(f"the loop{place_text(op)}")
        self._values.update(arguments, [unknown] * len(arguments))
        self._region(region, may, np.zeros_like(may))
        self._values.set(op, [unknown] * len(op.results))

    def _access(self, op: Op, may: Truth, must: Truth) -> None:
        loaded = Unknown(f"what is loaded{place_text(op)}")
        self._values.set(op, [loaded] * len(op.results))
        target = self._values.of(op.operands[0]) if op.operands else loaded
        if isinstance(target, Described):
            event = self._box(op, target, may, must)
        else:
            event = self._block(op, may, must)
        if self._values.lanes:
            self._values.pay(event.lanes * len(may))
        self.trace.events.append(event)

    def _block(self, op: Op, may: Truth, must: Truth) -> Event:
        """By pointers, a lane each, and a mask."""
        pointer_of, mask_of = roles(op)
        pointer = self._values.of(pointer_of)
        kind = pointer_of.type if pointer_of is not None else Type((), "none")
        event = Event.of(op, kind.pointee_bytes, kind.shape, may, must)
        if isinstance(pointer, Range) and pointer.memory is not None:
            event.memory, event.lo, event.hi = pointer.memory, pointer.lo, pointer.hi
        else:
            event.why = reason_of(pointer)
        if mask_of is not None:
            mask = self._values.of(mask_of)
            if isinstance(mask, Range):
                event.surely, event.perhaps = mask.lo, mask.hi
            else:
                event.surely, event.perhaps = np.zeros_like(event.lo), np.ones_like(event.lo)
                event.why = event.why or reason_of(mask)
        return event

    def _box(self, op: Op, target: Described, may: Truth, must: Truth) -> Event:
        """By a tensor descriptor: the hardware leaves out what lies outside the tensor."""
        shape = block_shape(op)
        event = Event.of(op, target.size, shape, may, must)
        event.clipped = True
        rank = len(target.shape)
        indices = [self._values.of(each) for each in op.operands[1 : 1 + rank]]
        addresses = addresses_of(target, indices, shape, self._values.lanes)
        if isinstance(addresses, Unknown):
            event.why = addresses.why
            return event
        if op.name in _SCATTERED:
            event.why = f"the rows that {op.name}{place_text(op)} names"
            return event
        pointer, mask = addresses
        event.memory, event.lo, event.hi = pointer.memory, pointer.lo, pointer.hi
        event.surely, event.perhaps = mask.lo, mask.hi
        return event


def _touches(op: Op) -> bool:
    """Whether memory is accessed in a region of an operation."""
    return any(each.name in ACCESSES for region in op.regions for each in ops_in(region))
