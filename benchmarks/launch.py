"""What a call costs the host: an op against a bare launch, `triton.autotune` and eager PyTorch.

    python benchmarks/launch.py [-o FILE] [--rows 100000]

Small tensors, so that the GPU waits for the host. Each figure is host time of a call in µs: blocks
of calls, all contenders in turn, the median of the blocks and their spread. A bare launch is what
Triton's launcher does with arguments that are ready, and the allocation of the output. Recording is
on during its own blocks alone; what it costs is the median of the differences to the blocks without
it. Imports and first calls are timed in processes of their own, with warm compile caches; so are
calls with a database of many rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import triton

import tunekit
from tunekit import ops
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import ITEMSIZES, Problem
from tunekit.core.space import context
from tunekit.evaluate.compile import ordered_arguments
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels.library import KERNELS
from tunekit.store.database import Store

RAW_GOAL, AUTOTUNE_GOAL, EAGER_GOAL = 1.3, 0.45, 1.0
RECORD_GOAL_US = 1.0
IMPORT_GOAL_S, FIRST_GOAL_S = 0.030, 0.050
ELEMENTS = 4096
BLOCKS, CALLS = 40, 500
KNOWN_AFTER = 20
"""Calls after which every kind is known again; recording forgets them."""
STARTS = 7
OP = "`tunekit.ops.mish_mish(x)`"
PLANNED = "the same kernel by `@tunekit.kernel`"
RECORDED = "tunekit op, recording on: `tunekit.ops.mish_mish(x)`"
_EVALUATIONS = 100
"""Of a problem in the large database."""

_STARTING = """
import json, sys, time
import torch, triton
began = time.perf_counter()
import tunekit
lazily = time.perf_counter()
import tunekit.ops
imported = time.perf_counter()
x = torch.randn(4096, device="cuda")
torch.cuda.synchronize()
ready = time.perf_counter()
tunekit.ops.mish_mish(x)
torch.cuda.synchronize()
first = time.perf_counter()
blocks = []
for _ in range(40):
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(500):
        tunekit.ops.mish_mish(x)
    blocks.append((time.perf_counter() - start) / 500 * 1e6)
print(json.dumps([lazily - began, imported - lazily, first - ready, sorted(blocks)[20]]))
"""

_STARTING_TRITON = """
import json, time
import torch, triton
from tunekit.core.config import Config
from tunekit.gpu import device_at
from tunekit.kernels.library import KERNELS
x = torch.randn(4096, device="cuda")
launch = KERNELS["mish_mish"].launch_for((4096,), "float32", device_at(0))
config = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
bound = launch.bind([x], [torch.empty_like(x)], {}, config)
torch.cuda.synchronize()
ready = time.perf_counter()
launch.function[launch.grid(config)](**bound)
torch.cuda.synchronize()
print(json.dumps([time.perf_counter() - ready]))
"""


def contenders(gpu: PresentGpu, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What is called, by name."""
    kernel = KERNELS["mish_mish"]
    launch = kernel.launch_for(x.shape, "float32", gpu.device)
    config = kernel.load_space().default(context(launch.dims, 4, gpu.device))
    bound = launch.bind([x], [torch.empty_like(x)], {}, config)
    compiled = launch.function.warmup(**bound, grid=(1,))
    run, grid = compiled.run, launch.grid(config)
    arguments = ordered_arguments(launch.function, bound)
    values = tuple(arguments.values())
    index = x.get_device()
    epilogue = arguments["epilogue"]

    def bare() -> torch.Tensor:
        y = torch.empty_like(x)
        stream = torch._C._cuda_getCurrentRawStream(index)
        run(
            *grid, stream, compiled.function, compiled.packed_metadata, None, None, None,
            (x,), y, *values[2:],
        )  # fmt: skip
        return y

    other = Config({**config, "num_warps": 2 * config["num_warps"]})
    configs = [each.to_triton() for each in (config, other)]
    tuned = triton.autotune(configs=configs, key=["n"])(launch.function)

    def autotuned() -> torch.Tensor:
        y = torch.empty_like(x)
        tuned[grid](inputs=(x,), output=y, scalars=(), n=x.numel(), epilogue=epilogue, WIDE=False)
        return y

    function = launch.function

    @tunekit.kernel(space="pointwise", reference=kernel.reference, shapes={"x": ("n",)})
    def planned(x: torch.Tensor) -> Any:
        y, n = torch.empty_like(x), x.numel()
        return tunekit.launch(
            function, (x,), y, (), n, epilogue, WIDE=False,
            grid=lambda config: triton.cdiv(n, config["BLOCK_SIZE"]), outputs=y,
        )  # fmt: skip

    return {
        "a bare launch and the allocation": bare,
        OP: lambda: ops.mish_mish(x),
        RECORDED: lambda: ops.mish_mish(x),
        "`tunekit.ops.mish_mish(x, inplace=True)`": lambda: ops.mish_mish(x, inplace=True),
        "`tunekit.ops.mish_add_hardtanh_scale(x, 0.5, 2.0)`": lambda: ops.mish_add_hardtanh_scale(
            x, 0.5, 2.0
        ),
        "`tunekit.ops.call(kernel, x)`": lambda: ops.call(kernel, x),
        PLANNED: lambda: planned(x),
        "the same kernel under `triton.autotune`": autotuned,
        "eager `F.mish(F.mish(x))`": lambda: F.mish(F.mish(x)),
        "the allocation": lambda: torch.empty_like(x),
    }


