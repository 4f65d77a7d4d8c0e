"""A plan: from input metadata to a launch, never from the tensors themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.problem import ITEMSIZES

if TYPE_CHECKING:
    import torch

_POINTER_ALIGNMENT = 16
"""Bytes: Triton specialises pointers, and divisible integers, on this."""
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """What a plan may know of a tensor.

    Attributes:
        strides: in elements.
        misalignment: bytes the data starts past a multiple of 16.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    misalignment: int = 0

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorMeta:
        """The metadata of a real tensor."""
        return cls(
            tuple(tensor.shape),
            tensor.stride(),
            str(tensor.dtype).removeprefix("torch."),
            tensor.data_ptr() % _POINTER_ALIGNMENT,
        )

    @classmethod
    def contiguous(cls, shape: Sequence[int], dtype: str) -> TensorMeta:
        """The metadata of a freshly allocated contiguous tensor."""
        strides = [1] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
        return cls(tuple(shape), tuple(strides), dtype)

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return ITEMSIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class Input:
    """Slot of the pointer to input `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Output:
    """Slot of the pointer to output `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """Slot of the float scalar called `name`: a run-time argument, never compiled in."""

    name: str


@dataclass(frozen=True, slots=True)
class Integer:
    """Slot of an integer derived from metadata."""

    value: int


@dataclass(frozen=True, slots=True)
class Constant:
    """Slot of a `tl.constexpr`: a number, or a `@triton.jit` device function."""

    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """Several slots passed as one tuple argument."""

    slots: tuple[Input | Output | Scalar | Integer, ...]


Slot = Input | Output | Scalar | Integer | Constant | Group


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch, but for its configuration and its tensors.

    The one description that the run-time call, the measurement on a GPU, the interpreter and
    the compile-only path all use.

    Attributes:
        function: a `@triton.jit` function.
        arguments: its arguments by name, without the axes of the configuration.
        outputs: metadata of each output.
        dims: the sizes the launch depends on.
        grid: from a configuration to the number of programs on axes 0, 1, 2.
        repeats: from a configuration to how often a program runs its loop; 0 without a loop.
        run_bytes: from a configuration to the contiguous bytes a program touches in one place,
            where programs that run at the same time do not touch their neighbours.
    """

    function: Any
    arguments: Mapping[str, Slot]
    inputs: tuple[TensorMeta, ...]
    outputs: tuple[TensorMeta, ...]
    dims: Mapping[str, int]
    grid: Callable[[Config], tuple[int, int, int]]
    repeats: Callable[[Config], float] = lambda config: 0.0
    run_bytes: Callable[[Config], float] = lambda config: inf

    def bind(
        self,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        scalars: Mapping[str, float],
        config: Config,
    ) -> dict[str, Any]:
        """The keyword arguments of one launch: every slot filled, the configuration added."""
        filled = {
            name: _filled(slot, inputs, outputs, scalars) for name, slot in self.arguments.items()
        }
        return filled | dict(config)


def _filled(
    slot: Slot, inputs: Sequence[Any], outputs: Sequence[Any], scalars: Mapping[str, float]
) -> Any:
    """What a slot stands for; no closure, whose cycle would keep tensors until it is collected."""
    match slot:
        case Input(index):
            return inputs[index]
        case Output(index):
            return outputs[index]
        case Scalar(name):
            return float(scalars[name])
        case Integer(value) | Constant(value):
            return value
        case Group(slots):
            return tuple(_filled(each, inputs, outputs, scalars) for each in slots)


Plan = Callable[[Sequence[TensorMeta], Device], Launch]


def alignment_class(launch: Launch) -> str:
    """What Triton specialises the binary on, besides dtypes and constants, as text.

    Each pointer is `p16` (data starts at a multiple of 16 bytes) or `p1`; each integer is `1`
    (Triton folds it in), or `i32` / `i64` followed by `x16` when divisible by 16; a truthy
    number constant derived from metadata is `=value`. Problems of two classes run two binaries.
    """
    parts: list[str] = []

    def visit(slot: Slot) -> None:
        match slot:
            case Input(index):
                parts.append(_pointer_class(launch.inputs[index]))
            case Output(index):
                parts.append(_pointer_class(launch.outputs[index]))
            case Integer(value):
                parts.append(_integer_class(value))
            case Constant(value) if isinstance(value, int) and value:
                parts.append(f"={int(value)}")
            case Group(slots):
                for each in slots:
                    visit(each)
            case _:
                pass  # scalars are floats: Triton never specialises on those

    for slot in launch.arguments.values():
        visit(slot)
    return ",".join(parts)


def _pointer_class(meta: TensorMeta) -> str:
    return "p16" if meta.misalignment == 0 else "p1"


def _integer_class(value: int) -> str:
    if value == 1:
        return "1"
    width = "i32" if -_INT32_MAX - 1 <= value <= _INT32_MAX else "i64"
    return f"{width}x16" if value % _POINTER_ALIGNMENT == 0 else width
