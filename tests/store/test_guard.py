"""A database that somebody else made holds rows, and does nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tunekit.core.evaluation import Evaluation
from tunekit.errors import StoreError
from tunekit.store import guard
from tunekit.store.cache import read_cache
from tunekit.store.database import Store

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

HOSTILE = {
    "a view that never ends": (
        f"DROP VIEW cache; CREATE VIEW cache AS {ENDLESS}",
        "its view 'cache' is another",
    ),
    "a view that shows other rows": (
        "DROP VIEW evaluation_rows; CREATE VIEW evaluation_rows AS SELECT * FROM runs",
        "its view 'evaluation_rows' is another",
    ),
    "a view in another case": (
        f"DROP VIEW cache; CREATE VIEW CACHE AS {ENDLESS}",
        "its view 'cache' is another",
    ),
    "a table in place of a view": (
        "DROP VIEW decision_rows; CREATE TABLE decision_rows (uid)",
        "its table 'decision_rows' is another",
    ),
    "a view in place of a table": (
        f"ALTER TABLE decisions RENAME TO d; CREATE VIEW decisions AS {ENDLESS}",
        "is another",
    ),
    "a trigger": (
        f"CREATE TRIGGER t AFTER INSERT ON evaluations BEGIN INSERT INTO runs(key) {ENDLESS}; END",
        "its trigger 't' is another",
    ),
    "a trigger on a table of Optuna's": (
        "CREATE TABLE trials (a); CREATE TRIGGER t AFTER INSERT ON trials BEGIN SELECT 1; END",
        "its trigger 't' is another",
    ),
    "no trigger that refuses": (
        "DROP TRIGGER evaluations_refuse_delete",
        "it has no trigger evaluations_refuse_delete",
    ),
    "an index over an expression": (
        "CREATE INDEX i ON evaluations (reason LIKE '%a%b%')",
        "its index 'i' is another",
    ),
    "a column that is computed": (
        "ALTER TABLE runs ADD COLUMN big AS (hex(zeroblob(1000000)))",
        "its table 'runs' is another",
    ),
    "a version below zero": ("PRAGMA user_version = -1", "its version is -1"),
    "an old version": (
        f"PRAGMA user_version = 1; DROP VIEW cache; CREATE VIEW cache AS {ENDLESS}",
        "is another",
    ),
}


def change(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.fixture
def theirs(tmp_path: Path, make_evaluation: Callable[..., Evaluation]) -> Path:
    """A database from elsewhere, with one evaluation."""
    path = tmp_path / "theirs.db"
    with Store.open(path) as store:
        store.add([make_evaluation()])
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_run_is_refused(kind: str, theirs: Path, path: Path) -> None:
    script, said = HOSTILE[kind]
    change(theirs, script)
    with Store.open(path) as mine:
        for read in (
            lambda: read_cache(theirs),
            lambda: Store.open(theirs, readonly=True),
            lambda: Store.open(theirs),
            lambda: mine.merge(theirs),
        ):
            with pytest.raises(StoreError) as caught:
                read()
            assert said in str(caught.value)
            assert "tunekit doctor --db" in str(caught.value)
            assert str(caught.value).isprintable()
        assert mine.evaluations() == []


def test_other_tables_and_views_are_left_alone(theirs: Path) -> None:
    change(theirs, f"CREATE TABLE notes (a); CREATE VIEW slow AS {ENDLESS}")
    assert read_cache(theirs) == []
    with Store.open(theirs) as store:
        assert len(store.evaluations()) == 1


def test_spaces_of_a_statement_do_not_matter(theirs: Path) -> None:
    script = """
        DROP TRIGGER runs_refuse_delete;
        CREATE TRIGGER runs_refuse_delete BEFORE DELETE ON runs
            BEGIN SELECT RAISE(ABORT,  'runs is append-only'); END
    """
    change(theirs, script.replace(",  '", ", '"))
    assert read_cache(theirs) == []


def test_a_name_of_theirs_is_printed_harmlessly(theirs: Path) -> None:
    change(
        theirs,
        'CREATE TRIGGER "\x1b[2J\n' + "x" * 500 + '" AFTER INSERT ON runs BEGIN SELECT 1; END',
    )
    with pytest.raises(StoreError) as caught:
        read_cache(theirs)
    assert str(caught.value).isprintable()
    assert "\\x1b[2j" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_value_too_large_is_refused(theirs: Path) -> None:
    change(
        theirs,
        "DROP TRIGGER evaluations_refuse_update; UPDATE evaluations SET reason = "
        "hex(zeroblob(10000000)); CREATE TRIGGER evaluations_refuse_update BEFORE UPDATE ON "
        "evaluations BEGIN SELECT RAISE(ABORT, 'evaluations is append-only'); END",
    )
    with (
        Store.open(theirs, readonly=True) as store,
        pytest.raises(StoreError, match="too big"),
    ):
        store.evaluations()


def test_rows_end_where_the_file_is_too_small_for_them(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_BYTES", 100)
    monkeypatch.setattr(guard, "_BYTES_A_BYTE", 0)
    with (
        Store.open(theirs, readonly=True) as store,
        pytest.raises(StoreError, match="holds more than its size allows"),
    ):
        store.evaluations()


def test_reading_ends(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_STEPS", 1_000_000)
    monkeypatch.setattr(guard, "_STEPS_A_BYTE", 0)
    with Store.open(theirs) as store:
        connection = store._db.conn
        began = time.monotonic()
        with (
            guard.bounded(connection, theirs),
            pytest.raises(sqlite3.OperationalError, match="interrupted"),
        ):
            connection.execute(ENDLESS).fetchall()
        assert time.monotonic() - began < 30
        store.evaluations()  # what is asked next has steps of its own


def test_a_small_file_whose_pages_hold_each_other_ends(tmp_path: Path) -> None:
    """Pages of a table that name one page again and again: rows without end, in a small file."""
    path = tmp_path / "bomb.db"
    with Store.open(path) as store:
        store.publish(tmp_path / "copy.db")
    path = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TRIGGER problems_keep")
        row = ("x" * 20, "k", "h", '{"n": 1}', "float32", "a", "h100")
        connection.executemany(
            "INSERT INTO problems (key, kernel, kernel_hash, dims, dtype, alignment, device) "
            "VALUES (? || ?, ?, ?, ?, ?, ?, ?)",
            ((number, *row) for number in range(1_500)),
        )
        connection.executescript(
            "CREATE TRIGGER problems_keep BEFORE INSERT ON problems WHEN EXISTS (SELECT 1 FROM "
            "problems WHERE key = NEW.key OR id = NEW.id) BEGIN SELECT RAISE(IGNORE); END"
        )
        connection.commit()
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'problems'"
        ).fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    interior = bytes(data[(root - 1) * page_bytes : root * page_bytes])
    assert interior[0] == 5  # of each cell the first 4 bytes are its child
    children = {_child(interior, cell) for cell in range(_cells(interior))}
    # Four levels, each of one page that is its parent's every child: millions of millions of rows.
    first, second, third, leaf = sorted(children)[:4]
    chain = {root: first, first: second, second: third, third: leaf}
    for page, child in chain.items():
        data[(page - 1) * page_bytes : page * page_bytes] = _with_children(interior, child)
    path.write_bytes(data)
    began = time.monotonic()
    with (
        Store.open(path, readonly=True) as store,
        pytest.raises(StoreError, match="size allows"),
    ):
        store.problems()
    assert time.monotonic() - began < 60


def _cells(page: bytes) -> int:
    return int.from_bytes(page[3:5], "big")


def _at(page: bytes, cell: int) -> int:
    where = 12 + 2 * cell
    return int.from_bytes(page[where : where + 2], "big")


def _child(page: bytes, cell: int) -> int:
    at = _at(page, cell)
    return int.from_bytes(page[at : at + 4], "big")


def _with_children(page: bytes, child: int) -> bytes:
    changed = bytearray(page)
    for at in (8, *(_at(page, cell) for cell in range(_cells(page)))):
        changed[at : at + 4] = child.to_bytes(4, "big")
    return bytes(changed)