def timed_us(
    calls: dict[str, Callable[[], object]],
    around: Mapping[str, Callable[[], AbstractContextManager[object]]],
) -> dict[str, list[float]]:
    """Host time of a call in µs: a figure for each block, all in turn; `around` is what is on."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(BLOCKS):
        for name, call in calls.items():
            with around.get(name, nullcontext)():
                for _ in range(KNOWN_AFTER):
                    call()
                torch.cuda.synchronize()
                began = time.perf_counter()
                for _ in range(CALLS):
                    call()
                found[name].append((time.perf_counter() - began) / CALLS * 1e6)
    return found


def recording_us(found: Mapping[str, Sequence[float]]) -> float:
    """What recording adds to a call, µs: blocks of one turn are compared."""
    pairs = zip(found[RECORDED], found[OP], strict=True)
    return statistics.median(recorded - off for recorded, off in pairs)


def started(program: str, database: Path | None = None) -> list[float]:
    """What a program prints, in processes of its own: medians."""
    environment = os.environ | ({"TUNEKIT_DB": str(database)} if database else {})
    runs = []
    for _ in range(STARTS + 1):  # the first one warms the caches
        ran = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True
        )
        runs.append(json.loads(ran.stdout))
    return [statistics.median(column) for column in zip(*runs[1:], strict=True)]


def fill(path: Path, rows: int, gpu: PresentGpu) -> None:
    """A database with so many evaluations, of every op, dtype and two GPUs."""
    provenance = Provenance(
        gpu_name=gpu.name,
        sm_count=gpu.device.sm_count,
        driver=gpu.driver,
        torch=torch.__version__,
        triton=triton.__version__,
        tunekit="0",
        protocol="synthetic",
        created_at="2026-01-01T00:00:00.000+00:00",
    )
    kinds = list(itertools.product(KERNELS.values(), ITEMSIZES, ("h100", "rtx4090")))
    with Store.open(path) as store:
        for number in range(rows // _EVALUATIONS):
            kernel, dtype, device = kinds[number % len(kinds)]
            n = 16 * (number // len(kinds) + 7)
            launch = kernel.launch_for((n,), dtype, DEVICES[device])
            problem = kernel.problem_of(launch, DEVICES[device])
            evaluations = [
                _evaluation(problem, n, provenance, place) for place in range(_EVALUATIONS)
            ]
            store.add(evaluations)
            store.decide(_decision(problem, evaluations[0]))


def _evaluation(problem: Problem, n: int, provenance: Provenance, place: int) -> Evaluation:
    config = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
    if place:
        config = Config(BLOCK_SIZE=16 * place, VEC=1, num_warps=1, num_stages=1)
    return Evaluation(
        problem=problem, shape=(n,), config=config, status=Status.OK, source=Source.MEASURED,
        provenance=provenance, verified_by=VerifiedBy.DEVICE, time_us=5.0 + place,
        samples_us=(5.0 + place,), max_error=0.0,
    )  # fmt: skip


def _decision(problem: Problem, winner: Evaluation) -> Decision:
    return Decision(
        problem=problem, source=Source.MEASURED, winner=winner.uid, default=winner.uid,
        reason="synthetic", created_at=winner.provenance.created_at, rows=(winner.uid,),
        speedup=1.0, copy_us=None,
    )  # fmt: skip


def report(gpu: PresentGpu, rows: int) -> list[str]:
    """Tables and verdicts."""
    calls = contenders(gpu, torch.randn(ELEMENTS, device="cuda"))
    found = timed_us(calls, {RECORDED: tunekit.record})
    medians = {name: statistics.median(blocks) for name, blocks in found.items()}
    op, bare = medians[OP], medians["a bare launch and the allocation"]
    lines = [
        "| call | µs, median | quartiles | over a bare launch |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, blocks in found.items():
        low, middle, high = statistics.quantiles(blocks, n=4)
        lines.append(f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} | {middle / bare:.2f} |")
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.db"
        fill(large, rows, gpu)
        starts = {
            "the shipped database": started(_STARTING),
            f"{rows} rows more": started(_STARTING, large),
        }
    (triton_s,) = started(_STARTING_TRITON)
    lines += ["", "| database | `import tunekit`, ms | its ops, ms | first call, ms | later, µs |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for name, (imported_s, ops_s, first_s, later_us) in starts.items():
        cells = [f"{1e3 * seconds:.1f}" for seconds in (imported_s, ops_s, first_s)]
        lines.append(f"| {name} | {' | '.join(cells)} | {later_us:.2f} |")
    lines += ["", f"Triton's own first launch of the same kernel: {1e3 * triton_s:.1f} ms."]
    autotuned = medians["the same kernel under `triton.autotune`"]
    eager = medians["eager `F.mish(F.mish(x))`"]
    lines += ["", "```"]
    lines.append(_verdict("an op over a bare launch", op / bare, RAW_GOAL))
    planned = medians[PLANNED] / bare
    lines.append(_verdict("a kernel of a plan over a bare launch", planned, RAW_GOAL))
    lines.append(_verdict("an op over triton.autotune", op / autotuned, AUTOTUNE_GOAL))
    lines.append(_verdict("an op over eager", op / eager, EAGER_GOAL))
    lines.append(_verdict("recording, µs a call", recording_us(found), RECORD_GOAL_US))
    for name, (imported_s, _, first_s, later_us) in starts.items():
        lines.append(_verdict(f"{name}: import, s", imported_s, IMPORT_GOAL_S))
        lines.append(_verdict(f"{name}: first call, s", first_s, FIRST_GOAL_S))
        lines.append(_verdict(f"{name}: later calls over a bare launch", later_us / bare, RAW_GOAL))
    return [*lines, "```"]


def _verdict(what: str, value: float, goal: float) -> str:
    return f"{'PASS' if value <= goal else 'FAIL'}  {what}: {value:.3g} (at most {goal:g})"


def main(argv: Sequence[str] | None = None) -> int:
    """Time, print; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="of the large database")
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    gpu = select_gpu(0)
    lines = [
        "# What a call costs the host",
        "",
        f"{gpu.name}, driver {gpu.driver}, torch {version('torch')}, Triton {version('triton')}, "
        f"Python {sys.version.split()[0]}; {ELEMENTS} float32 elements, {BLOCKS} blocks of {CALLS} "
        f"calls; {STARTS} processes.",
        "",
        *report(gpu, arguments.rows),
    ]
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(line.startswith("FAIL") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
