"""What goes in comes out, once; and who wins."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunekit import records
from tunekit.core.config import Config
from tunekit.core.evaluation import Decision, Evaluation, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError, StoreError, StoreLockedError
from tunekit.store import connection
from tunekit.store.cache import CacheRow, read_cache
from tunekit.store.database import MergeResult, Store

ROOT = Path(__file__).resolve().parents[2]

MakeEvaluation = Callable[..., Evaluation]
MakeDecision = Callable[..., Decision]
MakeProblem = Callable[..., Problem]


def test_an_evaluation_comes_back_exactly(store: Store, make_evaluation: MakeEvaluation) -> None:
    written = [
        make_evaluation(0.1 + 0.2, samples_us=(1 / 3, 1e-30, 1e30)),
        make_evaluation(None, status=Status.WRONG, reason="NaN\nπ", max_error=math.inf),
        make_evaluation(
            None, status=Status.REJECTED, binary=None, verified_by=None, max_error=None
        ),
        make_evaluation(2.5, source=Source.ESTIMATED),
    ]
    assert store.add(written) == 4
    assert store.evaluations() == written
    assert [row.uid for row in store.evaluations()] == [row.uid for row in written]
    assert list(store.evaluations()[0].config) == ["BLOCK_SIZE", "num_warps"]


def test_adding_twice_adds_nothing(store: Store, make_evaluation: MakeEvaluation) -> None:
    one, two = make_evaluation(1.0), make_evaluation(2.0)
    assert store.add([one, one]) == 1
    assert store.add([one, two]) == 1
    assert store.add([]) == 0
    assert store.evaluations() == [one, two]


def test_whole_numbers_are_stored_as_the_floats_they_will_be(
    store: Store, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    store.add([make_evaluation(3, samples_us=(1, 2))])
    (back,) = store.evaluations()
    store.decide(make_decision(back))
    assert store.cache()[0].winner == back.uid


def test_what_could_not_be_read_back_is_refused(
    store: Store, make_evaluation: MakeEvaluation
) -> None:
    with pytest.raises(StoreError, match="time_us: expected a positive number"):
        store.add([make_evaluation(1.0), make_evaluation(math.nan, samples_us=())])
    assert store.evaluations() == []


def test_the_source_of_evaluations_may_fail_without_a_trace(
    store: Store, make_evaluation: MakeEvaluation
) -> None:
    def failing() -> Any:
        yield make_evaluation()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(failing())
    assert store.evaluations() == []


def test_evaluations_and_decisions_are_found_by_what_they_are_of(
    store: Store,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    make_problem: MakeProblem,
) -> None:
    here = make_evaluation()
    larger = make_evaluation(problem=make_problem(8192))
    there = make_evaluation(problem=make_problem(device="rtx4090"), source=Source.ESTIMATED)
    gelu = make_evaluation(problem=make_problem(kernel="gelu"))
    rows = [here, larger, there, gelu]
    store.add(rows)
    for row in rows:
        store.decide(make_decision(row))

    for wanted, expected in [
        ({}, rows),
        ({"problem": here.problem}, [here]),
        ({"kernel": "gelu"}, [gelu]),
        ({"device": "h100"}, [here, larger, gelu]),
        ({"source": Source.ESTIMATED}, [there]),
        ({"kernel": "mish_mish", "device": "h100", "source": Source.MEASURED}, [here, larger]),
        ({"kernel": "'; DROP TABLE runs; --"}, []),
    ]:
        assert store.evaluations(**wanted) == expected
        assert store.decisions(**wanted) == [make_decision(row) for row in expected]
    assert store.problems() == [gelu.problem, here.problem, larger.problem, there.problem]
    assert [row.problem for row in store.cache(kernel="mish_mish", device="h100")] == [
        here.problem,
        larger.problem,
    ]


def test_sizes_are_sorted_as_numbers(
    store: Store,
    path: Path,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    make_problem: MakeProblem,
) -> None:
    for n in (10_000, 9, 100):
        row = make_evaluation(problem=make_problem(n))
        store.add([row])
        store.decide(make_decision(row))
    assert [dict(problem.dims)["n"] for problem in store.problems()] == [9, 100, 10_000]
    assert [dict(row.problem.dims)["n"] for row in read_cache(path)] == [9, 100, 10_000]


def test_the_cache_row_says_everything(
    store: Store, path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    winner, default = make_evaluation(1.5), make_evaluation(3.0, 256)
    store.add([winner, default])
    decision = make_decision(
        winner, default=default.uid, rows=(winner.uid, default.uid), speedup=2.0, copy_us=1.4
    )
    store.decide(decision)
    assert store.decisions() == [decision]
    expected = CacheRow(
        problem=winner.problem,
        config=winner.config,
        time_us=1.5,
        source=Source.MEASURED,
        verified_by=VerifiedBy.DEVICE,
        provenance=winner.provenance,
        speedup=2.0,
        copy_us=1.4,
        default_time_us=3.0,
        default_config=default.config,
        binary=winner.binary,
        reason="beat the default",
        shape=(64, 64),
        winner=winner.uid,
        decided_at="2026-01-31T12:00:00Z",
    )
    assert store.cache() == read_cache(path) == [expected]


def test_the_latest_decision_counts_and_the_last_one_of_a_moment(
    store: Store, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    rows = [make_evaluation(float(time), time) for time in (1, 2, 3, 4)]
    store.add(rows)
    store.decide(make_decision(rows[1], at="12:00:00"))
    store.decide(make_decision(rows[0], at="11:59:59.999"))
    assert store.cache()[0].winner == rows[1].uid
    store.decide(make_decision(rows[2], at="12:00:00"))
    assert store.cache()[0].winner == rows[2].uid
    # Later by half a second, although its text sorts before.
    store.decide(make_decision(rows[3], at="12:00:00.500"))
    assert store.cache()[0].winner == rows[3].uid


def test_measured_outranks_estimated_whatever_the_time_says(
    store: Store, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    measured = make_evaluation(9.0)
    estimated = make_evaluation(1.0, 256, source=Source.ESTIMATED)
    store.add([measured, estimated])
    store.decide(make_decision(estimated, at="10:00:00"))
    assert store.cache()[0].source is Source.ESTIMATED
    store.decide(make_decision(measured, at="11:00:00"))
    store.decide(make_decision(estimated, at="12:00:00"))
    (row,) = store.cache()
    assert (row.source, row.time_us) == (Source.MEASURED, 9.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"winner": "0" * 24}, "its winner 000000000000000000000000 is not in the database"),
        ({"default": "0" * 24}, "its default 000000000000000000000000 is not in the database"),
        ({"rows": ("0" * 24,)}, "a row it rests on, is no measured evaluation of that problem"),
        ({"source": Source.ESTIMATED}, "it is estimated and its winner measured"),
        ({"speedup": -1.0}, "speedup: expected a positive number"),
        ({"created_at": "now"}, "created_at: expected a UTC time"),
    ],
)
def test_a_decision_rests_on_what_is_there(
    store: Store,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    changes: dict[str, Any],
    message: str,
) -> None:
    winner = make_evaluation()
    store.add([winner])
    with pytest.raises(StoreError, match=message):
        store.decide(replace(make_decision(winner), **changes))
    assert store.decisions() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"verified_by": None},
        {"verified_by": VerifiedBy.INTERPRETER},
        {"time_us": None, "status": Status.WRONG},
    ],
)
def test_no_decision_for_what_is_not_verified(
    store: Store,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    changes: dict[str, Any],
) -> None:
    winner = make_evaluation(**changes)
    store.add([winner])
    with pytest.raises(StoreError, match="is not verified"):
        store.decide(make_decision(winner))


def test_no_decision_for_the_winner_of_another_problem(
    store: Store,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    make_problem: MakeProblem,
) -> None:
    winner = make_evaluation()
    store.add([winner])
    with pytest.raises(StoreError, match="belongs to mish_mish@0a1b2c"):
        store.decide(make_decision(winner, problem=make_problem(8192)))


def test_deciding_twice_decides_once(
    store: Store, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    winner = make_evaluation()
    store.add([winner])
    store.decide(make_decision(winner))
    store.decide(make_decision(winner))
    assert store.decisions() == [make_decision(winner)]


def test_merging_adds_what_is_new(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    both, new = make_evaluation(1.0), make_evaluation(2.0)
    store.add([both])
    # The other one is open in WAL mode, its rows still in the log.
    with Store.open(tmp_path / "other.db") as other:
        other.add([both, new])
        other.decide(make_decision(new))
        assert store.merge(other.path) == MergeResult(evaluations=1, decisions=1)
        assert store.merge(other.path) == MergeResult(evaluations=0, decisions=0)
    assert store.evaluations() == [both, new]
    assert store.cache()[0].winner == new.uid


def test_merging_a_published_file_leaves_it_alone(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation
) -> None:
    with Store.open(tmp_path / "other.db") as other:
        other.add([make_evaluation()])
        other.publish(tmp_path / "published.db")
    before = (tmp_path / "published.db").read_bytes()
    assert store.merge(tmp_path / "published.db") == MergeResult(1, 0)
    assert (tmp_path / "published.db").read_bytes() == before


def test_merging_is_all_or_nothing(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    unverified = make_evaluation(verified_by=None)
    decision = make_decision(unverified, rows=())
    with Store.open(tmp_path / "other.db") as other:
        other.add([unverified])
        with closing(sqlite3.connect(other.path)) as raw:
            raw.execute(
                "INSERT INTO decisions (uid, problem_id, source, winner, row_uids, reason, "
                "created_at) VALUES (?, 1, 'measured', ?, '[]', '', ?)",
                [decision.uid, decision.winner, decision.created_at],
            )
            raw.commit()
    with pytest.raises(StoreError, match=r"other\.db: decision on .* is not verified"):
        store.merge(tmp_path / "other.db")
    assert store.evaluations() == []


def test_merging_what_is_not_there_is_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such database"):
        store.merge(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_damaged_row_is_named(path: Path, make_evaluation: MakeEvaluation) -> None:
    with Store.open(path) as store:
        store.add([make_evaluation()])
        uid = make_evaluation().uid
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("DROP TRIGGER evaluations_refuse_update")
            raw.execute("""UPDATE evaluations SET config = '{"BLOCK SIZE": "big"}'""")
            raw.commit()
        with pytest.raises(StoreError, match=f"row {uid} is damaged: config: expected"):
            store.evaluations()


def test_lines_are_imported(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    winner = make_evaluation()
    # A decision may come before what it rests on.
    records.write_lines(tmp_path / "some.jsonl", [make_decision(winner), winner])
    assert store.import_lines(tmp_path / "some.jsonl") == MergeResult(1, 1)
    assert store.import_lines(tmp_path / "some.jsonl") == MergeResult(0, 0)
    assert store.cache()[0].winner == winner.uid


def test_importing_is_all_or_nothing(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    winner = make_evaluation()
    path = tmp_path / "some.jsonl"
    path.write_text(records.to_line(winner) + "\n{}\n")
    with pytest.raises(ImportFormatError, match="line 2"):
        store.import_lines(path)
    records.write_lines(path, [winner, make_decision(winner, rows=("0" * 24,))])
    with pytest.raises(StoreError, match="nothing was added"):
        store.import_lines(path)
    assert store.evaluations() == store.problems() == []


def test_a_read_only_store_refuses_to_add(
    path: Path, store: Store, make_evaluation: MakeEvaluation
) -> None:
    with Store.open(path, readonly=True) as reader, pytest.raises(StoreError, match="write"):
        reader.add([make_evaluation()])


def test_a_reader_sees_what_a_writer_adds(
    path: Path, store: Store, make_evaluation: MakeEvaluation
) -> None:
    with Store.open(path, readonly=True) as reader:
        store.add([make_evaluation()])
        assert reader.evaluations() == [make_evaluation()]


def test_a_published_file_opens_immutable_with_nothing_beside_it(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation, make_decision: MakeDecision
) -> None:
    store.add([make_evaluation()])
    store.decide(make_decision(make_evaluation()))
    folder = tmp_path / "shipped"
    folder.mkdir()
    published = folder / "studies.db"
    published.write_text("an earlier one")
    store.publish(published)
    with closing(sqlite3.connect(published)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert raw.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert read_cache(published, immutable=True) == store.cache() != []
    with Store.open(published, readonly=True, immutable=True) as shipped:
        assert shipped.evaluations() == store.evaluations()
    assert [each.name for each in folder.iterdir()] == ["studies.db"]


def test_publishing_to_where_it_cannot_is_an_error(store: Store, tmp_path: Path) -> None:
    for destination in (store.path, tmp_path / "none" / "studies.db", tmp_path):
        with pytest.raises(StoreError) as caught:
            store.publish(destination)
        assert str(caught.value).startswith(f"{destination}: ")
        assert "\n" not in str(caught.value)


def test_a_writer_that_is_kept_waiting_says_so(
    path: Path, store: Store, make_evaluation: MakeEvaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.05)
    with Store.open(path) as second, closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLockedError, match="another process holds the database"):
            second.add([make_evaluation()])
        assert second.evaluations() == []


ADD_ONE_BY_ONE = """
import sys
from tunekit import records
from tunekit.store.database import Store

with Store.open(sys.argv[1]) as store:
    for evaluation in records.read_lines(sys.argv[2]):
        store.add([evaluation])
"""


def test_several_processes_add_at_once(
    path: Path, make_evaluation: MakeEvaluation, make_problem: MakeProblem
) -> None:
    shares = [
        [
            make_evaluation(1.0 + i, config=Config(BLOCK_SIZE=i), problem=make_problem(n))
            for i in range(100)
        ]
        for n in (1, 2, 1, 3)
    ]
    shares[2] = [replace(row, time_us=row.time_us + 0.5) for row in shares[2] if row.time_us]
    processes = []
    for number, share in enumerate(shares):
        lines = path.with_name(f"{number}.jsonl")
        records.write_lines(lines, share)
        command = [sys.executable, "-c", ADD_ONE_BY_ONE, str(path), str(lines)]
        processes.append(subprocess.Popen(command, cwd=ROOT))
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    with Store.open(path, readonly=True) as store:
        assert {row.uid for row in store.evaluations()} == {
            row.uid for share in shares for row in share
        }
        assert len(store.problems()) == 3
