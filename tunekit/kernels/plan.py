"""A plan: from input metadata to a launch, never from the tensors themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    def extent(self) -> int:
        """Elements from the first to the last in memory, gaps between them among these."""
        if not self.numel:
            return 0
        pairs = zip(self.shape, self.strides, strict=True)
        return 1 + sum((size - 1) * stride for size, stride in pairs)

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
class Real:
    """Slot of a float derived from metadata, such as 1 / columns: never compiled in."""

    value: float


@dataclass(frozen=True, slots=True)
class Constant:
    """Slot of a `tl.constexpr`: a number, or a `@triton.jit` device function."""

    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """Several slots passed as one tuple argument."""

    slots: tuple[Input | Output | Scalar | Integer | Real | Constant, ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Slot of a tensor descriptor, by which GPUs from compute capability 9.0 on copy tiles.

    Attributes:
        of: the tensor; its last stride is 1, the others are multiples of 16 bytes.
        block: shape of a tile: an axis of the configuration, a number, or what makes one of the
            configuration, for each dim.
        transposed: whether it is of the transpose of a matrix, whose first stride is 1; `block` is
            that of the matrix.
    """

    of: Input | Output
    block: tuple[str | int | Callable[[Config], int], ...]
    transposed: bool = False


Slot = Input | Output | Scalar | Integer | Real | Constant | Group | Descriptor

Start = Input | int | None
"""What an output holds before a launch: an input's values (in place), 0, or anything at all."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch, but for its configuration and its tensors.

    The one description that the run-time call, the measurement on a GPU, the interpreter and
    the compile-only path all use.

    Attributes:
        function: a `@triton.jit` function.
        arguments: its arguments by name, without the axes of the configuration.
        outputs: metadata of each output: the results, then auxiliary buffers.
        result_count: how many of the outputs are results; None is all of them.
        starts: what each output holds before every launch; empty is anything at all.
        zeroes: from a configuration to whether it needs the zeros at all; None is that all do.
            Where that differs, zeroing is part of what a configuration costs, and of its time.
        heuristics: further arguments, each from all the others by name.
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
    result_count: int | None = None
    starts: tuple[Start, ...] = ()
    zeroes: Callable[[Config], bool] | None = None
    heuristics: Mapping[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)

    @property
    def results(self) -> tuple[TensorMeta, ...]:
        """Metadata of the outputs that are results."""
        return self.outputs[: self.result_count]

    @property
    def starts_matter(self) -> bool:
        """Whether some output has to hold something before a launch."""
        return any(start is not None for start in self.starts)

    def with_(self, config: Config) -> Launch:
        """The launch with that configuration: what it does not need to be 0 may hold anything."""
        if self.zeroes is None or self.zeroes(config):
            return self
        starts = tuple(None if start == 0 else start for start in self.starts)
        return replace(self, starts=starts, zeroes=None)

    def start_of(self, index: int) -> Start:
        """What output `index` holds before a launch."""
        return self.starts[index] if self.starts else None

    def bind(
        self,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        scalars: Mapping[str, float],
        config: Config,
    ) -> dict[str, Any]:
        """The keyword arguments of one launch: every slot filled, the configuration added."""
        filled = {
            name: filled_slot(slot, inputs, outputs, scalars, config)
            for name, slot in self.arguments.items()
        }
        bound = filled | dict(config)
        for name, value in self.heuristics.items():
            bound[name] = value(bound)
        return bound


def filled_slot(
    slot: Slot,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    scalars: Mapping[str, float],
    config: Config,
) -> Any:
    """What a slot stands for; no closure, whose cycle would keep tensors until it is collected."""
    match slot:
        case Input(index):
            return inputs[index]
        case Output(index):
            return outputs[index]
        case Scalar(name):
            return float(scalars[name])
        case Integer(value) | Real(value) | Constant(value):
            return value
        case Group(slots):
            return tuple(filled_slot(each, inputs, outputs, scalars, config) for each in slots)
        case Descriptor(of, block, transposed):
            tensor = filled_slot(of, inputs, outputs, scalars, config)
            sizes = [_block_size(each, config) for each in block]
            if transposed:
                tensor, sizes = tensor.T, sizes[::-1]
            return _descriptor(tensor, sizes)


def _block_size(size: str | int | Callable[[Config], int], config: Config) -> int:
    if isinstance(size, str):
        return config[size]
    return size if isinstance(size, int) else size(config)


def _descriptor(tensor: torch.Tensor, block: list[int]) -> Any:
    from triton.tools.tensor_descriptor import TensorDescriptor  # few kernels have one

    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), block)


Plan = Callable[[Sequence[TensorMeta], Device], Launch]


def alignment_class(launch: Launch) -> str:
    """What Triton specialises the binary on, besides dtypes and constants, as text.

    Each pointer is `p16` (data starts at a multiple of 16 bytes) or `p1`, with `:dtype` where that
    is not the one that is tuned; each integer is `1` (Triton folds it in), or `i32` / `i64`
    followed by `x16` when divisible by 16; a constant that is neither 0 nor a function is `=value`;
    what a descriptor describes begins with `d`. Problems of two classes run two
    binaries.
    """
    parts: list[str] = []
    dtype = tuned_dtype(launch.inputs)
    params = {param.name: param for param in getattr(launch.function, "params", ())}

    def visit(slot: Slot, param: Any) -> None:
        match slot:
            case Input(index):
                parts.append(_pointer_class(launch.inputs[index], dtype, param))
            case Output(index):
                parts.append(_pointer_class(launch.outputs[index], dtype, param))
            case Integer(value):
                parts.append(_integer_class(value, param))
            case Constant(value) if isinstance(value, int) and value:
                parts.append(f"={int(value)}")
            case Constant(value) if _is_compiled_in(value):
                parts.append(f"={value}")
            case Group(slots):
                for each in slots:
                    visit(each, param)
            case Descriptor(of):
                visit(of, param)
                parts[-1] = f"d{parts[-1]}"
            case _:
                pass  # floats: Triton never specialises on those

    for name, slot in launch.arguments.items():
        visit(slot, params.get(name))
    return ",".join(parts)


def tuned_dtype(inputs: Sequence[TensorMeta]) -> str:
    """The dtype a kernel on such inputs is tuned in: of the first of a float dtype, if any is."""
    floats = (meta.dtype for meta in inputs if "float" in meta.dtype and meta.itemsize > 1)
    return next(floats, inputs[0].dtype if inputs else "")


def _is_compiled_in(value: Any) -> bool:
    """Whether a constant other than a whole number makes another binary: text, None, a dtype."""
    return value is None or isinstance(value, str | float) or type(value).__name__ == "dtype"


def _pointer_class(meta: TensorMeta, dtype: str, param: Any) -> str:
    other = "" if meta.dtype == dtype else f":{meta.dtype}"
    return ("p16" if meta.misalignment == 0 and _by_alignment(param) else "p1") + other


def _integer_class(value: int, param: Any) -> str:
    if value == 1 and not getattr(param, "do_not_specialize", False):
        return "1"
    width = "i32" if -_INT32_MAX - 1 <= value <= _INT32_MAX else "i64"
    return f"{width}x16" if value % _POINTER_ALIGNMENT == 0 and _by_alignment(param) else width


def _by_alignment(param: Any) -> bool:
    """Whether Triton specialises on the divisibility of an argument, by its own parameter."""
    return not (
        getattr(param, "do_not_specialize", False)
        or getattr(param, "do_not_specialize_on_alignment", False)
    )
