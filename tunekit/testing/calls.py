"""Call a kernel as a model does, and compare what comes back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tunekit import ops
from tunekit.errors import KernelError
from tunekit.evaluate.guards import FINITE
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.tensors import clone_of, differing
from tunekit.evaluate.trial import Trial
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Input, TensorMeta
from tunekit.kernels.stand_ins import stand_in
from tunekit.notices import TunekitWarning
from tunekit.planned import PlannedKernel
from tunekit.runtime.call import can_launch
from tunekit.testing.layouts import whole
from tunekit.testing.place import Place

Caller = Callable[[Sequence[torch.Tensor]], Any]


class CallRefusedError(Exception):
    """The call does not take such tensors; the message is the kernel's own."""


def caller_of(kernel: Kernel, scalars: Mapping[str, float]) -> Caller | None:
    """What a model calls; None if it is no function of its own."""
    if isinstance(kernel, PlannedKernel):
        return lambda tensors: kernel(*tensors, **scalars)
    if kernel.elementwise:
        values: dict[str, Any] = dict(scalars)
        return lambda tensors: ops.call(kernel, *tensors, **values)
    return None


def fault_of(
    caller: Caller,
    trial: Trial,
    values: Sequence[torch.Tensor],
    metas: Sequence[TensorMeta],
    place: Place,
) -> str:
    """What is wrong with a call; empty if nothing.

    Args:
        caller: what is called.
        trial: of the launch on dense tensors, which says what is expected.
        values: of the inputs, dense.
        metas: the layout to call it with.
        place: where it runs.

    Raises:
        CallRefusedError: the kernel takes no such tensors.
    """
    tensors = [stand_in(meta, place.tensors) for meta in metas]
    if not can_launch(tensors[0]):
        return ""
    for x, own in zip(tensors, values, strict=True):
        whole(x).zero_()  # gaps: an index among them would lead anywhere
        x.copy_(own)
    before = [clone_of(x) for x in tensors]
    kernel, launch = trial.kernel, trial.launch
    judge = Judge.of(kernel, launch, values, trial.scalars, trial.run_default, keep=False)
    made: list[Any] = []

    def call() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TunekitWarning)  # that nothing is tuned yet
            made.append(caller(tensors))

    try:
        place.quietly(call)
    except KernelError as error:
        raise CallRefusedError(str(error)) from error
    results = made[0] if isinstance(made[0], tuple) else (made[0],)
    sources = {
        index: start.index
        for index in range(len(results))
        if isinstance(start := launch.start_of(index), Input)
    }
    for index, source in sources.items():
        if results[index] is not tensors[source]:
            return f"result {index} is not the tensor that it is put into"
    worst = judge.error_of(results)
    if worst > 1.0:
        return judge.describe(results, worst, FINITE, "when called")
    changed = differing(zip(tensors, before, strict=True))
    others = [index for index in changed if index not in sources.values()]
    return f"changes input {others[0]} when called" if others else ""
