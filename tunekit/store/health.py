"""How a database is: its size, what it holds, and what of that is not what was written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tunekit.errors import StoreError
from tunekit.store import rows
from tunekit.store.cache import CacheRow, select_cache
from tunekit.store.candidates import to_candidate
from tunekit.store.connection import explained, open_readonly
from tunekit.store.counters import to_counter

_MOST_FINDINGS = 10
_TABLES = ("problems", "evaluations", "decisions", "candidates", "counters")
_CHECKED: tuple[tuple[str, str, Callable[[rows.Row], object]], ...] = (
    ("problem", "problems", rows.to_problem),
    ("evaluation", "evaluation_rows", rows.to_evaluation),
    ("decision", "decision_rows", rows.to_decision),
    ("candidate", "candidate_rows", to_candidate),
    ("counter", "counters", to_counter),
)


@dataclass(frozen=True, slots=True)
class Health:
    """What was found in a file that can be opened.

    Attributes:
        version: of its schema, as the file has it.
        counts: rows by table: problems, evaluations, decisions, candidates, counters.
        findings: what is damaged, a line each, ten at most.
        cache: what it serves; empty where that cannot be read, which is one of the findings.
    """

    version: int
    counts: dict[str, int]
    findings: tuple[str, ...]
    cache: tuple[CacheRow, ...]


def examine(path: Path, *, immutable: bool = False) -> Health:
    """Read all of a database, every row checked; nothing is written.

    Args:
        path: of the file.
        immutable: nobody writes it meanwhile, as is true of the one that ships.

    Raises:
        StoreError: it cannot be opened: it is not there, no database, or damaged.
        StoreVersionError: another program's, or a newer tunekit's.
    """
    version = _version(path, immutable)
    with closing(open_readonly(path, immutable=immutable)) as connection, explained(path):
        counts = {
            table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in _TABLES
        }
        findings = []
        for finding in _findings(connection, path):
            findings.append(finding)
            if len(findings) == _MOST_FINDINGS:
                break
        try:
            cache = select_cache(connection, path)
        except StoreError as error:
            cache = []
            findings.append(_without_path(error, path))
    return Health(version, counts, tuple(dict.fromkeys(findings)), tuple(cache))


def _version(path: Path, immutable: bool) -> int:
    """Of the file itself: an older one is read as if it were migrated."""
    options = "mode=ro&immutable=1" if immutable else "mode=ro"
    name = f"{path.absolute().as_uri()}?{options}"
    try:
        with closing(sqlite3.connect(name, uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            return int(version)
    except (sqlite3.Error, UnicodeDecodeError):
        return 0  # opening it says what is wrong


def _findings(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    # Its schema is tunekit's own, or it would not be open. SQLite before 3.41 trusts no json_valid.
    connection.execute("PRAGMA trusted_schema = ON")
    try:
        for (said,) in connection.execute(f"PRAGMA integrity_check({_MOST_FINDINGS})"):
            if said != "ok":
                yield " ".join(str(said).split())
        for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            yield f"row {rowid} of {table} names a row of {parent} that is not there"
        for kind, table, convert in _CHECKED:
            yield from _unreadable(connection, kind, table, convert, path)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        yield " ".join(str(error).split()) or "damaged"


def _unreadable(
    connection: sqlite3.Connection,
    kind: str,
    table: str,
    convert: Callable[[rows.Row], object],
    path: Path,
) -> Iterator[str]:
    cursor = connection.execute(f"SELECT * FROM {table} ORDER BY id")
    names = [column[0] for column in cursor.description]
    for values in cursor:
        try:
            rows.read(convert, dict(zip(names, values, strict=True)), path)
        except StoreError as error:
            said = _without_path(error, path).rpartition("; `")[0]
            yield f"{kind} {said}"


def _without_path(error: StoreError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
