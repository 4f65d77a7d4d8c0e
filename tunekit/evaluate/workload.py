"""A problem's tensors on the GPU, made once for all its configurations."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

import torch

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.errors import DeviceMemoryError
from tunekit.evaluate.guards import Buffers, fingerprint
from tunekit.evaluate.inputs import draw
from tunekit.evaluate.job import Job
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.racer import Racer
from tunekit.evaluate.rotation import SPAN_CACHES, Rotation, rotation_of
from tunekit.evaluate.verify import expected_output
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel

_SPARE_BYTES = 2**30 + 2**28
"""What computing the reference and comparing with it need besides, a part at a time."""
_OTHER_SEED = 104729
"""Between the values that are timed and those that prove a time."""


@dataclass(frozen=True)
class Workload:
    """A problem's tensors: inputs, output, who judges it, buffers to rotate.

    Attributes:
        buffers: the inputs and the output, between guards; the rotation's first set.
        racing: who was in the last race, by configuration; None is the copy.
    """

    kernel: Kernel
    launch: Launch
    job: Job
    buffers: Buffers
    judge: Judge
    rotation: Rotation
    _fingerprint: torch.Tensor
    racing: dict[Config | None, Racer] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, device: Device) -> Workload:
        """The tensors of a job's problem.

        Raises:
            DeviceMemoryError: they do not fit.
        """
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, device)
        spare_bytes = _spare_bytes(kernel, launch, job, device)
        buffers = Buffers.of(launch, "cuda")
        draw(buffers.inputs, job.seed)
        output = buffers.output
        scalars = kernel.scalar_values(job.scalars)
        expected = expected_output(kernel, buffers.inputs, scalars, launch.outputs[0])
        judge = Judge(expected, job.dtype, keep=output.nbytes <= spare_bytes)
        judge.rehearse()
        rotation = rotation_of(buffers.inputs, output, device.l2_bytes, job.warm)
        marks = fingerprint(buffers.inputs)
        return cls(kernel, launch, job, buffers, judge, rotation, marks)

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
        expected = expected_output(
            self.kernel, self.buffers.inputs, scalars, self.launch.outputs[0]
        )
        return Judge(expected, self.job.dtype, keep=False)

    def restore_values(self) -> None:
        """Put back the values that are timed."""
        self._redraw(self.job.seed)

    def _redraw(self, seed: int) -> None:
        draw(self.buffers.inputs, seed)
        for others in self.rotation.inputs[1:]:
            for x, drawn in zip(others, self.buffers.inputs, strict=True):
                x.copy_(drawn)


def _spare_bytes(kernel: Kernel, launch: Launch, job: Job, device: Device) -> int:
    """Bytes of the GPU that the problem leaves free.

    Raises:
        DeviceMemoryError: it does not fit.
    """
    outputs = sum(meta.numel for meta in launch.outputs)
    # Two references: of the values that are timed, and of others.
    needed = kernel.bytes_moved(launch) + 2 * 4 * outputs + _SPARE_BYTES
    needed += max(0, SPAN_CACHES * device.l2_bytes - kernel.bytes_moved(launch))
    if not (kernel.elementwise or kernel.batched):
        needed += 16 * outputs
    free = _free_bytes()
    if needed + outputs * launch.outputs[0].itemsize > free:
        gc.collect()  # the last problem's tensors may be in it
        free = _free_bytes()
    if needed > free:
        raise DeviceMemoryError(
            f"{kernel.name} at {','.join(map(str, job.shape))} {job.dtype} needs "
            f"{needed / 1e9:.1f} GB (inputs, output, reference) and {free / 1e9:.1f} GB of the "
            "GPU are free: use a smaller --shape"
        )
    return free - needed


def _free_bytes() -> int:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return free
