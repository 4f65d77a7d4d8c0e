"""A kernel: what is tuned."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.problem import DTYPES, ITEMSIZES, Problem
from tunekit.core.space import Space, context
from tunekit.errors import KernelError, ShapeError
from tunekit.kernels.jit import is_jit
from tunekit.kernels.plan import Launch, Plan, TensorMeta, alignment_class, tuned_dtype
from tunekit.kernels.pointwise import plan_pointwise, pointwise_check_shape, pointwise_kernel
from tunekit.kernels.source_hash import source_hash

if TYPE_CHECKING:
    import torch

Reference = Callable[..., Any]
CheckShape = Callable[[tuple[int, ...], Config, int], tuple[int, ...]]
InputMetas = Callable[[Sequence[int], str], tuple[TensorMeta, ...]]
Draw = Callable[["Sequence[torch.Tensor]", Sequence[int], str], None]
ToleranceOf = Callable[[Launch, TensorMeta], "Tolerance | None"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|result - reference| <= absolute + relative * |reference|."""

    relative: float
    absolute: float


_kernels: WeakValueDictionary[str, Kernel] = WeakValueDictionary()
"""All that live, by handle."""


def kernel_of(handle: str) -> Kernel:
    """The kernel of this process with that handle.

    Raises:
        KernelError: there is none, as where a graph was loaded and its kernel was not imported.
    """
    found = _kernels.get(handle)
    if found is None:
        raise KernelError(
            f"no kernel {handle} in this process: import the module that defines it before a graph "
            "that calls it runs, or a module that holds it is loaded"
        )
    return found


def _restored(handle: str, home: str) -> Kernel:
    """The kernel that was pickled, of this process; its epilogue's module is imported for it."""
    if handle not in _kernels:
        with suppress(ImportError):
            importlib.import_module(home)
    return kernel_of(handle)


def _unused_handle(name: str, functions: Sequence[Any]) -> str:
    parts = [getattr(each, "fn", each) for each in functions]
    handle = f"{name}@{','.join(f'{each.__module__}.{each.__qualname__}' for each in parts)}"
    number = 1
    unused = handle
    while unused in _kernels:
        number += 1
        unused = f"{handle}#{number}"
    return unused


