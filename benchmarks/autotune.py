"""`@tunekit.autotune` beside `@triton.autotune`: the first call of a problem, and every later one.

    python benchmarks/autotune.py [-o FILE]

Two kernels with the configurations they would have under either decorator. A first call is timed in
a process of its own, with its own folder of compiled kernels: empty, or left by the run before; it
includes the kernel's launch, not the imports. A later call is host time on small tensors, so that
the GPU waits for the host: blocks of calls, all contenders in turn, the median of the blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl

import tunekit

BLOCKS, CALLS = 30, 500
TUNED_GOAL, HOST_GOAL = 1.0, 1.0

MATMUL = [
    triton.Config({"BM": bm, "BN": bn, "BK": bk}, num_warps=warps, num_stages=stages)
    for bm, bn, bk, warps, stages in (
        (64, 64, 32, 4, 3), (64, 64, 64, 4, 4), (128, 64, 32, 4, 4), (64, 128, 32, 4, 4),
        (128, 128, 32, 4, 3), (128, 128, 64, 8, 3), (128, 256, 64, 8, 3), (256, 128, 64, 8, 3),
        (32, 64, 64, 4, 4), (64, 32, 64, 4, 4), (128, 128, 32, 8, 4), (64, 256, 32, 4, 4),
    )
]  # fmt: skip
SOFTMAX = [
    triton.Config({"ROWS": rows}, num_warps=warps) for rows in (1, 2, 4, 8) for warps in (2, 4, 8)
]


@triton.heuristics({"EVEN_K": lambda args: args["K"] % args["BK"] == 0})
@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    """C = A @ B of row-major float16, with a mask on what is no whole block."""
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        rk = k + tl.arange(0, BK)
        a_mask, b_mask = (rm < M)[:, None], (rn < N)[None, :]
        if not EVEN_K:
            a_mask, b_mask = a_mask & (rk < K)[None, :], b_mask & (rk < K)[:, None]
        a = tl.load(a_ptr + rm[:, None] * K + rk[None, :], mask=a_mask, other=0.0)
        b = tl.load(b_ptr + rk[:, None] * N + rn[None, :], mask=b_mask, other=0.0)
        total = tl.dot(a, b, total)
    c_mask = (rm < M)[:, None] & (rn < N)[None, :]
    tl.store(c_ptr + rm[:, None] * N + rn[None, :], total.to(tl.float16), mask=c_mask)


@triton.jit
def softmax_kernel(out_ptr, x_ptr, rows, columns, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Softmax of each row, ROWS of them a program."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    mask = (row < rows) & (column < columns)
    x = tl.load(x_ptr + row * columns + column, mask=mask, other=-float("inf")).to(tl.float32)
    e = tl.exp(x - tl.max(x, 1)[:, None])
    tl.store(out_ptr + row * columns + column, e / tl.sum(e, 1)[:, None], mask=mask)


def matmul_call(decorate: Callable[..., Any], size: int) -> tuple[Any, Callable[[], object]]:
    """The decorated kernel, and a call of it at size³."""
    kernel = decorate(configs=MATMUL, key=["M", "N", "K"])(matmul_kernel)
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
    c = torch.empty_like(a)

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(size, meta["BM"]), triton.cdiv(size, meta["BN"])

    return kernel, lambda: kernel[grid](a, b, c, size, size, size)


def softmax_call(decorate: Callable[..., Any], size: int) -> tuple[Any, Callable[[], object]]:
    """The decorated kernel, and a call of it on size rows of 1024."""
    kernel = decorate(configs=SOFTMAX, key=["rows", "columns"])(softmax_kernel)
    x = torch.randn(size, 1024, device="cuda", dtype=torch.float16)
    out = torch.empty_like(x)

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(size, meta["ROWS"]),)

    return kernel, lambda: kernel[grid](out, x, size, 1024, WIDTH=1024)


KERNELS = {"matmul": (matmul_call, 2048, 64), "softmax": (softmax_call, 16384, 4)}
"""What makes a call of each, the size it is tuned at, and one at which the GPU waits."""
DECORATORS = {"triton": triton.autotune, "tunekit": tunekit.autotune}


def first_call(decorator: str, name: str) -> dict[str, Any]:
    """Seconds of the first call in this process, and what it chose."""
    make, size, _ = KERNELS[name]
    kernel, call = make(DECORATORS[decorator], size)
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    took_s = time.perf_counter() - began
    return {"s": took_s, "config": str(kernel.best_config), "us": gpu_us(call)}


def gpu_us(call: Callable[[], object]) -> float:
    """Time on the GPU of a call whose configuration is chosen, µs."""
    return float(triton.testing.do_bench_cudagraph(call, rep=50)) * 1e3


def first_calls(decorator: str, name: str, folder: Path) -> list[dict[str, Any]]:
    """Of two processes one after the other: nothing compiled and tuned yet, then all of it."""
    environment = os.environ | {
        "TRITON_CACHE_DIR": str(folder / f"{decorator}-{name}"),
        "TUNEKIT_DB": str(folder / f"{name}.db"),
        "TUNEKIT_ON_MISS": "tune",
    }
    command = [sys.executable, __file__, "--first", decorator, name]
    found = []
    for _ in range(2):
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found.append(json.loads(ran.stdout.splitlines()[-1]))
    return found


def host_us(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Host time of a call in µs: the median of blocks, all in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(BLOCKS):
        for name, call in calls.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(CALLS):
                call()
            found[name].append((time.perf_counter() - began) / CALLS * 1e6)
    torch.cuda.synchronize()
    return {name: statistics.median(blocks) for name, blocks in found.items()}


def report(folder: Path) -> list[str]:
    """The tables, and whether the goals are met."""
    lines = [
        "| kernel | decorator | tuned, s | in the next process, s | chosen | its time, µs |",
        "| --- | --- | ---: | ---: | --- | ---: |",
    ]
    verdicts = []
    for name in KERNELS:
        tuned_s = {}
        for decorator in DECORATORS:
            first, later = first_calls(decorator, name, folder)
            tuned_s[decorator] = first["s"]
            lines.append(
                f"| {name} | {decorator} | {first['s']:.2f} | {later['s']:.2f} | "
                f"{later['config']} | {later['us']:.1f} |"
            )
        ratio = tuned_s["tunekit"] / tuned_s["triton"]
        verdicts.append(_verdict(f"{name}: tuning, over Triton's", ratio, TUNED_GOAL))
    lines += [
        "", "| kernel | `@triton.autotune`, µs | `@tunekit.autotune`, µs | one configuration, µs |",
        "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    os.environ["TUNEKIT_DB"] = str(folder / "small.db")
    for name, (make, _, small) in KERNELS.items():
        decorated = {each: make(decorate, small) for each, decorate in DECORATORS.items()}
        calls = {each: call for each, (_, call) in decorated.items()}
        # What is left without a choice: the same kernel under Triton's decorator with one.
        _, calls["bare"] = make(lambda configs, key: triton.autotune(configs[:1], key), small)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tunekit.TunekitWarning)
            found = host_us(calls)
        lines.append(
            f"| {name} | {found['triton']:.2f} | {found['tunekit']:.2f} | {found['bare']:.2f} |"
        )
        ratio = found["tunekit"] / found["triton"]
        verdicts.append(_verdict(f"{name}: a call, over Triton's", ratio, HOST_GOAL))
    return [*lines, "", "```", *verdicts, "```"]


def _verdict(what: str, value: float, goal: float) -> str:
    return f"{'PASS' if value <= goal else 'FAIL'}  {what}: {value:.3g} (at most {goal:g})"


def main(argv: Sequence[str] | None = None) -> int:
    """Time, print; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", nargs=2, metavar=("DECORATOR", "KERNEL"), help="one first call")
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    if arguments.first:
        print(json.dumps(first_call(*arguments.first)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        table = report(Path(folder))
    lines = [
        "# `@tunekit.autotune` beside `@triton.autotune`",
        "",
        f"{torch.cuda.get_device_name()}, torch {version('torch')}, Triton {version('triton')}, "
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; {len(MATMUL)} configurations of "
        f"a float16 matmul at 2048³, {len(SOFTMAX)} of a softmax of 16384 rows of 1024. Host time: "
        f"{BLOCKS} blocks of {CALLS} calls.",
        "",
        *table,
    ]
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(line.startswith("FAIL") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
