"""What of a recording to tune here, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tunekit.core.device import DEVICES, Device
from tunekit.core.problem import Problem
from tunekit.errors import KernelError, TunekitError, UnknownKernelError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.registry import find_kernel
from tunekit.recorded import Recorded
from tunekit.search.task import Task
from tunekit.search.worth import EXPECTED_GAIN, Tuned, is_aligned, order

_SHOWN = 3
"""Problems that one line names."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What to tune, and what became of the rest.

    Attributes:
        tasks: each problem once, what is expected to gain most first.
        notes: a line for each way in which problems are left out, or are others than recorded.
        failures: of kernels that are not found, and of shapes that a kernel refuses.
    """

    tasks: list[Task]
    notes: list[str]
    failures: list[TunekitError]


@dataclass(frozen=True, slots=True)
class _Found:
    """What was recorded, its kernel as it is now, and the problem it is here."""

    recorded: Recorded
    kernel: Kernel
    problem: Problem


@dataclass(slots=True)
class _Sorted:
    """Where each goes; what was recorded on several GPU models may be one problem here."""

    wanted: dict[Problem, list[_Found]] = field(default_factory=dict)
    measured: list[Recorded] = field(default_factory=list)
    unaligned: list[Recorded] = field(default_factory=list)
    otherwise: list[Recorded] = field(default_factory=list)


def workload(
    recorded: Iterable[Recorded],
    tuned: Tuned,
    device: Device,
    scalars: Mapping[str, float] | None = None,
) -> Workload:
    """What of a recording to tune for a device, by count × time × the gain that is expected.

    That gain is of what serves on this device now. What was recorded on another GPU model is tuned
    for its shape, and its time there stands for the one here. What is measured here is left out,
    and so is what tuning cannot allocate.

    Args:
        recorded: each problem once.
        tuned: what is.
        device: to tune for.
        scalars: values for those of the kernel, where all is of one kernel; its own if not given.
    """
    failures: list[TunekitError] = []
    found = _Sorted()
    for each in _found(recorded, device, failures):
        if not is_aligned(each.recorded.problem):
            found.unaligned.append(each.recorded)
        elif not _is_allocated(each, device):
            found.otherwise.append(each.recorded)
        elif tuned.measured(each.problem) is not None:
            found.measured.append(each.recorded)
        else:
            found.wanted.setdefault(each.problem, []).append(each)
    ordered = sorted(found.wanted.values(), key=lambda same: _rank(same, tuned))
    tasks = [_task(same[0], scalars) for same in ordered]
    return Workload(tasks, list(_notes(found, device)), failures)


def _found(
    recorded: Iterable[Recorded], device: Device, failures: list[TunekitError]
) -> Iterator[_Found]:
    """Each with its kernel; a kernel that is not found is one failure."""
    kernels: dict[str, Kernel | None] = {}
    for each in recorded:
        if each.reference not in kernels:
            try:
                kernels[each.reference] = find_kernel(each.reference)
            except (UnknownKernelError, KernelError) as error:
                kernels[each.reference] = None
                failures.append(
                    type(error)(
                        f"recorded of {each.problem.kernel}: {error}; name it yourself: "
                        "`tunekit tune path/file.py:NAME --recorded …`"
                    )
                )
        kernel = kernels[each.reference]
        if kernel is None:
            continue
        try:
            launch = kernel.launch_for(each.shape, each.problem.dtype, device)
        except TunekitError as error:
            failures.append(error)
            continue
        yield _Found(each, kernel, kernel.problem_of(launch, device))


def _is_allocated(found: _Found, device: Device) -> bool:
    """Whether the tensors that tuning allocates at that shape make the problem recorded."""
    there = found.recorded.problem
    model = DEVICES.get(there.device, device)
    launch = found.kernel.launch_for(found.recorded.shape, there.dtype, model)
    problem = found.kernel.problem_of(launch, model)
    return (problem.dims, problem.alignment) == (there.dims, there.alignment)


def _rank(same: list[_Found], tuned: Tuned) -> tuple[object, ...]:
    total_us = sum(each.recorded.count * (each.recorded.time_us or 0.0) for each in same)
    gain = EXPECTED_GAIN[tuned.served(same[0].problem)]
    return order(total_us * gain, total_us, same[0].recorded)


def _task(found: _Found, scalars: Mapping[str, float] | None) -> Task:
    return Task(
        kernel=found.kernel,
        reference=found.recorded.reference,
        shape=found.recorded.shape,
        dtype=found.recorded.problem.dtype,
        scalars=found.kernel.scalars if scalars is None else scalars,
    )


def _notes(found: _Sorted, device: Device) -> Iterator[str]:
    wanted = [each for same in found.wanted.values() for each in same]
    models = {each.recorded.problem.device for each in wanted} - {device.slug}
    if models:
        others = [each for each in wanted if each.recorded.problem.device in models]
        yield (
            f"{len(others)} of {len(wanted)} problems: recorded on {', '.join(sorted(models))}, "
            f"tuned for their shapes on {device.slug}"
        )
    changed = [
        each for each in wanted if each.recorded.problem.kernel_hash != each.problem.kernel_hash
    ]
    if changed:
        names = ", ".join(sorted({each.kernel.name for each in changed}))
        yield f"the source of {names} changed since: tuned as it is now"
    if found.measured:
        yield f"skipped {len(found.measured)} already measured on {device.slug}"
    if found.unaligned:
        yield (
            f"skipped {len(found.unaligned)} with tensors that start at no multiple of 16 bytes, "
            f"which tuning does not allocate: {_named(found.unaligned)}"
        )
    if found.otherwise:
        yield (
            f"skipped {len(found.otherwise)} whose layout tuning does not allocate: "
            f"{_named(found.otherwise)}"
        )


def _named(recorded: list[Recorded]) -> str:
    names = [
        f"{each.problem.kernel} {','.join(map(str, each.shape))} {each.problem.dtype}"
        for each in recorded[:_SHOWN]
    ]
    more = len(recorded) - _SHOWN
    return "; ".join([*names, f"{more} more"] if more > 0 else names)
