"""Compile configurations in several threads, before the first of them is launched."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import triton

from tunekit.core.evaluation import Binary, Status
from tunekit.evaluate.compile import binary_of, one_parse_at_a_time
from tunekit.evaluate.job import Outcome
from tunekit.evaluate.text import full_text, one_line

_MOST_THREADS = 16
DEADLINE_S = 120.0
"""Of one compilation; in this process none can be killed, but none is waited for any longer."""

Key = TypeVar("Key")


def compile_all(
    begin: Mapping[Key, Callable[[], Any]], deadline_s: float = DEADLINE_S
) -> dict[Key, Outcome]:
    """What became of each: ok with its binary, compile_error, or timeout.

    Args:
        begin: calls Triton with `warmup=True`; what it returns is the kernel, or will be it.
        deadline_s: seconds that one may take.
    """
    threads = max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0)), len(begin)))
    executor = ThreadPoolExecutor(threads, thread_name_prefix="tunekit-compile")
    mode = triton.AsyncCompileMode(executor, ignore_errors=True)
    begun: dict[Key, Any] = {}
    with one_parse_at_a_time(), mode:
        for key, start in begin.items():
            try:
                begun[key] = start()
            except Exception as failure:
                begun[key] = failure
        futures: list[Future[Any]] = list(mode.raw_futures)
        _, late = wait(futures, deadline_s * math.ceil(len(futures) / threads))
        mode.raw_futures = [future for future in futures if future not in late]
    executor.shutdown(wait=False, cancel_futures=True)
    return {key: _outcome(made, late, deadline_s) for key, made in begun.items()}


def _outcome(made: Any, late: set[Future[Any]], deadline_s: float) -> Outcome:
    if getattr(made, "future", None) in late:
        return Outcome(Status.TIMEOUT, reason=f"compiling took longer than {deadline_s:g} s")
    try:
        if isinstance(made, Exception):
            raise made
        kernel = made.result() if hasattr(made, "result") else made
        return Outcome(Status.OK, binary=_binary_of(kernel))
    except Exception as failure:
        said = full_text(failure)
        return Outcome(Status.COMPILE_ERROR, reason=one_line(failure), details=said)


def _binary_of(kernel: Any) -> Binary | None:
    """None where nothing was compiled, in the interpreter, and of a GPU that is not NVIDIA's."""
    if "cubin" not in getattr(kernel, "asm", {}):
        return None
    return binary_of(kernel)
