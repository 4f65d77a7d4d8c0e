"""Evaluate for a GPU that is not present: compile, reject, estimate."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from tunekit.core.device import Device
from tunekit.core.evaluation import Binary, Status
from tunekit.errors import TunekitError
from tunekit.evaluate.binary import BlockPath, full_block_path, parse_ptx
from tunekit.evaluate.compile import compile_ahead, compile_for, compile_launch
from tunekit.evaluate.estimate import Work, estimate_us
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.limits import unfit_reason
from tunekit.evaluate.text import one_line
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch, alignment_class
from tunekit.kernels.registry import find_kernel


class CompileOnlyEvaluator:
    """Compiles for `device` with Triton's own compiler and estimates the time."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._known: dict[object, tuple[Binary, BlockPath] | Outcome] = {}
        compile_for(device)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Compile ahead, in parallel, what is not compiled yet."""
        items = []
        for job in jobs:
            kernel = find_kernel(job.kernel)
            launch = kernel.launch_for(job.shape, job.dtype, self._device)
            if _binary_key(job, launch) not in self._known:
                items.append((launch, job.config, kernel.scalar_values(job.scalars)))
        if len(items) > 1:
            compile_ahead(items, threads=os.cpu_count() or 1)

    def evaluate(self, job: Job) -> Outcome:
        """Compile, reject what does not fit, estimate; verifying is the interpreter's part."""
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, self._device)
        key = _binary_key(job, launch)
        if key not in self._known:
            self._known[key] = _compiled(kernel, launch, job)
        known = self._known[key]
        if isinstance(known, Outcome):
            return known
        binary, path = known
        if reason := unfit_reason(binary, job.config, self._device):
            return Outcome(Status.REJECTED, reason=reason, binary=binary)
        blocks = math.prod(launch.grid(job.config))
        work = Work(
            kernel.bytes_moved(launch),
            blocks,
            launch.repeats(job.config),
            launch.run_bytes(job.config),
        )
        time_us = estimate_us(work, binary, path, job.config, self._device)
        return Outcome(Status.OK, time_us=time_us, binary=binary)


def _binary_key(job: Job, launch: Launch) -> object:
    """Problems of one class, whatever their size, run one binary."""
    return (job.kernel, job.dtype, alignment_class(launch), job.config)


def _compiled(kernel: Kernel, launch: Launch, job: Job) -> tuple[Binary, BlockPath] | Outcome:
    try:
        compiled = compile_launch(launch, job.config, kernel.scalar_values(job.scalars))
    except TunekitError:
        raise
    except Exception as failure:
        return Outcome(Status.COMPILE_ERROR, reason=one_line(failure))
    return compiled.binary, full_block_path(parse_ptx(compiled.kernel.asm["ptx"]))
