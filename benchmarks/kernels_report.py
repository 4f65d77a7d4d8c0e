"""What `benchmarks/kernels.py` measured: the goals it is held to, its tables, its data."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tunekit.core.config import Config
from tunekit.evaluate.measure import median_us

COPY = "copy_"
IDENTITY = "identity, tuned"
ORIGINAL = "hand-written original"
EAGER = "eager"
COMPILE = "torch.compile"
MAX_AUTOTUNE = "torch.compile, max-autotune"
TUNED = "tunekit, tuned"

OTHERS_ALLOWED = 16.0
"""Error allowed to what is not tunekit's, in tunekit's units: eager rounds 16-bit values after
every step, and the originals cancel. A wrong formula is off by far more."""


@dataclass(frozen=True, slots=True)
class CopyGoal:
    """A tuned op may take so many times the time of the faster of the two copies."""

    float32: float
    sixteen_bit: float

    def limit(self, dtype: str) -> float:
        """For a dtype."""
        return self.float32 if dtype == "float32" else self.sixteen_bit


COPY_GOALS = {
    "h100": CopyGoal(float32=1.02, sixteen_bit=1.05),
    "h200": CopyGoal(float32=1.02, sixteen_bit=1.10),
}
"""By GPU; memory of the H200 is so fast that arithmetic shows in 16 bits."""
NOISE = 0.005
"""Slower than max-autotune by less than this is not slower."""
ORIGINAL_GOAL = ("h100", "mish_mish", "float32", 1.7)
"""On that GPU, that op and dtype: so many times as fast as the original."""
ODD_LIMIT = 1.05


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's line of a table.

    Attributes:
        samples_us: empty when it did not run.
        error: largest error in the units of `tunekit.evaluate.verify`, None if not compared.
        right: whether that is within what is allowed to it.
        note: what a reader has to know.
    """

    contender: str
    samples_us: tuple[float, ...] = ()
    error: float | None = None
    right: bool = False
    note: str = ""

    @property
    def us(self) -> float:
        """Median time of one launch; nan when it did not run."""
        return median_us(self.samples_us) if self.samples_us else float("nan")

    @property
    def spread(self) -> float:
        """Half the way from the 10th to the 90th percentile, as a share of the median."""
        if len(self.samples_us) < 2:
            return float("nan")
        deciles = statistics.quantiles(self.samples_us, n=10, method="inclusive")
        return (deciles[-1] - deciles[0]) / 2 / self.us


@dataclass(frozen=True, slots=True)
class Contest:
    """All contenders of one op at one shape and dtype, sampled in one run.

    Attributes:
        configs: the tuned configurations, by contender.
    """

    kernel: str
    shape: tuple[int, ...]
    dtype: str
    bytes_moved: int
    rows: tuple[Row, ...]
    configs: Mapping[str, Config]

    def row(self, contender: str) -> Row:
        """A contender's row; one without samples if it did not take part."""
        return next((row for row in self.rows if row.contender == contender), Row(contender))

    def us(self, contender: str) -> float:
        """A contender's time if its result was right as far as it should be, else nan."""
        row = self.row(contender)
        return row.us if row.right else float("nan")

    @property
    def copy_us(self) -> float:
        """The faster of the two copies."""
        times = [self.us(COPY), self.us(IDENTITY)]
        return min((us for us in times if us == us), default=float("nan"))


