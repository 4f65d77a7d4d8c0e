"""Evaluate on the GPU that is present: compile, verify with the very binary measured, measure."""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Status, VerifiedBy
from tunekit.errors import DeviceMemoryError, TunekitError
from tunekit.evaluate.compile import Compiled, compile_launch, ordered_arguments
from tunekit.evaluate.compilers import Compilers, binary_key
from tunekit.evaluate.job import Job, Outcome, Race
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.measure import interleaved, measure
from tunekit.evaluate.noise import Watch
from tunekit.evaluate.racer import Racer, lay_out_anew
from tunekit.evaluate.rotation import SPAN_CACHES, Rotation, rotation_of
from tunekit.evaluate.tensors import empty_of, in_memory
from tunekit.evaluate.text import one_line
from tunekit.evaluate.timer import Launch as TimedLaunch
from tunekit.evaluate.timer import Timer
from tunekit.evaluate.verify import (
    check_inputs,
    describe_error,
    error_of,
    expected_output,
    random_inputs,
)
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel

_CHECK_ELEMENTS = 2**16
_COPIES = 4
"""Of a racer's code: where it lies makes as much of a difference as a measurement has noise."""
_REPLAYS = 2
"""Of a graph in each round of a race; a third would hardly lessen the scatter of a round."""
_SPARE_BYTES = 2**30 + 2**28
"""What computing the reference and comparing with it need besides, a part at a time."""


@dataclass(frozen=True)
class Workload:
    """A problem's tensors, made once: inputs, output, who judges it, buffers to rotate.

    Attributes:
        racing: who was in the last race, by configuration; None is the copy.
    """

    kernel: Kernel
    launch: Launch
    inputs: tuple[torch.Tensor, ...]
    judge: Judge
    rotation: Rotation
    racing: dict[Config | None, Racer] = field(default_factory=dict)


