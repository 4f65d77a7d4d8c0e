"""Which configuration a call is served, without measuring anything."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import triton

from tunekit import records
from tunekit.core.config import Config
from tunekit.core.evaluation import Source
from tunekit.core.problem import Problem
from tunekit.errors import StoreError
from tunekit.paths import shipped_database, user_database
from tunekit.runtime.known import Known
from tunekit.store import fields, rows
from tunekit.store.cache import CacheRow
from tunekit.store.connection import explained, open_readonly
from tunekit.store.guard import bounded

_EVALUATED = (
    "SELECT DISTINCT config FROM evaluation_rows WHERE problem_key = :key AND source = 'measured'"
)

known = Known()
"""What the databases hold, each kind of problem read when it is first asked for."""


class OnMiss(StrEnum):
    """What a call does that nothing was measured for."""

    TUNE = "tune"  # measures, there and then
    NEAREST = "nearest"  # what was measured at the nearest sizes, else the default
    DEFAULT = "default"  # the first configuration of the list, or the space's default


@dataclass(frozen=True, slots=True)
class Choice:
    """A configuration that may be served.

    Attributes:
        row: where it was measured; None for what was not.
    """

    config: Config
    row: CacheRow | None = None


def exact(problem: Problem, configs: Container[Config]) -> Choice | None:
    """What won this very problem, if it is still among the configurations."""
    row = known.group(problem).exact.get(problem.dims)
    if row is None or row.source is not Source.MEASURED or row.config not in configs:
        return None
    return Choice(row.config, row)


def nearest(problem: Problem, configs: Container[Config]) -> Iterator[Choice]:
    """What won at other sizes, the nearest first: as ratios, each size counting alike.

    Of equally near ones the larger goes first, and a row of this Triton before one of another.
    """
    here = dict(problem.dims)
    ranked = []
    for each in known.group(problem).measured:
        there = dict(each.row.problem.dims)
        if there.keys() != here.keys() or there == here or each.row.config not in configs:
            continue
        distance = sum(abs(_octaves(there[name]) - _octaves(here[name])) for name in here)
        foreign = each.row.provenance.triton != triton.__version__
        ranked.append((distance, foreign, -each.size, each.row.problem.dims, each.row))
    for *_, row in sorted(ranked, key=lambda found: found[:-1]):
        yield Choice(row.config, row)


def unmeasured(problem: Problem, configs: Mapping[Config, object]) -> list[Config]:
    """Those that no database has an evaluation of, of whatever outcome."""
    evaluated: set[Config] = set()
    for path, immutable in ((user_database(), False), (shipped_database(), True)):
        try:
            evaluated |= _evaluated(problem, path, immutable=immutable)
        except StoreError:
            continue  # the cache says so, where that cannot be read either
    return [config for config in configs if config not in evaluated]


def _evaluated(problem: Problem, path: Path, *, immutable: bool) -> set[Config]:
    if not path.is_file() or not path.stat().st_size:
        return set()
    with (
        closing(open_readonly(path, immutable=immutable)) as connection,
        explained(path),
        bounded(connection, path) as metered,
    ):
        cursor = connection.execute(_EVALUATED, {"key": problem.key})
        found = list(metered({"config": text} for (text,) in cursor))
    return {rows.read(_config, row, path) for row in found}


def _config(row: rows.Row) -> Config:
    return Config(fields.sizes(rows.parsed(row), "config", highest=records.MAX_AXIS_VALUE))


def _octaves(value: int) -> float:
    return math.log2(max(value, 0.5))
