"""What a person sees: tables, progress, and the same as plain data for scripts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import rich.console
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from tunekit.core.device import Device
from tunekit.core.evaluation import Evaluation, Source, Status
from tunekit.printable import printable

if TYPE_CHECKING:
    from tunekit.core.problem import Problem
    from tunekit.gpu import PresentGpu
    from tunekit.here import Here
    from tunekit.kernels.kernel import Kernel
    from tunekit.search.confirm import Confirmed
    from tunekit.search.replay import Regret, Replayed
    from tunekit.search.task import Imported, Result
    from tunekit.search.task import Progress as Watched
    from tunekit.store.cache import CacheRow

_PLAIN_WIDTH = 10_000
"""Characters of a line where there is no terminal: a row is one line, however long."""
_BAR_WIDTH = 16
_NUMERIC = (
    "µs", "ms", "÷", "GB/s", "ratio", "SMs", "MB", "peak", "calls", "share", "gain", "%", "grid",
    "registers",
)  # fmt: skip
"""How the names of columns of numbers end."""
_WRAPPED_WIDTH = 26
"""Least width of a table's wrapped column: two axes of a configuration."""


def shape_text(shape: Iterable[int]) -> str:
    """`64,128,254,254`."""
    return ",".join(str(size) for size in shape)


def sizes_text(problem: Problem, shape: Sequence[int]) -> str:
    """`64,128,254,254`; where a shape is nothing but sizes with names, `K=4096 M=16 N=4096`."""
    values = [size for _, size in problem.dims]
    if len(values) > 1 and sorted(values) == sorted(shape):
        return " ".join(f"{name}={size}" for name, size in problem.dims)
    return shape_text(shape)


def problem_text(row: CacheRow) -> str:
    """`mish_mish 64,128,254,254 float32`."""
    return f"{row.problem.kernel} {sizes_text(row.problem, row.shape)} {row.problem.dtype}"


def bandwidth_gb_per_s(bytes_moved: int, time_us: float) -> float:
    """DRAM traffic of a launch over its time, in GB/s (10⁹ bytes)."""
    return bytes_moved / time_us / 1e3


