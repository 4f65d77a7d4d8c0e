"""Check a configuration's arithmetic in Triton's interpreter, on the CPU.

The interpreter ignores num_warps and num_stages as launch options, cannot race and truncates
bfloat16, so this verifies arithmetic and indexing, never the binary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Status, VerifiedBy
from tunekit.errors import TunekitError
from tunekit.evaluate.compile import ordered_arguments
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.text import full_text, one_line
from tunekit.evaluate.trial import NO_REFERENCE, Run, Trial
from tunekit.kernels.registry import find_kernel
from tunekit.kernels.small import small_shape

_MOST_PROGRAMS = 12
_ALL_PATTERNS = 2**16


class InterpreterEvaluator:
    """Runs configurations under TRITON_INTERPRET=1, which must be set before Triton is imported.

    Args:
        device: the GPU the launch is planned for; here it is given one SM that holds two blocks,
            so that a grid-stride loop goes round at a small size too.
    """

    def __init__(self, device: Device) -> None:
        self._device = dataclasses.replace(device, sm_count=1, max_blocks_per_sm=2)
        self._known: dict[object, Outcome] = {}

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Nothing to do ahead."""

    def evaluate(self, job: Job) -> Outcome:
        """Run once for all problems and configurations that come to the same check."""
        shape = self._shape(job)
        key = (job.kernel, job.dtype, job.seed, shape, tuple(job.scalars.items()),
               tuple(job.config.meta().items()), job.config.get("num_stages", 1))  # fmt: skip
        if key not in self._known:
            self._known[key] = self._evaluate(job, shape)
        return self._known[key]

    def _shape(self, job: Job) -> tuple[int, ...]:
        """Room for all 65,536 values where few programs fill it, else the smallest check."""
        kernel = find_kernel(job.kernel)
        rest = (job.dtype, self._device)
        shape = small_shape(kernel, job.shape, job.config, _ALL_PATTERNS, *rest)
        if kernel.check_shape is None or self._programs(shape, job) <= _MOST_PROGRAMS:
            return shape
        return small_shape(kernel, job.shape, job.config, 0, *rest)

    def _evaluate(self, job: Job, shape: tuple[int, ...]) -> Outcome:
        kernel = find_kernel(job.kernel)
        scalars = kernel.scalar_values(job.scalars)
        launch = kernel.launch_for(shape, job.dtype, self._device)

        def launched(config: Config) -> Run:
            def run(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
                arguments = launch.bind(inputs, outputs, scalars, config)
                launch.function[launch.grid(config)](
                    **ordered_arguments(launch.function, arguments)
                )

            return run

        where = f"in the interpreter at {kernel.shape_text(shape)}"
        try:
            default = launched(kernel.default(launch, self._device))
            run = launched(job.config)
            trial = Trial(
                kernel, launch.with_(job.config), shape, job.dtype, scalars, where, run, default
            )
            checked = trial.twice(job.seed, "cpu")
        except TunekitError:
            raise
        except Exception as failure:
            return Outcome(Status.ERROR, reason=one_line(failure), details=full_text(failure))
        if checked.fault:
            return Outcome(Status.WRONG, reason=checked.fault, max_error=checked.error)
        reason = "" if kernel.reference else NO_REFERENCE
        return Outcome(
            Status.OK, reason, verified_by=VerifiedBy.INTERPRETER, max_error=checked.error
        )

    def _programs(self, shape: tuple[int, ...], job: Job) -> int:
        flat = dataclasses.replace(self._device, sm_count=2**20)
        x, y, z = find_kernel(job.kernel).launch_for(shape, job.dtype, flat).grid(job.config)
        return x * y * z
