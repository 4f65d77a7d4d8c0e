"""Evaluate for a GPU that is not present: compile, reject, estimate."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tunekit.core.device import Device
from tunekit.core.evaluation import Binary, Status
from tunekit.core.problem import ITEMSIZES
from tunekit.errors import TunekitError
from tunekit.evaluate.binary import BlockPath, full_block_path, parse_ptx
from tunekit.evaluate.compile import compile_for, compile_launch
from tunekit.evaluate.compilers import Compilers, Key, binary_key
from tunekit.evaluate.estimate import Work, estimate_us
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.text import one_line
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel


class CompileOnlyEvaluator:
    """Compiles for `device` with Triton's own compiler and estimates the time."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._known: dict[Key, tuple[Binary, BlockPath] | Outcome] = {}
        self._compilers = Compilers(device, processes=len(os.sched_getaffinity(0)))
        compile_for(device)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Begin to compile what is not compiled yet."""
        self._compilers.submit(jobs)

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Compile jobs; yields (index, outcome) as each is known."""
        return self._compilers.outcomes(jobs)

    def evaluate(self, job: Job) -> Outcome:
        """Compile, reject what does not fit, estimate; verifying is the interpreter's part."""
        compiled = self._compilers.outcome(job)
        if compiled.status is not Status.OK:
            return compiled
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, self._device)
        key = binary_key(job, launch)
        if key not in self._known:
            self._known[key] = _loaded(kernel, launch, job)
        known = self._known[key]
        if isinstance(known, Outcome):
            return known
        binary, path = known
        work = Work(
            kernel.bytes_moved(launch),
            math.prod(launch.grid(job.config)),
            launch.repeats(job.config),
            launch.run_bytes(job.config),
            _tensor_flops(kernel, launch, job.dtype),
        )
        time_us = estimate_us(work, binary, path, job.config, self._device)
        return replace(compiled, time_us=time_us)


def _tensor_flops(kernel: Kernel, launch: Launch, dtype: str) -> float:
    """Operations of a kernel that says how many it has, counted as 16-bit ones."""
    if kernel.flops is None:
        return 0.0
    return kernel.flops(launch.dims) * max(ITEMSIZES[dtype] / 2, 1)


def _loaded(kernel: Kernel, launch: Launch, job: Job) -> tuple[Binary, BlockPath] | Outcome:
    """From Triton's cache, where it is now."""
    try:
        compiled = compile_launch(launch, job.config, kernel.scalar_values(job.scalars))
    except TunekitError:
        raise
    except Exception as failure:
        return Outcome(Status.COMPILE_ERROR, reason=one_line(failure))
    return compiled.binary, full_block_path(parse_ptx(compiled.kernel.asm["ptx"]))
