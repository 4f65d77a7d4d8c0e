"""Files of earlier versions: read as they are, or copied and brought up to date."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tunekit import records
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.errors import StoreError, StoreVersionError
from tunekit.store import rows, schema
from tunekit.store.cache import read_cache
from tunekit.store.database import MergeResult, Store
from tunekit.store.health import examine
from tunekit.store.prune import prune, would_prune
from tunekit.store.salvage import salvage

DATA = Path(__file__).with_name("data")
SHIPPED = Path(__file__).resolve().parents[2] / "studies.db"

MakeEvaluation = Callable[..., Evaluation]
MakeDecision = Callable[..., Decision]


def _write(path: Path, version: int, *rows_of: tuple[str, dict[str, object]]) -> Path:
    """A file as that version wrote it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        for migrate in schema.MIGRATIONS[:version]:
            migrate(old)
        old.execute(f"PRAGMA user_version = {version}")
        for table, values in rows_of:
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            old.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))
    return path


def _rows(
    version: int, evaluation: Evaluation, decision: Decision
) -> list[tuple[str, dict[str, object]]]:
    evaluated, decided = rows.evaluation_row(evaluation, 1, 1), rows.decision_row(decision, 1)
    if version < 3:
        del evaluated["digest"], decided["digest"]
    if version < 2:
        del evaluated["disturbance"]
    return [
        ("problems", rows.problem_row(evaluation.problem)),
        ("runs", rows.run_row(evaluation)),
        ("evaluations", evaluated),
        ("decisions", decided),
    ]


