"""Watch what disturbs a measurement: throttled clocks, other processes, a spread above normal."""

from __future__ import annotations

import ctypes
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunekit.evaluate.text import one_line

OTHER_PROCESS = "another process uses the GPU"

# Reasons for a clock below its maximum, as NVML has them. An idle GPU, clocks set by a person and
# clocks bound to another GPU's are none here: they stay as they are while a set is measured.
_GPU_IDLE = 0x1
_POWER_CAP = 0x4
_THROTTLING = {
    0x40: "temperature",  # by the hardware
    0x20: "temperature",  # by the driver
    0x80: "power brake",
    0x8: "hardware slowdown",
    _POWER_CAP: "power cap",
}
_THERMAL = 0x60

_CLOCK_LIMIT = 0.03
"""A clock within 3 % is the same: it moves in steps of 15 MHz or so all the time."""

_SHORT_US = 30.0
_SHORT_SPREAD, _LONG_SPREAD = 0.06, 0.03
"""Largest normal spread of samples, for times below and from 30 µs: of what was recorded of an H100
and an H200 fewer than one set in 200 is above."""

_NVML_SM_CLOCK = 1
_NVML_GPU_TEMPERATURE = 0
_MOST_PROCESSES = 128


@dataclass(frozen=True, slots=True)
class Reading:
    """What the driver said of the GPU at one moment; the defaults are what is not known.

    Attributes:
        sm_clock_mhz, sm_clock_max_mhz: 0 when not known.
        reasons: NVML's bits of why the clock is below its maximum.
        temperature_c: 0 when not known.
        others: PIDs of other processes that compute on the GPU, as the driver numbers them.
    """

    sm_clock_mhz: int = 0
    sm_clock_max_mhz: int = 0
    reasons: int = 0
    temperature_c: int = 0
    others: frozenset[int] = frozenset()


def spread_of(samples_us: Sequence[float]) -> float:
    """Interquartile range over the median; 0 for fewer than four samples, which have none."""
    if len(samples_us) < 4:
        return 0.0
    ordered = sorted(samples_us)
    quarter = len(ordered) // 4
    return (ordered[-1 - quarter] - ordered[quarter]) / statistics.median(ordered)


def spread_limit(time_us: float) -> float:
    """The largest spread that is normal at this time of a launch in µs."""
    return _SHORT_SPREAD if time_us < _SHORT_US else _LONG_SPREAD


def spread_disturbance(samples_us: Sequence[float]) -> str:
    """A spread far above normal, as a short phrase; empty if it is not."""
    spread = spread_of(samples_us)
    if not spread:
        return ""
    limit = spread_limit(statistics.median(samples_us))
    if spread <= limit:
        return ""
    return f"samples spread by {spread:.0%} of their median, {limit:.0%} is normal"


def state_disturbance(before: Reading, after: Reading) -> str:
    """What the driver knows to have disturbed what ran between, as a short phrase, or empty."""
    if before.others or after.others:
        return OTHER_PROCESS
    return _throttled(before, after) or _clock_change(before, after)


def disturbance_of(samples_us: Sequence[float], before: Reading, after: Reading) -> str:
    """What disturbed a set of samples, as one short phrase, the likely cause first; empty if none.

    Args:
        samples_us: of one configuration, µs a launch.
        before: read right before the first sample.
        after: read right after the last.
    """
    return state_disturbance(before, after) or spread_disturbance(samples_us)


def _throttled(before: Reading, after: Reading) -> str:
    reasons = 0
    for reading in (before, after):
        # The bit of the power cap stays for a while after the load that met it: the clock decides.
        full = (1 - _CLOCK_LIMIT) * reading.sm_clock_max_mhz
        at_full_clock = 0 < full <= reading.sm_clock_mhz
        reasons |= reading.reasons & ~(_POWER_CAP if at_full_clock else 0)
    for bit, name in _THROTTLING.items():
        if reasons & bit:
            heat = max(before.temperature_c, after.temperature_c)
            return f"clocks throttled: {name}" + (f" {heat} °C" if bit & _THERMAL and heat else "")
    return ""


