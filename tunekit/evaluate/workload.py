"""A problem's tensors on the GPU, made once for all its configurations."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.errors import DeviceMemoryError
from tunekit.evaluate.guards import Buffers, fingerprint
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.job import Job
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.racer import Racer
from tunekit.evaluate.rotation import SPAN_CACHES, Rotation, rotation_of
from tunekit.evaluate.verify import RunDefault
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel

_SPARE_BYTES = 2**30 + 2**28
"""What computing the reference and comparing with it need besides, a part at a time."""
_OTHER_SEED = 104729
"""Between the values that are timed and those that prove a time."""


@dataclass(frozen=True)
class Workload:
    """A problem's tensors: inputs, outputs, who judges them, buffers to rotate.

    Attributes:
        buffers: the inputs and the outputs, between guards; the rotation's first set.
        racing: who was in the last race, by configuration; None is the copy.
    """

    kernel: Kernel
    launch: Launch
    job: Job
    buffers: Buffers
    judge: Judge
    rotation: Rotation
    _run_default: Callable[[Launch], RunDefault]
    _fingerprint: torch.Tensor
    racing: dict[Config | None, Racer] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, device: Device, run_default: Callable[[Launch], RunDefault]) -> Workload:
        """The tensors of a job's problem.

        Args:
            job: one of the problem's.
            device: the GPU's facts.
            run_default: what launches the default configuration, of a launch.

        Raises:
            DeviceMemoryError: they do not fit.
            KernelError: the reference's results are not what the plan says.
        """
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, device)
        spare_bytes = _spare_bytes(kernel, launch, job, device)
        buffers = Buffers.of(launch, "cuda")
        inputs, outputs = buffers.inputs, buffers.outputs
        draw_for(kernel, inputs, job.shape, job.dtype, job.seed)
        scalars = kernel.scalar_values(job.scalars)
        keep = sum(output.nbytes for output in outputs) <= spare_bytes
        judge = Judge.of(kernel, launch, inputs, scalars, run_default(launch), keep=keep)
        judge.rehearse()
        rotation = rotation_of(inputs, outputs, device.l2_bytes, job.warm, launch)
        marks = fingerprint(inputs)
        return cls(kernel, launch, job, buffers, judge, rotation, run_default, marks)

    def trespass(self) -> str:
        """What was written that is not the output, in words; empty if nothing.

        After that the tensors are not to be trusted: others may have been hit that no guard saw.
        """
        if beside := self.buffers.damage():
            return beside
        changed = (fingerprint(self.buffers.inputs) != self._fingerprint).nonzero().flatten()
        return f"changes input {int(changed[0])}" if len(changed) else ""

    def judge_of_other_values(self) -> Judge:
        """Put other values into every input, and return who knows what they should give."""
        self._redraw(self.job.seed + _OTHER_SEED)
        scalars = self.kernel.scalar_values(self.job.scalars)
        run_default = self._run_default(self.launch)
        return Judge.of(
            self.kernel, self.launch, self.buffers.inputs, scalars, run_default, keep=False
        )

    def restore_values(self) -> None:
        """Put back the values that are timed."""
        self._redraw(self.job.seed)

    def _redraw(self, seed: int) -> None:
        draw_for(self.kernel, self.buffers.inputs, self.job.shape, self.job.dtype, seed)
        for others in self.rotation.inputs[1:]:
            for x, drawn in zip(others, self.buffers.inputs, strict=True):
                x.copy_(drawn)


def _spare_bytes(kernel: Kernel, launch: Launch, job: Job, device: Device) -> int:
    """Bytes of the GPU that the problem leaves free.

    Raises:
        DeviceMemoryError: it does not fit.
    """
    results = sum(meta.numel for meta in launch.results)
    allocated = kernel.allocated_bytes(launch)
    # Two references: of the values that are timed, and of others.
    needed = allocated + 2 * 4 * results + _SPARE_BYTES
    needed += max(0, SPAN_CACHES * device.l2_bytes - allocated)
    if not (kernel.elementwise or kernel.batched):  # computed in float64 in one piece
        needed += 16 * results + 8 * sum(meta.numel for meta in launch.inputs)
    free = _free_bytes()
    kept = sum(meta.numel * meta.itemsize for meta in launch.results)
    if needed + kept > free:
        gc.collect()  # the last problem's tensors may be in it
        free = _free_bytes()
    if needed > free:
        raise DeviceMemoryError(
            f"{kernel.name} at {kernel.shape_text(job.shape)} {job.dtype} needs "
            f"{needed / 1e9:.1f} GB (inputs, outputs, reference) and {free / 1e9:.1f} GB of the "
            "GPU are free: use a smaller --shape or --dim"
        )
    return free - needed


def _free_bytes() -> int:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return free
