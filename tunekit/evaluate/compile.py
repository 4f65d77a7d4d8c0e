"""Compile a launch with Triton, for the GPU that is present or for one that is not."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import driver
from triton.runtime.jit import JITCallable

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Binary
from tunekit.errors import WorkerError
from tunekit.evaluate.cubin import code_hash, read_resources
from tunekit.kernels.plan import Launch
from tunekit.kernels.stand_ins import stand_in

_GLOBAL_ACCESS = re.compile(r"\b(?P<what>ld|st)\.global(?P<modifiers>[.:\w]*)\.(?P<type>[bfsu]\d+)")
_ASYNC_COPY = re.compile(
    r"cp\.async\.\w+\.shared\S*\.global\S*\s+\[[^\]]+\],\s*\[[^\]]+\],\s*(\w+)"
)
_NO_FILES = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
)


@dataclass(frozen=True)
class Compiled:
    """A compiled configuration.

    Attributes:
        kernel: Triton's CompiledKernel; called as `kernel[grid](*arguments)`.
        binary: what the compiler made.
    """

    kernel: Any
    binary: Binary

    def launch(self, grid: tuple[int, int, int], arguments: Mapping[str, Any]) -> None:
        """Launch on the current stream; arguments by name, in the function's order."""
        self.kernel[grid](*arguments.values())

    def loaded_again(self) -> Compiled:
        """The same binary, to be loaded a further time."""
        kernel = self.kernel
        return Compiled(CompiledKernel(kernel.src, kernel.metadata_group, kernel.hash), self.binary)


class CompileOnlyDriver:
    """Stands where Triton's driver would, for a GPU that is not in this machine."""

    def __init__(self, device: Device) -> None:
        self._target = GPUTarget("cuda", device.compute_capability, device.warp_size)

    def get_current_target(self) -> GPUTarget:
        """The GPU to compile for."""
        return self._target

    def get_current_device(self) -> int:
        """What Triton keeps binaries apart by: not by target, and `compile_for` may come again."""
        return int(self._target.arch)

    def get_current_stream(self, device: int | None = None) -> int:
        """No stream: nothing is launched."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """Arguments are meta tensors."""
        return torch.device("meta")


def compile_for(device: Device) -> None:
    """From here on, in this process, compile for `device` although it is not present."""
    driver.set_active(CompileOnlyDriver(device))


def ordered_arguments(function: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments in the order of the function's signature, launch options left out."""
    return {name: arguments[name] for name in function.arg_names if name in arguments}


def compile_launch(launch: Launch, config: Config, scalars: Mapping[str, float]) -> Compiled:
    """Compile one configuration as the JIT would for these inputs.

    Raises:
        WorkerError: files cannot be written, which is no configuration's fault.
        Exception: whatever Triton raises when the configuration does not compile.
    """
    try:
        kernel = _warmup(launch, config, scalars)
        kernel = kernel.result() if hasattr(kernel, "result") else kernel
    except OSError as error:
        if error.errno not in _NO_FILES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise WorkerError(
            f"the compiler cannot write its files: {where}{error.strerror}; make room, or set "
            "TRITON_CACHE_DIR and TMPDIR to folders that have it"
        ) from error
    return Compiled(kernel, binary_of(kernel))


def compile_ahead(
    items: Sequence[tuple[Launch, Config, Mapping[str, float]]], threads: int
) -> None:
    """Compile many configurations in parallel, into Triton's cache.

    Failures show when `compile_launch` is called for the same configuration.
    """
    with (
        one_parse_at_a_time(),
        ThreadPoolExecutor(threads) as executor,
        triton.AsyncCompileMode(executor, ignore_errors=True),
    ):
        for launch, config, scalars in items:
            _warmup(launch, config, scalars)


@contextmanager
def one_parse_at_a_time() -> Iterator[None]:
    """Keep threads from parsing kernels at once.

    CPython counts the depth of a syntax tree in one place for all threads: now and then a parse
    that another one interrupts ends in "SystemError: AST constructor recursion depth mismatch", and
    a configuration would be recorded as one that does not compile.
    """
    parse, lock = JITCallable.parse, Lock()

    def parse_alone(function: JITCallable) -> Any:
        with lock:
            return parse(function)

    JITCallable.parse = parse_alone
    try:
        yield
    finally:
        JITCallable.parse = parse


def _warmup(launch: Launch, config: Config, scalars: Mapping[str, float]) -> Any:
    arguments = launch.bind(
        [stand_in(meta) for meta in launch.inputs],
        [stand_in(meta) for meta in launch.outputs],
        scalars,
        config,
    )
    return launch.function.warmup(**arguments, grid=launch.grid(config))


def binary_of(kernel: Any) -> Binary:
    """What the compiler made, of Triton's CompiledKernel for an NVIDIA GPU."""
    cubin, ptx = kernel.asm["cubin"], kernel.asm["ptx"]
    num_warps, shared_bytes = int(kernel.metadata.num_warps), int(kernel.metadata.shared)
    resources = read_resources(cubin)
    return Binary(
        hash=code_hash(cubin, num_warps, shared_bytes),
        registers=resources.registers,
        spill_bytes=resources.local_bytes,
        shared_bytes=max(resources.shared_bytes, shared_bytes),
        load_bytes=_widest_access(ptx, "ld"),
        store_bytes=_widest_access(ptx, "st"),
    )


def _widest_access(ptx: str, what: str) -> int:
    """Bytes of the widest global load or store instruction of a thread."""
    widths = [0]
    for match in _GLOBAL_ACCESS.finditer(ptx):
        if match["what"] == what:
            lanes = re.search(r"\.v(\d)", match["modifiers"])
            widths.append(int(match["type"][1:]) // 8 * (int(lanes[1]) if lanes else 1))
    if what == "ld":
        widths += [int(size, 0) for size in _ASYNC_COPY.findall(ptx)]
    return max(widths)