class DeviceEvaluator:
    """Evaluates on one GPU, the process's current one.

    Args:
        device: the GPU's facts.
        index: its number.
    """

    def __init__(self, device: Device, index: int = 0) -> None:
        self._device = device
        self._watch = Watch(index)
        self._workloads: dict[Any, Workload] = {}
        self._compiled: dict[Any, Compiled] = {}
        self._copies: dict[Any, tuple[Compiled, ...]] = {}  # never unloaded by Triton: kept
        self._random = Random(0)
        # A core is left for this process, which measures while others compile.
        self._compilers = Compilers(device, processes=len(os.sched_getaffinity(0)) - 1)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Begin to compile, in other processes, what is not compiled yet."""
        self._compilers.submit(jobs)

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Compile jobs of one problem; yields (index, outcome) as each is known.

        Its tensors are made meanwhile.
        """
        self._compilers.submit(jobs)
        try:
            self._workload(jobs[0])
        except TunekitError:
            raise
        except Exception:
            pass  # it fails again, and is told, where a job is evaluated
        yield from self._compilers.outcomes(jobs)

    def evaluate(self, job: Job) -> Outcome:
        """Compile, reject what does not fit, verify, measure."""
        workload = self._workload(job)
        workload.racing.clear()
        made = self._compilers.outcome(job)
        if made.status is not Status.OK:
            return made
        try:
            compiled = self._load(workload, job)
        except TunekitError:
            raise
        except Exception as failure:
            return Outcome(Status.COMPILE_ERROR, reason=one_line(failure))
        error, where = self._verify(workload, compiled, job)
        if error > 1.0:
            reason = describe_error(error, where)
            return replace(made, status=Status.WRONG, reason=reason, max_error=error)
        timer = Timer(self._timed(workload, compiled, job), workload.rotation)
        measured = measure(timer, self._watch, job.hopeless_us)
        return replace(
            made,
            verified_by=VerifiedBy.DEVICE,
            time_us=float(statistics.median(measured.samples_us)),
            samples_us=measured.samples_us,
            max_error=error,
            disturbance=measured.disturbance,
        )

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        """Interleaved samples of several configurations of a problem, and of a plain copy.

        In each round graphs and code lie elsewhere. Asked again, a configuration that was in the
        last race is ready.
        """
        workload = self._workload(jobs[0])
        before = dict(workload.racing)
        workload.racing.clear()
        for job in jobs:
            workload.racing[job.config] = before.get(job.config) or self._racer(workload, job)
        workload.racing[None] = before.get(None) or _copy_racer(workload.rotation)
        racers = [workload.racing[job.config] for job in jobs] + [workload.racing[None]]
        samples, disturbance = interleaved(
            [racer.timer for racer in racers],
            rounds,
            self._watch,
            before_round=lambda: lay_out_anew(racers, self._random),
            replays=_REPLAYS,
        )
        return Race(samples[:-1], samples[-1], disturbance)

    def _workload(self, job: Job) -> Workload:
        key = (job.kernel, job.shape, job.dtype, job.seed, tuple(job.scalars.items()), job.warm)
        if key not in self._workloads:
            self._workloads.clear()  # one problem's tensors at a time
            self._workloads[key] = self._make_workload(job)
        return self._workloads[key]

    def _make_workload(self, job: Job) -> Workload:
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, self._device)
        spare_bytes = self._refuse_too_big(kernel, launch, job)
        inputs = tuple(random_inputs(launch.inputs, job.seed, "cuda"))
        output = empty_of(launch.outputs[0], "cuda")
        scalars = kernel.scalar_values(job.scalars)
        expected = expected_output(kernel, inputs, scalars, launch.outputs[0])
        judge = Judge(expected, job.dtype, keep=output.nbytes <= spare_bytes)
        judge.rehearse()
        rotation = rotation_of(inputs, output, self._device.l2_bytes, job.warm)
        return Workload(kernel, launch, inputs, judge, rotation)

    def _refuse_too_big(self, kernel: Kernel, launch: Launch, job: Job) -> int:
        """Bytes of the GPU that the problem leaves free.

        Raises:
            DeviceMemoryError: it does not fit.
        """
        outputs = sum(meta.numel for meta in launch.outputs)
        needed = kernel.bytes_moved(launch) + 4 * outputs + _SPARE_BYTES
        needed += max(0, SPAN_CACHES * self._device.l2_bytes - kernel.bytes_moved(launch))
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

    def _load(self, workload: Workload, job: Job) -> Compiled:
        """From Triton's cache, where the compilers put it."""
        key = binary_key(job, workload.launch)
        if key not in self._compiled:
            scalars = workload.kernel.scalar_values(job.scalars)
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
        error = workload.judge.error_of(
            lambda inputs, output: self._run(compiled, workload.launch, job, inputs, output),
            workload.inputs,
            workload.rotation.outputs[0],
        )
        if error > 1.0:
            return error, "at the size tuned"
        kernel = workload.kernel
        shape = kernel.check_shape(job.shape, job.config, _CHECK_ELEMENTS)
        launch = kernel.launch_for(shape, job.dtype, self._device)
        inputs = check_inputs(launch.inputs, job.seed, "cuda")
        scalars: Mapping[str, float] = kernel.scalar_values(job.scalars)
        output = empty_of(launch.outputs[0], "cuda")
        small = error_of(
            lambda inputs, output: self._run(compiled, launch, job, inputs, output),
            inputs,
            output,
            expected_output(kernel, inputs, scalars, launch.outputs[0]),
            job.dtype,
        )
        return max(error, small), f"at {','.join(map(str, shape))}"

    def _racer(self, workload: Workload, job: Job) -> Racer:
        compiled = self._load(workload, job)
        key = binary_key(job, workload.launch)
        if key not in self._copies:
            self._copies[key] = tuple(compiled.loaded_again() for _ in range(_COPIES - 1))
        copies = (compiled, *self._copies[key])
        return Racer.ready([self._timed(workload, copy, job) for copy in copies], workload.rotation)

    def _timed(self, workload: Workload, compiled: Compiled, job: Job) -> TimedLaunch:
        launch, rotation = workload.launch, workload.rotation
        scalars = workload.kernel.scalar_values(job.scalars)
        grid = launch.grid(job.config)
        bound = [
            ordered_arguments(launch.function, launch.bind(inputs, [output], scalars, job.config))
            for inputs, output in zip(rotation.inputs, rotation.outputs, strict=True)
        ]
        return lambda index: compiled.launch(grid, bound[index])


def _free_bytes() -> int:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return free


def _copy_racer(rotation: Rotation) -> Racer:
    def copy(index: int) -> None:
        # A plain one, in the order of memory, also where the kernel transposes.
        in_memory(rotation.outputs[index]).copy_(in_memory(rotation.inputs[index][0]))

    return Racer.ready([copy], rotation)
