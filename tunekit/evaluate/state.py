"""What a job may change in its process, put back before the next one."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from operator import attrgetter, eq
from typing import Any

_TINY = 1e-310
"""A subnormal number, which arithmetic makes 0 where those are flushed."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One thing a job may change; what cannot be put back is read only."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] = lambda value: None
    same: Callable[[Any, Any], bool] = eq

    def now(self) -> Any:
        """Its value, or that it has none that can be told."""
        try:
            return self.read()
        except Exception:
            return _UNKNOWN

    def is_as(self, before: Any) -> bool:
        """Whether it has that value."""
        now = self.now()
        if now is _UNKNOWN or before is _UNKNOWN:
            return now is before
        return self.same(now, before)


_UNKNOWN = object()


@contextmanager
def put_back() -> Iterator[list[str]]:
    """Whatever is changed inside is as before outside.

    It covers what affects the arithmetic or the speed of what comes next: PyTorch's defaults,
    modes and switches, the current CUDA device and stream, the environment, the working directory,
    signals, limits, the standard descriptors and streams, PyTorch's random numbers, warnings. Not
    `sys.path` and what was imported, which a kernel's file may rely on.

    Yields:
        A list that is empty until the end, and then has the names of what cannot be put back.
    """
    lost: list[str] = []
    parts = _parts()
    before = [part.now() for part in parts]
    standard = _standard()
    try:
        yield lost
    finally:
        _put_back_standard(standard)
        changed = [
            (part, value)
            for part, value in zip(parts, before, strict=True)
            if not part.is_as(value)
        ]
        for part, value in changed:
            if value is not _UNKNOWN:
                with suppress(Exception):
                    part.write(value)
        lost += [part.name for part, value in changed if not part.is_as(value)]


def _parts() -> tuple[_Part, ...]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda"):  # not in use, or half imported
        return _python_parts()
    return _python_parts() + _torch_parts() + (_cuda_parts() if _has_cuda(torch) else ())


def _has_cuda(torch: Any) -> bool:
    return bool(torch.cuda.is_initialized())


def _standard() -> dict[int, int]:
    """Copies of standard input, output and error, which a job may close or turn elsewhere."""
    copies = {}
    for descriptor in range(3):
        with suppress(OSError):
            copies[descriptor] = os.dup(descriptor)
    return copies


def _put_back_standard(copies: dict[int, int]) -> None:
    for descriptor, copy in copies.items():
        with suppress(OSError):
            if not _same_file(descriptor, copy):
                os.dup2(copy, descriptor)
            os.close(copy)


