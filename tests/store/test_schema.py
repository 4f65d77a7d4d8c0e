"""What the database itself enforces, whoever writes to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tunekit.core.candidate import Candidate
from tunekit.core.counter import Counter
from tunekit.core.evaluation import Decision, Evaluation, Source, Status, VerifiedBy
from tunekit.store.cache import read_cache
from tunekit.store.database import Store


@pytest.fixture
def raw(store: Store, path: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection, as another program would open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def test_the_file_says_what_it_is(raw: sqlite3.Connection) -> None:
    assert raw.execute("PRAGMA user_version").fetchone()[0] == 4
    assert raw.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"TnKt"
    assert raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert raw.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.mark.parametrize(
    "table", ["problems", "runs", "evaluations", "decisions", "candidates", "counters"]
)
def test_rows_can_only_be_added(
    store: Store,
    raw: sqlite3.Connection,
    table: str,
    make_evaluation: Callable[..., Evaluation],
    make_decision: Callable[..., Decision],
    make_candidate: Callable[..., Candidate],
    make_counter: Callable[..., Counter],
) -> None:
    winner = make_evaluation()
    store.add([winner])
    store.decide(make_decision(winner))
    store.add_candidates([make_candidate()])
    store.add_counter_rows([make_counter(winner)])
    before = [tuple(row) for row in raw.execute(f"SELECT * FROM {table}")]
    identity = "key" if table in ("problems", "runs") else "uid"
    for statement in (f"UPDATE {table} SET {identity} = 'x'", f"DELETE FROM {table}"):
        with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
            raw.execute(statement)
    copied = raw.execute(f"SELECT * FROM {table}").fetchone().keys()
    others = ", ".join(column for column in copied if column != "id")
    # Neither by its identity nor by its id can a row be replaced.
    raw.execute(f"INSERT OR REPLACE INTO {table} ({others}) SELECT {others} FROM {table}")
    raw.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
    assert [tuple(row) for row in raw.execute(f"SELECT * FROM {table}")] == before


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "fine"),
        ("source", "guessed"),
        ("verified_by", "me"),
        ("time_us", -1.0),
        ("time_us", None),
        ("config", "{"),
        ("problem_id", 99),
        ("max_error", -1),
    ],
)
def test_nonsense_is_refused(
    store: Store,
    raw: sqlite3.Connection,
    column: str,
    value: object,
    make_evaluation: Callable[..., Evaluation],
) -> None:
    store.add([make_evaluation()])
    row = dict(raw.execute("SELECT * FROM evaluations").fetchone())
    del row["id"]
    row |= {"uid": "another", column: value}
    raw.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(
            f"INSERT INTO evaluations ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            list(row.values()),
        )


def smuggle(raw: sqlite3.Connection, decision: Decision) -> None:
    """Insert a decision behind the store's back."""
    raw.execute(
        "INSERT INTO decisions (uid, problem_id, source, winner, row_uids, reason, created_at) "
        "SELECT ?, id, ?, ?, '[]', '', ? FROM problems WHERE key = ?",
        [
            decision.uid,
            decision.source.value,
            decision.winner,
            decision.created_at,
            decision.problem.key,
        ],
    )


@pytest.mark.parametrize(
    ("source", "verified_by"),
    [
        (Source.MEASURED, None),
        (Source.MEASURED, VerifiedBy.INTERPRETER),
        (Source.ESTIMATED, None),
        (Source.ESTIMATED, VerifiedBy.DEVICE),
    ],
)
def test_the_cache_has_no_way_to_show_what_is_not_verified(
    store: Store,
    raw: sqlite3.Connection,
    path: Path,
    source: Source,
    verified_by: VerifiedBy | None,
    make_evaluation: Callable[..., Evaluation],
    make_decision: Callable[..., Decision],
) -> None:
    unverified = make_evaluation(source=source, verified_by=verified_by)
    store.add([unverified])
    smuggle(raw, make_decision(unverified))
    assert read_cache(path) == []


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_the_cache_has_no_way_to_show_what_failed(
    store: Store,
    raw: sqlite3.Connection,
    path: Path,
    status: Status,
    make_evaluation: Callable[..., Evaluation],
    make_decision: Callable[..., Decision],
) -> None:
    failed = make_evaluation(None, status=status)
    store.add([failed])
    smuggle(raw, make_decision(failed))
    assert read_cache(path) == []


def test_the_cache_shows_no_winner_of_another_source_or_problem(
    store: Store,
    raw: sqlite3.Connection,
    path: Path,
    make_evaluation: Callable[..., Evaluation],
    make_decision: Callable[..., Decision],
    make_problem: Callable[..., object],
) -> None:
    winner = make_evaluation()
    other = make_evaluation(problem=make_problem(8192))
    store.add([winner, other])
    smuggle(raw, make_decision(winner, source=Source.ESTIMATED))
    smuggle(raw, make_decision(winner, winner=other.uid))
    assert read_cache(path) == []


def test_people_can_read_the_rows_joined(
    store: Store, raw: sqlite3.Connection, make_evaluation: Callable[..., Evaluation]
) -> None:
    store.add([make_evaluation()])
    row = raw.execute("SELECT kernel, device, config, time_us, triton FROM evaluation_rows")
    assert tuple(row.fetchone()) == (
        "mish_mish", "h100", '{"BLOCK_SIZE":1024,"num_warps":4}', 1.5, "3.6.0",
    )  # fmt: skip
