"""What the doctor says of databases in every state."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tunekit.core.candidate import Candidate
from tunekit.core.evaluation import Evaluation, Source
from tunekit.doctor import databases
from tunekit.doctor.check import Check, State
from tunekit.doctor.databases import check_database
from tunekit.doctor.probe import ProbeFailed
from tunekit.here import Here
from tunekit.paths import shipped_database
from tunekit.store.database import Store

Tune = Callable[..., Evaluation]
Bad = Callable[[list[Check]], list[Check]]


@pytest.fixture(autouse=True)
def hashes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The sources of the library's kernels, as a probe would tell."""
    known = {"mish_mish": "0a1b2c"}
    monkeypatch.setattr(databases, "ask", lambda what, *names: known)
    return known


@pytest.fixture
def check(path: Path, here: Here) -> Callable[..., list[Check]]:
    def run(database: Path = path, here: Here = here, **more: bool) -> list[Check]:
        return list(check_database("db", database, here, **more))

    return run


def test_a_sound_one(check: Callable[..., list[Check]], tuned: Tune, path: Path, bad: Bad) -> None:
    tuned()
    (found,) = check()
    assert bad([found]) == []
    assert f"{path}: " in found.says
    assert "kB, version 4, sound, 1 problems, 1 evaluations, 1 decisions" in found.says


def test_what_is_to_be_measured_and_counters_are_counted(
    check: Callable[..., list[Check]], tuned: Tune, path: Path
) -> None:
    row = tuned()
    moment = row.provenance.created_at
    with Store.open(path) as store:
        store.add_candidates([Candidate(row.problem, row.config, "a.py line 1", moment)])
        store.add_counters(row.uid, {"a": (1.0, ""), "b": (2.0, "%")}, "a tool")
    assert "1 decisions, 1 candidates, 2 counters" in check()[0].says


def test_none_is_no_problem(check: Callable[..., list[Check]], path: Path, bad: Bad) -> None:
    assert bad(check()) == []
    assert not path.exists()


def test_the_shipped_one_has_to_be_there(check: Callable[..., list[Check]], bad: Bad) -> None:
    (found,) = bad(check(shipped=True))
    assert (found.state, found.do) == (State.PROBLEM, "install tunekit again")


def test_the_one_that_ships_is_sound(
    check: Callable[..., list[Check]], bad: Bad, hashes: dict[str, str]
) -> None:
    hashes.clear()
    found = check(shipped_database(), shipped=True)
    assert not any(each.state is State.PROBLEM for each in bad(found))
    assert "sound" in found[0].says


def test_rows_of_an_earlier_source(
    check: Callable[..., list[Check]], tuned: Tune, bad: Bad
) -> None:
    tuned(kernel_hash="before")
    (found,) = bad(check())
    assert found.state is State.NOTE
    assert found.says.startswith("1 rows are of an earlier source of mish_mish: they are not serve")
    assert "tunekit tune" in found.do


def test_without_an_answer_no_row_is_called_stale(
    check: Callable[..., list[Check]], tuned: Tune, monkeypatch: pytest.MonkeyPatch, bad: Bad
) -> None:
    def fail(*what: str) -> None:
        raise ProbeFailed("ended with SIGSEGV")

    monkeypatch.setattr(databases, "ask", fail)
    tuned(kernel_hash="before")
    assert bad(check()) == []


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"triton": "3.6.0"}, "1 rows were found under Triton 3.6.0, and here is Triton 3.7.1"),
        ({"driver": "580.1"}, "1 rows were found under driver 580.1, and here is Triton 3.7.1"),
        ({"triton": "3.6.0", "driver": "580.1"}, "under Triton 3.6.0, driver 580.1, and here"),
    ],
)
def test_rows_of_other_versions(
    check: Callable[..., list[Check]], tuned: Tune, bad: Bad, of: dict[str, str], said: str
) -> None:
    tuned(**of)
    (found,) = bad(check())
    assert found.state is State.NOTE
    assert said in found.says
    assert "tunekit confirm" in found.do


def test_another_driver_of_another_gpu_is_of_no_concern(
    check: Callable[..., list[Check]], tuned: Tune, bad: Bad
) -> None:
    tuned(driver="580.1", device="h200")
    assert bad(check()) == []


def test_estimates_are_confirmed_where_there_is_that_gpu(
    check: Callable[..., list[Check]], tuned: Tune, bad: Bad
) -> None:
    tuned(source=Source.ESTIMATED, driver="")
    (found,) = bad(check())
    assert found.says == "1 rows are estimated, never run on that GPU"
    assert bad(check(here=Here("3.7.1", {}))) == []


