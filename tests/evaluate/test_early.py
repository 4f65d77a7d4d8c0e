from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tunekit.evaluate import early


def test_what_fails_ahead_of_its_time_is_left_to_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no driver")

    for task in ("_open_gpu", "_ready_triton"):
        monkeypatch.setattr(early, task, fail)
    for thread in early.begin(0):
        thread.join()


def test_the_gpu_that_was_asked_for_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def init(flags: int) -> int:
        calls.append(("init", flags))
        return 0

    def get(device: object, index: int) -> int:
        calls.append(("device", index))
        return 0 if index < 2 else 101

    def retain(context: object, device: ctypes.c_int) -> int:
        calls.append(("context", device.value))
        return 0

    cuda = SimpleNamespace(cuInit=init, cuDeviceGet=get, cuDevicePrimaryCtxRetain=retain)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: cuda)
    early._open_gpu(1)
    assert [call[0] for call in calls] == ["init", "device", "context"]
    calls.clear()
    early._open_gpu(2)
    assert calls == [("init", 0), ("device", 2)]


def test_the_compiler_is_hashed_once_for_all_forks() -> None:
    from triton.runtime.cache import triton_key

    early.hash_triton()
    before = triton_key.cache_info().misses
    early.hash_triton()
    assert triton_key.cache_info().misses == before


def test_it_needs_no_pytorch() -> None:
    script = (
        "import sys; from tunekit.evaluate import early\n"
        "for thread in early.begin(0): thread.join()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
