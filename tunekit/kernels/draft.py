"""A launch as a person's plan writes it: with tensors without memory in place of slots."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tunekit.core.config import Config
from tunekit.errors import KernelError
from tunekit.kernels.jit import Heuristic, beneath, heuristics_of, is_jit
from tunekit.kernels.plan import (
    Constant,
    Descriptor,
    Group,
    Input,
    Integer,
    Launch,
    Output,
    Real,
    Scalar,
    Slot,
    Start,
    TensorMeta,
)

Grid = Callable[[Config], Any] | int | Sequence[int]
Tensors = torch.Tensor | Sequence[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Tiled:
    """A tensor to be passed as a descriptor, with a tile's shape; see `descriptor`."""

    tensor: torch.Tensor
    block: tuple[str | int, ...]


@dataclass(frozen=True)
class Draft:
    """What `launch` was given."""

    function: Any
    arguments: Mapping[str, Any]
    grid: Grid
    outputs: tuple[torch.Tensor, ...]
    zeroed: tuple[torch.Tensor, ...]
    zeroed_if: Callable[[Config], bool] | None
    buffers: tuple[torch.Tensor, ...]
    dims: Mapping[str, int] | None
    repeats: Callable[[Config], float]
    heuristics: Mapping[str, Heuristic] = field(default_factory=dict)


def launch(
    function: Any,
    *arguments: Any,
    grid: Grid,
    outputs: Tensors,
    zeroed: Tensors = (),
    zeroed_if: Callable[[Config], bool] | None = None,
    buffers: Tensors = (),
    dims: Mapping[str, int] | None = None,
    repeats: Callable[[Config], float] = lambda config: 0.0,
    **keywords: Any,
) -> Draft:
    """One launch of a `@triton.jit` function: what a plan returns.

    Args:
        function: what is launched. Decorators of Triton's may lie around it: heuristics are
            computed, an autotuner's list is not looked at.
        arguments: of the function, in its order, all but the axes of the space. A tensor is an
            input of the plan, a view of one, or one that the plan made; an int is a run-time
            integer, or a constant where the function says `tl.constexpr`; a scalar of the plan is
            passed on as it is.
        grid: from a configuration to the number of programs on one to three axes.
        outputs: the results, which the plan made, by `torch.empty` and the like; an input here is
            changed in place.
        zeroed: outputs and buffers that are 0 before each launch, as atomics need it.
        zeroed_if: from a configuration to whether it needs that, such as `SPLIT_K > 1`; zeroing is
            then part of what a configuration costs. By default all do, and it is not timed.
        buffers: tensors that the plan made which are no results.
        dims: the sizes that the problem depends on, where `shapes` does not name them.
        repeats: from a configuration to how often a program runs its loop, for estimates.
        keywords: further arguments by name.

    Raises:
        KernelError: the function is no `@triton.jit` function, or has no such arguments.
    """
    inner = beneath(function)
    if not is_jit(inner):
        raise KernelError(f"launch: expected a @triton.jit function, got {function!r:.100}")
    names = list(inner.arg_names)
    if len(arguments) > len(names):
        raise KernelError(f"{_name(inner)} takes {len(names)} arguments, got {len(arguments)}")
    given = dict(zip(names, arguments, strict=False))
    for name, value in keywords.items():
        if name in given or name not in names:
            why = "given twice" if name in given else "none of its arguments"
            raise KernelError(f"{_name(inner)}: {name} is {why}")
        given[name] = value
    return Draft(
        inner,
        given,
        grid,
        _several(outputs),
        _several(zeroed),
        zeroed_if,
        _several(buffers),
        dims,
        repeats,
        heuristics_of(function),
    )


def descriptor(tensor: torch.Tensor, block: Sequence[str | int]) -> Any:
    """A tensor passed as a tensor descriptor: tiles are copied by hardware from Hopper on.

    Args:
        tensor: an input or an output of the plan, its last stride 1, the others multiples of 16
            bytes.
        block: shape of a tile; an axis of the space, or a number, for each dim.
    """
    return Tiled(tensor, tuple(block))


def resolve(
    draft: Draft,
    name: str,
    inputs: Sequence[torch.Tensor],
    metas: Sequence[TensorMeta],
    dims: Mapping[str, int],
) -> Launch:
    """The launch that a draft stands for.

    Args:
        draft: what the plan returned.
        name: the kernel's, for messages.
        inputs: what the plan was given.
        metas: what those stand for.
        dims: sizes, where the draft names none.

    Raises:
        KernelError: it uses tensors that are neither inputs nor outputs, or outputs that it made
            are not dense, or not used.
    """
    tensors = _Tensors.of(draft, name, inputs, metas)
    constants = _constexprs(draft.function)
    arguments: dict[str, Slot] = {
        argument: tensors.slot(argument, value, argument in constants)
        for argument, value in draft.arguments.items()
    }
    tensors.check_all_used()
    return Launch(
        function=draft.function,
        arguments=arguments,
        inputs=tuple(metas),
        outputs=tuple(tensors.outputs),
        dims=dict(dims if draft.dims is None else draft.dims),
        grid=_grid_of(draft.grid, name),
        repeats=draft.repeats,
        result_count=len(draft.outputs),
        starts=tuple(tensors.starts) if any(s is not None for s in tensors.starts) else (),
        zeroes=draft.zeroed_if,
        heuristics=draft.heuristics,
    )