def test_what_prune_would_free(
    check: Callable[..., list[Check]], tuned: Tune, bad: Bad, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(others=20)
    found = check()
    assert bad(found) == []
    assert "20 rows that no decision rests on; without them it is" in found[-1].says
    monkeypatch.setattr(databases, "_WORTH_PRUNING_BYTES", 1)
    (found_bad,) = bad(check())
    assert "tunekit prune" in found_bad.do


def test_copies_and_what_crashes_left(
    check: Callable[..., list[Check]], tuned: Tune, path: Path, bad: Bad
) -> None:
    tuned()
    path.with_name("studies.db.v1.bak").write_bytes(bytes(5000))
    path.with_name(".studies.db.123.tmp").touch()
    first, second = bad(check())
    assert "copies from before a migration: studies.db.v1.bak (5.0 kB)" in first.says
    assert ".studies.db.123.tmp" in second.says
    assert first.state is second.state is State.NOTE


def test_a_log_without_its_database(
    check: Callable[..., list[Check]], path: Path, bad: Bad
) -> None:
    path.with_name("studies.db-wal").touch()
    (found,) = bad(check())
    assert "left over in" in found.says
    assert "studies.db-wal" in found.says


def test_a_damaged_one_and_what_can_be_saved(
    check: Callable[..., list[Check]], tuned: Tune, path: Path, bad: Bad
) -> None:
    tuned(others=3)
    data = path.read_bytes()
    path.write_bytes(bytes(4096) + data[4096:])
    (found,) = bad(check())
    assert found.state is State.PROBLEM
    assert "not a database" in found.says
    assert "can be saved: 4 evaluations and 1 decisions" in found.says
    assert f"`tunekit doctor --db {path} --salvage NEW.db`" in found.do


def test_damaged_rows_are_named(
    check: Callable[..., list[Check]], tuned: Tune, path: Path, bad: Bad
) -> None:
    row = tuned(others=3)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER evaluations_refuse_update")
        statement = raw.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'runs_refuse_update'"
        ).fetchone()[0]
        raw.execute("UPDATE evaluations SET reason = 'x', shape = '[0]' WHERE id = 2")
        raw.execute("UPDATE evaluations SET digest = '0' WHERE id = 3")
        raw.execute(statement.replace("runs", "evaluations"))
    first, second = bad(check())
    assert "evaluation row" in first.says
    assert "shape[0]: expected" in first.says
    assert "its columns are not those that were written" in second.says
    assert "can be saved: 2 evaluations and 1 decisions, not 2 rows that are damaged" in second.says
    assert row.uid not in first.says + second.says


@pytest.mark.parametrize("content", [b"a text", b"", bytes(9000)])
def test_what_never_was_one(
    check: Callable[..., list[Check]], path: Path, content: bytes, bad: Bad
) -> None:
    path.write_bytes(content)
    found = bad(check())
    if content:
        assert "no row of tunekit's that could be saved" in found[0].says
    else:
        assert found == []  # SQLite takes it for a new one


def test_a_folder(check: Callable[..., list[Check]], tmp_path: Path, bad: Bad) -> None:
    (found,) = bad(check(tmp_path))
    assert found.state is State.PROBLEM
    assert str(tmp_path) in found.says


def test_a_newer_one(check: Callable[..., list[Check]], tuned: Tune, path: Path, bad: Bad) -> None:
    tuned()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 99")
    (found,) = bad(check())
    assert "has version 99 and this tunekit reads up to 4" in found.says
    assert found.do == "upgrade tunekit or use another --db"


def test_an_older_one_is_not_touched(
    check: Callable[..., list[Check]], path: Path, bad: Bad
) -> None:
    old = Path(__file__).parent.parent / "store" / "data" / "version1.db"
    path.write_bytes(old.read_bytes())
    before = path.read_bytes()
    found = check()
    assert "version 1 (migrated to 4 when it is next written), sound" in found[0].says
    assert path.read_bytes() == before


def test_a_locked_one(
    check: Callable[..., list[Check]], tuned: Tune, path: Path, monkeypatch: pytest.MonkeyPatch,
    bad: Bad,
) -> None:  # fmt: skip
    tuned()
    with Store.open(path) as store:
        store.publish(path.with_name("locked.db"))
    monkeypatch.setattr("tunekit.store.connection.BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path.with_name("locked.db"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        (found,) = bad(check(path.with_name("locked.db")))
    assert "another process holds the database" in found.says
