"""Compile what calls will be served, before the first request asks for it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from triton.compiler import CompiledKernel

from tunekit.core.device import Device, device_named
from tunekit.core.evaluation import Status
from tunekit.errors import UnknownKernelError, UsageError
from tunekit.evaluate.compile import compile_for, compile_launch
from tunekit.evaluate.compilers import Compilers, binary_key
from tunekit.evaluate.job import Job
from tunekit.gpu import device_at, gpu_count
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import alignment_class
from tunekit.kernels.registry import find_kernel, find_library_kernel
from tunekit.runtime import binaries
from tunekit.runtime.lookup import Choice, lookup
from tunekit.store.cache import CacheRow


def precompile(
    kernel: Kernel | str,
    shapes: Iterable[Sequence[int]],
    dtype: object = "float32",
    *,
    device: str | None = None,
) -> list[Choice]:
    """Compile what calls of these shapes will be served, so that no first call has to.

    Args:
        kernel: a kernel, or its reference as on the command line.
        shapes: of the inputs.
        dtype: float32, float16 or bfloat16, as text or as PyTorch's.
        device: a GPU model, where this machine has no GPU; the present one elsewhere.

    Returns:
        What each shape is served.

    Raises:
        UsageError: another model than the GPU that is present; compile for that on the command
            line, by `tunekit precompile --target`.
        TunekitError: the caller's mistake, see `tunekit.lookup`.
    """
    if device is not None and gpu_count():
        raise UsageError(
            f"device={device!r}: this process has a GPU and compiles for that alone; "
            f"`tunekit precompile --target {device}` compiles for another"
        )
    model = _model(device)
    found = find_kernel(kernel) if isinstance(kernel, str) else kernel
    served = []
    for shape in shapes:
        choice = lookup(found, shape, dtype, device=model)
        launch = found.launch_for(tuple(shape), choice.problem.dtype, model)
        compiled = compile_launch(launch, choice.config, found.scalars).kernel
        binaries.save(found, launch, choice.config, model, compiled)
        served.append(choice)
    return served


def _model(device: str | None) -> Device:
    if device is None and not gpu_count():
        raise UsageError("this machine has no CUDA GPU: name a model, such as device='rtx4090'")
    if device is None:
        return device_at(torch.cuda.current_device())
    model = device_named(device)
    compile_for(model)
    return model


@dataclass(frozen=True, slots=True)
class Precompiled:
    """What was made ready.

    Attributes:
        problems: whose configurations are.
        binaries: different ones.
        stale: rows of another version of a kernel's code, or that no kernel here is known for.
        failures: one line for each configuration that does not compile.
        elapsed_s: wall time.
    """

    problems: int
    binaries: int
    stale: int
    failures: tuple[str, ...]
    elapsed_s: float


def precompile_rows(rows: Iterable[CacheRow], device: Device, reference: str | None) -> Precompiled:
    """Compile the configurations of rows into Triton's cache, and remember where they lie.

    It needs no GPU: a process that has one, another image of the same installation, finds what
    was compiled here if it sees the same caches.

    Args:
        rows: of that device.
        device: to compile for.
        reference: how to find the kernel the rows are of; None for the library's.

    Raises:
        TunekitError: `reference` names no kernel.
    """
    began = time.monotonic()
    rows = [row for row in rows if not row.config.is_memory_format]
    jobs, stale = _jobs(rows, device, reference)
    compilers = Compilers(device, processes=len(os.sched_getaffinity(0)))
    made, failures = set(), []
    try:
        for index, outcome in compilers.outcomes(jobs):
            job = jobs[index]
            kernel = find_kernel(job.kernel)
            launch = kernel.launch_for(job.shape, job.dtype, device)
            if outcome.status is not Status.OK:
                what = f"{kernel.name} {job.dtype} {job.config}"
                failures.append(f"{what}: {outcome.status}: {outcome.reason}")
                continue
            key = binary_key(job, launch)
            if key not in made:
                made.add(key)
                compiled = compile_launch(launch, job.config, kernel.scalars).kernel
                assert isinstance(compiled, CompiledKernel)
                binaries.save(kernel, launch, job.config, device, compiled)
    finally:
        compilers.close()
    ready = len(jobs) - len(failures)
    return Precompiled(ready, len(made), stale, tuple(failures), time.monotonic() - began)


def _jobs(rows: Sequence[CacheRow], device: Device, reference: str | None) -> tuple[list[Job], int]:
    jobs = []
    for row in rows:
        kernel = _kernel_of(row, reference)
        if kernel is None or kernel.source_hash != row.problem.kernel_hash:
            continue
        launch = kernel.launch_for(row.shape, row.problem.dtype, device)
        if alignment_class(launch) == row.problem.alignment:
            name = reference or kernel.name
            jobs.append(
                Job(
                    name,
                    row.shape,
                    row.problem.dtype,
                    dict(kernel.scalars),
                    row.config,
                    device.slug,
                )
            )
    return jobs, len(rows) - len(jobs)


def _kernel_of(row: CacheRow, reference: str | None) -> Kernel | None:
    if reference:
        return find_kernel(reference)
    try:
        return find_library_kernel(row.problem.kernel)
    except UnknownKernelError:
        return None
