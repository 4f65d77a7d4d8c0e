"""Rows held against a call: what differs, and what became of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tunekit.core.device import Device
from tunekit.core.evaluation import Source
from tunekit.core.problem import Problem
from tunekit.core.space import Space, context
from tunekit.errors import SpaceError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.runtime.known import merged_rows, size_of
from tunekit.runtime.lookup import Choice
from tunekit.store.cache import CacheRow

_FIELDS = ("kernel_hash", "alignment", "dtype", "device", "dims")
"""Of a problem, those first that say most about a miss."""


class Verdict(StrEnum):
    """What became of a row."""

    SERVED = "served"  # this one runs
    NEXT = "next"  # runs if none of those before it can be launched
    UNFIT = "unfit"  # its configuration is none of the space's here
    SAME = "same"  # has the configuration of another choice
    OUTRANKED = "outranked"  # the other database's row of this very problem is taken
    DIFFERS = "differs"  # of another kernel version, alignment class, dtype or device


_VERDICTS = list(Verdict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which a row and the call differ; `why` is empty where that says it all."""

    field: str
    row: str
    call: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.field}: row {self.row}, call {self.call}{self.why and f' ({self.why})'}"


@dataclass(frozen=True, slots=True)
class Database:
    """A file that is looked into.

    Attributes:
        whose: `yours` or `shipped`.
        named_by: how it comes to be this file.
        rows: how many it has of the kernel.
        trouble: why nothing could be read; empty if it could.
    """

    whose: str
    path: Path
    named_by: str
    rows: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row, and why it is or is not what a call is served.

    Attributes:
        why: the verdict in words, of the row that serves why it won; empty where the differences
            say it all.
        differs: the fields of its problem that are not those of the call.
        foreign: versions it was evaluated under that are not those here: shown, no reason to pass
            it over.
        size_ratio: product of its dims over that of the call's.
        place: among the choices of the call, 1 for what serves; None if it is none of them.
    """

    row: CacheRow
    database: Database
    verdict: Verdict
    why: str
    differs: tuple[Difference, ...]
    foreign: tuple[Difference, ...]
    size_ratio: float
    place: int | None


def dims_text(problem: Problem) -> str:
    """`c=64 n=4096`."""
    return " ".join(f"{name}={size}" for name, size in problem.dims)


def ratio_text(ratio: float) -> str:
    """`32 × the size`, or `the size ÷ 32`."""
    times = _times(ratio)
    text = f"{times:.3g}" if times < 1000 else f"{times:,.0f}"
    if text == "1":
        return "about the size"
    return f"{text} × the size" if ratio > 1 else f"the size ÷ {text}"


class Judge:
    """Holds rows against a call.

    Args:
        kernel: what is called.
        launch: its launch.
        device: where it runs.
        order: what may be served, best first; at least one.
        rows: all there are, the person's before the shipped ones.
        versions: those a call would run under, `Triton` and `driver`, as far as they are known.
    """

    def __init__(
        self,
        kernel: Kernel,
        launch: Launch,
        device: Device,
        order: Sequence[Choice],
        rows: Sequence[CacheRow],
        versions: Mapping[str, str],
    ) -> None:
        self._order = order
        self._problem = order[0].problem
        self._versions = versions
        self._space = kernel.load_space()
        self._names = context(launch.dims, self._problem.itemsize, device)
        self._places = {each.row: place for place, each in enumerate(order, 1) if each.row}
        self._configs = {each.config: place for place, each in enumerate(order, 1)}
        self._kept = {id(row) for row in merged_rows(rows, ())}

    def candidate(self, row: CacheRow, database: Database) -> Candidate:
        """What became of one of the rows."""
        differs = tuple(_differences(row.problem, self._problem))
        verdict, why = self._verdict(row, differs)
        ratio = _ratio(row.problem, self._problem)
        place = self._places[row] if verdict in (Verdict.SERVED, Verdict.NEXT) else None
        return Candidate(row, database, verdict, why, differs, self._foreign(row), ratio, place)

    def _verdict(self, row: CacheRow, differs: Sequence[Difference]) -> tuple[Verdict, str]:
        if any(each.field != "dims" for each in differs):
            return Verdict.DIFFERS, ""
        if id(row) not in self._kept:
            return Verdict.OUTRANKED, (
                "the other database's row of this problem goes before it: measured before "
                "estimated, then yours"
            )
        place = self._places.get(row)
        if place is not None:
            return self._verdict_of_choice(row, place)
        unfit = _unfit(self._space, row, self._names)
        if unfit:
            return Verdict.UNFIT, unfit
        same = self._configs.get(row.config)
        if same is None:  # stored since the look-up
            return Verdict.UNFIT, "new in this very moment: ask again"
        return Verdict.SAME, f"its configuration is that of choice {same}"

    def _verdict_of_choice(self, row: CacheRow, place: int) -> tuple[Verdict, str]:
        first = self._order[0].row
        if place == 1:
            return Verdict.SERVED, row.reason
        why = f"choice {place}"
        if any(each.row is None for each in self._order[:place]):
            why += ": the default goes before what won at so small a size"
        elif first and row.source == first.source and self._times(row) < self._times(first):
            why += ": nearer, but its configuration suits this size less"
        return Verdict.NEXT, why

    def _times(self, row: CacheRow) -> float:
        return _times(_ratio(row.problem, self._problem))

    def _foreign(self, row: CacheRow) -> tuple[Difference, ...]:
        had = {"Triton": row.provenance.triton, "driver": row.provenance.driver}
        return tuple(
            Difference(name, had[name], here)
            for name, here in self._versions.items()
            if had[name] and had[name] != here
        )


def rank(candidate: Candidate) -> tuple[object, ...]:
    """Sorts those first that say most about why a call is served what it is."""
    fields = [_FIELDS.index(each.field) for each in candidate.differs]
    ratio = candidate.size_ratio
    return (
        candidate.verdict is not Verdict.SERVED,
        candidate.verdict is Verdict.OUTRANKED and ratio != 1,  # says the least
        len(fields),
        ratio != 1,
        candidate.place or math.inf,
        _VERDICTS.index(candidate.verdict),
        _times(ratio),
        fields,
        candidate.row.source is not Source.MEASURED,
    )


def _differences(row: Problem, call: Problem) -> Iterator[Difference]:
    for name in _FIELDS:
        had, has = getattr(row, name), getattr(call, name)
        if had == has:
            continue
        if name == "dims":
            yield Difference(name, dims_text(row), dims_text(call), ratio_text(_ratio(row, call)))
        elif name == "alignment":
            yield Difference(name, had, has, "; ".join(_about_alignment(had, has)))
        elif name == "kernel_hash":
            yield Difference(name, had, has, "another version of the kernel's source")
        else:
            yield Difference(name, had, has)


def _about_alignment(row: str, call: str) -> Iterable[str]:
    """What two alignment classes differ in, each once."""
    found: dict[str, None] = {}
    for had, has in zip(row.split(","), call.split(","), strict=False):
        if had == has:
            continue
        for whose, one, other in (("row", had, has), ("call", has, had)):
            if one == "p1":
                found[f"a tensor of the {whose} starts at no multiple of 16 bytes"] = None
            elif one == "1":
                found[f"a size of the {whose} is 1"] = None
            elif other.endswith("x16") and not one.endswith("x16"):
                found[f"a size of the {whose} is no multiple of 16"] = None
            elif one.startswith("i64") and other.startswith("i32"):
                found[f"a size of the {whose} needs 64 bits"] = None
    return found


def _unfit(space: Space, row: CacheRow, names: dict[str, int]) -> str:
    """Why a row's configuration is none of the space's here; empty if it is one."""
    if row.config.keys() != set(space.axis_names):
        axes = ", ".join(space.axis_names)
        return f"{row.config} was found before the space {space.name} had the axes {axes}"
    try:
        violated = space.violated(row.config, names)
    except SpaceError as error:
        return str(error)
    rules = {each.name: each.expression for each in space.constraints}
    return f"{row.config} violates {violated} here: {rules[violated]}" if violated else ""


def _ratio(row: Problem, call: Problem) -> float:
    return size_of(row) / max(size_of(call), 1)


def _times(ratio: float) -> float:
    """How many times the smaller size goes into the larger."""
    return max(ratio, 1 / ratio) if ratio else math.inf
