"""What Nsight Compute says where it reads nothing, and what to do about it: one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunekit.profile.parse import errors_in
from tunekit.profile.refusals import quoted, remedy

DATA = Path(__file__).parent / "data"

# As their users report them: https://github.com/NVIDIA/TensorRT-LLM/issues/183,
# https://github.com/meta-pytorch/tritonbench/issues/632, https://developer.nvidia.com/ERR_NVGPUCTRPERM
PERMISSION = """==PROF== Connected to process 35989 (/usr/bin/python3.10)
==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance \
Counters on the target device 0. For instructions on enabling permissions and to get more \
information see https://developer.nvidia.com/ERR_NVGPUCTRPERM
==ERROR== The application returned an error code (1).
"""
INCOMPATIBLE = """==ERROR== An error was reported by the driver:
==ERROR== Cuda driver is not compatible with Nsight Compute.
==PROF== Connected to process 2305223 (/usr/bin/python3.11)
==ERROR== The application returned an error code (11).
"""


def test_permission() -> None:
    said = remedy(errors_in(PERMISSION))
    for way in (
        "ERR_NVGPUCTRPERM",
        "run as root",
        "options nvidia NVreg_RestrictProfilingToAdminUsers=0",
        "/etc/modprobe.d",
        "--cap-add=SYS_ADMIN",
    ):
        assert way in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("log", "way"),
    [
        (INCOMPATIBLE, "update the driver"),
        ((DATA / "unknown-metric.log").read_text(), "--set takes the full name"),
        (
            "==ERROR== Profiling failed because a driver resource was unavailable. Ensure that no "
            "other tool (like DCGM) is concurrently collecting profiling data.",
            "dcgmi profile --pause",
        ),
        ("==ERROR== Failed to initialize the profiler: LibraryNotLoaded", "gVisor has none"),
        ("==ERROR== Failed to open lock file /tmp/nsight-compute-lock", "set TMPDIR"),
        ("==ERROR== Profiling is not supported on device 0.", "from Volta on"),
        ("==ERROR== Out of memory.", "smaller --shape"),
    ],
)
def test_others(log: str, way: str) -> None:
    said = remedy(errors_in(log))
    assert said.startswith('Nsight Compute says "')
    assert way in said
    assert "\n" not in said


def test_of_what_is_not_known_nothing_is_advised() -> None:
    assert remedy([]) == ""
    assert remedy(errors_in((DATA / "program-failed.log").read_text())) == ""


def test_a_long_message_is_shortened() -> None:
    assert quoted("No.") == '"No"'
    assert len(quoted("x" * 5000)) < 300