@dataclass(frozen=True)
class Kernel:
    """A `@triton.jit` function with a plan, an eager reference and a search space.

    Attributes:
        name: how the command line and the database call it.
        plan: from input metadata and a device to a launch.
        reference: the same in eager PyTorch: `reference(*inputs, **scalars)`, a tensor or a tuple
            of one for each result; called with float64 tensors to judge results. Without one the
            default configuration's results are the measure.
        space: a space, the name of a shipped one, or the path of a space file.
        input_count: number of input tensors.
        scalars: the run-time scalars and the values tuning uses.
        functions: the `@triton.jit` functions it consists of, besides those that they call.
        handle: names it in a graph, the same in every process that defines the same kernels.
        check_shape: from the shape tuned, a configuration and an element count, a small shape of
            the same alignment class that is no multiple of the block; None finds one
            (`kernels.small`).
        elementwise: whether the reference may be computed piece by piece.
        batched: whether it may be for some images of the first input at a time.
        metas: from a shape and a dtype to metadata of the inputs that tuning allocates; None is
            `input_count` contiguous tensors of that shape.
        sizes: names of the sizes that a shape consists of, such as M, N, K; empty where a shape is
            simply that of the first input.
        dtypes: those it is tuned in.
        draw: fills inputs of a shape and a dtype, from PyTorch's global random state; None is
            random values, for an element-wise kernel with special ones strewn in.
        tolerance: what an output may differ from the reference by; None, or a result of None, is
            what a few fused steps lose.
        flops: floating-point operations of a launch, from its dims.
        summary: one line for `tunekit kernels`.
    """

    name: str
    plan: Plan
    reference: Reference | None
    space: str | Space
    input_count: int
    scalars: Mapping[str, float]
    functions: tuple[Any, ...]
    check_shape: CheckShape | None = None
    elementwise: bool = False
    batched: bool = False
    metas: InputMetas | None = None
    sizes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = DTYPES
    draw: Draw | None = None
    tolerance: ToleranceOf | None = None
    flops: Callable[[Mapping[str, int]], float] | None = None
    summary: str = ""
    _spaces: list[Space] = field(default_factory=list, repr=False, compare=False)

    handle: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "handle", _unused_handle(self.name, self.functions))
        _kernels[self.handle] = self

    def __reduce__(self) -> tuple[Any, ...]:
        """By its handle: a copy, and what is unpickled, is the kernel of that process."""
        last = self.functions[-1]
        return _restored, (self.handle, getattr(last, "fn", last).__module__)

    @cached_property
    def source_hash(self) -> str:
        """Of its code. Another hash is another kernel: rows of the old one are not served."""
        return source_hash(*self.functions)

    @property
    def space_name(self) -> str:
        """What its space is called."""
        return self.space.name if isinstance(self.space, Space) else self.space

    def load_space(self) -> Space:
        """The search space, read once."""
        if isinstance(self.space, Space):
            return self.space
        if not self._spaces:
            self._spaces.append(Space.load(self.space))
        return self._spaces[0]

    def input_metas(self, shape: Sequence[int], dtype: str) -> tuple[TensorMeta, ...]:
        """Metadata of the inputs that tuning at `shape` allocates: aligned.

        Raises:
            ShapeError: the shape, or the dtype, is none of this kernel.
        """
        if dtype not in self.dtypes:
            raise ShapeError(
                f"dtype {dtype!r:.60}: {self.name} is tuned in {', '.join(self.dtypes)}"
            )
        if self.sizes and len(shape) != len(self.sizes):
            raise ShapeError(
                f"{self.name} has the sizes {', '.join(self.sizes)}: give all of them, as "
                f"{' '.join(f'--dim {name}=…' for name in self.sizes)}, not {len(shape)}"
            )
        if self.metas is not None:
            return self.metas(shape, dtype)
        return (TensorMeta.contiguous(shape, dtype),) * self.input_count

    def launch_for(self, shape: Sequence[int], dtype: str, device: Device) -> Launch:
        """The launch of inputs of that shape as tuning allocates them.

        Raises:
            KernelError: the inputs are of another dtype than asked for.
        """
        launch = self.plan(self.input_metas(shape, dtype), device)
        if (tuned := tuned_dtype(launch.inputs)) != dtype:
            raise KernelError(
                f"{self.name} in {dtype}: its first input of a float dtype is {tuned}, under which "
                "its results would be stored; let the one that --dtype sets be the first"
            )
        return launch

    def default(self, launch: Launch, device: Device) -> Config:
        """The configuration to launch when nothing is tuned.

        Raises:
            SpaceError: the space has none that fits.
        """
        itemsize = ITEMSIZES[tuned_dtype(launch.inputs)]
        return self.load_space().default(context(launch.dims, itemsize, device))

    def problem_of(self, launch: Launch, device: Device) -> Problem:
        """The tuning task a launch belongs to."""
        return Problem.of(
            self.name,
            self.source_hash,
            launch.dims,
            tuned_dtype(launch.inputs),
            alignment_class(launch),
            device.slug,
        )

    def bytes_moved(self, launch: Launch) -> int:
        """The fewest bytes of DRAM traffic: each input read once, each result written once."""
        return sum(meta.numel * meta.itemsize for meta in (*launch.inputs, *launch.results))

    def allocated_bytes(self, launch: Launch) -> int:
        """Bytes of the tensors of a launch, auxiliary buffers among them."""
        return sum(meta.numel * meta.itemsize for meta in (*launch.inputs, *launch.outputs))

    def by_reference(self, inputs: Sequence[torch.Tensor], scalars: Mapping[str, float]) -> Any:
        """What the reference gives: a tensor, or one for each result.

        Raises:
            KernelError: there is none.
        """
        if self.reference is None:
            raise KernelError(f"{self.name} has no reference: it runs on a GPU only")
        return self.reference(*inputs, **scalars)

    def shape_of(self, launch: Launch) -> tuple[int, ...]:
        """The shape that states the problem of a launch."""
        if self.sizes:
            return tuple(launch.dims[name] for name in self.sizes)
        return launch.inputs[0].shape

    def shape_text(self, shape: Sequence[int]) -> str:
        """A shape as a person gives it: `64,128,254,254`, or `M=16 N=4096 K=4096`."""
        if self.sizes:
            return " ".join(f"{name}={size}" for name, size in zip(self.sizes, shape, strict=True))
        return ",".join(map(str, shape))

    def scalar_values(self, given: Mapping[str, float] | None = None) -> dict[str, float]:
        """The scalars of a run: the kernel's own values, overridden by `given`.

        Raises:
            KernelError: `given` names a scalar the kernel does not have.
        """
        values = dict(self.scalars)
        for name, value in (given or {}).items():
            if name not in values:
                has = ", ".join(values) or "none"
                raise KernelError(f"{self.name} has no scalar {name!r}; it has: {has}")
            values[name] = float(value)
        return values


def pointwise(
    name: str,
    *,
    epilogue: Any,
    reference: Reference,
    scalars: Mapping[str, float] | None = None,
    input_count: int = 1,
    space: str = "pointwise",
    summary: str = "",
) -> Kernel:
    """A fused element-wise kernel from its epilogue.

    Args:
        name: how it is called.
        epilogue: a `@triton.jit` function of one float32 value for each input, then the scalars.
        reference: the same in eager PyTorch, `reference(*inputs, **scalars)`.
        scalars: run-time scalars and the values tuning uses, in the epilogue's order.
        input_count: number of inputs, all of one shape.
        space: a shipped space or a path.
        summary: one line that says what it computes.

    Raises:
        KernelError: the epilogue is no `@triton.jit` function.
    """
    if not is_jit(epilogue):
        raise KernelError(f"{name}: the epilogue must be a @triton.jit function, got {epilogue!r}")
    scalars = {each: float(value) for each, value in (scalars or {}).items()}
    return Kernel(
        name=name,
        plan=plan_pointwise(epilogue, tuple(scalars)),
        reference=reference,
        space=space,
        input_count=input_count,
        scalars=scalars,
        functions=(pointwise_kernel, epilogue),
        check_shape=pointwise_check_shape,
        elementwise=True,
        summary=summary,
    )
