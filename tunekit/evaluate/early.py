"""Begin, while a worker imports PyTorch, what takes long and needs no PyTorch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from threading import Thread


def begin(index: int) -> list[Thread]:
    """Open GPU `index` and have Triton look itself over, each in a thread; join them.

    Either is only ahead of its time: what fails here is done again, or fails again, where it is
    needed.
    """
    import triton  # noqa: F401 - here, so that no two threads import it at once

    def open_gpu() -> None:
        _open_gpu(index)

    threads = [Thread(target=_quietly, args=(task,)) for task in (open_gpu, _ready_triton)]
    for thread in threads:
        thread.start()
    return threads


def _quietly(task: Callable[[], None]) -> None:
    with suppress(Exception):
        task()


def _open_gpu(index: int) -> None:
    """Make the GPU's primary context, which PyTorch and Triton use."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if not cuda.cuInit(0) and not cuda.cuDeviceGet(ctypes.byref(device), index):
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)


def hash_triton() -> None:
    """Hash the compiler, which is part of every cache key: once in a process and all its forks."""
    with suppress(ImportError):  # where this Triton has it elsewhere, it is hashed when needed
        from triton.runtime.cache import triton_key

        triton_key()


def _ready_triton() -> None:
    """Hash the compiler, build the driver's C part."""
    hash_triton()
    from triton.backends.nvidia.driver import CudaUtils

    CudaUtils()
