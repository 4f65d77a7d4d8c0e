"""Files of earlier versions: read as they are, or copied and brought up to date."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tunekit.core.evaluation import Decision, Evaluation
from tunekit.store import rows, schema
from tunekit.store.cache import read_cache
from tunekit.store.database import MergeResult, Store

SHIPPED = Path(__file__).resolve().parents[2] / "studies.db"

MakeEvaluation = Callable[..., Evaluation]
MakeDecision = Callable[..., Decision]


@pytest.fixture
def first_version(
    tmp_path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> Path:
    """A file as version 1 wrote it: an evaluation and the decision on it."""
    path = tmp_path / "old.db"
    evaluation = make_evaluation()
    row = rows.evaluation_row(evaluation, 1, 1)
    del row["disturbance"]
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        schema.MIGRATIONS[0](old)
        old.execute("PRAGMA user_version = 1")
        for table, values in (
            ("problems", rows.problem_row(evaluation.problem)),
            ("runs", rows.run_row(evaluation)),
            ("evaluations", row),
            ("decisions", rows.decision_row(make_decision(evaluation), 1)),
        ):
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            old.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))
    return path


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
    assert (version_of(first_version), version_of(copy)) == (2, 1)
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
