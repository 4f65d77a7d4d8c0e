"""The memory that a kernel's parameters point to, and what its other parameters are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunekit.kernels.plan import (
    Constant,
    Descriptor,
    Group,
    Input,
    Integer,
    Launch,
    Output,
    Scalar,
    Slot,
    TensorMeta,
)
from tunekit.rules.ranges import Range, Unknown
from tunekit.rules.ttir import Function, UnreadableError, Value
from tunekit.rules.values import Described, Known


@dataclass(frozen=True, slots=True)
class Memory:
    """A tensor of the launch, as one of the kernel's parameters points to it.

    Attributes:
        name: of the parameter.
        slot: which input or output it is.
        meta: its metadata.
        start: what an output holds before the launch: an input whose values it has (in place),
            0, or None where that is undefined; for an input, itself.
        is_result: whether it is an output that is compared, no auxiliary buffer.
    """

    name: str
    slot: Input | Output
    meta: TensorMeta
    start: Input | int | None
    is_result: bool

    @property
    def is_output(self) -> bool:
        """Whether the kernel is to write it."""
        return isinstance(self.slot, Output)

    @property
    def extent_bytes(self) -> int:
        """From its first byte to behind its last."""
        if self.meta.numel == 0:
            return 0
        return self.meta.extent * self.meta.itemsize

    @property
    def is_dense(self) -> bool:
        """Whether its elements fill its memory."""
        return self.meta.numel * self.meta.itemsize == self.extent_bytes

    def __str__(self) -> str:
        what = f"{'output' if self.is_output else 'input'} {self.slot.index}"
        if self.is_output and isinstance(self.start, Input):
            what += f", in place of input {self.start.index}"
        elif self.is_output and not self.is_result:
            what += ", a buffer"
        return f"{self.name} ({what})"


def read_arguments(
    function: Function,
    signature: Mapping[str, Any],
    launch: Launch,
    bound: Mapping[str, Any],
) -> tuple[list[Known], dict[int, Memory]]:
    """What each parameter of the compiled kernel is, and the tensors among them.

    Args:
        function: the kernel as compiled, which lacks constants and what was folded in.
        signature: types by argument, as Triton compiled it: `constexpr` is no parameter.
        launch: what is passed.
        bound: the same filled in: what heuristics and the configuration add is there alone.

    Raises:
        UnreadableError: the two do not fit together.
    """
    passed: list[tuple[str, Slot]] = []
    for name, kind in signature.items():
        slot = launch.arguments.get(name)
        if slot is None:
            slot = Integer(bound[name]) if isinstance(bound.get(name), int) else Constant(name)
        passed += _passed(name, kind, slot)
    groups = _parameters(function, passed)
    # A tensor passed as several parameters, as one worked on in place may be, is one memory.
    first: dict[Slot, int] = {}
    for (_, slot), (start, _) in zip(passed, groups, strict=True):
        tensor = slot.of if isinstance(slot, Descriptor) else slot
        if isinstance(tensor, Input | Output):
            first.setdefault(tensor, start)
    memories = {}
    for slot, start in first.items():
        if isinstance(slot, Input | Output):
            names = [name for name, each in passed if slot in (each, getattr(each, "of", None))]
            memories[start] = _memory("/".join(names), slot, launch)
    arguments: list[Known] = []
    for (_, slot), (start, end) in zip(passed, groups, strict=True):
        parameters = function.parameters[start:end]
        if isinstance(slot, Descriptor):
            arguments += _described(parameters, memories[first[slot.of]], first[slot.of])
        else:
            arguments.append(_argument(parameters[0], slot, first))
    return arguments, memories


def _passed(name: str, kind: Any, slot: Slot) -> Iterator[tuple[str, Slot]]:
    """The slots that are passed at run time, each with a name."""
    if isinstance(slot, Group):
        kinds: Sequence[Any] = kind if isinstance(kind, Sequence) else [kind] * len(slot.slots)
        several = len(slot.slots) > 1
        for number, (each, of_each) in enumerate(zip(slot.slots, kinds, strict=True)):
            yield from _passed(f"{name}[{number}]" if several else name, of_each, each)
    elif kind != "constexpr":
        yield name, slot


def _parameters(function: Function, passed: Sequence[tuple[str, Slot]]) -> list[tuple[int, int]]:
    """From which parameter to which each slot becomes: one, but for a descriptor."""
    groups, position, count = [], 0, len(function.parameters)
    for name, slot in passed:
        start = position
        position += 1
        if isinstance(slot, Descriptor):
            while position < count and function.labels[position] == name:
                position += 1
        groups.append((start, position))
    if position != count:
        raise UnreadableError(
            f"the compiled kernel has {count} parameters, and the launch passes {position}"
        )
    return groups


def _described(parameters: Sequence[Value], memory: Memory, index: int) -> list[Known]:
    """A descriptor, or the pointer it becomes, then sizes and strides, once or twice, and flags."""
    meta = memory.meta
    base = Range.of(0, index)
    sizes: list[Known] = [*map(Range.of, meta.shape), *map(Range.of, meta.strides)]
    rank = len(meta.shape)
    head: Known = base
    if not parameters[0].type.is_pointer:
        shape, strides = map(Range.of, meta.shape), map(Range.of, meta.strides)
        head = Described(base, tuple(shape), tuple(strides), meta.itemsize)
    filled, told = [head], 0
    for each in parameters[1:]:
        if each.type.element == "i1":
            filled.append(Range.of(0))
        else:
            filled.append(sizes[told % (2 * rank)])
            told += 1
    return filled


def _argument(parameter: Value, slot: Slot, first: Mapping[Slot, int]) -> Known:
    match slot:
        case Input() | Output() if parameter.type.is_pointer:
            return Range.of(0, first[slot])
        case Integer(value) if parameter.type.is_integer:
            return Range.of(value)
        case Scalar(name):
            return Unknown(f"the scalar {name}")
    return Unknown(f"the argument {parameter.name.removeprefix('%')}")


def _memory(name: str, slot: Input | Output, launch: Launch) -> Memory:
    if isinstance(slot, Input):
        return Memory(name, slot, launch.inputs[slot.index], slot, False)
    is_result = slot.index < len(launch.results)
    return Memory(name, slot, launch.outputs[slot.index], launch.start_of(slot.index), is_result)