@dataclass(frozen=True, slots=True)
class OddPair:
    """One op tuned at two sizes, sampled in one run."""

    kernel: str
    dtype: str
    sizes: tuple[int, ...]
    samples_us: tuple[tuple[float, ...], ...]
    configs: tuple[Config, ...]

    @property
    def ratio(self) -> float:
        """Time an element takes at the second size, over that at the first."""
        first, second = (
            median_us(samples) / size
            for samples, size in zip(self.samples_us, self.sizes, strict=True)
        )
        return second / first


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of verdict; `passed` is None for what could not be judged."""

    passed: bool | None
    text: str

    def __str__(self) -> str:
        word = {True: "PASS", False: "FAIL", None: "SKIP"}[self.passed]
        return f"{word}  {self.text}"


@dataclass(slots=True)
class Report:
    """Everything a run found.

    Attributes:
        header: what it ran on and with.
        slug: of the GPU, which decides the goals.
        judged: whether the sizes are those the goals are about.
        skipped: what did not fit on the GPU, one line each.
    """

    header: Mapping[str, str]
    slug: str
    judged: bool
    contests: list[Contest] = field(default_factory=list)
    odd_pairs: list[OddPair] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def goals(report: Report) -> list[Goal]:
    """Every goal that the run has something to say on."""
    found = [
        goal
        for contest in report.contests
        for goal in (
            _copy_goal(contest, report.slug),
            _max_autotune_goal(contest),
            *_original_goal(contest, report.slug),
        )
    ]
    left_out = [Goal(None, f"left out: {line}") for line in report.skipped]
    return found + [_odd_goal(pair) for pair in report.odd_pairs] + left_out


def _copy_goal(contest: Contest, slug: str) -> Goal:
    ratio = contest.us(TUNED) / contest.copy_us
    text = f"{_name(contest)}: {ratio:.3f} × the faster copy"
    if slug not in COPY_GOALS:
        return Goal(None, f"{text} (no goal for {slug})")
    limit = COPY_GOALS[slug].limit(contest.dtype)
    return _judged(contest, COPY, ratio, ratio <= limit, f"{text} (at most {limit:.2f})")


def _max_autotune_goal(contest: Contest) -> Goal:
    ratio = contest.us(TUNED) / contest.us(MAX_AUTOTUNE)
    text = f"{_name(contest)}: {ratio:.3f} × max-autotune (at most 1, {NOISE:.1%} of it noise)"
    return _judged(contest, MAX_AUTOTUNE, ratio, ratio <= 1.0 + NOISE, text)


def _original_goal(contest: Contest, slug: str) -> Iterator[Goal]:
    *where, least = ORIGINAL_GOAL
    if [slug, contest.kernel, contest.dtype] == where:
        speedup = contest.us(ORIGINAL) / contest.us(TUNED)
        text = f"{_name(contest)}: {speedup:.2f} × as fast as the original (at least {least})"
        yield _judged(contest, ORIGINAL, speedup, speedup >= least, text)


def _odd_goal(pair: OddPair) -> Goal:
    text = (
        f"{pair.kernel} {pair.dtype}: {pair.ratio:.3f} × the time an element at {pair.sizes[1]:,}"
    )
    return Goal(pair.ratio <= ODD_LIMIT, f"{text} (at most {ODD_LIMIT:.2f})")


def _judged(contest: Contest, other: str, ratio: float, passed: bool, text: str) -> Goal:
    """A goal that a contender missing, or wrong, leaves open, unless it is tunekit's own."""
    if contest.us(TUNED) != contest.us(TUNED):
        return Goal(False, f"{_name(contest)}: tuned op: {contest.row(TUNED).note or 'wrong'}")
    if ratio != ratio:
        return Goal(None, f"{_name(contest)}: {other} did not run, or is wrong")
    return Goal(passed, text)


def _name(contest: Contest) -> str:
    return f"{contest.kernel} {contest.dtype}"


def as_text(report: Report) -> str:
    """The report as Markdown."""
    parts = ["# Fused ops, side by side", _bullets(f"{k}: {v}" for k, v in report.header.items())]
    for dtype, contests in _by_dtype(report.contests):
        parts += [f"## {dtype}", _contest_table(contests), _bullets(map(_configs, contests))]
    if report.contests:
        parts.append(_LEGEND)
    if report.odd_pairs:
        parts += ["## Sizes not divisible by 16", _odd_table(report.odd_pairs)]
    parts.append("## Goals")
    lines = "\n".join(map(str, goals(report)))
    parts.append(f"```\n{lines}\n```" if report.judged else "Not judged at these sizes.")
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Time: median of one launch in a CUDA graph, ± half the range from the 10th to the 90th "
    "percentile. ÷ copy: over the faster of `copy_` and identity; × original, × max-autotune: how "
    "many times as fast as those. Error: the largest against float64, in units of what "
    f"tunekit allows itself; others are allowed {OTHERS_ALLOWED:g}."
)


