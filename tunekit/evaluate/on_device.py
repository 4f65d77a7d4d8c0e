"""Evaluate on the GPU that is present: compile, verify with the very binary measured, measure."""

from __future__ import annotations

import os
import statistics
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import torch

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Status, VerifiedBy
from tunekit.errors import TunekitError
from tunekit.evaluate.compile import Compiled, compile_launch, ordered_arguments
from tunekit.evaluate.compilers import Compilers, binary_key
from tunekit.evaluate.guards import NOT_A_NUMBER, prepare
from tunekit.evaluate.job import Job, Outcome, Race
from tunekit.evaluate.measure import interleaved, measure
from tunekit.evaluate.noise import Watch
from tunekit.evaluate.proof import least_us, prove
from tunekit.evaluate.racer import Racer, lay_out_anew
from tunekit.evaluate.rotation import Rotation
from tunekit.evaluate.tensors import in_memory
from tunekit.evaluate.text import full_text, one_line
from tunekit.evaluate.timer import Launch as TimedLaunch
from tunekit.evaluate.timer import Timer
from tunekit.evaluate.trial import NO_REFERENCE, Checked, Trial
from tunekit.evaluate.verify import RunDefault
from tunekit.evaluate.workload import Workload
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel
from tunekit.kernels.small import small_shape

