"""Launch a kernel on real tensors: plan once for each kind of them, then only launch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from triton.errors import TritonError

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.errors import SpaceError
from tunekit.evaluate.text import one_line
from tunekit.gpu import device_at
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch, TensorMeta
from tunekit.runtime import advice, binaries, fast, lookup, recording
from tunekit.runtime.bind import Binder
from tunekit.runtime.direct import Direct, direct_launch, is_proven
from tunekit.runtime.lookup import Choice

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, on the CPU: `TRITON_INTERPRET=1`, read when this
module is loaded as Triton reads it when a kernel is defined."""

EAGER = os.environ.get("TUNEKIT_EAGER", "") not in ("", "0")
"""Whether the eager references run instead of kernels: `TUNEKIT_EAGER=1`, read when this module is
loaded."""

_INTERPRETED_AS = DEVICES["rtx4090"]
"""The GPU that launches on CPU tensors are planned for."""
_MOST_PLANS = 4096
_POINTER_ALIGNMENT = 16

Key = tuple[object, ...]
Tensors = Sequence[torch.Tensor]


@dataclass(slots=True)
class Planned:
    """Everything of a call that follows from its tensors' metadata.

    Attributes:
        kernel: kept so that its `id`, which is part of the key, stays its own.
        shape: what states the problem to who would tune it.
        direct: launches without Triton's own call, once it is known how and where that is proven.
        tried: whether word of an earlier process was looked for.
        choice: which configuration it is, and `others` what is served where it cannot be launched.
        tally: counts its launches, once they were recorded.
    """

    kernel: Kernel
    launch: Launch
    config: Config
    grid: tuple[int, int, int]
    bind: Binder
    shape: tuple[int, ...]
    direct: Direct | None = None
    tried: bool = False
    choice: Choice | None = None
    others: Iterator[Choice] | None = None
    tally: recording.Tally | None = None

    @property
    def aligned(self) -> bool:
        """Whether all tensors start at a multiple of 16 bytes."""
        return not any(meta.misalignment for meta in (*self.launch.inputs, *self.launch.outputs))

    def run(self, inputs: Tensors, outputs: Tensors, scalars: Mapping[str, float]) -> None:
        """Launch on the current device; the first time learn how to launch directly."""
        if outputs[0].is_cuda and self.direct is None:
            self.first(_device_of(outputs[0]), inputs, outputs, scalars)
        elif self.direct is not None and not fast.is_hooked():
            self.directly(self.direct, inputs, outputs, scalars)
        else:
            self.start(inputs, outputs, scalars)

    def directly(
        self,
        direct: Direct,
        inputs: Tensors,
        outputs: Tensors,
        scalars: Mapping[str, float],
    ) -> None:
        """Launch on the current stream of the current device, without Triton's own call."""
        pointers = tuple([x.data_ptr() for x in (*inputs, *outputs)])
        stream = torch.cuda.current_stream().cuda_stream
        direct(stream, pointers, tuple(scalars.values()))

    def start(self, inputs: Tensors, outputs: Tensors, scalars: Mapping[str, float]) -> Any:
        """Launch on the current stream of the current device, by Triton's own call.

        Returns:
            What that returns: the compiled kernel.
        """
        return self.launch.function[self.grid](**self.bind(inputs, outputs, scalars))

    def first(
        self,
        device: Device,
        inputs: Tensors,
        outputs: Tensors,
        scalars: Mapping[str, float],
    ) -> None:
        """Launch on a GPU and learn how to launch directly from now on.

        An earlier process may have left word where the binary is; else Triton's own call finds it.
        """
        if is_proven() and self.aligned and not self.tried and not fast.is_hooked():
            self.tried = True
            self.direct = self._remembered(device)
        if self.direct is not None:
            self.directly(self.direct, inputs, outputs, scalars)
            return
        compiled = self.start(inputs, outputs, scalars)
        if self.aligned:
            self.direct = self._direct(compiled)
        if self.direct is not None:
            binaries.save(self.kernel, self.launch, self.config, device, compiled)

    def _remembered(self, device: Device) -> Direct | None:
        try:
            return self._direct(binaries.load(self.kernel, self.launch, self.config, device))
        except RuntimeError:  # the driver cannot load what lies there now: Triton may compile anew
            return None

    def _direct(self, compiled: Any) -> Direct | None:
        names = tuple(self.kernel.scalars)
        return direct_launch(self.launch, self.config, self.grid, compiled, names)


