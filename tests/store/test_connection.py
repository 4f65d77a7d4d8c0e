"""Which files are opened, which are refused, and in what words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tunekit.core.evaluation import Decision, Evaluation
from tunekit.errors import StoreError, StoreLockedError, StoreVersionError
from tunekit.store import connection, schema
from tunekit.store.cache import read_cache
from tunekit.store.database import Store

needs_rights_to_matter = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


def by_writing(path: Path) -> None:
    Store.open(path).close()


def by_reading(path: Path) -> None:
    Store.open(path, readonly=True).close()


def by_reading_immutable(path: Path) -> None:
    Store.open(path, readonly=True, immutable=True).close()


every_way = pytest.mark.parametrize(
    "open_it", [by_writing, by_reading, by_reading_immutable, read_cache]
)


def refused(open_it: Callable[[Path], object], path: Path, kind: type[StoreError]) -> str:
    with pytest.raises(StoreError) as caught:
        open_it(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@every_way
def test_a_text_file_is_not_a_database(path: Path, open_it: Callable[[Path], object]) -> None:
    path.write_text("Dear diary, " * 100)
    assert "not a database" in refused(open_it, path, StoreError)
    assert path.read_text() == "Dear diary, " * 100


@every_way
def test_the_database_of_another_program_is_refused_and_left_alone(
    path: Path, open_it: Callable[[Path], object]
) -> None:
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name TEXT)")
    before = path.read_bytes()
    assert "another program" in refused(open_it, path, StoreVersionError)
    assert path.read_bytes() == before


@every_way
def test_another_application_id_is_refused_even_without_tables(
    path: Path, open_it: Callable[[Path], object]
) -> None:
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("PRAGMA application_id = 1")
    assert "another program" in refused(open_it, path, StoreVersionError)


@every_way
def test_a_newer_version_is_refused_by_name(path: Path, open_it: Callable[[Path], object]) -> None:
    by_writing(path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 7")
    assert refused(open_it, path, StoreVersionError) == (
        f"{path}: has version 7 and this tunekit reads up to 4; upgrade tunekit or use another --db"
    )


@every_way
def test_a_damaged_file_is_said_to_be_damaged(
    path: Path,
    open_it: Callable[[Path], object],
    make_evaluation: Callable[..., Evaluation],
    make_decision: Callable[..., Decision],
) -> None:
    with Store.open(path) as store:
        store.add([make_evaluation()])
        store.decide(make_decision(make_evaluation()))
    content = bytearray(path.read_bytes())
    content[100:] = b"\x5a" * (len(content) - 100)
    path.write_bytes(content)
    assert "damaged" in refused(open_it, path, StoreError)


def test_damage_found_while_reading_is_said_too(
    path: Path, make_evaluation: Callable[..., Evaluation]
) -> None:
    with Store.open(path) as store:
        store.add(make_evaluation(float(time), time) for time in range(1, 200))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\x5a" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"), Store.open(path, readonly=True) as store:
        store.evaluations()


@every_way
def test_a_folder_is_no_database(tmp_path: Path, open_it: Callable[[Path], object]) -> None:
    refused(open_it, tmp_path, StoreError)


@pytest.mark.parametrize("open_it", [by_reading, by_reading_immutable])
def test_reading_creates_nothing(path: Path, open_it: Callable[[Path], object]) -> None:
    assert "no such database" in refused(open_it, path, StoreError)
    assert not path.exists()


def test_the_cache_of_a_file_that_is_not_there_is_empty(path: Path) -> None:
    assert read_cache(path) == []
    assert read_cache(path / "below" / "nothing") == []
    assert not path.exists()


def test_an_empty_file_is_an_empty_database(path: Path) -> None:
    path.touch()
    assert read_cache(path) == read_cache(path, immutable=True) == []
    with Store.open(path, readonly=True) as store:
        assert store.evaluations() == store.cache() == []
    assert path.stat().st_size == 0
    by_writing(path)
    with Store.open(path, readonly=True) as store:
        assert store.problems() == []


def test_the_folder_is_created(tmp_path: Path) -> None:
    path = tmp_path / "some folder" / "100% ok?#" / "studies.db"
    by_writing(path)
    assert path.is_file()
    assert [each.name for each in tmp_path.iterdir()] == ["some folder"]
    by_reading(path)


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "studies.db"
    assert "cannot create its folder" in refused(by_writing, path, StoreError)


@needs_rights_to_matter
def test_a_file_that_cannot_be_written_is_named(path: Path) -> None:
    by_writing(path)
    path.chmod(0o400)
    assert "cannot write" in refused(by_writing, path, StoreError)


@needs_rights_to_matter
def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    by_writing(path)
    path.chmod(0)
    refused(read_cache, path, StoreError)


@needs_rights_to_matter
def test_a_wal_file_in_a_read_only_folder_can_be_read(
    path: Path, make_evaluation: Callable[..., Evaluation]
) -> None:
    with Store.open(path) as store:
        store.add([make_evaluation()])
    path.parent.chmod(0o500)
    try:
        with Store.open(path, readonly=True) as store:
            assert store.evaluations() == [make_evaluation()]
        assert refused(by_writing, path.with_name("other.db"), StoreError)
    finally:
        path.parent.chmod(0o700)


@every_way
def test_a_locked_file_is_said_to_be_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch, open_it: Callable[[Path], object]
) -> None:
    with Store.open(path) as store:
        store.publish(path.with_name("published.db"))
    path = path.with_name("published.db")
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        if open_it is by_reading_immutable:
            open_it(path)  # it was told that there is nobody else
        else:
            assert "another process holds" in refused(open_it, path, StoreLockedError)


def _add_a_table(opened: sqlite3.Connection) -> None:
    opened.execute("CREATE TABLE extra (x)")


def _fail_half_way(opened: sqlite3.Connection) -> None:
    opened.execute("CREATE TABLE extra (x)")
    opened.execute("CREATE TABLE extra (x)")


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as opened:
        return {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as opened:
        version: int = opened.execute("PRAGMA user_version").fetchone()[0]
        return version


def test_an_older_file_is_copied_and_migrated(
    path: Path, monkeypatch: pytest.MonkeyPatch, make_evaluation: Callable[..., Evaluation]
) -> None:
    with Store.open(path) as store:
        store.add([make_evaluation()])
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, _add_a_table))
    with Store.open(path) as store:
        assert store.evaluations() == [make_evaluation()]
    copy = path.with_name("studies.db.v4.bak")
    assert (version_of(path), version_of(copy)) == (5, 4)
    assert "extra" in tables_of(path) - tables_of(copy)
    monkeypatch.undo()
    with Store.open(copy, readonly=True) as store:
        assert store.evaluations() == [make_evaluation()]


def test_a_migration_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_writing(path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, _fail_half_way))
    assert "extra already exists" in refused(by_writing, path, StoreError)
    assert version_of(path) == 4
    assert "extra" not in tables_of(path)


def test_a_new_file_needs_no_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, _add_a_table))
    by_writing(path)
    assert version_of(path) == 5
    assert not list(path.parent.glob("*.bak"))


@pytest.mark.parametrize("immutable", [True, False])
def test_reading_an_older_file_does_not_write_to_it(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    immutable: bool,
    make_evaluation: Callable[..., Evaluation],
    make_decision: Callable[..., Decision],
) -> None:
    with Store.open(path) as store:
        store.add([make_evaluation()])
        store.decide(make_decision(make_evaluation()))
        expected = store.cache()
    before = path.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, _add_a_table))
    assert read_cache(path, immutable=immutable) == expected != []
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.bak"))
