"""Hardware counters of the library's ops on this GPU, beside what their originals had on another.

    python benchmarks/counters.py [-o FILE] [--db FILE] [--ncu PROGRAM]

Nsight Compute watches the winner and the default of three ops, float32, at the shapes their
hand-written originals were profiled at. What is not tuned on this GPU is tuned first. Counters are
stored in the database of --db, which `tunekit merge` takes.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tunekit import arguments
from tunekit.cli import main as tunekit
from tunekit.errors import TunekitError
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels.library import KERNELS
from tunekit.profile import counters
from tunekit.profile.find import Ncu, find_ncu
from tunekit.profile.problem import Profile, keep, profile_row
from tunekit.profile.run import DEADLINE_S
from tunekit.profile.subjects import measured_row
from tunekit.store.cache import CacheRow
from tunekit.store.database import Store

DTYPE = "float32"
TRIALS = 20
COLUMNS = (
    counters.SM,
    counters.DRAM,
    counters.WARPS,
    counters.L2_HITS,
    counters.GRID,
)


@dataclass(frozen=True, slots=True)
class Original:
    """What the profile of a hand-written original said on an RTX 4090, in the order of COLUMNS."""

    op: str
    shape: tuple[int, ...]
    profile: tuple[str, ...]


ORIGINALS = (
    Original(
        "mish_add_hardtanh_scale",
        (128, 64, 256, 256),
        ("13.52", "43.5", "89.57", "78.59", "524288"),
    ),
    Original(
        "add_min_gelu_mul", (128, 128, 130, 130), ("12.46", "93.26", "81.5", "50.01", "270400")
    ),
    Original("mish_mish", (64, 128, 254, 254), ("47.45", "93.11", "87.58", "50.01", "516128")),
)


def tuned_row(original: Original, gpu: PresentGpu, database: Path) -> CacheRow:
    """The measured row of an op at its shape; it is tuned where there is none.

    Raises:
        TunekitError: it cannot be tuned.
    """
    kernel = KERNELS[original.op]
    problem = kernel.problem_of(kernel.launch_for(original.shape, DTYPE, gpu.device), gpu.device)
    rows = arguments.cached_rows(original.op, None, database)
    if (row := measured_row(problem, rows)) is not None:
        return row
    shape = ",".join(map(str, original.shape))
    command = ("tune", original.op, "--shape", shape, "--trials", TRIALS, "--db", database)
    status = tunekit([str(each) for each in command])
    row = measured_row(problem, arguments.cached_rows(original.op, None, database))
    if status or row is None:
        raise TunekitError(f"{original.op} at {shape} cannot be tuned here")
    return row


def profiled(gpu: PresentGpu, ncu: Ncu, database: Path) -> Iterator[tuple[Original, list[Profile]]]:
    """The profiles of each op; they are stored."""
    for original in ORIGINALS:
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(database))
            row = tuned_row(original, gpu, database)
            stores = [store, *arguments.open_shipped(stack)]
            kernel = KERNELS[original.op]
            found = profile_row(row, kernel, original.op, stores, ncu, gpu.index, (), DEADLINE_S)
            keep(found, store, ncu.tool)
            yield original, found


def page(gpu: PresentGpu, ncu: Ncu, found: Sequence[tuple[Original, list[Profile]]]) -> str:
    """What was counted, as markdown."""
    lines = [
        "# Hardware counters",
        "",
        f"{gpu.name}, driver {gpu.driver}, torch {version('torch')}, Triton {version('triton')}, "
        f"Python {platform.python_version()}, {ncu.tool}; {DTYPE}, L2 cache cold, clocks as they "
        "are.",
        "",
        "## Beside the hand-written originals",
        "",
        _row("op", "on", *(each.title for each in COLUMNS)),
        _row("---", "---", *("---:" for _ in COLUMNS)),
    ]
    for original, profiles in found:
        lines.append(_row(f"`{original.op}`", "original, RTX 4090", *original.profile))
        for each in profiles:
            cells = (_plain(each, column) for column in COLUMNS)
            lines.append(_row(f"`{original.op}`", f"{each.role}, {gpu.device.slug}", *cells))
    for original, profiles in found:
        lines += ["", *_section(original, profiles)]
    return "\n".join(lines) + "\n"


def _section(original: Original, profiles: Sequence[Profile]) -> Iterator[str]:
    """All counters of one op."""
    yield f"## {original.op} {','.join(map(str, original.shape))}"
    yield ""
    yield _row("", *(str(each.role) for each in profiles))
    yield _row("---", *("---:" for _ in profiles))
    yield _row("configuration", *(str(each.evaluation.config) for each in profiles))
    times = (f"{each.evaluation.time_us:.2f}" for each in profiles)
    yield _row("time µs, measured when it was tuned", *times)
    for name in counters.ordered({name for each in profiles for name in each.launch.counters}):
        yield _row(counters.title_of(name), *(_cell(each, name) for each in profiles))
    if missing := sorted({name for each in profiles for name in each.missing(())}):
        yield f"\nNot read on this GPU: {', '.join(missing)}."
    if not all(each.same_binary for each in profiles):
        yield "\nAnother binary ran than was measured when it was tuned."


def _plain(profile: Profile, column: counters.Known) -> str:
    """As the originals' figures are written: two decimals, no commas."""
    read = profile.launch.counters.get(column.name)
    if read is None:
        return "not read"
    return f"{read.value:.0f}" if column is counters.GRID else f"{read.value:.2f}"


def _cell(profile: Profile, name: str) -> str:
    read = profile.launch.counters.get(name)
    return "not read" if read is None else counters.text_of(name, read)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--db", type=Path)
    parser.add_argument("--ncu", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = given.db or Path(folder, "counters.db")
        Store.open(database).close()
        try:
            ncu, gpu = find_ncu(given.ncu), select_gpu(0)
            made = page(gpu, ncu, list(profiled(gpu, ncu, database)))
        except TunekitError as error:
            print(f"counters.py: {error}", file=sys.stderr)
            return 1
    print(made, end="")
    if given.output:
        given.output.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