def _same_file(one: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False


def _attribute(target: Any, name: str) -> _Part:
    return _Part(name, lambda: attrgetter(name)(target), lambda value: setattr(target, name, value))


def _identical(target: Any, name: str) -> _Part:
    return _Part(
        name,
        lambda: getattr(target, name),
        lambda value: setattr(target, name, value),
        lambda now, before: now is before,
    )


@cache
def _python_parts() -> tuple[_Part, ...]:
    return (
        _Part("environment", lambda: dict(os.environ), _write_environment),
        _Part("working directory", os.getcwd, os.chdir),
        _Part("umask", _umask, os.umask),
        _Part("signal handlers", _handlers, _write_handlers),
        _Part(
            "signal mask",
            lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        ),
        *(_timer(which) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)),
        _timer(signal.ITIMER_PROF),
        *(_limit(name) for name in dir(resource) if name.startswith("RLIMIT_")),
        _Part("priority", lambda: os.getpriority(os.PRIO_PROCESS, 0)),
        _Part(
            "CPU affinity",
            lambda: os.sched_getaffinity(0),
            lambda cores: os.sched_setaffinity(0, cores),
        ),
        *(_identical(sys, name) for name in ("stdin", "stdout", "stderr", "excepthook")),
        _Part("trace function", sys.gettrace, sys.settrace),
        _Part("profile function", sys.getprofile, sys.setprofile),
        _Part("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        _Part("switch interval", sys.getswitchinterval, sys.setswitchinterval),
        _Part("garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        _Part("warnings", lambda: list(warnings.filters), _write_filters),
        _identical(warnings, "showwarning"),
    )


def _write_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _signals()}


@cache
def _signals() -> tuple[int, ...]:
    fixed = {signal.SIGKILL, signal.SIGSTOP}
    numbers = map(int, signal.valid_signals() - fixed)
    return tuple(sorted(number for number in numbers if number < signal.SIGRTMIN))


def _write_handlers(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _timer(which: int) -> _Part:
    return _Part(
        "timer",
        lambda: signal.getitimer(which)[0] > 0,
        lambda armed: None if armed else signal.setitimer(which, 0),
    )


def _limit(name: str) -> _Part:
    number = getattr(resource, name)
    return _Part(
        name,
        lambda: resource.getrlimit(number),
        lambda limits: resource.setrlimit(number, limits),
    )


def _write_filters(before: list[Any]) -> None:
    warnings.filters[:] = before  # type: ignore[index]
    vars(warnings)["_filters_mutated"]()


@cache
def _torch_parts() -> tuple[_Part, ...]:
    import torch

    own = vars(torch._C)
    flags = [
        (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
        (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
        (torch.backends.cudnn, "enabled"),
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "deterministic"),
        (torch.backends.cudnn, "allow_tf32"),
    ]
    # Newer names of the same switches; where PyTorch lacks one, it cannot be told.
    for each in ("", "cuda.matmul", "cudnn", "cudnn.conv", "cudnn.rnn"):
        with suppress(AttributeError):
            target = attrgetter(each)(torch.backends) if each else torch.backends
            flags.append((target, "fp32_precision"))
    return (
        _Part("default dtype", torch.get_default_dtype, torch.set_default_dtype),
        _Part("default device", torch.get_default_device, _write_default_device),
        _Part("function modes", own["_len_torch_function_stack"], _pop_function_modes),
        _Part("dispatch modes", own["_len_torch_dispatch_stack"]),
        _Part("grad mode", torch.is_grad_enabled, own["_set_grad_enabled"]),
        _Part("inference mode", torch.is_inference_mode_enabled),
        *(_autocast(device) for device in ("cpu", "cuda")),
        _Part("deterministic algorithms", _determinism, _write_determinism),
        _Part(
            "matmul precision",
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
        *(_attribute(target, name) for target, name in flags),
        _Part("threads", torch.get_num_threads, torch.set_num_threads),
        _Part("subnormal numbers", lambda: _TINY * 1.0 == 0.0, torch.set_flush_denormal),
        _Part("torch's random", torch.get_rng_state, torch.set_rng_state, torch.equal),
    )


def _write_default_device(device: Any) -> None:
    import torch

    torch.set_default_device(None if device.type == "cpu" else device)


def _pop_function_modes(before: int) -> None:
    import torch

    own = vars(torch._C)
    while own["_len_torch_function_stack"]() > before:
        own["_pop_torch_function_stack"]()


def _autocast(device: str) -> _Part:
    import torch

    return _Part(
        f"autocast on {device}",
        lambda: torch.is_autocast_enabled(device),
        lambda on: torch.set_autocast_enabled(device, on),
    )


def _determinism() -> tuple[bool, bool]:
    import torch

    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _write_determinism(before: tuple[bool, bool]) -> None:
    import torch

    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@cache
def _cuda_parts() -> tuple[_Part, ...]:
    import torch

    parts = [
        _Part("current GPU", torch.cuda.current_device, torch.cuda.set_device),
        _Part("current stream", torch.cuda.current_stream, torch.cuda.set_stream),
    ]
    if hasattr(torch.cuda, "get_per_process_memory_fraction"):
        get, put = (
            torch.cuda.get_per_process_memory_fraction,
            torch.cuda.set_per_process_memory_fraction,
        )
        parts.append(_Part("share of the GPU's memory", get, put))
    return tuple(parts)