def _contest_table(contests: Sequence[Contest]) -> str:
    head = ["op", "contender", "µs", "±", "GB/s", "÷ copy", "× original", "× max-autotune",
            "error", "note"]  # fmt: skip
    return _table(head, [_cells(c, row) for c in contests for row in c.rows], right=range(2, 9))


def _cells(contest: Contest, row: Row) -> list[str]:
    us = row.us
    note = row.note
    if row.error is not None and not row.right:
        note = f"WRONG RESULT; {note}".rstrip("; ")
    return [
        contest.kernel,
        row.contender,
        _number(us, ".1f"),
        _number(row.spread * 100, ".1f", " %"),
        _number(contest.bytes_moved / us / 1e3, ".0f"),
        _number(us / contest.copy_us, ".3f"),
        _number(contest.us(ORIGINAL) / us, ".2f"),
        _number(contest.us(MAX_AUTOTUNE) / us, ".2f"),
        "–" if row.error is None else f"{row.error:.2f}",
        note,
    ]


def _odd_table(pairs: Sequence[OddPair]) -> str:
    head = ["op", "dtype", "n", "µs", "ns an element", "ratio", "configuration"]
    rows = []
    for pair in pairs:
        for place, size in enumerate(pair.sizes):
            us = median_us(pair.samples_us[place])
            ratio = _number(pair.ratio, ".3f") if place else "1"
            each = f"{us * 1e3 / size:.6f}"
            config = str(pair.configs[place])
            rows.append([pair.kernel, pair.dtype, f"{size:,}", f"{us:.1f}", each, ratio, config])
    return _table(head, rows, right=range(2, 6))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int]) -> str:
    """A Markdown table, padded so that it reads as plain text too."""
    aligned = set(right)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if place in aligned else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rules = [
        "-" * (width - 1) + ":" if place in aligned else "-" * width
        for place, width in enumerate(widths)
    ]
    return "\n".join([line(head), line(rules), *map(line, rows)])


def _number(value: float, form: str, unit: str = "") -> str:
    return "–" if value != value else f"{value:{form}}{unit}"


def _configs(contest: Contest) -> str:
    shape = "×".join(map(str, contest.shape))
    chosen = "; ".join(f"{name}: {config}" for name, config in contest.configs.items())
    return f"{contest.kernel} at {shape}. {chosen}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _by_dtype(contests: Iterable[Contest]) -> Iterator[tuple[str, list[Contest]]]:
    for dtype, group in itertools.groupby(contests, key=lambda contest: contest.dtype):
        yield dtype, list(group)


def as_data(report: Report) -> dict[str, Any]:
    """The report as JSON-able values, every sample included."""
    return {
        "header": dict(report.header),
        "contests": [
            {
                **asdict(replace(contest, configs={}, rows=())),
                "configs": {name: dict(config) for name, config in contest.configs.items()},
                "rows": [_row_data(row) for row in contest.rows],
            }
            for contest in report.contests
        ],
        "odd_pairs": [
            {**asdict(replace(pair, configs=())), "configs": [dict(each) for each in pair.configs]}
            for pair in report.odd_pairs
        ],
        "skipped": list(report.skipped),
        "goals": [asdict(goal) for goal in goals(report)] if report.judged else [],
    }


def _row_data(row: Row) -> dict[str, Any]:
    """A row and its median; JSON has no nan and no infinity, so those are null."""
    data = {**asdict(row), "us": row.us}
    unwritable = [key for key in ("us", "error") if not math.isfinite(data[key] or 0.0)]
    return data | dict.fromkeys(unwritable)
