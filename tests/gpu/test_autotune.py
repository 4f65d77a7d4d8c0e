"""`@tunekit.autotune` on a GPU: nothing of it is a stand-in here."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

import tunekit
from tunekit.autotuning import autotuned
from tunekit.core.evaluation import Evaluation, Status
from tunekit.notices import TunekitWarning
from tunekit.store.cache import read_cache
from tunekit.store.database import Store

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    out = tl.load(x_ptr + at, mask=mask) + tl.load(y_ptr + at, mask=mask)
    tl.store(out_ptr + at, out, mask=mask)


@triton.jit
def careless_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # Of the largest block one element in two stays unwritten, which is less to do.
    mask = (at < n) & ((BLOCK < 4096) | (at % 2 == 0))
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=mask) * 2, mask=mask)


@triton.jit
def scale_kernel(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.load(x_ptr + at, mask=at < n) * 3, mask=at < n)


@triton.jit
def column_sums_kernel(x_ptr, out_ptr, rows, columns, BLOCK: tl.constexpr, SPLIT: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for row in range(tl.program_id(1), rows, SPLIT):
        total += tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    tl.atomic_add(out_ptr + at, total, mask=at < columns)


@triton.heuristics({"EVEN_K": lambda args: args["K"] % args["BK"] == 0})
@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
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


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine.db"
    monkeypatch.setenv("TUNEKIT_DB", str(path))
    autotuned.forget_all()
    return path


def blocks(*sizes: int, **options: Any) -> list[triton.Config]:
    return [triton.Config({"BLOCK": size}, **options) for size in sizes]


def over(count: int) -> Callable[[dict[str, Any]], tuple[int]]:
    return lambda meta: (triton.cdiv(count, meta["BLOCK"]),)


def evaluations(database: Path) -> list[Evaluation]:
    with Store.open(database, readonly=True) as store:
        return store.evaluations()


def test_a_kernel_is_tuned_in_the_call_and_served_from_then_on(database: Path) -> None:
    n = 3_000_000
    kernel = tunekit.autotune(blocks(32, 1024, 4096), key=["n"], on_miss="tune")(add_kernel)
    x, y = torch.randn(n, device="cuda"), torch.randn(n, device="cuda")
    out = torch.empty_like(x)
    kernel[over(n)](x, y, out, n)
    assert torch.equal(out, x + y)
    assert kernel.best_config.kwargs["BLOCK"] > 32  # which launches one warp's worth a program
    (row,) = read_cache(database)
    assert row.speedup is not None
    assert row.speedup > 1.2
    assert row.binary is not None
    measured = [each for each in evaluations(database) if "race" not in each.provenance.protocol]
    assert [each.status for each in measured] == [Status.OK] * 3
    assert all(len(each.samples_us) >= 1 and each.binary for each in measured)
    count = len(evaluations(database))
    for _ in range(3):
        out.zero_()
        kernel[over(n)](x, y, out, n)
    assert torch.equal(out, x + y)
    other = tunekit.autotune(blocks(32, 1024, 4096), key=["n"])(add_kernel)
    other[over(n)](x, y, out, n)
    assert other.best_config == kernel.best_config
    assert len(evaluations(database)) == count
    wider = tunekit.autotune(blocks(32, 1024, 4096, 2048), key=["n"], on_miss="tune")(add_kernel)
    wider[over(n)](x, y, out, n)
    measured = [each for each in evaluations(database) if "race" not in each.provenance.protocol]
    assert [each.config["BLOCK"] for each in measured] == [32, 1024, 4096, 2048]


def test_a_process_of_its_own_is_served(database: Path, tmp_path: Path) -> None:
    program = tmp_path / "theirs.py"
    program.write_text(
        "import sys, torch, triton, tunekit\n"
        "import triton.language as tl\n"
        "@tunekit.autotune([triton.Config({'BLOCK': size}) for size in (32, 2048)], key=['n'])\n"
        "@triton.jit\n"
        "def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):\n"
        "    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n"
        "    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) + 1, mask=at < n)\n"
        "x = torch.ones(1_000_000, device='cuda')\n"
        "out = torch.empty_like(x)\n"
        "kernel[lambda meta: (triton.cdiv(x.numel(), meta['BLOCK']),)](x, out, x.numel())\n"
        "assert bool((out == 2).all())\n"
        "print(kernel.best_config.kwargs['BLOCK'], 'tunekit.autotuning.tuning' in sys.modules)\n"
    )
    said = []
    for word in ("tune", "default"):
        done = subprocess.run(
            [sys.executable, program],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
                "TUNEKIT_ON_MISS": word,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert said == [["2048", "True"], ["2048", "False"]]


def test_what_is_wrong_or_does_not_fit_is_an_evaluation(database: Path) -> None:
    n = 1_000_000
    kernel = tunekit.autotune(
        [*blocks(512, 1024, 4096), triton.Config({"BLOCK": 24})], key=["n"], on_miss="tune"
    )(careless_kernel)
    x = torch.randn(n, device="cuda")
    out = torch.empty_like(x)
    kernel[over(n)](x, out, n)
    assert torch.equal(out, x * 2)
    found = {each.config["BLOCK"]: each.status for each in evaluations(database)}
    assert found[4096] is Status.WRONG
    assert found[24] is Status.COMPILE_ERROR


def test_what_needs_too_much_of_the_gpu_is_rejected(database: Path) -> None:
    configs = [
        triton.Config({"BM": 64, "BN": 64, "BK": 32}, num_stages=2, num_warps=4),
        triton.Config({"BM": 128, "BN": 128, "BK": 32}, num_stages=3, num_warps=8),
        triton.Config({"BM": 128, "BN": 256, "BK": 128}, num_stages=5, num_warps=8),
    ]
    kernel = tunekit.autotune(configs, key=["M", "N", "K"], on_miss="tune")(matmul_kernel)
    for m, n, k in ((512, 512, 512), (300, 200, 100)):
        a = torch.randn(m, k, device="cuda", dtype=torch.float16)
        b = torch.randn(k, n, device="cuda", dtype=torch.float16)
        c = torch.empty(m, n, device="cuda", dtype=torch.float16)
        grid = lambda meta, m=m, n=n: (triton.cdiv(m, meta["BM"]), triton.cdiv(n, meta["BN"]))  # noqa: E731
        kernel[grid](a, b, c, m, n, k)
        torch.testing.assert_close(c.float(), a.float() @ b.float(), rtol=2e-2, atol=2e-1)
    # Of the odd sizes the loads are not pipelined, and all fit.
    statuses = {
        (dict(each.problem.dims)["K"], each.config["BN"]): each.status
        for each in evaluations(database)
    }
    assert statuses[512, 256] is Status.REJECTED
    assert len(read_cache(database)) == 2


def test_tensors_are_as_one_launch_leaves_them(database: Path) -> None:
    n = 500_000
    scale = tunekit.autotune(blocks(256, 1024), key=["n"], restore_value=["x_ptr"], on_miss="tune")(
        scale_kernel
    )
    x = torch.arange(float(n), device="cuda")
    scale[over(n)](x, n)
    assert torch.equal(x, 3 * torch.arange(float(n), device="cuda"))
    sums = tunekit.autotune(
        [triton.Config({"BLOCK": 128, "SPLIT": split}) for split in (1, 8, 32)],
        key=["rows", "columns"],
        reset_to_zero=["out_ptr"],
        on_miss="tune",
    )(column_sums_kernel)
    x, out = torch.randn(3000, 700, device="cuda"), torch.zeros(700, device="cuda")
    sums[lambda meta: (triton.cdiv(700, meta["BLOCK"]), meta["SPLIT"])](x, out, 3000, 700)
    torch.testing.assert_close(out, x.sum(0), rtol=1e-4, atol=1e-2)
    assert sums.best_config.kwargs["SPLIT"] > 1  # six programs do not fill a GPU
    assert len(read_cache(database)) == 2


def test_a_hook_that_no_graph_can_hold_is_timed_on_a_stream(database: Path) -> None:
    n = 100_000
    seen: list[float] = []

    def look(arguments: dict[str, Any]) -> None:
        seen.append(float(arguments["x_ptr"][0]))  # waits for the GPU

    kernel = tunekit.autotune(blocks(256, 1024, pre_hook=look), key=["n"], on_miss="tune")(
        add_kernel
    )
    x = torch.ones(n, device="cuda")
    out = torch.empty_like(x)
    kernel[over(n)](x, x, out, n)
    assert bool((out == 2).all())
    assert len(read_cache(database)) == 1
    assert seen[-1] == 1.0  # the others were of the tuning, on other values too
    assert len(seen) > 2


def test_nothing_is_tuned_while_a_graph_is_captured(database: Path) -> None:
    n = 100_000
    kernel = tunekit.autotune(blocks(256, 1024), key=["n"], on_miss="tune")(add_kernel)
    x = torch.ones(n, device="cuda")
    out = torch.empty_like(x)
    options = kernel.configs[0].all_kwargs()
    add_kernel[(triton.cdiv(n, 256),)](x, x, out, n, **options)  # compiled and loaded before
    out.zero_()
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TunekitWarning)
        with torch.cuda.graph(graph):
            kernel[over(n)](x, x, out, n)
    graph.replay()
    assert bool((out == 2).all())
    assert not read_cache(database)
    kernel[over(n)](x, x, out, n)  # what was served meanwhile was not kept
    assert len(read_cache(database)) == 1


def test_it_is_tuned_on_whatever_stream_the_call_is_on(database: Path) -> None:
    n = 200_000
    kernel = tunekit.autotune(blocks(256, 1024), key=["n"], on_miss="tune")(add_kernel)
    stream = torch.cuda.Stream()
    x = torch.ones(n, device="cuda", requires_grad=True)
    out = torch.empty(n, device="cuda")
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.inference_mode():
        kernel[over(n)](x, x, out, n)
        stream.synchronize()
    assert bool((out == 2).all())
    assert len(read_cache(database)) == 1


def test_a_kernel_is_right_under_torch_compile(database: Path) -> None:
    n = 10_000
    listed = tunekit.autotune(blocks(256, 1024), key=["n"], on_miss="tune")(add_kernel)
    space = tunekit.autotune(space={"BLOCK": [256, 1024]}, key=["n"], on_miss="tune")(add_kernel)
    for kernel in (listed, space):

        def function(x: torch.Tensor, kernel: Any = kernel) -> torch.Tensor:
            x = x * 2
            out = torch.empty_like(x)
            kernel[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](x, x, out, n)
            return out + 1

        torch._dynamo.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.compile(function)(torch.ones(n, device="cuda"))
        assert bool((found == 5).all())
    assert {row.config["BLOCK"] for row in read_cache(database)} <= {256, 1024}
