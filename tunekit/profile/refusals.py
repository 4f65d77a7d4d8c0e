"""Why Nsight Compute reads no counters, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST = 200
_NOT_ALLOWED = "ERR_NVGPUCTRPERM"

HOW_TO_ALLOW = (
    "run as root, or load the driver's module with NVreg_RestrictProfilingToAdminUsers=0 (a line "
    "`options nvidia NVreg_RestrictProfilingToAdminUsers=0` in /etc/modprobe.d, then a reboot); a "
    "container also needs --cap-add=SYS_ADMIN"
)

_ADVICE: tuple[tuple[str, str], ...] = (
    (
        rf"{_NOT_ALLOWED}|not have permission to access NVIDIA GPU Performance Counters",
        f"the driver allows hardware counters to administrators only ({_NOT_ALLOWED}): "
        + HOW_TO_ALLOW,
    ),
    (
        r"driver is not compatible|driver version is (?:older|insufficient)",
        "the driver is too old for this Nsight Compute, or too new: name the one that came with a "
        "CUDA toolkit as old as the driver by --ncu PATH, or update the driver",
    ),
    (
        r"driver resource was unavailable",
        "another tool holds the GPU's counters, such as DCGM or another profiler: end it, or pause "
        "DCGM by `dcgmi profile --pause`",
    ),
    (
        r"LibraryNotLoaded|LibraryNotFound",
        "the driver's profiling libraries cannot be loaded: in a container start it with "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility; a sandbox such as gVisor has none",
    ),
    (
        r"lock file|InterprocessLock|nsight-compute-lock",
        "its lock file cannot be opened, another user's may be there: set TMPDIR to a folder of "
        "your own",
    ),
    (
        r"Profiling is not supported on|not supported on (?:this )?device|\bMIG\b",
        "this GPU, or this slice of one, cannot be profiled: GPUs from Volta on can, with MIG off",
    ),
    (
        r"Failed to find metric",
        "--set takes the full name of a counter, such as dram__bytes.sum: `ncu --query-metrics` "
        "lists their beginnings",
    ),
    (
        r"[Oo]ut of memory|Failed to (?:save|backup|restore) (?:device )?memory",
        "there is no room to save what the launch overwrites: use a smaller --shape",
    ),
)


def remedy(errors: Sequence[str]) -> str:
    """What to do about the first error message that something is known of; empty if none is."""
    for pattern, advice in _ADVICE:
        for said in errors:
            if re.search(pattern, said):
                known = _NOT_ALLOWED in advice
                return advice if known else f"Nsight Compute says {quoted(said)}: {advice}"
    return ""


def quoted(said: str) -> str:
    """An error message within a sentence."""
    short = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    return f'"{short.rstrip(".")}"'
