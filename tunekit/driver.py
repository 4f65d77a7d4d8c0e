"""What the NVIDIA driver says, through its library NVML; what it does not say is left unknown."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_TEXT_BYTES = 96
_MOST_PROCESSES = 128
_NO_DRIVER = 9
"""NVML_ERROR_DRIVER_NOT_LOADED."""
_MISMATCH = 18
"""NVML_ERROR_LIB_RM_VERSION_MISMATCH."""

COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as the driver knows it; None is not known.

    Attributes:
        compute_mode: one of `COMPUTE_MODES`' names.
        processes: that compute on it.
    """

    name: str
    uuid: str
    compute_mode: str | None
    mig: bool | None
    persistent: bool | None
    processes: int | None


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver says.

    Attributes:
        version: such as 580.95.05; empty where there is none.
        cuda: the newest CUDA it supports, None where it does not say.
        trouble: why it cannot be asked although there is one; empty if it could.
    """

    version: str = ""
    cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""


class _Process(ctypes.Structure):
    """NVML's nvmlProcessInfo_t, version 3."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


def read_driver() -> Driver:
    """Ask the driver of this machine."""
    nvml = _load()
    if nvml is None:
        return Driver()
    with _started(nvml) as status:
        if status == _NO_DRIVER:
            return Driver(trouble="its kernel module is not loaded")
        if status == _MISMATCH:
            return Driver(trouble="its library is of another version than its kernel module")
        if status:
            return Driver(trouble=f"NVML does not start: error {status}")
        said = _number(nvml, "nvmlSystemGetCudaDriverVersion_v2") or 0
        cuda = (said // 1000, said % 1000 // 10) if said else None
        return Driver(
            _text(nvml, "nvmlSystemGetDriverVersion") or "unknown", cuda, tuple(_gpus(nvml))
        )


def driver_version() -> str:
    """Of the driver of this machine; empty where there is none, or it cannot be asked."""
    nvml = _load()
    if nvml is None:
        return ""
    with _started(nvml) as status:
        return "" if status else _text(nvml, "nvmlSystemGetDriverVersion") or ""


def _load() -> Any:
    try:
        return ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None


@contextmanager
def _started(nvml: Any) -> Iterator[int]:
    status = int(nvml.nvmlInit_v2())
    try:
        yield status
    finally:
        if not status:
            nvml.nvmlShutdown()


def _gpus(nvml: Any) -> Iterator[Gpu]:
    for index in range(_number(nvml, "nvmlDeviceGetCount_v2") or 0):
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            yield Gpu(f"GPU {index}, which does not answer", "", None, None, None, None)
            continue
        mode = _number(nvml, "nvmlDeviceGetComputeMode", handle)
        pending = ctypes.c_uint()
        mig = _number(nvml, "nvmlDeviceGetMigMode", handle, after=(ctypes.byref(pending),))
        persistent = _number(nvml, "nvmlDeviceGetPersistenceMode", handle)
        yield Gpu(
            name=_text(nvml, "nvmlDeviceGetName", handle) or f"GPU {index}",
            uuid=_text(nvml, "nvmlDeviceGetUUID", handle) or "",
            compute_mode=None if mode is None else COMPUTE_MODES.get(mode, str(mode)),
            mig=None if mig is None else bool(mig),
            persistent=None if persistent is None else bool(persistent),
            processes=_processes(nvml, handle),
        )


def _number(nvml: Any, name: str, *before: Any, after: tuple[Any, ...] = ()) -> int | None:
    value = ctypes.c_uint()
    function = getattr(nvml, name, None)
    if function is None or function(*before, ctypes.byref(value), *after):
        return None
    return value.value


def _text(nvml: Any, name: str, *before: Any) -> str | None:
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    function = getattr(nvml, name, None)
    if function is None or function(*before, text, _TEXT_BYTES):
        return None
    return text.value.decode(errors="replace")


def _processes(nvml: Any, handle: Any) -> int | None:
    count = ctypes.c_uint(_MOST_PROCESSES)
    processes = (_Process * _MOST_PROCESSES)()
    function = getattr(nvml, "nvmlDeviceGetComputeRunningProcesses_v3", None)
    if function is None or function(handle, ctypes.byref(count), processes):
        return None
    return int(count.value)
