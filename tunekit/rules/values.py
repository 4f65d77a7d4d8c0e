"""The values of a kernel as far as they are integers and pointers, operation by operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tunekit.rules import ranges
from tunekit.rules.ranges import Array, Followed, Range, Unknown
from tunekit.rules.trace import Trace, Truth
from tunekit.rules.ttir import Op, Type, Value, element_bytes

_AXES = {"x": 0, "y": 1, "z": 2}
_SAME = ("tt.splat", "tt.broadcast", "arith.index_cast", "tt.unsplat", "arith.extui")
_DENSE = re.compile(r"^dense<(-?\d+|true|false)>$")
_INT32 = 2**31
_FLOAT = "a float"


class TooLongError(Exception):
    """There is more to follow than was allowed."""


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor descriptor: where, how large, with which strides (in elements)."""

    base: Followed
    shape: tuple[Followed, ...]
    strides: tuple[Followed, ...]
    size: int


Known = Followed | Described


class Values:
    """What is known of each value, for all programs that are followed.

    Args:
        programs: their ids, `[programs, 3]`.
        grid: number of programs on axes 0, 1, 2.
        lanes: whether each lane of a block is known, rather than one range a block.
        allowed: array elements to compute at most.
        trace: where what cannot be followed is noted.

    Attributes:
        active: the programs that come to the operation that is computed.
    """

    def __init__(
        self,
        programs: Array,
        grid: tuple[int, int, int],
        lanes: bool,
        allowed: int,
        trace: Trace,
    ) -> None:
        self._programs, self._grid, self.lanes = programs, grid, lanes
        self._left, self._trace = allowed, trace
        self._known: dict[Value, Known] = {}
        self.active: Truth = np.ones(len(programs), dtype=np.bool_)

    def update(self, values: Iterable[Value], known: Iterable[Known]) -> None:
        """Know these values."""
        self._known.update(zip(values, known, strict=True))

    def get(self, value: Value) -> Known | None:
        """What is known of a value; None if it was never computed."""
        return self._known.get(value)

    def of(self, value: Value | None) -> Known:
        """What is known of an operand."""
        if value is None:
            return Unknown("a value that was not read")
        return self._known.get(value, Unknown("a value that was not read"))

    def set(self, op: Op, values: Sequence[Known]) -> None:
        """Know the results of an operation."""
        self._known.update(zip(op.results, values, strict=True))

    def compute(self, op: Op) -> None:
        """Know the results of an operation that neither branches nor touches memory."""
        if not op.results:
            return
        if op.name == "tt.make_tensor_descriptor":
            self.set(op, [self._described(op)])
            return
        kind = op.result_type
        if len(op.results) > 1 or not (kind.is_integer or kind.is_pointer):
            self.set(op, [self._unknown(op)] * len(op.results))
            return
        value = self._value(op, kind)
        if isinstance(value, Range):
            self.pay(value.lo.size)
            if kind.element == "i32" and op.name in ("arith.muli", "arith.addi", "arith.shli"):
                value = self._wrapped(op, value)
        self.set(op, [value])

    def _unknown(self, op: Op) -> Unknown:
        if op.name in ("tt.elementwise_inline_asm", "tt.extern_elementwise", "tt.call"):
            what = {
                "tt.elementwise_inline_asm": "inline assembly",
                "tt.extern_elementwise": "an external function",
                "tt.call": "a function that is not inlined",
            }[op.name]
            return Unknown(f"{what}{place_text(op)}")
        for operand in op.operands:
            known = self.of(operand)
            if isinstance(known, Unknown) and known.why != _FLOAT:
                return known
        if op.results and not op.result_type.is_integer:
            return Unknown(_FLOAT)
        return Unknown(f"{op.name}{place_text(op)}")

    def _value(self, op: Op, kind: Type) -> Known:
        """Of an operation whose result is integers or pointers."""
        match op.name:
            case "arith.constant":
                return self._constant(op, kind)
            case "tt.make_range":
                return self._make_range(op)
            case "tt.get_program_id":
                return Range.of(self._programs[:, _AXES[op.text]])
            case "tt.get_num_programs":
                return Range.of(self._grid[_AXES[op.text]])
        operands = [self.of(each) for each in op.operands]
        known = [each for each in operands if isinstance(each, Range)]
        if len(known) < len(operands):
            if op.name == "arith.select" and len(operands) == 3:
                return either(operands[0], operands[1], operands[2], len(kind.shape))
            return self._unknown(op)
        first = known[0] if known else None
        if op.name in ranges.ARITHMETIC:
            return ranges.ARITHMETIC[op.name](*known)
        match op.name:
            case "arith.cmpi":
                return ranges.compare(op.text.partition(",")[0], *known)
            case "arith.select":
                return either(known[0], known[1], known[2], len(kind.shape))
            case "tt.addptr":
                moved = ranges.multiply(known[1], Range.of(kind.pointee_bytes))
                assert isinstance(moved, Range)
                total = ranges.add(Range(known[0].lo, known[0].hi), moved)
                assert isinstance(total, Range)
                return Range(total.lo, total.hi, known[0].memory)
        if first is None:
            return self._unknown(op)
        match op.name:
            case "tt.expand_dims":
                axis = (op.attribute("axis") or 0) + 1
                return at_both_ends(first, lambda x: np.expand_dims(x, axis))
            case "tt.splat":
                ones = (1,) * len(kind.shape)
                return at_both_ends(first, lambda x: x.reshape(-1, *ones))
            case "arith.extsi":
                source = op.operands[0]
                if source is not None and source.type.element == "i1":
                    return ranges.subtract(Range.of(0), first)
                return first
            case "arith.trunci":
                return self._truncated(op, first, kind)
            case "tt.reshape" | "tt.trans":
                return self._moved(op, first, kind)
            case "tt.bitcast" if kind.is_pointer:
                return first
            case name if name in _SAME:
                return first
        return self._unknown(op)

    def _constant(self, op: Op, kind: Type) -> Followed:
        match = _DENSE.match(op.text)
        text = match[1] if match else op.text
        try:
            number = {"true": 1, "false": 0}[text] if text in ("true", "false") else int(text)
        except ValueError:
            return Unknown(f"the constant{place_text(op)}")
        return Range.of(np.full((1,) * (1 + len(kind.shape)), number, dtype=np.int64))

    def _make_range(self, op: Op) -> Range:
        start, end = op.attribute("start") or 0, op.attribute("end") or 0
        if self.lanes:
            return Range.of(np.arange(start, end, dtype=np.int64)[None, :])
        return Range(np.array([[start]]), np.array([[end - 1]]))

    def _moved(self, op: Op, value: Range, kind: Type) -> Followed:
        """Reshaped or transposed: the same lanes in other places."""
        source = op.operands[0]
        assert source is not None
        if not self.lanes:
            lo = value.lo.min(axis=tuple(range(1, value.lo.ndim)))
            hi = value.hi.max(axis=tuple(range(1, value.hi.ndim)))
            ones = (1,) * len(kind.shape)
            return Range(lo.reshape(-1, *ones), hi.reshape(-1, *ones), value.memory)
        full = (value.lo.shape[0], *source.type.shape)
        self.pay(full[0] * source.type.numel)
        if op.name == "tt.reshape":
            shape = (full[0], *kind.shape)
            return at_both_ends(value, lambda x: np.broadcast_to(x, full).reshape(shape))
        order = re.search(r"order = array<i32: ([\d, ]+)>", op.text)
        if order is None:
            return self._unknown(op)
        axes = (0, *(1 + int(each) for each in order[1].split(",")))
        return at_both_ends(value, lambda x: np.broadcast_to(x, full).transpose(axes))

    def _truncated(self, op: Op, value: Range, kind: Type) -> Followed:
        if kind.element == "i1":
            return ranges.bit_and(value, Range.of(1)) if value.is_exact else self._unknown(op)
        return self._wrapped(op, value) if kind.element == "i32" else value

    def _wrapped(self, op: Op, value: Range) -> Followed:
        """As 32 bits hold it."""
        if value.lo.min() >= -_INT32 and value.hi.max() < _INT32:
            return value
        if not value.is_exact:
            return Unknown(f"a 32-bit integer that may overflow{place_text(op)}")
        # Programs that do not come here have some value too, which nobody uses.
        used = value.lo[self.active] if len(value.lo) == len(self.active) else value.lo
        if (
            op.name != "arith.trunci"
            and len(used)
            and not (used.min() >= -_INT32 and used.max() < _INT32)
        ):
            self._trace.overflows.append(op)
        return Range.of((value.lo + _INT32) % (2 * _INT32) - _INT32)

    def _described(self, op: Op) -> Known:
        values = [self.of(each) for each in op.operands]
        rank = (len(values) - 1) // 2
        base, *rest = (each for each in values if not isinstance(each, Described))
        element = re.search(r"tensor<(?:\d+x)+(\w+)", op.types)
        if len(rest) != 2 * rank or element is None:
            return Unknown(f"the tensor descriptor{place_text(op)}")
        return Described(base, tuple(rest[:rank]), tuple(rest[rank:]), element_bytes(element[1]))

    def pay(self, elements: int) -> None:
        """Count what was computed.

        Raises:
            TooLongError: it is more than is allowed.
        """
        self._left -= elements + 64  # an operation costs something however little it works on
        if self._left < 0:
            raise TooLongError("it is longer than is followed here")


