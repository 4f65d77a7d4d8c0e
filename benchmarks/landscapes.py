"""Recorded landscapes: every configuration's time on some problems, as compressed CSV.

    python benchmarks/landscapes.py benchmarks/landscapes/h100.csv.gz EVALUATIONS.jsonl[.gz] …

writes the compact copy that the other scripts read; lines that start with # say where it was made.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tunekit import records
from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Evaluation, Status
from tunekit.core.problem import Problem

FOLDER = Path(__file__).parent / "landscapes"
_PROBLEM = ("kernel", "kernel_hash", "dims", "dtype", "alignment", "device")
_AXES = ("BLOCK_SIZE", "VEC", "num_warps", "num_stages")
_BINARY = ("hash", "registers", "spill_bytes", "shared_bytes", "load_bytes", "store_bytes")
_COLUMNS = (*_PROBLEM, "shape", *_AXES, "status", "time_us", "rel_spread", *_BINARY)


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of a recorded problem.

    Attributes:
        time_us: median, None unless it ran.
        rel_spread: interquartile range of the samples over their median.
    """

    config: Config
    status: Status
    time_us: float | None
    rel_spread: float
    binary: Binary | None


@dataclass(frozen=True)
class Landscape:
    """A recorded problem."""

    problem: Problem
    shape: tuple[int, ...]
    points: tuple[Point, ...]

    @property
    def best_us(self) -> float:
        """The exhaustive best."""
        return min(point.time_us for point in self.points if point.time_us is not None)


def write(evaluations: Iterable[Evaluation], path: Path) -> int:
    """Write the exhaustive evaluations (not the races) as compressed CSV; returns how many.

    Of a configuration evaluated more than once the last evaluation counts.
    """
    last = {
        (each.problem, each.shape, each.config): each
        for each in sorted(evaluations, key=lambda each: each.provenance.created_at)
        if not each.provenance.protocol.endswith("-race")
    }
    rows = list(last.values())
    provenance = rows[0].provenance
    text = io.StringIO()
    text.write(
        f"# {provenance.gpu_name}, driver {provenance.driver}, torch {provenance.torch}, Triton "
        f"{provenance.triton}, protocol {provenance.protocol}, {provenance.created_at[:10]}\n"
    )
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for row in rows:
        table.writerow(_cells(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed time stamp: the same rows give the same bytes.
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return len(rows)


def read(path: Path) -> tuple[str, list[Landscape]]:
    """Where it was recorded, and the landscapes of a file that `write` made."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    grouped: dict[tuple[Problem, tuple[int, ...]], list[Point]] = defaultdict(list)
    for cells in csv.DictReader(lines[1:]):
        dims = dict(part.split("=") for part in cells["dims"].split())
        problem = Problem.of(
            cells["kernel"],
            cells["kernel_hash"],
            {name: int(size) for name, size in dims.items()},
            cells["dtype"],
            cells["alignment"],
            cells["device"],
        )
        shape = tuple(int(size) for size in cells["shape"].split("x"))
        grouped[problem, shape].append(_point(cells))
    landscapes = [
        Landscape(problem, shape, tuple(points)) for (problem, shape), points in grouped.items()
    ]
    return lines[0].removeprefix("# "), landscapes


def _cells(row: Evaluation) -> list[object]:
    problem, binary = row.problem, row.binary
    samples = sorted(row.samples_us)
    spread = 0.0
    if row.time_us and len(samples) >= 4:
        spread = (samples[-1 - len(samples) // 4] - samples[len(samples) // 4]) / row.time_us
    return [
        problem.kernel,
        problem.kernel_hash,
        " ".join(f"{name}={size}" for name, size in problem.dims),
        problem.dtype,
        problem.alignment,
        problem.device,
        "x".join(map(str, row.shape)),
        *(row.config[axis] for axis in _AXES),
        row.status.value,
        ""
        if row.time_us is None
        else f"{row.time_us:.4g}"
        if row.time_us < 1
        else f"{row.time_us:.3f}",
        f"{spread:.4f}",
        *(("",) * len(_BINARY) if binary is None else (getattr(binary, n) for n in _BINARY)),
    ]


def _point(cells: dict[str, str]) -> Point:
    binary = None
    if cells["hash"]:
        binary = Binary(cells["hash"], *(int(cells[name]) for name in _BINARY[1:]))
    return Point(
        Config({axis: int(cells[axis]) for axis in _AXES}),
        Status(cells["status"]),
        float(cells["time_us"]) if cells["time_us"] else None,
        float(cells["rel_spread"]),
        binary,
    )


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations of a .jsonl file, compressed or not."""
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == ".gz":
            plain = Path(folder) / "plain.jsonl"
            plain.write_bytes(gzip.decompress(path.read_bytes()))
            path = plain
        return [row for row in records.read_lines(path) if isinstance(row, Evaluation)]


if __name__ == "__main__":
    destination, *sources = map(Path, sys.argv[1:])
    count = write([row for source in sources for row in read_evaluations(source)], destination)
    print(f"{destination}: {count} evaluations, {destination.stat().st_size} bytes")