@pytest.fixture
def first_version(
    tmp_path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> Path:
    """A file as version 1 wrote it: an evaluation and the decision on it."""
    evaluation = make_evaluation()
    return _write(tmp_path / "old.db", 1, *_rows(1, evaluation, make_decision(evaluation)))


@pytest.fixture(params=[1, 2, 3])
def older(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
) -> Path:
    """A file of each earlier version."""
    evaluation, version = make_evaluation(), request.param
    made = _rows(version, evaluation, make_decision(evaluation))
    return _write(tmp_path / f"version{version}.db", version, *made)


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as opened:
        (version,) = opened.execute("PRAGMA user_version").fetchone()
        return int(version)


@pytest.mark.parametrize("immutable", [True, False])
def test_a_file_of_version_1_is_read_and_left_alone(
    first_version: Path, immutable: bool, make_evaluation: MakeEvaluation
) -> None:
    before = first_version.read_bytes()
    with Store.open(first_version, readonly=True, immutable=immutable) as store:
        assert store.evaluations() == [make_evaluation()]
        assert store.evaluations()[0].disturbance == ""
        assert len(store.decisions()) == len(store.cache()) == 1
    assert len(read_cache(first_version, immutable=immutable)) == 1
    assert first_version.read_bytes() == before
    assert [each.name for each in first_version.parent.iterdir()] == ["old.db"]


def test_a_file_of_version_1_is_copied_and_takes_what_is_new(
    first_version: Path, make_evaluation: MakeEvaluation
) -> None:
    disturbed = make_evaluation(2.0, disturbance="clocks throttled: power cap")
    with Store.open(first_version) as store:
        assert store.add([make_evaluation(), disturbed]) == 1
        assert store.evaluations() == [make_evaluation(), disturbed]
        assert len(store.cache()) == 1
    copy = first_version.with_name("old.db.v1.bak")
    assert (version_of(first_version), version_of(copy)) == (4, 1)
    with Store.open(copy, readonly=True) as store:
        assert store.evaluations() == [make_evaluation()]


def test_a_migrated_file_has_the_columns_of_a_new_one(first_version: Path, path: Path) -> None:
    Store.open(first_version).close()
    Store.open(path).close()

    def columns(file: Path) -> dict[str, list[str]]:
        with closing(sqlite3.connect(file)) as opened:
            return {
                table: [row[1] for row in opened.execute(f"PRAGMA table_info({table})")]
                for table in ("problems", "runs", "evaluations", "evaluation_rows", "cache")
            }

    assert columns(first_version) == columns(path)


def test_a_migrated_file_is_still_append_only(first_version: Path) -> None:
    Store.open(first_version).close()
    with closing(sqlite3.connect(first_version)) as raw:
        for statement in ("UPDATE evaluations SET disturbance = 'x'", "DELETE FROM evaluations"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(statement)


def test_merging_a_file_of_version_1(
    first_version: Path, store: Store, make_evaluation: MakeEvaluation
) -> None:
    assert store.merge(first_version) == MergeResult(1, 1)
    assert store.evaluations() == [make_evaluation()]
    assert version_of(first_version) == 1


def test_merging_keeps_what_disturbed(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation
) -> None:
    disturbed = make_evaluation(disturbance="another process uses the GPU")
    with Store.open(tmp_path / "other.db") as other:
        other.add([disturbed])
    assert store.merge(tmp_path / "other.db") == MergeResult(1, 0)
    assert store.evaluations() == [disturbed]
    # The same measurement, whatever is said of it.
    assert store.add([make_evaluation()]) == 0


def test_the_shipped_file_can_be_read_and_migrated(tmp_path: Path) -> None:
    copy = tmp_path / "studies.db"
    shutil.copyfile(SHIPPED, copy)
    expected = read_cache(SHIPPED, immutable=True)
    with Store.open(SHIPPED, readonly=True, immutable=True) as shipped:
        evaluations = shipped.evaluations()
    with Store.open(copy) as store:
        assert store.cache() == expected != []
        assert store.evaluations() == evaluations


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_committed_file_of_an_earlier_version_is_read_migrated_and_salvaged(
    version: int, tmp_path: Path
) -> None:
    """tests/store/data has files that those versions themselves wrote."""
    path = tmp_path / "studies.db"
    shutil.copyfile(DATA / f"version{version}.db", path)
    assert version_of(path) == version
    expected = (DATA / "rows.jsonl").read_text().splitlines()
    cache = read_cache(path)
    found = salvage(path)
    with Store.open(path) as store:
        got = [*store.evaluations(), *store.decisions()]
        assert [records.to_line(row) for row in got] == expected
        assert [*found.evaluations, *found.decisions] == got
        assert store.cache() == cache != []
    assert version_of(path) == len(schema.MIGRATIONS)
    assert version_of(path.with_name(f"studies.db.v{version}.bak")) == version


def content(path: Path) -> tuple[list[Evaluation], list[Decision]]:
    with Store.open(path, readonly=True) as store:
        return store.evaluations(), store.decisions()


def schema_of(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as opened:
        return opened.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_a_migrated_file_has_the_schema_of_a_new_one_to_the_letter(older: Path, path: Path) -> None:
    Store.open(older).close()
    Store.open(path).close()
    assert schema_of(older) == schema_of(path)


def test_a_migrated_row_has_the_digest_of_a_new_one(older: Path, path: Path) -> None:
    evaluations, decisions = content(older)
    Store.open(older).close()
    with Store.open(path) as store:
        store.add(evaluations)
        store.decide(decisions[0])
    for table in ("evaluations", "decisions"):
        with closing(sqlite3.connect(older)) as one, closing(sqlite3.connect(path)) as other:
            (digest,) = one.execute(f"SELECT digest FROM {table}").fetchone()
            assert (digest,) == other.execute(f"SELECT digest FROM {table}").fetchone()
            assert len(digest) == 16


@pytest.mark.parametrize("step", [1, 2, 3])
def test_power_lost_in_the_middle_of_a_migration(
    first_version: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step it is: the file is of the version before it, and the next one goes on."""
    before = content(first_version)
    migrate = schema.MIGRATIONS[step]

    def fails(connection: sqlite3.Connection) -> None:
        migrate(connection)
        raise KeyboardInterrupt

    steps = (*schema.MIGRATIONS[:step], fails, *schema.MIGRATIONS[step + 1 :])
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with pytest.raises(KeyboardInterrupt):
        Store.open(first_version)
    monkeypatch.undo()
    assert version_of(first_version) == step
    assert content(first_version) == before
    Store.open(first_version).close()
    assert version_of(first_version) == len(schema.MIGRATIONS)
    assert content(first_version) == before
    assert content(first_version.with_name("old.db.v1.bak")) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from tunekit.store import schema
from tunekit.store.database import Store
step, moment = int(sys.argv[2]), sys.argv[3]
migrate = schema.MIGRATIONS[step]
def fails(connection):
    if moment == "after":
        migrate(connection)
    os.kill(os.getpid(), signal.SIGKILL)
schema.MIGRATIONS = (*schema.MIGRATIONS[:step], fails, *schema.MIGRATIONS[step + 1:])
Store.open(Path(sys.argv[1]))
"""


def test_killed_in_the_middle_of_a_migration(first_version: Path) -> None:
    before = content(first_version)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(first_version), "2", "after"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert version_of(first_version) == 2
    Store.open(first_version).close()
    assert content(first_version) == before


def test_several_processes_migrate_at_once(older: Path) -> None:
    before = content(older)
    script = "import sys; from tunekit.store.database import Store; Store.open(sys.argv[1]).close()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(older)], env=environment)
        for _ in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    assert version_of(older) == len(schema.MIGRATIONS)
    assert content(older) == before
    copies = list(older.parent.glob("*.bak"))
    assert [content(copy) for copy in copies] == [before]
    assert not list(older.parent.glob("*.tmp"))


def test_a_full_disk_where_the_copy_goes_leaves_the_file_as_it_was(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = content(older), version_of(older)
    connect = sqlite3.connect

    def full(database: object, *more: object, **options: object) -> sqlite3.Connection:
        opened = connect(database, *more, **options)
        if str(database).endswith(".tmp"):
            opened.execute("PRAGMA page_size = 512")
            opened.execute("PRAGMA max_page_count = 1")
        return opened

    monkeypatch.setattr("tunekit.store.connection.sqlite3.connect", full)
    with pytest.raises(StoreError, match="the disk is full") as caught:
        Store.open(older)
    assert str(caught.value).startswith(f"{older}: ")
    monkeypatch.undo()
    assert version_of(older) == version
    assert content(older) == before
    assert not list(older.parent.glob("*.tmp"))


def test_a_folder_that_takes_no_copy_leaves_the_file_as_it_was(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = content(older), version_of(older)
    (older.with_name(f"{older.name}.v{version}.bak")).mkdir()
    with pytest.raises(StoreError, match="cannot write the copy"):
        Store.open(older)
    assert version_of(older) == version
    assert content(older) == before
    assert not list(older.parent.glob("*.tmp"))


def test_a_newer_file_is_refused_whatever_is_asked_of_it(path: Path) -> None:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    for way in (prune, would_prune, examine, read_cache, Store.open):
        with pytest.raises(StoreVersionError, match=r"has version 5 .* up to 4; upgrade"):
            way(path)