def sure_of(value: Followed) -> Range:
    """What is known not to be unknown."""
    assert isinstance(value, Range)
    return value


def at_both_ends(value: Range, function: Callable[[Array], Array]) -> Range:
    """A function of both ends, as one that moves lanes about."""
    lo = function(value.lo)
    return Range(lo, lo if value.lo is value.hi else function(value.hi), value.memory)


def either(condition: Known, a: Known, b: Known, rank: int) -> Known:
    """`a` where the condition holds and `b` elsewhere, blocks of so many axes."""
    if isinstance(a, Described) or isinstance(b, Described):
        return a if a == b else Unknown("one of two tensor descriptors")
    if isinstance(condition, Range) and condition.lo.ndim <= 1:
        condition = at_both_ends(condition, lambda x: x.reshape(-1, *(1,) * rank))
    if isinstance(condition, Described):
        condition = Unknown("a tensor descriptor")
    return ranges.choose(condition, a, b)


def merge(there: Truth, new: Known, old: Known, rank: int) -> Known:
    """`new` in the programs that are there, `old` in the others."""
    if there.all():
        return new
    return either(Range.of(there.astype(np.int64)), new, old, rank)


def is_exact(value: Known) -> bool:
    """Whether its number is known in every program."""
    return isinstance(value, Range) and value.is_exact


def reason_of(value: Known) -> str:
    """Why nothing more is known of it."""
    match value:
        case Unknown(why):
            return why
        case Range():
            return "what is known as a range only"
    return "a tensor descriptor"


def place_text(op: Op) -> str:
    """` at mine.py:12`, to go on a sentence with."""
    return f" at {op.place}" if str(op.place) else ""
