"""Dropping what no decision rests on, so that a database does not grow without bound.

What is served stays the same: of each problem and source the decision that counts is kept, and
every evaluation it rests on. The others were only of use to a search that goes on, or to one of a
neighbouring problem. Counters go with their evaluations; candidates stay, for they are what a
person asked for and the next search of their problem begins with them.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunekit.errors import StoreLockedError
from tunekit.store import schema
from tunekit.store.claims import claim_everything
from tunekit.store.connection import explained, migrate, open_readonly, open_writable

_TABLES = ("evaluations", "decisions", "candidates", "counters", "problems", "runs")

_KEPT_DECISIONS = f"""
    CREATE TEMP TABLE kept_decisions AS
    SELECT id, winner, default_uid, row_uids FROM (
        SELECT decisions.*, row_number() OVER (
            PARTITION BY decisions.problem_id, decisions.source
            ORDER BY julianday(decisions.created_at) DESC, decisions.id DESC
        ) AS place
        FROM decisions
        JOIN (SELECT uid, problem_id, source FROM evaluations WHERE {schema.VERIFIED}) AS won
            ON won.uid = decisions.winner
            AND won.problem_id = decisions.problem_id
            AND won.source = decisions.source
    ) WHERE place = 1
"""
"""Of each problem and source the one that the cache would show."""

_SPARED_DECISIONS = """
    INSERT INTO kept_decisions
    SELECT decisions.id, winner, default_uid, row_uids FROM decisions
    JOIN problems ON problems.id = problem_id
    WHERE (kernel <> :kernel OR julianday(created_at) >= julianday(:before))
        AND decisions.id NOT IN (SELECT id FROM kept_decisions)
"""
_KEPT_EVALUATIONS = """
    CREATE TEMP TABLE kept_evaluations AS
    SELECT winner AS uid FROM kept_decisions
    UNION SELECT default_uid FROM kept_decisions WHERE default_uid IS NOT NULL
    UNION SELECT value FROM kept_decisions, json_each(row_uids)
    UNION
    SELECT uid FROM evaluations
    JOIN problems ON problems.id = problem_id
    JOIN runs ON runs.id = run_id
    WHERE kernel <> :kernel OR julianday(runs.created_at) >= julianday(:before)
"""
_STUDIES = """
    CREATE TEMP TABLE gone_studies AS
    SELECT study_id FROM studies JOIN (
        SELECT DISTINCT problems.key, source FROM evaluations
        JOIN problems ON problems.id = problem_id
        WHERE evaluations.uid NOT IN (SELECT uid FROM kept_evaluations)
    ) ON study_name = key OR study_name = key || ':' || source
"""
_DELETIONS = (
    "DELETE FROM decisions WHERE id NOT IN (SELECT id FROM kept_decisions)",
    "DELETE FROM counters WHERE evaluation_uid NOT IN (SELECT uid FROM kept_evaluations)",
    "DELETE FROM evaluations WHERE uid NOT IN (SELECT uid FROM kept_evaluations)",
    "DELETE FROM problems WHERE id NOT IN (SELECT problem_id FROM evaluations "
    "UNION SELECT problem_id FROM decisions UNION SELECT problem_id FROM candidates)",
    "DELETE FROM runs WHERE id NOT IN (SELECT run_id FROM evaluations)",
)
_MOST_DAYS = 365_000
_TEMPORARY = ("kept_decisions", "kept_evaluations", "gone_studies")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was dropped, or would be.

    Attributes:
        dropped, kept: rows by table: evaluations, decisions, candidates, counters, problems, runs.
        studies: Optuna studies dropped: those of problems that lost evaluations. They are written
            again, from what is left, when the problem is next tuned.
        before_bytes, after_bytes: size of the database.
        compacted: whether the file was made smaller; not where another process has it open.
    """

    dropped: dict[str, int]
    kept: dict[str, int]
    studies: int
    before_bytes: int
    after_bytes: int
    compacted: bool = True


