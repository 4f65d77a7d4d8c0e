"""How long tuning takes: `tunekit` against `triton.autotune`, on the GPU that is present.

    python benchmarks/tuning_time.py [-o FILE] [--shape 64,128,254,254] [--further 32,128,254,254]

Both search the same space of the same kernel with a cold compile cache of their own. tunekit knows
the recorded landscapes, but none of the sizes asked for. Its time is that from the call to the
winner: starting the worker, creating CUDA contexts, compiling, verifying, measuring, the race and
the store are in it; the worker's import of PyTorch and Triton is not and is printed. Both winners
are measured side by side in the end. Triton keeps what it compiled in the process: give one space a
run, or the second one's autotuning is not a cold one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
import triton

from tunekit.core.config import Config
from tunekit.core.problem import parse_shape
from tunekit.core.space import context
from tunekit.evaluate.compile import ordered_arguments
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job
from tunekit.gpu import present_gpu
from tunekit.kernels.registry import find_kernel
from tunekit.paths import shipped_landscapes
from tunekit.search.knowledge import Knowledge
from tunekit.search.task import Progress, Result, Task
from tunekit.search.tune import tune
from tunekit.store.database import Store

ROOT = Path(__file__).resolve().parent
SPACES = ("pointwise-wide", "pointwise")
SHARE_GOAL, WINNER_GOAL, FURTHER_GOAL_S = 1 / 20, 1.01, 2.0
DTYPE = "float32"
_ROUNDS = 40

REFERENCES = {"pointwise-wide": f"{ROOT / 'wide.py'}:mish_mish_wide", "pointwise": "mish_mish"}
"""How a worker finds the library's kernel with each space."""


def autotune(space: str, shape: Sequence[int]) -> tuple[float, Config, int]:
    """Seconds of the first call under `triton.autotune`, its choice, the size of the space."""
    kernel = find_kernel(REFERENCES[space])
    device = present_gpu(0).device
    launch = kernel.launch_for(shape, DTYPE, device)
    configs = kernel.load_space().configs(context(launch.dims, 4, device))
    x = torch.randn(tuple(shape), device="cuda")
    out = torch.empty_like(x)
    running: dict[str, int] = {}  # the grid of a loop depends on num_warps, which Triton keeps back
    tuned = triton.autotune(
        [
            triton.Config(config.meta(), **config.options(), pre_hook=running.update)
            for config in configs
        ],
        key=["n"],
    )(launch.function)
    arguments = launch.bind([x], [out], kernel.scalar_values(), configs[0])
    fixed = {
        name: value
        for name, value in ordered_arguments(launch.function, arguments).items()
        if name not in configs[0]
    }
    torch.cuda.synchronize()
    began = time.perf_counter()
    tuned[lambda meta: launch.grid(_config(running, configs[0]))](**fixed)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    best = tuned.best_config
    chosen = {**best.kwargs, "num_warps": best.num_warps, "num_stages": best.num_stages}
    return seconds, _config(chosen, configs[0]), len(configs)


def _config(values: dict[str, int], like: Config) -> Config:
    return Config({axis: values[axis] for axis in like})


def search(
    host: Host, store: Store, knowledge: Knowledge, space: str, shape: tuple[int, ...]
) -> Result:
    """Tune one problem as the command line does."""
    kernel = find_kernel(REFERENCES[space])
    task = Task(kernel, REFERENCES[space], shape, DTYPE, kernel.scalar_values())
    return tune(task, host, store, Progress(), knowledge=knowledge, write_study=False)


def ratio(host: Host, space: str, shape: tuple[int, ...], one: Config, other: Config) -> float:
    """Time of the first configuration over the other's: the median of paired ratios."""
    if one == other:
        return 1.0
    jobs = [
        Job(REFERENCES[space], shape, DTYPE, {}, config, host.device.slug)
        for config in (one, other)
    ]
    ones, others = host.race(jobs, _ROUNDS).samples_us
    return statistics.median(a / b for a, b in zip(ones, others, strict=True))


def compare(space: str, shape: tuple[int, ...], further: tuple[int, ...]) -> Iterator[str]:
    """Rows of the table for one space, then verdicts."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = f"{folder}/autotune"
        autotune_s, theirs, size = autotune(space, shape)
        torch.cuda.empty_cache()
        os.environ["TRITON_CACHE_DIR"] = f"{folder}/tunekit"
        began = time.perf_counter()
        with Host.on_gpu(0) as host, Store.open(f"{folder}/studies.db") as store:
            knowledge = Knowledge(shipped_landscapes(), [store], leave_out="size")
            result = search(host, store, knowledge, space, shape)
            all_s = time.perf_counter() - began
            import_s = host.pool.import_s  # type: ignore[attr-defined]
            began = time.perf_counter()
            second = search(host, store, knowledge, space, further)
            further_s = time.perf_counter() - began
            against = ratio(host, space, shape, result.winner.config, theirs)
    wall_s = all_s - import_s
    name = f"{space}, {size} configurations"
    yield f"| {name} | `triton.autotune` | {autotune_s:.1f} | {size} | {theirs} | |"
    yield (
        f"| {name} | tunekit | {wall_s:.2f} (and {import_s:.1f} importing) | {result.evaluated} "
        f"| {result.winner.config} | {against:.4f} |"
    )
    yield (
        f"| {name} | tunekit, then {','.join(map(str, further))} | {further_s:.2f} "
        f"| {second.evaluated} | {second.winner.config} | |"
    )
    share = wall_s / autotune_s
    yield f"{space}: stopped: {result.stopped}; {result.decision.reason}"
    yield _verdict(f"{space}: time over autotune's 1/{1 / share:.1f}", share, SHARE_GOAL)
    yield _verdict(f"{space}: winner's time over its winner's {against:.4f}", against, WINNER_GOAL)
    yield _verdict(f"{space}: a further size {further_s:.2f} s", further_s, FURTHER_GOAL_S)


def _verdict(what: str, value: float, goal: float) -> str:
    return f"{'PASS' if value <= goal else 'FAIL'}  {what} (at most {goal:.4g})"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, compare, print; exit status 1 when a goal of the wide space is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", type=parse_shape, default=(64, 128, 254, 254))
    parser.add_argument("--further", type=parse_shape, default=(32, 128, 254, 254))
    parser.add_argument("--space", nargs="+", choices=SPACES, default=["pointwise-wide"])
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    gpu = present_gpu(0)
    lines = [
        "# How long tuning takes",
        "",
        f"{gpu.name}, driver {gpu.driver}, torch {version('torch')}, Triton {version('triton')}; "
        f"{os.cpu_count()} CPU cores; mish_mish {','.join(map(str, arguments.shape))} {DTYPE}; "
        "cold compile caches.",
        "",
        "| space | tuner | seconds | evaluated | winner | its time over autotune's |",
        "| --- | --- | ---: | ---: | --- | ---: |",
    ]
    verdicts: list[str] = []
    for space in arguments.space:
        for line in compare(space, arguments.shape, arguments.further):
            print(line, flush=True)
            (lines if line.startswith("|") else verdicts).append(line)
    lines += ["", "```", *verdicts, "```"]
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    wide_lines = [line for line in verdicts if "pointwise-wide" in line]
    return int(any(line.startswith("FAIL") for line in wide_lines))


if __name__ == "__main__":
    sys.exit(main())