_CHECK_ELEMENTS = 2**16
_COPIES = 4
"""Of a racer's code: where it lies makes as much of a difference as a measurement has noise."""
_REPLAYS = 2
"""Of a graph in each round of a race; a third would hardly lessen the scatter of a round."""


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
        except (Exception, SystemExit):
            pass  # it fails again, and is told, where a job is evaluated
        yield from self._compilers.outcomes(jobs)

    def evaluate(self, job: Job) -> Outcome:
        """Compile, reject what does not fit, verify, measure, and prove what was measured."""
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
            said = full_text(failure)
            return Outcome(Status.COMPILE_ERROR, reason=one_line(failure), details=said)
        checked = self._verify(workload, compiled, job)
        if checked.fault:
            return _wrong(made, checked)
        timer = Timer(self._timed(workload, compiled, job), workload.rotation)
        measured = measure(timer, self._watch, job.hopeless_us)
        time_us = float(statistics.median(measured.samples_us))
        proven = self._prove(workload, timer, time_us)
        if proven.fault:
            return _wrong(made, proven)
        return replace(
            made,
            reason="" if workload.kernel.reference else NO_REFERENCE,
            verified_by=VerifiedBy.DEVICE,
            time_us=time_us,
            samples_us=measured.samples_us,
            max_error=max(checked.error, proven.error),
            disturbance=measured.disturbance,
        )

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        """Interleaved samples of several configurations of a problem, and of a plain copy.

        In each round graphs and code lie elsewhere. Asked again, a configuration that was in the
        last race is ready. One that is new is tried on other values afterwards, at the size tuned,
        in the very tensors it has been run in.
        """
        workload = self._workload(jobs[0])
        before = dict(workload.racing)
        workload.racing.clear()
        for job in jobs:
            workload.racing[job.config] = before.get(job.config) or self._racer(workload, job)
        racers = [workload.racing[job.config] for job in jobs]
        if (copy := before.get(None) or _copy_racer(workload.rotation)) is not None:
            workload.racing[None] = copy
            racers.append(copy)
        samples, disturbance = interleaved(
            [racer.timer for racer in racers],
            rounds,
            self._watch,
            before_round=lambda: lay_out_anew(racers, self._random),
            replays=_REPLAYS,
        )
        faults = self._faults(workload, jobs, samples, before)
        copy_us = samples[len(jobs)] if copy is not None else ()
        return Race(samples[: len(jobs)], copy_us, disturbance, faults)

    def _faults(
        self,
        workload: Workload,
        jobs: Sequence[Job],
        samples: Sequence[Sequence[float]],
        before: Collection[Config | None],
    ) -> tuple[str, ...]:
        """What is wrong with those who had not raced before; empty for the others."""
        if all(job.config in before for job in jobs):
            return ("",) * len(jobs)
        judge = workload.judge_of_other_values()
        faults = []
        for job, own in zip(jobs, samples[: len(jobs)], strict=True):
            fault = ""
            if job.config not in before:
                timer = workload.racing[job.config].timer
                fault = prove(timer, workload.rotation, judge, statistics.median(own)).fault
            faults.append(fault)
        workload.restore_values()
        return tuple(faults)

    def _workload(self, job: Job) -> Workload:
        key = (job.kernel, job.shape, job.dtype, job.seed, tuple(job.scalars.items()), job.warm)
        if key not in self._workloads:
            self._workloads.clear()  # one problem's tensors at a time
            self._workloads[key] = Workload.of(
                job, self._device, lambda launch: self._run_default(launch, job)
            )
        return self._workloads[key]

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
        outputs: Sequence[torch.Tensor],
    ) -> None:
        scalars = find_kernel(job.kernel).scalar_values(job.scalars)
        arguments = launch.bind(inputs, outputs, scalars, job.config)
        compiled.launch(launch.grid(job.config), ordered_arguments(launch.function, arguments))

    def _run_default(self, launch: Launch, job: Job) -> RunDefault:
        """What a kernel without a reference is compared with."""

        def run(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
            default = find_kernel(job.kernel).default(launch, self._device)
            scalars = find_kernel(job.kernel).scalar_values(job.scalars)
            compiled = compile_launch(launch, default, scalars)
            self._run(compiled, launch, replace(job, config=default), inputs, outputs)

        return run

    def _verify(self, workload: Workload, compiled: Compiled, job: Job) -> Checked:
        """One launch at the problem's size, and two at a small one of its class, a part block."""
        buffers, where = workload.buffers, "at the size tuned"
        launch = workload.launch.with_(job.config)
        prepare(launch, buffers.inputs, buffers.outputs, NOT_A_NUMBER)
        self._run(compiled, workload.launch, job, buffers.inputs, buffers.outputs)
        error = workload.judge.error_of(buffers.outputs)
        if error > 1.0:
            said = workload.judge.describe(buffers.outputs, error, NOT_A_NUMBER, where)
            trespass = self._trespass(workload)
            return Checked(error, f"{trespass} ({where})" if trespass else said)
        kernel = workload.kernel
        shape = small_shape(kernel, job.shape, job.config, _CHECK_ELEMENTS, job.dtype, self._device)
        launch = kernel.launch_for(shape, job.dtype, self._device)
        trial = Trial(
            kernel,
            launch.with_(job.config),
            shape,
            job.dtype,
            kernel.scalar_values(job.scalars),
            f"at {kernel.shape_text(shape)}",
            lambda inputs, outputs: self._run(compiled, launch, job, inputs, outputs),
            self._run_default(launch, job),
        )
        small = trial.twice(job.seed, "cuda")
        return Checked(max(error, small.error), small.fault)

    def _prove(self, workload: Workload, timer: Timer, time_us: float) -> Checked:
        """That the time is of the whole work, and nothing else was written meanwhile.

        A time that the memory does not allow is believed if it is one on other values too.
        """
        checked = prove(timer, workload.rotation, workload.judge, time_us)
        if not checked.fault and (trespass := self._trespass(workload)):
            return Checked(checked.error, f"{trespass} (when it was timed)")
        device = self._device
        bytes_moved = workload.kernel.bytes_moved(workload.launch)
        least = least_us(bytes_moved, device.l2_bytes, device.dram_bytes_per_s)
        if checked.fault or time_us >= least:
            return checked
        other = prove(timer, workload.rotation, workload.judge_of_other_values(), time_us)
        workload.restore_values()
        if other.fault:
            said = f"{time_us:.4g} µs is less than the memory allows ({least:.4g} µs), and on other"
            return Checked(other.error, f"{said} values it {other.fault}")
        return checked

    def _trespass(self, workload: Workload) -> str:
        said = workload.trespass()
        if said:
            self._workloads.clear()
        return said

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
            ordered_arguments(launch.function, launch.bind(inputs, outputs, scalars, job.config))
            for inputs, outputs in zip(rotation.inputs, rotation.outputs, strict=True)
        ]
        zeroed = zeroed_by(launch, job.config, rotation.outputs)
        if not zeroed:
            return lambda index: compiled.launch(grid, bound[index])

        def zero_and_launch(index: int) -> None:
            for output in zeroed[index]:
                output.zero_()
            compiled.launch(grid, bound[index])

        return zero_and_launch


def zeroed_by(
    launch: Launch, config: Config, sets: Sequence[Sequence[torch.Tensor]]
) -> list[list[torch.Tensor]]:
    """Of each set of outputs what is zeroed as a part of a launch; nothing where it is no part."""
    places = [index for index in range(len(launch.outputs)) if launch.start_of(index) == 0]
    if launch.zeroes is None or not places or not launch.zeroes(config):
        return []
    return [[outputs[index] for index in places] for outputs in sets]


def _wrong(made: Outcome, checked: Checked) -> Outcome:
    return replace(made, status=Status.WRONG, reason=checked.fault, max_error=checked.error)


def _copy_racer(rotation: Rotation) -> Racer | None:
    """A copy of the first input; None where that is not what the first output takes."""
    source, target = rotation.inputs[0][0], rotation.outputs[0][0]
    if (source.numel(), source.dtype) != (target.numel(), target.dtype):
        return None

    def copy(index: int) -> None:
        # A plain one, in the order of memory, also where the kernel transposes.
        in_memory(rotation.outputs[index][0]).copy_(in_memory(rotation.inputs[index][0]))

    return Racer.ready([copy], rotation)
