from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from tunekit.autotuning.compiling import compile_all
from tunekit.core.device import Device
from tunekit.core.evaluation import Status


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2, mask=at < n)


def beginning(block: int) -> Callable[[], Any]:
    x = torch.empty(1024, device="meta")
    return lambda: scale_kernel.run(x, x, 1024, grid=(1,), warmup=True, BLOCK=block, num_warps=4)


def test_all_are_compiled_and_what_fails_is_told(compiling: Device) -> None:
    made = compile_all({block: beginning(block) for block in (256, 512, 24)})
    assert {block: outcome.status for block, outcome in made.items()} == {
        256: Status.OK,
        512: Status.OK,
        24: Status.COMPILE_ERROR,
    }
    assert "power of 2" in made[24].reason
    binaries = [made[block].binary for block in (256, 512)]
    assert all(binary is not None and binary.registers > 0 for binary in binaries)
    assert len({binary.hash for binary in binaries if binary is not None}) == 2
    again = compile_all({256: beginning(256)})  # known: nothing is compiled
    assert again[256].binary == made[256].binary


def test_one_that_takes_too_long_is_not_waited_for(
    compiling: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, real = threading.Event(), triton.compiler.compile

    def slow(*args: Any, **kwargs: Any) -> Any:
        ended.wait(20)
        return real(*args, **kwargs)

    monkeypatch.setattr(scale_kernel, "compile", slow, raising=False)
    began = time.monotonic()
    made = compile_all({128: beginning(128)}, deadline_s=0.2)
    ended.set()
    assert made[128].status is Status.TIMEOUT
    assert "longer than 0.2 s" in made[128].reason
    assert time.monotonic() - began < 10


def test_nothing_is_nothing() -> None:
    assert compile_all({}) == {}
