"""Make studies.db, the database that ships.

    python benchmarks/shipped_database.py measure -o h100.jsonl.gz        # on each GPU
    python benchmarks/shipped_database.py estimate --target rtx4090 -o rtx4090.jsonl.gz
    python benchmarks/shipped_database.py publish studies.db h100.jsonl.gz h200.jsonl.gz …

`measure` tunes every problem exhaustively on the GPU present; `estimate` compiles every
configuration for one that is not. `publish` keeps what decisions rest on: the finalists and the
default of each problem, with their samples; complete landscapes are in benchmarks/landscapes.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from tunekit import records
from tunekit.core.device import device_named
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.evaluate.host import Host
from tunekit.kernels.library import KERNELS
from tunekit.search.projection import project
from tunekit.search.task import Progress, Task
from tunekit.search.tune import tune
from tunekit.store.database import Store

BIG_SHAPES = {
    "mish_add_hardtanh_scale": (128, 64, 256, 256),
    "add_min_gelu_mul": (128, 128, 130, 130),
    "mish_mish": (64, 128, 254, 254),
}
SIZES = tuple(2**k for k in range(12, 29, 2)) + tuple(2**k + 1 for k in (13, 17, 21, 25))
_KEPT = 6
DTYPES = ("float32", "float16", "bfloat16")


def problems(
    kernels: Iterable[str], dtypes: Iterable[str], sizes: Iterable[int] | None
) -> Iterable[tuple[str, tuple[int, ...], str]]:
    """Every (kernel, shape, dtype) asked for; binaries of a dtype are compiled once."""
    for dtype in dtypes:
        for kernel in kernels:
            for size in sizes or SIZES:
                yield kernel, (size,), dtype
            if sizes is None:
                for shape in [BIG_SHAPES[kernel]] if kernel in BIG_SHAPES else BIG_SHAPES.values():
                    yield kernel, shape, dtype


def run(host: Host, output: Path, chosen: Iterable[tuple[str, tuple[int, ...], str]]) -> None:
    """Tune every chosen problem completely and write evaluations and decisions."""
    began = time.monotonic()
    with host, tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/run.db") as store:
        for kernel, shape, dtype in chosen:
            found = KERNELS[kernel]
            task = Task(found, kernel, shape, dtype, found.scalar_values(), trials=None)
            result = tune(task, host, store, Progress(), write_study=False)
            copy_us = result.decision.copy_us
            print(
                f"{time.monotonic() - began:6.0f} s  {kernel:24s} {dtype:9s} "
                f"{','.join(map(str, shape)):16s} {result.winner.time_us:10.2f} us  "
                f"{result.elapsed_s:5.1f} s  default {result.decision.speedup or 0:.3f}  "
                f"copy {(copy_us or 0) / (result.winner.time_us or 1):.3f}  "
                f"{dict(result.statuses)}  {result.winner.config}  {result.winner.disturbance}",
                flush=True,
            )
        plain = Path(folder) / "run.jsonl"
        records.write_lines(plain, [*store.evaluations(), *store.decisions()])
        output.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))


def publish(destination: Path, sources: Iterable[Path]) -> None:
    """Write the shipped database from what the runs wrote."""
    axes = {axis.name: axis.values for axis in KERNELS["mish_mish"].load_space().axes}
    with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/studies.db") as store:
        for source in sources:
            kept = Path(folder) / "kept.jsonl"
            records.write_lines(kept, decided(read(source, Path(folder))))
            store.import_lines(kept)
        for problem in store.problems():
            project(store.path, problem, store.evaluations(problem), axes)
        store.publish(destination)
        print(f"{destination}: {len(store.cache())} winners, {destination.stat().st_size} bytes")


def read(source: Path, folder: Path) -> list[Evaluation | Decision]:
    """The records of a compressed file."""
    plain = folder / "source.jsonl"
    plain.write_bytes(gzip.decompress(source.read_bytes()))
    return [row for row in records.read_lines(plain) if isinstance(row, Evaluation | Decision)]


def decided(rows: Iterable[Evaluation | Decision]) -> list[Evaluation | Decision]:
    """The decisions and the evaluations they rest on.

    Of a complete space all that come near are raced: the winner, the default and the fastest of the
    others stand for them here.
    """
    rows = list(rows)
    times_us = {row.uid: row.time_us or 0.0 for row in rows if isinstance(row, Evaluation)}
    decisions = [
        replace(row, rows=tuple(_mainstay(row, times_us)))
        for row in rows
        if isinstance(row, Decision)
    ]
    needed = {uid for row in decisions for uid in row.rows}
    return [
        *(row for row in rows if isinstance(row, Evaluation) and row.uid in needed),
        *decisions,
    ]


def _mainstay(decision: Decision, times_us: Mapping[str, float]) -> dict[str, None]:
    first = [uid for uid in (decision.winner, decision.default) if uid]
    fastest = sorted(decision.rows, key=lambda uid: times_us[uid])
    return dict.fromkeys([*first, *fastest[:_KEPT]])


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("measure", "estimate"):
        command = commands.add_parser(name)
        command.add_argument("-o", "--output", type=Path, required=True)
        command.add_argument("--dtype", nargs="+", choices=DTYPES, default=DTYPES)
        command.add_argument("--kernel", nargs="+", choices=KERNELS, default=tuple(KERNELS))
        command.add_argument("--size", nargs="+", type=int, help="these sizes only")
        if name == "estimate":
            command.add_argument("--target", required=True)
    command = commands.add_parser("publish")
    command.add_argument("destination", type=Path)
    command.add_argument("sources", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "publish":
        publish(arguments.destination, arguments.sources)
        return
    host = (
        Host.on_gpu(0)
        if arguments.command == "measure"
        else Host.estimating(device_named(arguments.target))
    )
    run(host, arguments.output, problems(arguments.kernel, arguments.dtype, arguments.size))


if __name__ == "__main__":
    main()
