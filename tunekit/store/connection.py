"""Opening a tunekit database: what the file is, its version, and errors in one line."""

from __future__ import annotations

import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tunekit.errors import StoreError, StoreLockedError, StoreVersionError
from tunekit.printable import one_line
from tunekit.store import guard, schema

BUSY_TIMEOUT_S = 30.0

_PRIMARY_CODE = 0xFF
_DAMAGED = sqlite3.DatabaseError()
_DAMAGED.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
_WHAT_TO_DO = {
    sqlite3.SQLITE_NOTADB: (
        "not a database; use another --db, or if it was one: `tunekit doctor --db {path}`"
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged; `tunekit doctor --db {path}` says what can be saved"
    ),
    sqlite3.SQLITE_CANTOPEN: "cannot open the file; check that its folder exists and its rights",
    sqlite3.SQLITE_READONLY: "cannot write to it; check its rights or use another --db",
    sqlite3.SQLITE_PERM: "cannot write to it; check its rights or use another --db",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and run again",
    sqlite3.SQLITE_INTERRUPT: (
        "reading takes longer than its size allows: the database is damaged; use another --db"
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk reports an error, or a quota or a limit is reached; make room, check the rights "
        "of the file and run again"
    ),
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what sqlite3 raises into a StoreError of one line that names the file.

    Raises:
        StoreLockedError: another process holds the database.
        StoreError: everything else SQLite complains of.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from None
    except UnicodeDecodeError:  # what SQLite says quotes a damaged schema
        raise explain(path, _DAMAGED) from None


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    """The StoreError that says what `error` means for the database at `path`."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLockedError(
            f"{path}: another process holds the database; let it finish, or use another --db"
        )
    what = _WHAT_TO_DO.get(code, "").replace("{path}", shlex.quote(str(path)))
    what = what or f"{one_line(str(error)):.200}; use another --db"
    return StoreError(f"{path}: {what}")


def open_writable(path: Path) -> sqlite3.Connection:
    """Open a person's database, created or migrated when that is due.

    Raises:
        StoreError: it cannot be created or written, or is no database.
        StoreLockedError: another process holds it for longer than 30 s.
        StoreVersionError: another program's, or a newer tunekit's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot create its folder: {error.strerror}; use another --db"
        ) from None
    with explained(path):
        connection = _connect(path, "mode=rwc")
        try:
            file_version(connection, path)
            guard.check_schema(connection, path)
            _enable_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, path)
            # SQLite opens what it may not write for reading, and fails at the first row.
            if not os.access(path, os.W_OK):
                raise StoreError(f"{path}: {_WHAT_TO_DO[sqlite3.SQLITE_READONLY]}")
        except BaseException:
            connection.close()
            raise
        return connection


def open_readonly(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """Open a database without ever writing to it; an older one is migrated in memory.

    Args:
        path: of the file.
        immutable: nobody else writes the file while it is open, so that SQLite needs neither
            locks nor files beside it: right for the shipped one.

    Raises:
        StoreError: it is not there, cannot be read, or is no database.
        StoreLockedError: another process holds it for longer than 30 s.
        StoreVersionError: another program's, or a newer tunekit's.
    """
    if not _is_file(path):
        raise StoreError(f"{path}: no such database; run `tunekit tune` first or use another --db")
    with explained(path):
        connection = _connect_readonly(path, immutable)
        try:
            version = file_version(connection, path)
            guard.check_schema(connection, path)
            if version == len(schema.MIGRATIONS):
                return connection
            guard.check_size(connection, path)
            return _migrated_in_memory(connection)
        except BaseException:
            connection.close()
            raise


def file_version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of the file, 0 when it holds nothing yet.

    Raises:
        StoreVersionError: another program's, or a newer tunekit's.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and version == 0 and tables == 0:
        return 0
    if application != schema.APPLICATION_ID:
        raise StoreVersionError(
            f"{path}: a database of another program, not of tunekit; use another --db"
        )
    newest = len(schema.MIGRATIONS)
    if version > newest:
        raise StoreVersionError(
            f"{path}: has version {version} and this tunekit reads up to {newest}; "
            "upgrade tunekit or use another --db"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    """Bring the schema up to date, each step in one transaction.

    Before the first step a file that holds something is copied to `NAME.vN.bak`, N being its
    version; `path` is None for a database that needs no such copy.
    """
    where = path or Path(":memory:")
    copied = path is None
    while file_version(connection, where) < len(schema.MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated while this one waited for the lock.
            version = file_version(connection, where)
            if version == len(schema.MIGRATIONS):
                return
            if version and path and not copied:
                _back_up(path, version)
            # What this very call has made needs no copy either.
            copied = True
            schema.MIGRATIONS[version](connection)
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _back_up(path: Path, version: int) -> None:
    """Copy the file through a second connection: SQLite copies none that is in a transaction."""
    copy = path.with_name(f"{path.name}.v{version}.bak")
    temporary = copy.with_name(f"{copy.name}.{os.getpid()}.tmp")
    try:
        with (
            closing(_connect(path, "mode=ro")) as source,
            closing(sqlite3.connect(temporary)) as target,
        ):
            source.backup(target)
        os.replace(temporary, copy)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot write the copy {copy.name} that a migration needs: {error.strerror}"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _migrated_in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with closing(connection):
            connection.backup(memory)
        migrate(memory, None)
        memory.execute("PRAGMA query_only = ON")
    except BaseException:
        memory.close()
        raise
    return memory


def _connect(path: Path, options: str) -> sqlite3.Connection:
    # isolation_level None: transactions begin and end where the code says so.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
    )
    guard.harden(connection, readonly=options != "mode=rwc")
    return connection


def _connect_readonly(path: Path, immutable: bool) -> sqlite3.Connection:
    if immutable:
        return _connect(path, "mode=ro&immutable=1")
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        # A WAL file in a folder that cannot be written: with no log beside it, it is complete.
        code = error.sqlite_errorcode & _PRIMARY_CODE
        no_log = code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if not no_log or not _log_is_empty(path):
            raise
        return _connect(path, "mode=ro&immutable=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; check its rights") from None


def _log_is_empty(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    with suppress(FileNotFoundError):
        return log.stat().st_size == 0
    return True


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; several processes may try at once.

    SQLite refuses that switch at once, without waiting, while another connection reads.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            # Some file systems have no shared memory: SQLite then keeps the mode it had.
            return
