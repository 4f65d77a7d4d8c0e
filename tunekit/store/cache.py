"""The cache: one verified winner a problem, read with the standard library alone.

The run-time path imports this module, so it must stay free of sqlite-utils.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tunekit import records
from tunekit.core.config import Config
from tunekit.core.evaluation import (
    Binary,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.errors import StoreError
from tunekit.store import fields, rows
from tunekit.store.connection import explained, open_readonly
from tunekit.store.guard import bounded
from tunekit.store.schema import cache_query

_QUERY = """
    SELECT * FROM cache
    WHERE (:kernel IS NULL OR kernel = :kernel) AND (:device IS NULL OR device = :device)
"""

_OF_ITS_KIND = cache_query(
    "decisions.problem_id IN (SELECT id FROM problems WHERE kernel = :kernel AND "
    "kernel_hash = :kernel_hash AND dtype = :dtype AND alignment = :alignment AND device = :device)"
)
"""Rows of problems that differ in dims alone."""


@dataclass(frozen=True, slots=True)
class CacheRow:
    """What a call of a problem is served: the winner of its latest decision.

    Attributes:
        time_us: the winner's time, µs; `default_time_us` that of the space's default.
        provenance: of the winning evaluation.
        speedup: default's time over the winner's, None without a default.
        copy_us: time of a plain copy of the same size in the same run, µs.
        reason: why it won, one line.
        shape: the input shape it was evaluated at.
        winner: uid of the winning evaluation.
        decided_at: when the decision was made, UTC.
    """

    problem: Problem
    config: Config
    time_us: float
    source: Source
    verified_by: VerifiedBy
    provenance: Provenance
    speedup: float | None
    copy_us: float | None
    default_time_us: float | None
    default_config: Config | None
    binary: Binary | None
    reason: str
    shape: tuple[int, ...]
    winner: str
    decided_at: str


def read_cache(
    path: str | Path,
    *,
    kernel: str | None = None,
    device: str | None = None,
    immutable: bool = False,
) -> list[CacheRow]:
    """The cache of a database file, sorted; empty if there is no file or nothing in it.

    Args:
        path: of the database.
        kernel: only rows of that kernel.
        device: only rows of that device.
        immutable: see `tunekit.store.connection.open_readonly`.

    Raises:
        StoreError: the file cannot be read, is no database, or holds a damaged row.
        StoreLockedError: another process holds it for longer than 30 s.
        StoreVersionError: another program's, or a newer tunekit's.
    """
    path = Path(path)
    if _is_empty(path):
        return []
    with closing(open_readonly(path, immutable=immutable)) as connection:
        return select_cache(connection, path, kernel=kernel, device=device)


def read_cache_like(
    problem: Problem, path: str | Path, *, immutable: bool = False
) -> list[CacheRow]:
    """The rows that differ from `problem` in dims alone, sorted; nothing else is read.

    Args:
        problem: of any dims.
        path: of the database.
        immutable: see `tunekit.store.connection.open_readonly`.

    Raises:
        StoreError, StoreLockedError, StoreVersionError: see `read_cache`.
    """
    path = Path(path)
    if _is_empty(path):
        return []
    names = ("kernel", "kernel_hash", "dtype", "alignment", "device")
    values = {name: getattr(problem, name) for name in names}
    with closing(open_readonly(path, immutable=immutable)) as connection:
        return _selected(connection, path, _OF_ITS_KIND, values)


def select_cache(
    connection: sqlite3.Connection,
    path: Path,
    *,
    kernel: str | None = None,
    device: str | None = None,
) -> list[CacheRow]:
    """The cache of an open database, sorted; `path` is for messages.

    Raises:
        StoreError: a row is damaged, or the file cannot be read.
    """
    return _selected(connection, path, _QUERY, {"kernel": kernel, "device": device})


def _selected(
    connection: sqlite3.Connection, path: Path, query: str, values: Mapping[str, str | None]
) -> list[CacheRow]:
    with explained(path), bounded(connection, path) as metered:
        cursor = connection.execute(query, values)
        names = [column[0] for column in cursor.description]
        found = list(metered(dict(zip(names, values, strict=True)) for values in cursor))
    cache = [rows.read(_to_cache_row, row, path) for row in found]
    return sorted(cache, key=lambda row: rows.sort_key(row.problem))


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; check its rights") from None


def _to_cache_row(row: rows.Row) -> CacheRow:
    record = rows.parsed(row)
    fields.text(record, "kernel_hash")  # what is served is known to the last line of its source
    found = CacheRow(
        problem=records.problem_from_dict(record),
        config=_config(record, "config"),
        time_us=fields.positive(record, "time_us"),
        source=fields.member(record, "source", Source),
        verified_by=fields.member(record, "verified_by", VerifiedBy),
        provenance=records.provenance_from_dict(record),
        speedup=fields.maybe_positive(record, "speedup"),
        copy_us=fields.maybe_positive(record, "copy_us"),
        default_time_us=fields.maybe_positive(record, "default_time_us"),
        default_config=(
            None if record["default_config"] is None else _config(record, "default_config")
        ),
        binary=records.binary_from_dict(record),
        reason=fields.prose(record, "reason", longest=records.MAX_REASON),
        shape=fields.shape(record, "shape"),
        winner=fields.uid(record, "winner"),
        decided_at=fields.utc_time(record, "decided_at"),
    )
    _check_winner(found, record)
    return found


def _check_winner(found: CacheRow, record: fields.Record) -> None:
    """What is served is what was measured: one letter changed on the disk is another uid."""
    evaluation = Evaluation(
        problem=found.problem,
        shape=found.shape,
        config=found.config,
        status=Status.OK,
        source=found.source,
        provenance=found.provenance,
        time_us=found.time_us,
        samples_us=fields.samples(record, "samples_us", most=fields.MAX_SAMPLES),
    )
    if evaluation.uid != found.winner:
        raise fields.wrong("uid", f"{evaluation.uid}, which the columns add up to", found.winner)


def _config(record: fields.Record, name: str) -> Config:
    return Config(fields.sizes(record, name, highest=records.MAX_AXIS_VALUE))
