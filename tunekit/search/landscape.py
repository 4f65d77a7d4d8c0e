"""Recorded landscapes: what is known of a problem's configurations, as data to learn from.

The compact form is a compressed CSV file, one row a configuration, after a line that starts with #
and says where it was recorded. docs/search.md says how it is made.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import statistics
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Evaluation, Source, Status
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError
from tunekit.printable import one_line, printable
from tunekit.records import MAX_AXIS_VALUE, problem_from_dict
from tunekit.store import fields

_RACE = "-race"
_PROBLEM = ("kernel", "kernel_hash", "dims", "dtype", "alignment", "device", "protocol")
_BINARY = ("hash", "registers", "spill_bytes", "shared_bytes", "load_bytes", "store_bytes")
_COLUMNS = (*_PROBLEM, "config", "status", "time_us", "rel_error", *_BINARY)
_SHORTEST_US = 1e-6
_LONGEST_US = 1e12
_MAX_BYTES = 64 * 2**20
_MAX_ROWS = 500_000
_MAX_CONFIG_TEXT = 4_000
_FEWEST_TWICE = 5
"""Configurations measured twice from which the error of a measurement is derived."""
_WHOLE = re.compile(r"[0-9]{1,19}")
_TIE = 2.0
"""Standard errors within which two times are called equal."""


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of a problem.

    Attributes:
        time_us: median, None unless it ran.
        rel_error: standard error of that median over the median, where it is known by measuring
            twice, else by its samples.
    """

    config: Config
    status: Status
    time_us: float | None
    rel_error: float = 0.0
    binary: Binary | None = None


@dataclass(frozen=True)
class Landscape:
    """A problem and what is known of its configurations, by one measuring protocol."""

    problem: Problem
    points: tuple[Point, ...]
    protocol: str = ""

    @property
    def warm(self) -> bool:
        """Whether it was measured with inputs still in the L2 cache."""
        return "-warm-" in self.protocol

    @cached_property
    def times_us(self) -> Mapping[Config, float]:
        """Times of the configurations that ran."""
        return {point.config: point.time_us for point in self.points if point.time_us is not None}

    @cached_property
    def best(self) -> Point:
        """The fastest one."""
        ran = (point for point in self.points if point.time_us is not None)
        return min(ran, key=lambda point: point.time_us or math.inf)

    @cached_property
    def regrets(self) -> Mapping[Config, float]:
        """For each configuration that ran its time over the best, less one; 0 for those tied.

        Tied is what lies within two standard errors of the difference of two medians.
        """
        best = self.best
        assert best.time_us is not None
        found = {}
        for point in self.points:
            if point.time_us is not None:
                loss = point.time_us / best.time_us - 1.0
                noise = _TIE * math.hypot(point.rel_error, best.rel_error)
                found[point.config] = 0.0 if loss <= noise else loss
        return found


def landscapes_of(evaluations: Iterable[Evaluation]) -> list[Landscape]:
    """Measured evaluations by problem; cold and warm protocols are landscapes of their own.

    Of a configuration evaluated more than once the last counts, and one measured side by side with
    others in a race before one measured alone.
    """
    alone: dict[tuple[Problem, str], dict[Config, Evaluation]] = defaultdict(dict)
    raced: dict[tuple[Problem, str], dict[Config, Evaluation]] = defaultdict(dict)
    for row in sorted(evaluations, key=lambda row: row.provenance.created_at):
        if row.source is Source.MEASURED:
            protocol = row.provenance.protocol
            rows = raced if protocol.endswith(_RACE) else alone
            rows[row.problem, protocol.removesuffix(_RACE)][row.config] = row
    found = []
    for problem, protocol in {**alone, **raced}:
        apart, together = alone[problem, protocol], raced[problem, protocol]
        scatter = _scatter(apart, together)
        errors = {row.config: relative_error(row.samples_us) for row in apart.values()}
        paired = _paired_errors(together.values())
        errors |= {row.config: max(paired[row.uid], scatter) for row in together.values()}
        points = tuple(
            Point(config, row.status, row.time_us, errors[config], row.binary)
            for config, row in {**apart, **together}.items()
        )
        if any(point.time_us is not None for point in points):
            found.append(Landscape(problem, points, protocol))
    return found


def relative_error(samples: Sequence[float]) -> float:
    """Standard error of the samples' median over the median, by their median deviation.

    1.4826·MAD estimates a normal distribution's deviation; a median's error is 1.2533 times a
    mean's. With fewer than three samples nothing is known and 0 is returned.
    """
    if len(samples) < 3:
        return 0.0
    middle = statistics.median(samples)
    spread = 1.4826 * statistics.median(abs(sample - middle) for sample in samples)
    return float(1.2533 * spread / len(samples) ** 0.5 / middle)


def write(landscapes: Iterable[Landscape], origin: str, path: Path) -> None:
    """Write landscapes as compressed CSV; `origin` says where they were recorded, in one line."""
    text = io.StringIO()
    text.write(f"# {' '.join(origin.split())}\n")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for landscape in landscapes:
        table.writerows(_cells(landscape, point) for point in landscape.points)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed time stamp: the same rows give the same bytes.
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def read(path: Path) -> tuple[str, list[Landscape]]:
    """Where it was recorded, and the landscapes of a file that `write` made.

    Raises:
        ImportFormatError: it is no such file.
    """
    try:
        with gzip.open(path) as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"holds more than {_MAX_BYTES} bytes")
        header, _, table = data.decode().partition("\n")
        return printable(header.removeprefix("# ")), list(_parsed(table))
    except OSError as error:
        raise ImportFormatError(f"{path}: cannot read: {error.strerror or error}") from None
    except (ValueError, EOFError, csv.Error, zlib.error, ImportFormatError) as error:
        raise ImportFormatError(f"{path}: no recorded landscapes: {one_line(str(error))}") from None