class _Tensors:
    """Which slot each tensor of a plan is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._slots: dict[int, tuple[Input | Output, torch.Tensor]] = {}
        self._used: set[int] = set()
        self.outputs: list[TensorMeta] = []
        self.starts: list[Start] = []

    @classmethod
    def of(
        cls,
        draft: Draft,
        name: str,
        inputs: Sequence[torch.Tensor],
        metas: Sequence[TensorMeta],
    ) -> _Tensors:
        made = cls(name)
        if not draft.outputs:
            raise KernelError(f"{name}: outputs= names no tensor; name the results")
        for index, tensor in enumerate(inputs):
            made._slots[_identity(tensor)] = Input(index), tensor
        zeroed = {_identity(tensor) for tensor in draft.zeroed}
        for tensor in (*draft.outputs, *draft.buffers):
            made._add_output(tensor, metas, zeroed)
        if len(zeroed) > made.starts.count(0):
            raise KernelError(
                f"{name}: zeroed= names a tensor that the plan did not make, or did not name in "
                "outputs= or buffers="
            )
        return made

    def _add_output(
        self, tensor: torch.Tensor, metas: Sequence[TensorMeta], zeroed: set[int]
    ) -> None:
        identity = _identity(tensor)
        index, known = len(self.outputs), self._slots.get(identity)
        start: Start = 0 if identity in zeroed else None
        if known is None:
            meta = TensorMeta.of(tensor)
        elif isinstance(known[0], Output):
            raise KernelError(f"{self._name}: one tensor is two of the outputs and buffers")
        else:  # in place
            meta, start = metas[known[0].index], known[0]
        if known is None and meta.extent != meta.numel:
            raise KernelError(
                f"{self._name}: output {index} of shape {meta.shape} and strides {meta.strides} "
                "has gaps; the kernel has to fill a dense tensor"
            )
        self._slots[identity] = Output(index), tensor
        self.outputs.append(meta)
        self.starts.append(start)

    def slot(self, argument: str, value: Any, is_constant: bool) -> Slot:
        """The slot that an argument's value stands for."""
        if isinstance(value, torch.Tensor):
            return self._tensor(argument, value)
        if isinstance(value, Tiled):
            self._check_whole(argument, value.tensor)
            return Descriptor(self._tensor(argument, value.tensor), value.block)
        if isinstance(value, Scalar):
            return value
        if is_constant or value is None or isinstance(value, bool):
            return Constant(value)
        if isinstance(value, int):
            return Integer(value)
        if isinstance(value, float):
            return Real(value)
        if isinstance(value, tuple | list):
            return Group(tuple(self.slot(argument, each, False) for each in value))  # type: ignore[misc]
        return Constant(value)

    def _tensor(self, argument: str, tensor: torch.Tensor) -> Input | Output:
        identity = _identity(tensor)
        if identity not in self._slots:
            raise KernelError(
                f"{self._name}: {argument} is a tensor that is no input of the plan and not named "
                "in outputs= or buffers= (a copy such as x.contiguous() cannot be made in a plan)"
            )
        slot, whole = self._slots[identity]
        if tensor.storage_offset() != whole.storage_offset():
            raise KernelError(
                f"{self._name}: {argument} is a view that begins {tensor.storage_offset()} "
                "elements into its tensor; pass the tensor, and the offset as an integer"
            )
        if tensor.dtype != whole.dtype:
            raise KernelError(
                f"{self._name}: {argument} is a view of {whole.dtype} as {tensor.dtype}; the "
                "kernel has to cast the pointer"
            )
        self._used.add(identity)
        return slot

    def _check_whole(self, argument: str, tensor: torch.Tensor) -> None:
        """A descriptor has the tensor's own shape and strides when it is launched."""
        _, whole = self._slots.get(_identity(tensor), (None, tensor))
        if (tensor.shape, tensor.stride()) != (whole.shape, whole.stride()):
            raise KernelError(
                f"{self._name}: {argument} is a descriptor of a view of shape "
                f"{tuple(tensor.shape)}; describe the tensor itself, {tuple(whole.shape)}"
            )

    def check_all_used(self) -> None:
        """Every output and buffer is an argument, or nothing would ever be written to it."""
        for identity, (slot, _) in self._slots.items():
            if isinstance(slot, Output) and identity not in self._used:
                raise KernelError(f"{self._name}: output {slot.index} is no argument of the launch")


def _identity(tensor: torch.Tensor) -> int:
    """Of the memory a tensor stands for: a view has the same."""
    return int(tensor.untyped_storage()._cdata)


def _several(tensors: Tensors) -> tuple[torch.Tensor, ...]:
    return (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)


def _grid_of(grid: Grid, name: str) -> Callable[[Config], tuple[int, int, int]]:
    def sizes(config: Config) -> tuple[int, int, int]:
        given = grid(config) if callable(grid) else grid
        axes = tuple(given) if isinstance(given, tuple | list) else (given,)
        if not 1 <= len(axes) <= 3 or not all(hasattr(axis, "__index__") for axis in axes):
            raise KernelError(
                f"{name}: a grid is one to three whole numbers, got {given!r:.100}; triton.cdiv "
                "divides and rounds up"
            )
        x, y, z = (*map(operator.index, axes), 1, 1)[:3]
        return x, y, z

    return sizes


def _constexprs(function: Any) -> set[str]:
    """Names of the arguments that are `tl.constexpr`."""
    return {each.name for each in getattr(function, "params", ()) if each.is_constexpr} or {
        name
        for name, annotation in getattr(function.fn, "__annotations__", {}).items()
        if "constexpr" in str(annotation)
    }


def _name(function: Any) -> str:
    return str(getattr(function.fn, "__name__", function))
