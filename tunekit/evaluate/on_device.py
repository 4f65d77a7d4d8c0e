"""Evaluate on the GPU that is present: compile, verify with the very binary measured, measure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tunekit.core.device import Device
from tunekit.core.evaluation import Status, VerifiedBy
from tunekit.errors import DeviceMemoryError, TunekitError
from tunekit.evaluate.compile import Compiled, compile_ahead, compile_launch, ordered_arguments
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.limits import unfit_reason
from tunekit.evaluate.measure import (
    Rotation,
    Timer,
    interleaved_us,
    median_us,
    rotation_of,
)
from tunekit.evaluate.text import one_line
from tunekit.evaluate.verify import (
    check_inputs,
    describe_error,
    error_of,
    expected_output,
    random_input,
)
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch, alignment_class
from tunekit.kernels.registry import find_kernel

_SAMPLE_BUDGET_US = 12_000.0
_FEWEST_SAMPLES, _MOST_SAMPLES = 5, 15
_CHECK_ELEMENTS = 2**16
_SPARE_BYTES = 2**29


@dataclass(frozen=True)
class Workload:
    """A problem's tensors, made once: inputs, output, what it should hold, buffers to rotate."""

    kernel: Kernel
    launch: Launch
    inputs: tuple[torch.Tensor, ...]
    expected: torch.Tensor
    rotation: Rotation


class DeviceEvaluator:
    """Evaluates on one GPU, the process's current one.

    Args:
        device: the GPU's facts.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._workloads: dict[Any, Workload] = {}
        self._compiled: dict[Any, Compiled] = {}

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Compile ahead, in parallel, what is not compiled yet."""
        items = []
        for job in jobs:
            kernel = find_kernel(job.kernel)
            launch = kernel.launch_for(job.shape, job.dtype, self._device)
            items.append((launch, job.config, kernel.scalar_values(job.scalars)))
        if len(items) > 1:
            compile_ahead(items, threads=os.cpu_count() or 1)

    def evaluate(self, job: Job) -> Outcome:
        """Compile, reject what does not fit, verify, measure."""
        workload = self._workload(job)
        try:
            compiled = self._compile(workload, job)
        except TunekitError:
            raise
        except Exception as failure:
            return Outcome(Status.COMPILE_ERROR, reason=one_line(failure))
        if reason := unfit_reason(compiled.binary, job.config, self._device):
            return Outcome(Status.REJECTED, reason=reason, binary=compiled.binary)
        error, where = self._verify(workload, compiled, job)
        if error > 1.0:
            return Outcome(
                Status.WRONG,
                reason=describe_error(error, where),
                binary=compiled.binary,
                max_error=error,
            )
        samples = self._timer(workload, compiled, job).samples_us(
            _SAMPLE_BUDGET_US, _FEWEST_SAMPLES, _MOST_SAMPLES
        )
        return Outcome(
            Status.OK,
            verified_by=VerifiedBy.DEVICE,
            time_us=median_us(samples),
            samples_us=samples,
            binary=compiled.binary,
            max_error=error,
        )

    def race(self, jobs: Sequence[Job], rounds: int) -> list[tuple[float, ...]]:
        """Interleaved samples of several configurations of a problem, and of a plain copy last."""
        workload = self._workload(jobs[0])
        timers = [self._timer(workload, self._compile(workload, job), job) for job in jobs]
        rotation = workload.rotation

        def copy(index: int) -> None:
            rotation.outputs[index].copy_(rotation.inputs[index][0])

        return interleaved_us([*timers, Timer(copy, rotation)], rounds)

    def _workload(self, job: Job) -> Workload:
        key = (job.kernel, job.shape, job.dtype, job.seed, tuple(job.scalars.items()))
        if key not in self._workloads:
            self._workloads.clear()  # one problem's tensors at a time
            self._workloads[key] = self._make_workload(job)
        return self._workloads[key]

    def _make_workload(self, job: Job) -> Workload:
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, self._device)
        self._refuse_too_big(kernel, launch, job)
        inputs = tuple(
            random_input(meta.shape, meta.dtype, job.seed + index, "cuda")
            for index, meta in enumerate(launch.inputs)
        )
        output = torch.empty(
            launch.outputs[0].shape, dtype=getattr(torch, launch.outputs[0].dtype), device="cuda"
        )
        scalars = kernel.scalar_values(job.scalars)
        expected = expected_output(kernel, inputs, scalars)
        rotation = rotation_of(inputs, output, self._device.l2_bytes)
        return Workload(kernel, launch, inputs, expected, rotation)

    def _refuse_too_big(self, kernel: Kernel, launch: Launch, job: Job) -> None:
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        outputs = sum(meta.numel for meta in launch.outputs)
        needed = kernel.bytes_moved(launch) + 4 * outputs + _SPARE_BYTES
        needed += min(2 * self._device.l2_bytes, 2**30)
        if not kernel.elementwise:
            needed += 16 * outputs
        if needed > free:
            raise DeviceMemoryError(
                f"{kernel.name} at {','.join(map(str, job.shape))} {job.dtype} needs "
                f"{needed / 1e9:.1f} GB (inputs, output, reference) and {free / 1e9:.1f} GB of the "
                "GPU are free: use a smaller --shape"
            )

    def _compile(self, workload: Workload, job: Job) -> Compiled:
        scalars = workload.kernel.scalar_values(job.scalars)
        key = (job.kernel, job.dtype, alignment_class(workload.launch), job.config)
        if key not in self._compiled:
            self._compiled[key] = compile_launch(workload.launch, job.config, scalars)
        return self._compiled[key]

    def _run(
        self,
        compiled: Compiled,
        launch: Launch,
        job: Job,
        inputs: Sequence[torch.Tensor],
        output: torch.Tensor,
    ) -> None:
        scalars = find_kernel(job.kernel).scalar_values(job.scalars)
        arguments = launch.bind(inputs, [output], scalars, job.config)
        compiled.launch(launch.grid(job.config), ordered_arguments(launch.function, arguments))

    def _verify(self, workload: Workload, compiled: Compiled, job: Job) -> tuple[float, str]:
        """Largest error, and where: at the problem's size, and at a part block of its class."""
        error = error_of(
            lambda inputs, output: self._run(compiled, workload.launch, job, inputs, output),
            workload.inputs,
            workload.rotation.outputs[0],
            workload.expected,
            job.dtype,
        )
        if error > 1.0:
            return error, "at the size tuned"
        kernel = workload.kernel
        shape = kernel.check_shape(job.shape, job.config, _CHECK_ELEMENTS)
        launch = kernel.launch_for(shape, job.dtype, self._device)
        inputs = check_inputs(launch.inputs, job.seed, "cuda")
        scalars: Mapping[str, float] = kernel.scalar_values(job.scalars)
        output = torch.empty(launch.outputs[0].shape, dtype=inputs[0].dtype, device="cuda")
        small = error_of(
            lambda inputs, output: self._run(compiled, launch, job, inputs, output),
            inputs,
            output,
            expected_output(kernel, inputs, scalars),
            job.dtype,
        )
        return max(error, small), f"at {','.join(map(str, shape))}"

    def _timer(self, workload: Workload, compiled: Compiled, job: Job) -> Timer:
        launch, rotation = workload.launch, workload.rotation
        scalars = workload.kernel.scalar_values(job.scalars)
        grid = launch.grid(job.config)
        bound = [
            ordered_arguments(launch.function, launch.bind(inputs, [output], scalars, job.config))
            for inputs, output in zip(rotation.inputs, rotation.outputs, strict=True)
        ]
        return Timer(lambda index: compiled.launch(grid, bound[index]), rotation)