def prune(path: Path, *, kernel: str | None = None, older_than_days: float = 0.0) -> Pruned:
    """Drop what no decision rests on, in one transaction, and make the file smaller.

    Args:
        path: of the database.
        kernel: only what was evaluated of that kernel.
        older_than_days: only what was evaluated, and decided, so long ago.

    Raises:
        ClaimedError: something is being tuned into it.
        StoreError: it is not there or cannot be written; nothing is dropped.
    """
    open_readonly(path).close()  # where there is nothing, nothing is created
    with (
        claim_everything(path),  # a tuning would miss, in the end, what it measured
        closing(open_writable(path)) as connection,
        explained(path),
    ):
        before = _size(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            dropped, kept, studies = _drop(connection, kernel, older_than_days)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        compacted = _compact(connection, path)
        return Pruned(dropped, kept, studies, before, _size(connection), compacted)


def would_prune(path: Path, *, kernel: str | None = None, older_than_days: float = 0.0) -> Pruned:
    """What `prune` would drop, tried on a copy that is thrown away.

    Raises:
        StoreError: the database cannot be read.
    """
    with explained(path), closing(sqlite3.connect("", isolation_level=None)) as copy:
        with closing(open_readonly(path)) as connection:
            connection.backup(copy)
        before = _size(copy)
        migrate(copy, None)
        copy.execute("BEGIN")
        dropped, kept, studies = _drop(copy, kernel, older_than_days)
        copy.execute("COMMIT")
        copy.execute("VACUUM")
        return Pruned(dropped, kept, studies, before, _size(copy))


def _drop(
    connection: sqlite3.Connection, kernel: str | None, older_than_days: float
) -> tuple[dict[str, int], dict[str, int], int]:
    # No row is older than that, whatever a person says: years have four digits at most.
    spared_from = datetime.now(UTC) - timedelta(days=min(older_than_days, _MOST_DAYS))
    # NULL spares nothing: what is compared with it is neither true nor false.
    parameters = {
        "kernel": kernel,
        "before": spared_from.isoformat() if older_than_days else None,
    }
    before = _counts(connection)
    connection.execute(_KEPT_DECISIONS)
    connection.execute(_SPARED_DECISIONS, parameters)
    connection.execute(_KEPT_EVALUATIONS, parameters)
    studies = _drop_studies(connection)
    with schema.lifted(connection, "DELETE"):
        for deletion in _DELETIONS:
            connection.execute(deletion)
    for table in _TEMPORARY:
        connection.execute(f"DROP TABLE IF EXISTS temp.{table}")
    kept = _counts(connection)
    return {table: before[table] - kept[table] for table in _TABLES}, kept, studies


def _drop_studies(connection: sqlite3.Connection) -> int:
    """Optuna's tables are its own: what has a column of a study or a trial is found by name."""
    tables = _columns(connection)
    if "study_name" not in tables.get("studies", ()):
        return 0
    connection.execute(_STUDIES)
    of_studies = "SELECT study_id FROM gone_studies"
    of_trials = f"SELECT trial_id FROM trials WHERE study_id IN ({of_studies})"
    last = ("trials", "studies")
    for table in (*(name for name in tables if name not in last), *last):
        columns = tables.get(table, ())
        if "study_id" in columns:
            connection.execute(f'DELETE FROM "{table}" WHERE study_id IN ({of_studies})')
        elif "trial_id" in columns:
            connection.execute(f'DELETE FROM "{table}" WHERE trial_id IN ({of_trials})')
    (count,) = connection.execute("SELECT count(*) FROM gone_studies").fetchone()
    return int(count)


def _columns(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        name: tuple(row[1] for row in connection.execute(f'PRAGMA table_info("{name}")'))
        for (name,) in names
    }


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {
        table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        for table in _TABLES
    }


def _compact(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file could be written anew: not while others read it."""
    try:
        with explained(path):
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except StoreLockedError:
        return False
    return True


def _size(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)