class Console:
    """Prints; everything on it is one line a fact, tables where there are several.

    Args:
        quiet: print nothing but errors (for --json).
        plain: lines instead of a bar on a terminal too, where other lines come between.
    """

    def __init__(self, *, quiet: bool = False, plain: bool = False) -> None:
        self._plain = plain
        self._out = rich.console.Console(quiet=quiet, highlight=False, markup=False, emoji=False)
        if not self._out.is_terminal:
            self._out.width = _PLAIN_WIDTH

    @property
    def width(self) -> int:
        """Characters of a line."""
        return self._out.width

    def say(self, text: str, style: str = "") -> None:
        """One line; in a style of rich's, such as `bold red`, where the terminal has it."""
        self._out.print(printable(text), soft_wrap=True, style=style or None)

    @contextmanager
    def progress(self, title: str) -> Iterator[Watched]:
        """A bar on a terminal, a plain line every fifth of the way elsewhere."""
        from tunekit.search.task import Progress as Watched

        if self._plain or not self._out.is_interactive:
            yield Watched(on_change=_PlainProgress(self, title))
            return
        # Where the terminal is narrow the title takes two lines, and nothing is cut.
        columns = (
            TextColumn("{task.description}", markup=False, table_column=Column()),
            BarColumn(bar_width=_BAR_WIDTH, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[best]}", markup=False),
        )
        with Progress(*columns, console=self._out, transient=True) as bars:
            bar = bars.add_task(title, total=None, best="")

            def update(watched: Watched) -> None:
                bars.update(bar, total=watched.total, completed=watched.done, best=_best(watched))

            yield Watched(on_change=update)

    def print_results(self, results: Sequence[Result], database: Path) -> None:
        """The winner of each problem; in full when there is one problem."""
        if len(results) == 1:
            self._print_result(results[0], database)
        elif results:
            columns = (
                "kernel", "shape", "dtype", "configuration", "time µs", "GB/s", "of peak",
                "default ÷", "copy ÷", "source",
            )  # fmt: skip
            self.print_table(columns, map(_result_cells, results), wraps="configuration")
            self.say(f"saved in {database}")

    def _print_result(self, result: Result, database: Path) -> None:
        winner, device, decision = result.winner, result.device, result.decision
        assert winner.time_us is not None
        estimated = winner.source is Source.ESTIMATED
        about = "estimated, verified by the interpreter" if estimated else "measured and verified"
        gb_per_s = bandwidth_gb_per_s(result.bytes_moved, winner.time_us)
        share = _share_of_peak(gb_per_s, device)
        peak = f", {share} of {device.dram_bytes_per_s / 1e9:.0f} GB/s" if share else ""
        rows = [
            ("winner", str(winner.config)),
            ("time", f"{winner.time_us:.2f} µs{_spread(winner)}"),
            ("bandwidth", f"{gb_per_s:.0f} GB/s{peak}"),
        ]
        if result.flops is not None:
            rows.append(("arithmetic", f"{result.flops / winner.time_us / 1e6:.1f} TFLOP/s"))
        if winner.reason:
            rows.append(("verified", winner.reason))
        if result.default is not None and result.default.time_us is not None:
            rows.append(
                (
                    "default",
                    f"{result.default.time_us:.2f} µs, {decision.speedup or 1.0:.3f} × the "
                    f"winner's time ({result.default.config})",
                )
            )
        else:
            rows.append(("default", "did not run: it is among those that failed"))
        if decision.copy_us is not None:
            rows.append(
                (
                    "plain copy",
                    f"{decision.copy_us:.2f} µs: the winner takes "
                    f"{winner.time_us / decision.copy_us:.3f} × as long",
                )
            )
        rows += [
            ("why", decision.reason),
            ("evaluated", _counts(result)),
            *([("imported", _imported(result.imported))] if result.imported else []),
            *([("stopped", result.stopped)] if result.stopped else []),
            *([("disturbed", winner.disturbance)] if winner.disturbance else []),
            ("saved in", str(database)),
        ]
        self.say(
            f"{result.problem.kernel}  {sizes_text(result.problem, result.shape)}  "
            f"{result.problem.dtype}  on {device.names[0]}: {about}"
        )
        table = Table(show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for row in rows:
            # What a person reads of an earlier run may be what a compiler said, over several lines.
            table.add_row(*(printable(cell, keep="\n") for cell in row))
        self._out.print(table)
        if estimated:
            self.say(
                "This is an estimate: run `tunekit confirm` on a host with that GPU to measure it."
            )

    def print_confirmed(self, confirmed: Sequence[Confirmed], device: Device) -> None:
        """Expected against measured, a line a configuration, the new winner marked."""
        if not confirmed:
            self.say(f"nothing to confirm on {device.names[0]}")
            return
        columns = (
            "kernel", "shape", "dtype", "configuration", "before", "before µs", "measured µs",
            "ratio",
        )  # fmt: skip
        rows = [row for item in confirmed for row in _confirmed_rows(item)]
        self.print_table(columns, rows, wraps="configuration")
        changed = sum(item.before.config != item.result.winner.config for item in confirmed)
        self.say(
            f"{len(confirmed)} confirmed on {device.names[0]}, {changed} with another winner; "
            "* marks the winner"
        )

    def print_rows(self, rows: Sequence[CacheRow], here: Here | None = None) -> None:
        """What is tuned; of rows found under versions that are not those here, under which."""
        columns = [
            "kernel", "device", "dtype", "dims", "configuration", "time µs", "default ÷", "copy ÷",
            "source",
        ]  # fmt: skip
        ordered = sorted(rows, key=lambda row: (*_row_cells(row)[:3], row.problem.dims))
        cells = [_row_cells(row) for row in ordered]
        others = [here.other_versions(row) if here else "" for row in ordered]
        if any(others):
            columns.append("found under")
            cells = [[*row, other] for row, other in zip(cells, others, strict=True)]
        self.print_table(columns, cells, wraps="configuration")
        self.say("default ÷, copy ÷: time of the default and of a plain copy over the winner's")
        if any(others):
            self.say(
                f"found under: not the {here} of here; `tunekit confirm` measures such a row again"
            )

    def print_replayed(self, replayed: Sequence[Replayed]) -> None:
        """Regrets of strategies, side by side."""
        from tunekit.search.replay import CHECKPOINTS

        columns = ("strategy", *(f"after {count}" for count in CHECKPOINTS), "stops after", "there")
        rows = [
            [
                each.strategy,
                *(_regret(each.regret(count)) for count in CHECKPOINTS),
                f"{each.stopped()[0]:.1f}",
                _regret(each.stopped()[1]),
            ]
            for each in replayed
        ]
        self.print_table(columns, rows, wraps="strategy")
        problems = len({run.landscape.problem for run in replayed[0].runs})
        self.say(
            f"regret over {problems} problems, what is left out: {replayed[0].leave_out}; mean / "
            "95th percentile / worst, in % above the exhaustive best, ties with it counting as 0"
        )

    def print_kernels(self, kernels: Iterable[Kernel]) -> None:
        """The library."""
        columns = ("kernel", "computes", "inputs", "scalars", "space")
        self.print_table(columns, map(_kernel_cells, kernels), wraps="computes")

    def print_devices(self, present: Sequence[PresentGpu], known: Iterable[Device]) -> None:
        """The GPUs in this machine, and the table."""
        for gpu in present:
            self.say(f"cuda:{gpu.index}: {gpu.name} ({gpu.device.slug}), driver {gpu.driver}")
        if not present:
            self.say("no CUDA GPU in this machine: `tunekit tune` estimates for a --target")
        columns = ("target", "name", "capability", "SMs", "DRAM GB/s", "L2 MB", "source")
        self.print_table(columns, map(_device_cells, known), wraps="source")

    def print_table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, wraps: str
    ) -> None:
        """A line a row, but for what wraps; a few lines a row where the terminal is too narrow."""
        rows = [[printable(cell) for cell in row] for row in rows]
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        needed = 2 * (len(columns) - 1)  # between the columns
        for name, *cells in zip(columns, *rows, strict=True):
            widest = max(map(len, (name, *cells)))
            least = min(widest, _WRAPPED_WIDTH) if name == wraps else widest
            needed += least
            numeric = name.endswith(_NUMERIC)
            table.add_column(
                name,
                justify="right" if numeric else "left",
                no_wrap=name != wraps,
                min_width=least,
            )
        for row in rows:
            table.add_row(*row)
        if needed <= self._out.width:
            self._out.print(table)
            return
        for row in rows:
            self._out.print(Text(row[0], style="bold"))
            self._out.print(_in_lines(columns[1:], row[1:], self._out.width), soft_wrap=True)