_plans: dict[Key, Planned] = {}
"""Oldest first, at most `_MOST_PLANS`."""
_lock = threading.Lock()

on_reload: list[Callable[[], None]] = []
"""What else forgets when the databases are read again."""


def can_launch(tensor: torch.Tensor) -> bool:
    """Whether kernels run, in this process, where that tensor is."""
    return not EAGER and (tensor.is_cuda or (INTERPRETED and tensor.is_cpu))


def run(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    output: torch.Tensor,
    scalars: Mapping[str, float],
) -> None:
    """Fill `output` with the kernel's result, with the configuration the call is served.

    Nothing is checked here. Tensors of an element-wise kernel are of one dtype, one shape and one
    dense layout, and all are on one device, where kernels run.

    Args:
        kernel: what to run.
        inputs: its tensors.
        output: may be one of the inputs if the kernel is element-wise.
        scalars: a value for each of the kernel's scalars.

    Raises:
        SpaceError: nothing is tuned and the kernel's space has no default here.
    """
    if output.numel() == 0:
        return
    key = _key(kernel, inputs, output)
    planned = _plans.get(key) or _remember(key, _plan(kernel, inputs, output))
    is_recorded = recording.is_on()
    direct = launch(key, planned, inputs, (output,), scalars)
    if direct is not None and (kernel.elementwise or kernel.batched):
        fast.fast_of(kernel).learn(inputs, direct)
        if recording.is_on() != is_recorded:  # switched by another thread, which forgot too early
            fast.forget()


def launch(
    key: Key, planned: Planned, inputs: Tensors, outputs: Tensors, scalars: Mapping[str, float]
) -> Direct | None:
    """Launch what was planned; where its configuration cannot be, the next one from now on.

    Args:
        key: what the plan is kept under.
        planned: the plan.
        inputs: its tensors.
        outputs: those it fills.
        scalars: a value for each of the kernel's scalars.

    Returns:
        How such tensors are launched directly from now on, counted where launches are recorded;
        None where they cannot be.
    """
    index = outputs[0].get_device()
    while True:
        try:
            if index < 0 or index == torch.cuda.current_device():
                planned.run(inputs, outputs, scalars)
            else:
                with torch.cuda.device(index):
                    planned.run(inputs, outputs, scalars)
            break
        except (TritonError, RuntimeError) as error:
            if not _is_of_the_configuration(error):
                raise
            planned = _remember(key, _replanned(planned, error))
    direct = planned.direct
    if recording.is_on() and (tally := _tally(planned, outputs[0])) is not None:
        tally.count()
        direct = direct and recording.counted(direct, tally)
    return direct


def planned_for(kernel: Kernel, inputs: Tensors) -> tuple[Key, Planned]:
    """The plan of a kernel that says itself what its outputs are, and what it is kept under.

    Raises:
        KernelError: the plan refuses such inputs.
        SpaceError: nothing is tuned and the kernel's space has no default here.
    """
    key = (id(kernel), inputs[0].get_device(), *[TensorMeta.of(x) for x in inputs])
    planned = _plans.get(key)
    if planned is None:
        device = _device_of(inputs[0])
        metas = [TensorMeta.of(x) for x in inputs]
        planned = _remember(key, _chosen(kernel, kernel.plan(metas, device), device, inputs[0]))
    return key, planned


def plan_of(kernel: Kernel, inputs: Tensors) -> Launch:
    """The launch of such inputs, where no configuration is needed.

    Raises:
        KernelError: the plan refuses them.
    """
    return kernel.plan([TensorMeta.of(x) for x in inputs], _device_of(inputs[0]))


