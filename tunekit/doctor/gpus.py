"""The driver and the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tunekit.doctor.check import Check, note, ok, problem
from tunekit.doctor.probe import ProbeFailed, ask
from tunekit.driver import Driver, Gpu

_NO_RESULTS_LOST = "nothing is measured here: `tunekit tune` estimates for a --target"


def check_driver(driver: Driver) -> Iterator[Check]:
    """Whether there is a driver, and what state each of its GPUs is in."""
    if driver.trouble:
        yield problem(
            "driver",
            f"there is an NVIDIA driver, and {driver.trouble}",
            "restart the machine, or install the driver again",
        )
    elif not driver.version:
        yield note("driver", f"no NVIDIA driver: {_NO_RESULTS_LOST}")
    else:
        cuda = f", CUDA up to {driver.cuda[0]}.{driver.cuda[1]}" if driver.cuda else ""
        yield ok("driver", f"NVIDIA {driver.version}{cuda}, {len(driver.gpus)} GPUs")
    for index, gpu in enumerate(driver.gpus):
        yield from _state(f"nvml:{index}", gpu)


def check_models(gpus: Sequence[dict[str, Any]]) -> Iterator[Check]:
    """Whether each GPU that PyTorch finds is a model of the table."""
    for index, gpu in enumerate(gpus):
        says = f"{gpu['name']} ({gpu['slug']}), capability {gpu['capability'] / 10:.1f}"
        if gpu["in_table"]:
            yield ok(f"cuda:{index}", says)
        else:
            yield note(
                f"cuda:{index}",
                f"{says}: not in tunekit's table, its facts are taken from the driver",
                "nothing: it can be tuned; rows of the table's models do not serve it",
            )


def read_gpus() -> list[dict[str, Any]]:
    """The GPUs PyTorch finds; none where it cannot be asked, which `check_torch` tells."""
    try:
        return list(ask("gpus"))
    except ProbeFailed:
        return []


def _state(name: str, gpu: Gpu) -> Iterator[Check]:
    found = False
    if gpu.compute_mode == "prohibited":
        found = True
        yield problem(
            name,
            f"{gpu.name}: its compute mode is prohibited: no process may use it",
            "`nvidia-smi -c DEFAULT`, as root",
        )
    elif gpu.compute_mode not in (None, "default"):
        found = True
        yield note(
            name,
            f"{gpu.name}: its compute mode is {gpu.compute_mode}: one process at a time",
            "if the worker below does not start, end the other process or `nvidia-smi -c DEFAULT`",
        )
    if gpu.mig:
        found = True
        yield note(
            name,
            f"{gpu.name}: MIG is on: a part of it is measured, and others may use the rest",
            "what is measured there holds for an instance of that size alone",
        )
    if gpu.processes:
        found = True
        yield note(
            name,
            f"{gpu.name}: {gpu.processes} processes compute on it",
            "tune when it is idle: what is measured beside others is marked as disturbed",
        )
    if gpu.persistent is False:
        found = True
        yield note(
            name,
            f"{gpu.name}: persistence mode is off: the driver starts anew with each first process",
            "`nvidia-smi -pm 1`, as root, saves that time",
        )
    if not found:
        yield ok(name, gpu.name)