class _PlainProgress:
    """Lines instead of a bar, five at most."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title, self._fifth = console, title, -1

    def __call__(self, watched: Watched) -> None:
        fifth = 5 * watched.done // max(watched.total, 1)
        if fifth != self._fifth:
            self._fifth = fifth
            best = f", {_best(watched)}" if _best(watched) else ""
            self._console.say(f"{self._title}: {watched.done} of {watched.total} evaluated{best}")


def _dims(dims: Iterable[tuple[str, int]]) -> str:
    return " ".join(f"{name}={size}" for name, size in dims)


def _in_lines(names: Iterable[str], values: Iterable[str], width: int) -> str:
    """`name: value` pairs, as many a line as fit."""
    pairs = [f"{name}: {value}" for name, value in zip(names, values, strict=True) if value]
    # Lines break at spaces: those within a pair that fits on one are another character meanwhile.
    glued = [pair.replace(" ", "\xa0") if len(pair) < width - 2 else pair for pair in pairs]
    text = textwrap.fill(
        "  ".join(glued),
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return text.replace("\xa0", " ")


def _result_cells(result: Result) -> list[str]:
    winner = result.winner
    assert winner.time_us is not None
    gb_per_s = bandwidth_gb_per_s(result.bytes_moved, winner.time_us)
    copy_us = result.decision.copy_us
    return [
        result.problem.kernel,
        sizes_text(result.problem, result.shape),
        result.problem.dtype,
        str(winner.config),
        f"{winner.time_us:.2f}",
        f"{gb_per_s:.0f}",
        _share_of_peak(gb_per_s, result.device),
        _ratio(result.decision.speedup),
        _ratio(copy_us and copy_us / winner.time_us),
        str(winner.source),
    ]


def _confirmed_rows(item: Confirmed) -> Iterator[list[str]]:
    for config, measured_us in item.measured_us.items():
        expected_us = item.expected_us.get(config)
        mark = " *" if config == item.result.winner.config else ""
        yield [
            item.result.problem.kernel,
            sizes_text(item.result.problem, item.result.shape),
            item.result.problem.dtype,
            f"{config}{mark}",
            str(item.before.source),
            "" if expected_us is None else f"{expected_us:.2f}",
            f"{measured_us:.2f}",
            _ratio(expected_us and measured_us / expected_us),
        ]


def _row_cells(row: CacheRow) -> list[str]:
    return [
        row.problem.kernel,
        row.problem.device,
        row.problem.dtype,
        _dims(row.problem.dims),
        str(row.config),
        f"{row.time_us:.2f}",
        _ratio(row.speedup),
        _ratio(row.copy_us and row.copy_us / row.time_us),
        str(row.source),
    ]


def _kernel_cells(kernel: Kernel) -> list[str]:
    scalars = ", ".join(f"{name}={value:g}" for name, value in kernel.scalars.items())
    return [kernel.name, kernel.summary, str(kernel.input_count), scalars, kernel.space_name]


def _device_cells(device: Device) -> list[str]:
    return [
        device.slug,
        device.names[0],
        f"{device.compute_capability // 10}.{device.compute_capability % 10}",
        str(device.sm_count),
        f"{device.dram_bytes_per_s / 1e9:.0f}",
        f"{device.l2_bytes / 2**20:.0f}",
        device.source,
    ]


def _share_of_peak(gb_per_s: float, device: Device) -> str:
    """Empty for a GPU whose bandwidth is unknown."""
    return f"{gb_per_s * 1e9 / device.dram_bytes_per_s:.0%}" if device.dram_bytes_per_s else ""


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _spread(evaluation: Evaluation) -> str:
    """The samples' 10th to 90th percentile around the median."""
    samples = sorted(evaluation.samples_us)
    if len(samples) < 5:
        return ""
    low, high = samples[len(samples) // 10], samples[-1 - len(samples) // 10]
    return f" (median of {len(samples)}; 10–90 %: {low:.2f} to {high:.2f})"


def _counts(result: Result) -> str:
    bad = ", ".join(
        f"{count} {status}"
        for status, count in sorted(result.statuses.items())
        if status is not Status.OK
    )
    total = result.evaluated + result.known
    known = f", {result.known} of them known before" if result.known else ""
    same = f", {result.saved} the same binary as another" if result.saved else ""
    return (
        f"{total} of {result.space_size} configurations{known}{same}, in {result.elapsed_s:.1f} s"
        f"{'; ' + bad if bad else ''}"
    )


def _imported(imported: Imported) -> str:
    text = f"{imported.evaluated} of {imported.count}"
    if imported.evaluated < imported.count:
        text += "; more --trials evaluate the rest"
    if imported.off_list:
        text += f"; {imported.off_list} with values off the space's lists"
    return f"{text}; the winner is {imported.won}" if imported.won else text


def _regret(regret: Regret) -> str:
    return " / ".join(f"{100 * share:.2f}" for share in (regret.mean, regret.p95, regret.worst))


def _best(watched: Watched) -> str:
    return "" if watched.best_us is None else f"best {watched.best_us:.2f} µs"