def _clock_change(before: Reading, after: Reading) -> str:
    if (before.reasons | after.reasons) & _GPU_IDLE:
        return ""  # the clock of an idle GPU says nothing of the one it measured at
    low, high = sorted((before.sm_clock_mhz, after.sm_clock_mhz))
    if not low or high - low <= _CLOCK_LIMIT * high:
        return ""
    return f"clock changed from {before.sm_clock_mhz} to {after.sm_clock_mhz} MHz"


class _Process(ctypes.Structure):
    """NVML's nvmlProcessInfo_t, version 3."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Watch:
    """Asks the driver, through NVML, how a GPU is doing; never fails, and then knows nothing.

    Other processes are those whose PID NVML lists, less this one and the ones that started it,
    which wait for it. In a container NVML may number processes as the host does, so that none of
    the numbers is this one's: then what the first reading lists is taken for known, this process
    among it, and only what appears later is another.

    Attributes:
        unable: why nothing can be read; empty where something can.
        lasting: what was still disturbed after the last retries: retrying again will not help.
    """

    def __init__(self, device_index: int) -> None:
        self.unable = ""
        self.lasting = ""
        self._own = _family()
        self._listed_first: frozenset[int] | None = None
        self._handle = ctypes.c_void_p()
        try:
            self._nvml = _load_nvml()
            self._find(_uuid_of(device_index))
        except Exception as failure:  # whatever it is, measuring goes on without
            self.unable = one_line(failure)
        # Reading the maximum takes longer than all the rest together, and it does not change.
        self._clock_max_mhz = self._number("nvmlDeviceGetMaxClockInfo", _NVML_SM_CLOCK)

    def read(self) -> Reading:
        """The state of the GPU now; takes some µs."""
        if self.unable:
            return Reading()
        return Reading(
            sm_clock_mhz=self._number("nvmlDeviceGetClockInfo", _NVML_SM_CLOCK),
            sm_clock_max_mhz=self._clock_max_mhz,
            reasons=self._reasons(),
            temperature_c=self._number("nvmlDeviceGetTemperature", _NVML_GPU_TEMPERATURE),
            others=self._others(),
        )

    def _find(self, uuid: str) -> None:
        if self._nvml.nvmlInit_v2() != 0:
            raise OSError("NVML does not start")
        # By its UUID: CUDA may number GPUs otherwise, and show only some of them.
        found = self._nvml.nvmlDeviceGetHandleByUUID(
            f"GPU-{uuid}".encode(), ctypes.byref(self._handle)
        )
        if found != 0:
            raise OSError(f"NVML knows no GPU-{uuid}")

    def _call(self, name: str, *arguments: Any) -> bool:
        """Whether NVML has such a function and it succeeded."""
        if self.unable:
            return False
        function = getattr(self._nvml, name, None)
        return function is not None and function(self._handle, *arguments) == 0

    def _number(self, name: str, what: int) -> int:
        value = ctypes.c_uint()
        return value.value if self._call(name, what, ctypes.byref(value)) else 0

    def _reasons(self) -> int:
        value = ctypes.c_ulonglong()
        names = (
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetCurrentClocksThrottleReasons",  # the same, before driver 535
        )
        return value.value if any(self._call(name, ctypes.byref(value)) for name in names) else 0

    def _others(self) -> frozenset[int]:
        listed = self._listed()
        if self._listed_first is None:
            self._listed_first = listed
        known = self._own if os.getpid() in listed else self._own | self._listed_first
        return listed - known

    def _listed(self) -> frozenset[int]:
        count = ctypes.c_uint(_MOST_PROCESSES)
        processes = (_Process * _MOST_PROCESSES)()
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
        if not self._call(name, ctypes.byref(count), processes):
            return frozenset()
        # A process that this one may not see is listed as 0.
        return frozenset(int(each.pid) for each in processes[: count.value]) - {0}


def _load_nvml() -> Any:
    return ctypes.CDLL("libnvidia-ml.so.1")


def _uuid_of(device_index: int) -> str:
    return str(torch.cuda.get_device_properties(device_index).uuid)


def _family() -> frozenset[int]:
    """This process and those it descends from."""
    family = [os.getpid(), os.getppid()]
    try:
        while family[-1] > 1:
            stat = Path(f"/proc/{family[-1]}/stat").read_text()
            family.append(int(stat.rpartition(")")[2].split()[1]))
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or not ours to read: the nearest two are known
    return frozenset(family)
