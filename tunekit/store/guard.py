"""What keeps a database that somebody else made from doing anything but hold rows.

A schema is code: a view, a trigger, a generated column or an expression that an index is over runs
when the file is read or written. So it has to be the one tunekit makes, to the word, before a view
of it is read; Optuna's tables, and a person's own views, are not run and may be anything. Reading
ends: pages may refer to each other so that a small file has rows without end.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tunekit.errors import StoreError
from tunekit.store import schema

MAX_VALUE_BYTES = 16_000_000
"""Most bytes of one value, and of what an SQL function returns."""

_TICK = 100_000
_STEPS = 50_000_000
_STEPS_A_BYTE = 100
"""Steps of SQLite's machine that a read may take: so many, and so many a byte of the file."""
_BYTES = 2_000_000
_BYTES_A_BYTE = 20
"""The same of bytes read: one problem's and one run's text is read with each evaluation's."""
_ROW_BYTES = 64

MAX_MIGRATED_BYTES = 1_000_000_000
"""Most bytes of an older file that is migrated in memory."""

_WHAT_TO_DO = "tunekit did not make that; `tunekit doctor --db {path}` says what can be saved"


def harden(connection: sqlite3.Connection, *, readonly: bool) -> None:
    """Trust nothing a schema says, and bound what a value can expand to."""
    # An older SQLite calls json_valid, of our own CHECKs, unsafe: they run where rows are written.
    if readonly:
        connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose tables, indexes, views or triggers are not what tunekit makes of them.

    Other tables and views may be there; other triggers, which would run, may not.

    Raises:
        StoreError: what is there is something else; the message names it.
    """
    version, found = _schema_of(connection)
    if version < 0:
        raise _refusal(path, f"its version is {version}")
    expected = _expected(version)
    names = {name for _, name in expected}
    for (kind, name), (table, statement) in found.items():
        known = expected.get((kind, name))
        alien = name in names or (kind == "index" and table in names) or kind == "trigger"
        if statement != known if known is not None else alien:
            raise _refusal(path, f"its {kind} {name!a:.80} is another")
    if missing := sorted(f"{kind} {name}" for kind, name in expected.keys() - found.keys()):
        raise _refusal(path, f"it has no {missing[0]}")


def check_size(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file too large to be migrated in memory.

    Raises:
        StoreError: it is.
    """
    if _size_bytes(connection) > MAX_MIGRATED_BYTES:
        raise StoreError(
            f"{path}: of an older tunekit, and too large to be read without being migrated; merge "
            "into it once, or use another --db"
        )


@contextmanager
def bounded(connection: sqlite3.Connection, path: Path) -> Iterator[Metered]:
    """Reading that ends, and gives no more than the file can hold.

    Whoever reads passes the rows through what this gives. A read that goes on for too long ends
    in an error of sqlite3's.
    """
    size_bytes = _size_bytes(connection)
    most, taken = _STEPS + _STEPS_A_BYTE * size_bytes, 0

    def is_too_long() -> bool:
        nonlocal taken
        taken += _TICK
        return taken > most

    connection.set_progress_handler(is_too_long, _TICK)
    try:
        yield Metered(path, _BYTES + _BYTES_A_BYTE * size_bytes)
    finally:
        connection.set_progress_handler(None, 0)


class Metered:
    """Counts the bytes of rows.

    Args:
        path: of the database, for the message.
        most: bytes.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._left = path, most

    def __call__(self, rows: Iterable[Mapping[str, object]]) -> Iterator[dict[str, object]]:
        """The rows, as they come.

        Raises:
            StoreError: they are larger than the file can be.
        """
        for row in rows:
            texts = (value for value in row.values() if isinstance(value, str | bytes))
            self._left -= _ROW_BYTES + sum(map(len, texts))
            if self._left < 0:
                raise StoreError(
                    f"{self._path}: holds more than its size allows: the database is damaged; "
                    "use another --db"
                )
            yield dict(row)


_Schema = dict[tuple[str, str], tuple[str, str]]


def _schema_of(connection: sqlite3.Connection) -> tuple[int, _Schema]:
    """Version, and table and statement by kind and name, of one moment: another may migrate it."""
    begun = not connection.in_transaction
    if begun:
        connection.execute("BEGIN")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
        # What has no statement is SQLite's own index of a UNIQUE column. Names have no case.
        found = {
            (str(kind), str(name).lower()): (str(table).lower(), " ".join(str(statement).split()))
            for kind, name, table, statement in rows
            if statement is not None
        }
    finally:
        if begun:
            connection.execute("ROLLBACK")
    return int(version), found


@cache
def _expected(version: int) -> Mapping[tuple[str, str], str]:
    """The statements of a file of that version."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for migrate in schema.MIGRATIONS[:version]:
            migrate(connection)
        _, made = _schema_of(connection)
        return {key: statement for key, (_, statement) in made.items()}
    finally:
        connection.close()


def _refusal(path: Path, what: str) -> StoreError:
    what_to_do = _WHAT_TO_DO.replace("{path}", shlex.quote(str(path)))
    return StoreError(f"{path}: {what}: {what_to_do}")


def _size_bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(page_bytes)