def _tally(planned: Planned, output: torch.Tensor) -> recording.Tally | None:
    """Counts the launches of a plan; None in the interpreter, where no configuration is served."""
    if planned.tally is None and planned.choice is not None:
        kernel, launch = planned.kernel, planned.launch
        planned.tally = recording.tally_of(
            kernel, planned.choice, launch, _device_of(output), planned.shape
        )
    return planned.tally


def reload() -> None:
    """Forget what was read, planned and warned of: the next call reads the databases again."""
    for forget in on_reload:
        forget()
    lookup.forget()
    advice.forget()
    fast.forget()
    with _lock:
        _plans.clear()


def _key(kernel: Kernel, inputs: Sequence[torch.Tensor], output: torch.Tensor) -> Key:
    """What a plan depends on; scalars are not in it, a plan never sees them."""
    if kernel.elementwise:
        places = [tensor.data_ptr() % _POINTER_ALIGNMENT for tensor in (*inputs, output)]
        return (id(kernel), output.get_device(), output.dtype, output.numel(), *places)
    metas = [TensorMeta.of(tensor) for tensor in (*inputs, output)]
    return (id(kernel), output.get_device(), *metas)


def _plan(kernel: Kernel, inputs: Sequence[torch.Tensor], output: torch.Tensor) -> Planned:
    device = _device_of(output)
    launch = kernel.plan([_meta(kernel, tensor) for tensor in inputs], device)
    # A plan describes the outputs it would allocate; this one is there, and may be unaligned.
    launch = replace(launch, outputs=(_meta(kernel, output),))
    return replace(_chosen(kernel, launch, device, output), shape=tuple(inputs[0].shape))


def _chosen(kernel: Kernel, launch: Launch, device: Device, tensor: torch.Tensor) -> Planned:
    """A launch with the configuration it is served."""
    if not tensor.is_cuda:
        return _planned(kernel, launch, kernel.default(launch, device))
    others = lookup.choices(kernel, launch, device)
    choice = next(others)
    if choice.served is lookup.Served.DEFAULT:
        shape = kernel.shape_of(launch) if kernel.sizes else tensor.shape
        advice.warn_untuned(kernel, launch, device, shape)
    return replace(_planned(kernel, launch, choice.config), choice=choice, others=others)


def _planned(kernel: Kernel, launch: Launch, config: Config) -> Planned:
    return Planned(
        kernel, launch, config, launch.grid(config), Binder(launch, config), kernel.shape_of(launch)
    )


def _replanned(planned: Planned, error: Exception) -> Planned:
    """The same launch with the next configuration.

    Raises:
        The error, where there is no other.
    """
    try:
        choice = next(planned.others or iter(()), None)
    except SpaceError:  # no default either
        choice = None
    if choice is None or planned.choice is None:
        raise error
    why = one_line(error)
    advice.warn_unusable(planned.kernel, planned.choice, why, choice)
    made = _planned(planned.kernel, planned.launch, choice.config)
    return replace(made, shape=planned.shape, choice=choice, others=planned.others)


def _is_of_the_configuration(error: Exception) -> bool:
    """Whether another configuration may run: this one does not compile, or does not fit."""
    return isinstance(error, TritonError) or "PassManager" in str(error)


def _meta(kernel: Kernel, tensor: torch.Tensor) -> TensorMeta:
    """Dense tensors of one layout are, to an element-wise kernel, runs of elements."""
    meta = TensorMeta.of(tensor)
    return replace(meta, shape=(meta.numel,), strides=(1,)) if kernel.elementwise else meta


def _device_of(tensor: torch.Tensor) -> Device:
    return device_at(tensor.get_device()) if tensor.is_cuda else _INTERPRETED_AS


def _remember(key: Key, planned: Planned) -> Planned:
    with _lock:
        while len(_plans) >= _MOST_PLANS:
            del _plans[next(iter(_plans))]
        _plans[key] = planned
    return planned
