"""The tables and views of a tunekit database, and how an older file becomes a newer one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from tunekit.store.digest import DECISION_COLUMNS, EVALUATION_COLUMNS, digest

APPLICATION_ID = int.from_bytes(b"TnKt", "big")
"""What `PRAGMA application_id` of a tunekit database says."""

_TABLES = (
    """
    CREATE TABLE problems (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        kernel TEXT NOT NULL,
        kernel_hash TEXT NOT NULL,
        dims TEXT NOT NULL CHECK (json_valid(dims)),
        dtype TEXT NOT NULL,
        alignment TEXT NOT NULL,
        device TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        gpu_name TEXT NOT NULL,
        sm_count INTEGER NOT NULL,
        driver TEXT NOT NULL,
        torch TEXT NOT NULL,
        triton TEXT NOT NULL,
        tunekit TEXT NOT NULL,
        protocol TEXT NOT NULL,
        created_at TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE evaluations (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        problem_id INTEGER NOT NULL REFERENCES problems (id),
        run_id INTEGER NOT NULL REFERENCES runs (id),
        shape TEXT NOT NULL CHECK (json_valid(shape)),
        config TEXT NOT NULL CHECK (json_valid(config)),
        status TEXT NOT NULL CHECK (status IN (
            'ok', 'rejected', 'compile_error', 'wrong', 'crashed', 'timeout', 'error')),
        reason TEXT NOT NULL,
        source TEXT NOT NULL CHECK (source IN ('measured', 'estimated')),
        verified_by TEXT CHECK (verified_by IN ('device', 'interpreter')),
        time_us REAL CHECK (time_us > 0),
        samples_us TEXT NOT NULL CHECK (json_valid(samples_us)),
        binary_hash TEXT,
        registers INTEGER,
        spill_bytes INTEGER,
        shared_bytes INTEGER,
        load_bytes INTEGER,
        store_bytes INTEGER,
        max_error REAL CHECK (max_error >= 0),
        CHECK ((status = 'ok') = (time_us IS NOT NULL)),
        CHECK (source = 'measured' OR samples_us = '[]')
    )
    """,
    """
    CREATE TABLE decisions (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        problem_id INTEGER NOT NULL REFERENCES problems (id),
        source TEXT NOT NULL CHECK (source IN ('measured', 'estimated')),
        winner TEXT NOT NULL REFERENCES evaluations (uid),
        default_uid TEXT REFERENCES evaluations (uid),
        row_uids TEXT NOT NULL CHECK (json_valid(row_uids)),
        reason TEXT NOT NULL,
        speedup REAL CHECK (speedup > 0),
        copy_us REAL CHECK (copy_us > 0),
        created_at TEXT NOT NULL
    )
    """,
    "CREATE INDEX problems_by_kernel ON problems (kernel, device, dtype)",
    "CREATE INDEX evaluations_by_problem ON evaluations (problem_id, source)",
    "CREATE INDEX decisions_by_problem ON decisions (problem_id, created_at)",
)

_FIRST_TABLES = ("problems", "runs", "evaluations", "decisions")
_LATER_TABLES = ("candidates", "counters")

# A measured time counts when the device compared the result, an estimate when the interpreter did.
VERIFIED = """
    status = 'ok' AND time_us IS NOT NULL AND (
        (source = 'measured' AND verified_by = 'device')
        OR (source = 'estimated' AND verified_by = 'interpreter'))
"""
"""The condition of an evaluation that may be served."""


def cache_query(condition: str = "") -> str:
    """The view `cache` as a query, over the decisions for which a condition holds.

    SQLite does not look through the view's window function: a condition on what comes out of it
    would be tried after every problem's rows were read. With one, few rows are looked up by their
    key; without, all are read once.
    """
    how = " NOT MATERIALIZED" if condition else ""
    condition = f"\n            WHERE {condition}" if condition else ""
    return f"""\
    WITH
        verified AS{how} (SELECT * FROM evaluations WHERE {VERIFIED}),
        ranked AS (
            SELECT
                decisions.*,
                row_number() OVER (
                    PARTITION BY decisions.problem_id
                    ORDER BY
                        decisions.source = 'measured' DESC,
                        julianday(decisions.created_at) DESC,
                        decisions.id DESC
                ) AS place
            FROM decisions
            JOIN verified
                ON verified.uid = decisions.winner
                AND verified.problem_id = decisions.problem_id
                AND verified.source = decisions.source{condition}
        )
    SELECT
        problems.key AS problem_key, problems.kernel, problems.kernel_hash, problems.dims,
        problems.dtype, problems.alignment, problems.device,
        ranked.winner, won.shape, won.config, won.time_us, won.samples_us, won.source,
        won.verified_by, won.max_error, won.binary_hash, won.registers, won.spill_bytes,
        won.shared_bytes, won.load_bytes, won.store_bytes,
        runs.gpu_name, runs.sm_count, runs.driver, runs.torch, runs.triton, runs.tunekit,
        runs.protocol, runs.created_at,
        ranked.reason, ranked.speedup, ranked.copy_us, ranked.created_at AS decided_at,
        defaults.config AS default_config, defaults.time_us AS default_time_us
    FROM ranked
    JOIN evaluations AS won ON won.uid = ranked.winner
    JOIN problems ON problems.id = ranked.problem_id
    JOIN runs ON runs.id = won.run_id
    LEFT JOIN verified AS defaults
        ON defaults.uid = ranked.default_uid
        AND defaults.problem_id = ranked.problem_id
        AND defaults.source = ranked.source
    WHERE ranked.place = 1
"""


_VIEWS = (
    """
    CREATE VIEW evaluation_rows AS
    SELECT
        evaluations.id, evaluations.uid,
        problems.key AS problem_key, kernel, kernel_hash, dims, dtype, alignment, device,
        shape, config, status, reason, source, verified_by, time_us, samples_us,
        binary_hash, registers, spill_bytes, shared_bytes, load_bytes, store_bytes, max_error,
        gpu_name, sm_count, driver, torch, triton, tunekit, protocol, created_at
    FROM evaluations
    JOIN problems ON problems.id = problem_id
    JOIN runs ON runs.id = run_id
    """,
    """
    CREATE VIEW decision_rows AS
    SELECT
        decisions.id, uid,
        problems.key AS problem_key, kernel, kernel_hash, dims, dtype, alignment, device,
        source, winner, default_uid, row_uids, reason, speedup, copy_us, created_at
    FROM decisions
    JOIN problems ON problems.id = problem_id
    """,
    f"\n    CREATE VIEW cache AS\n{cache_query()}    ",
)


def _create(connection: sqlite3.Connection) -> None:
    """Version 1: everything."""
    for statement in (*_TABLES, *_triggers(_FIRST_TABLES), *_VIEWS):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _triggers(tables: Iterable[str]) -> list[str]:
    statements = []
    for table in tables:
        identity = "key" if table in ("problems", "runs") else "uid"
        for verb in ("UPDATE", "DELETE"):
            statements.append(_refusal(table, verb))
        # INSERT OR REPLACE deletes without firing the trigger above.
        statements.append(
            f"CREATE TRIGGER {table}_keep BEFORE INSERT ON {table} WHEN EXISTS ("
            f"SELECT 1 FROM {table} WHERE {identity} = NEW.{identity} OR id = NEW.id) "
            "BEGIN SELECT RAISE(IGNORE); END"
        )
    return statements


def _refusal(table: str, verb: str) -> str:
    return (
        f"CREATE TRIGGER {table}_refuse_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


_DISTURBED_VIEW = """
    CREATE VIEW evaluation_rows AS
    SELECT
        evaluations.id, evaluations.uid,
        problems.key AS problem_key, kernel, kernel_hash, dims, dtype, alignment, device,
        shape, config, status, reason, source, verified_by, time_us, samples_us,
        binary_hash, registers, spill_bytes, shared_bytes, load_bytes, store_bytes, max_error,
        disturbance,
        gpu_name, sm_count, driver, torch, triton, tunekit, protocol, created_at
    FROM evaluations
    JOIN problems ON problems.id = problem_id
    JOIN runs ON runs.id = run_id
"""


def _add_disturbance(connection: sqlite3.Connection) -> None:
    """Version 2: what disturbed a measurement; nothing is known to have, before."""
    connection.execute("DROP VIEW evaluation_rows")
    connection.execute("ALTER TABLE evaluations ADD COLUMN disturbance TEXT NOT NULL DEFAULT ''")
    connection.execute(_DISTURBED_VIEW)


_DIGEST_VIEWS = (
    _DISTURBED_VIEW.replace("        disturbance,\n", "        disturbance, digest,\n"),
    """
    CREATE VIEW decision_rows AS
    SELECT
        decisions.id, uid,
        problems.key AS problem_key, kernel, kernel_hash, dims, dtype, alignment, device,
        source, winner, default_uid, row_uids, reason, speedup, copy_us, digest, created_at
    FROM decisions
    JOIN problems ON problems.id = problem_id
    """,
)


def _add_digest(connection: sqlite3.Connection) -> None:
    """Version 3: a digest of each row; what is there is taken as it is."""
    connection.create_function("tunekit_digest", -1, digest, deterministic=True)
    tables = {"evaluations": EVALUATION_COLUMNS, "decisions": DECISION_COLUMNS}
    with lifted(connection, "UPDATE", _FIRST_TABLES):
        for table, columns in tables.items():
            connection.execute(f"ALTER TABLE {table} ADD COLUMN digest TEXT NOT NULL DEFAULT ''")
            connection.execute(f"UPDATE {table} SET digest = tunekit_digest({', '.join(columns)})")
    for name, view in zip(("evaluation_rows", "decision_rows"), _DIGEST_VIEWS, strict=True):
        connection.execute(f"DROP VIEW {name}")
        connection.execute(view)


_CANDIDATES_AND_COUNTERS = (
    """
    CREATE TABLE candidates (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        problem_id INTEGER NOT NULL REFERENCES problems (id),
        config TEXT NOT NULL CHECK (json_valid(config)),
        origin TEXT NOT NULL,
        created_at TEXT NOT NULL,
        digest TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE counters (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        evaluation_uid TEXT NOT NULL REFERENCES evaluations (uid),
        name TEXT NOT NULL,
        value REAL NOT NULL,
        unit TEXT NOT NULL,
        tool TEXT NOT NULL,
        created_at TEXT NOT NULL
    )
    """,
    "CREATE INDEX candidates_by_problem ON candidates (problem_id)",
    "CREATE INDEX counters_by_evaluation ON counters (evaluation_uid, name)",
    """
    CREATE VIEW candidate_rows AS
    SELECT
        candidates.id, uid,
        problems.key AS problem_key, kernel, kernel_hash, dims, dtype, alignment, device,
        config, origin, created_at, digest
    FROM candidates
    JOIN problems ON problems.id = problem_id
    """,
)


def _add_candidates_and_counters(connection: sqlite3.Connection) -> None:
    """Version 4: configurations from elsewhere, and hardware counters of evaluations."""
    for statement in (*_CANDIDATES_AND_COUNTERS, *_triggers(_LATER_TABLES)):
        connection.execute(statement)


@contextmanager
def lifted(
    connection: sqlite3.Connection,
    verb: str,
    tables: Sequence[str] = (*_FIRST_TABLES, *_LATER_TABLES),
) -> Iterator[None]:
    """Allow UPDATE or DELETE meanwhile; call it inside a transaction, which ends all or nothing."""
    for table in tables:
        connection.execute(f"DROP TRIGGER {table}_refuse_{verb.lower()}")
    yield
    for table in tables:
        connection.execute(_refusal(table, verb))


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _create,
    _add_disturbance,
    _add_digest,
    _add_candidates_and_counters,
)
"""`MIGRATIONS[n]` makes a file of version n one of version n + 1, inside a transaction."""