def _parsed(table: str) -> Iterator[Landscape]:
    rows = csv.reader(io.StringIO(table))
    if tuple(next(rows, ())) != _COLUMNS:
        raise ValueError(f"expected the columns {','.join(_COLUMNS)}")
    grouped: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    configs: dict[str, Config] = {}
    for number, cells in enumerate(rows, start=3):
        if number > _MAX_ROWS:
            raise ValueError(f"more than {_MAX_ROWS} rows")
        if len(cells) != len(_COLUMNS):
            raise ValueError(f"line {number} has {len(cells)} cells instead of {len(_COLUMNS)}")
        try:
            point = _point(dict(zip(_COLUMNS, cells, strict=True)), configs)
        except ImportFormatError as error:
            raise ImportFormatError(f"line {number}: {error}") from None
        grouped[tuple(cells[: len(_PROBLEM)])].append(point)
    for place, points in grouped.items():
        landscape = _landscape(dict(zip(_PROBLEM, place, strict=True)), points)
        if landscape.times_us:
            yield landscape


def _point(row: Mapping[str, str], configs: dict[str, Config]) -> Point:
    text = row["config"]
    if text not in configs:
        configs[text] = Config(_sizes(row, "config", highest=MAX_AXIS_VALUE))
    time_us = row["time_us"]
    return Point(
        configs[text],
        fields.member(row, "status", Status),
        _number(row, "time_us", _SHORTEST_US, _LONGEST_US) if time_us else None,
        _number(row, "rel_error", 0.0, fields.MOST),
        _binary(row) if row["registers"] else None,
    )


def _landscape(row: Mapping[str, str], points: Sequence[Point]) -> Landscape:
    kernel_hash = fields.text(row, "kernel_hash", empty=True)
    record = {**row, "dims": _sizes(row, "dims"), "kernel_hash": kernel_hash}
    protocol = fields.text(row, "protocol", empty=True)
    return Landscape(problem_from_dict(record), tuple(points), protocol)


def _binary(row: Mapping[str, str]) -> Binary:
    counts = {name: _whole(row[name], name) for name in _BINARY[1:]}
    text = fields.text(row, "hash", empty=True)
    return Binary(text, *(fields.integer(counts, name) for name in _BINARY[1:]))


def _number(row: Mapping[str, str], name: str, least: float, most: float) -> float:
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise fields.wrong(name, f"a number from {least:g} to {most:g}", row[name])
    return number


def _whole(text: str, name: str) -> int:
    # What `int` takes beyond that, spaces and underscores, `write` never writes.
    if not _WHOLE.fullmatch(text):
        raise fields.wrong(name, "a whole number", text)
    return int(text)


def _sizes(row: Mapping[str, str], name: str, *, highest: int = fields.MAX_INT) -> dict[str, int]:
    text = row[name]
    if len(text) > _MAX_CONFIG_TEXT:
        raise fields.wrong(name, f"at most {_MAX_CONFIG_TEXT} characters", text)
    pairs = [part.partition("=") for part in text.split()]
    found = {key: _whole(size, name) for key, _, size in pairs}
    if len(found) < len(pairs):
        raise fields.wrong(name, "each name once", text)
    return fields.sizes({name: found}, name, highest=highest)


def _cells(landscape: Landscape, point: Point) -> list[object]:
    problem, binary = landscape.problem, point.binary
    return [
        problem.kernel,
        problem.kernel_hash,
        " ".join(f"{name}={size}" for name, size in problem.dims),
        problem.dtype,
        problem.alignment,
        problem.device,
        landscape.protocol,
        " ".join(f"{axis}={value}" for axis, value in point.config.items()),
        point.status.value,
        "" if point.time_us is None else f"{point.time_us:.5g}",
        f"{point.rel_error:.2g}",
        *(("",) * len(_BINARY) if binary is None else (getattr(binary, n) for n in _BINARY)),
    ]


def _paired_errors(rows: Iterable[Evaluation]) -> dict[str, float]:
    """Errors of what ran in one race, by uid, without what drifted for all.

    That is each round's geometric mean, by which its samples are divided.
    """
    races: dict[tuple[str, int], list[Evaluation]] = defaultdict(list)
    for row in rows:
        races[row.provenance.key, len(row.samples_us)].append(row)
    errors = {}
    for (_, length), race in races.items():
        drift = [statistics.fmean(math.log(r.samples_us[i]) for r in race) for i in range(length)]
        for row in race:
            own = [sample / math.exp(d) for sample, d in zip(row.samples_us, drift, strict=True)]
            errors[row.uid] = relative_error(own)
    return errors


def _scatter(alone: Mapping[Config, Evaluation], raced: Mapping[Config, Evaluation]) -> float:
    """Relative error of one measurement, from configurations that were measured twice.

    Alone and in the race they had another CUDA graph, at another time: that differs by more than
    the samples of one graph tell. What all have in common, a drift, is not part of it.
    """
    logs = [
        math.log(row.time_us / alone[config].time_us)  # type: ignore[operator]
        for config, row in raced.items()
        if row.time_us
        and config in alone
        and alone[config].time_us
        and len(alone[config].samples_us) > 2
    ]
    if len(logs) < _FEWEST_TWICE:
        return 0.0
    middle = statistics.median(logs)
    spread = 1.4826 * statistics.median(abs(each - middle) for each in logs)
    return spread / math.sqrt(2.0)
