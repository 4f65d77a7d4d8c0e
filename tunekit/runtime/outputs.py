"""Launch a kernel that says itself what its outputs are: allocate them, launch, hand them out.

A kind of tensors seen before takes one look into a dict, as in `runtime/fast.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import increment_version

from tunekit.core.problem import ITEMSIZES
from tunekit.errors import KernelError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Input, Launch, TensorMeta
from tunekit.runtime import call, fast, recording
from tunekit.runtime.direct import Direct

_MOST_KINDS = 4096
_ALIGNED = 15
"""Bits of an address that are 0 when it is a multiple of 16."""

Allocate = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]
"""The outputs of a launch on these inputs, ready for it."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How tensors of one kind are launched."""

    kernel: Kernel  # kept: its `id` is in the key
    direct: Direct
    allocate: Allocate
    results: int
    in_place: tuple[int, ...]


_kinds: dict[tuple[Any, ...], _Kind] = {}


def outputs_of(
    kernel: Kernel, inputs: Sequence[torch.Tensor], scalars: Mapping[str, float]
) -> tuple[torch.Tensor, ...]:
    """The kernel's results, with the configuration the call is served.

    Args:
        kernel: whose plan names its outputs.
        inputs: tensors on one device, where kernels run.
        scalars: a value for each of the kernel's scalars, in its order.

    Raises:
        KernelError: the plan refuses such inputs.
        SpaceError: nothing is tuned and the kernel's space has no default here.
    """
    key, planned = call.planned_for(kernel, inputs)
    launch = planned.launch
    allocate = allocator(launch.with_(planned.config))
    outputs = allocate(inputs)
    results = tuple(outputs[: launch.result_count])
    in_place = _in_place(launch)
    if all(result.numel() for result in results):
        is_recorded = recording.is_on()
        direct = call.launch(key, planned, inputs, outputs, scalars)
        if direct is not None:
            if len(_kinds) >= _MOST_KINDS:
                _kinds.clear()
            kind = _Kind(kernel, direct, allocate, len(results), in_place)
            _kinds[id(kernel), fast.kind_of(inputs)] = kind
            if recording.is_on() != is_recorded:  # switched by another thread
                forget()
    for index in in_place:
        increment_version(outputs[index])
    return results


def launched_as_before(
    kernel: Kernel, inputs: Sequence[Any], scalars: tuple[float, ...]
) -> tuple[torch.Tensor, ...] | None:
    """The results for tensors of a kind seen before; None if the call has to go the long way.

    Args:
        kernel: whose plan names its outputs.
        inputs: anything.
        scalars: floats, in the kernel's order.
    """
    for x in inputs:
        if type(x) not in fast.PLAIN:
            return None
    kind = _kinds.get((id(kernel), fast.kind_of(inputs)))
    if kind is None or fast.must_be_seen():
        return None
    device = inputs[0].get_device()
    if device != fast.current_device():
        return None
    grad = torch.is_grad_enabled()
    for x in inputs:
        if x.is_neg() or (grad and x.requires_grad):
            return None
    outputs = kind.allocate(inputs)
    try:
        pointers = tuple([x.data_ptr() for x in (*inputs, *outputs)])
    except RuntimeError:  # a tensor that stands for others, as under vmap
        return None
    if any(pointer & _ALIGNED for pointer in pointers):
        return None
    kind.direct(fast.stream_of(device), pointers, scalars)
    for index in kind.in_place:
        increment_version(outputs[index])
    return tuple(outputs[: kind.results])


def allocator(launch: Launch) -> Allocate:
    """Makes the outputs of a launch: new ones, those that have to be zeroed, and in-place ones."""
    makers = [_maker(meta, launch, index) for index, meta in enumerate(launch.outputs)]

    def allocate(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [make(inputs) for make in makers]

    return allocate


def _maker(
    meta: TensorMeta, launch: Launch, index: int
) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    match launch.start_of(index):
        case Input(source):
            return lambda inputs: inputs[source]
        case None:
            return _empty(meta, launch)
        case value:
            empty = _empty(meta, launch)
            return lambda inputs: empty(inputs).fill_(value)


def _empty(meta: TensorMeta, launch: Launch) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
    """Allocates an output, in the way that costs the host least."""
    shape, strides, dtype = meta.shape, meta.strides, getattr(torch, meta.dtype)
    for index, like in enumerate(launch.inputs):
        if (like.shape, like.strides, like.dtype) == (shape, strides, meta.dtype):
            return lambda inputs: torch.empty_like(inputs[index])
    return lambda inputs: torch.empty_strided(shape, strides, dtype=dtype, device=inputs[0].device)


def _in_place(launch: Launch) -> tuple[int, ...]:
    return tuple(
        index for index in range(len(launch.outputs)) if isinstance(launch.start_of(index), Input)
    )


def forget() -> None:
    """Know no kind of any kernel any more."""
    _kinds.clear()


call.on_reload.append(forget)


def results_of(
    kernel: Kernel, inputs: Sequence[torch.Tensor], scalars: Mapping[str, float]
) -> tuple[torch.Tensor, ...]:
    """The results of a call: of a launch where kernels run, else of the reference.

    Args:
        kernel: whose plan names its outputs.
        inputs: what the caller gave.
        scalars: a value for each of the kernel's scalars, in its order.

    Raises:
        KernelError: an input is no tensor, of another device than the first, of a dtype that
            kernels have no tensors of, or autograd would have to follow the call; or the results
            of the reference are not what the plan says.
    """
    _check(kernel, inputs)
    if call.can_launch(inputs[0]):
        return outputs_of(kernel, inputs, scalars)
    from tunekit.evaluate.verify import as_results  # not where kernels run

    launch = call.plan_of(kernel, inputs)  # first: it says what is wrong with the inputs
    results = as_results(kernel.by_reference(inputs, scalars), kernel, launch.results)
    made = []
    for index, (result, meta) in enumerate(zip(results, launch.results, strict=True)):
        match launch.start_of(index):
            case Input(source):
                made.append(inputs[source].copy_(result))
            case _:
                made.append(result.to(getattr(torch, meta.dtype)))
    return tuple(made)


def _check(kernel: Kernel, inputs: Sequence[torch.Tensor]) -> None:
    for index, x in enumerate(inputs):
        if not isinstance(x, torch.Tensor):
            raise KernelError(f"{kernel.name}: input {index} is {type(x).__name__}, not a tensor")
        if x.device != inputs[0].device:
            raise KernelError(
                f"{kernel.name}: input {index} is on {x.device}, input 0 on {inputs[0].device}"
            )
        if str(x.dtype).removeprefix("torch.") not in ITEMSIZES:
            raise KernelError(f"{kernel.name}: input {index} is {x.dtype}, which no kernel takes")
    if not inputs:
        raise KernelError(f"{kernel.name} takes {kernel.input_count} tensors, got none")
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        raise KernelError(
            f"{kernel.name} has no backward, and a tensor requires grad: call it under "
            "torch.no_grad(), or from the forward of a torch.autograd.Function"
        )
