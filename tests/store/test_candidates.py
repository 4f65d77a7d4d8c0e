"""Configurations to be measured, as rows of a database and as lines of a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tunekit import records
from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError, StoreError
from tunekit.store import schema
from tunekit.store.database import MergeResult, Store
from tunekit.store.health import examine
from tunekit.store.prune import prune

MakeCandidate = Callable[..., Candidate]
MakeProblem = Callable[..., Problem]


def test_a_candidate_comes_back_exactly_and_in_order(
    store: Store, make_candidate: MakeCandidate
) -> None:
    written = [make_candidate(block) for block in (512, 64, 256)]
    assert store.add_candidates(written) == 3
    assert store.candidates() == written
    assert [list(each.config) for each in store.candidates()] == [["BLOCK_SIZE", "num_warps"]] * 3


def test_the_same_configuration_of_a_problem_is_there_once(
    store: Store, make_candidate: MakeCandidate, make_problem: MakeProblem
) -> None:
    one = make_candidate()
    other_order = make_candidate(config=Config(num_warps=8, BLOCK_SIZE=512), origin="b.json")
    assert store.add_candidates([one, one]) == 1
    assert store.add_candidates([other_order]) == 0
    assert store.add_candidates([make_candidate(problem=make_problem(8192))]) == 1
    assert store.candidates(one.problem) == [one]


def test_candidates_are_found_by_what_they_are_of(
    store: Store, make_candidate: MakeCandidate, make_problem: MakeProblem
) -> None:
    here = make_candidate()
    there = make_candidate(problem=make_problem(device="h200"))
    other = make_candidate(problem=make_problem(kernel="gelu"))
    store.add_candidates([here, there, other])
    assert store.candidates(kernel="mish_mish") == [here, there]
    assert store.candidates(device="h100") == [here, other]
    assert store.candidates(there.problem) == [there]
    assert store.problems() == [other.problem, here.problem, there.problem]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"origin": ""}, "origin: expected a text that is not empty"),
        ({"origin": "a\nb"}, "origin: expected printable text"),
        ({"config": Config(BLOCK=-1)}, "config.BLOCK: expected a whole number"),
        ({"created_at": "yesterday"}, "created_at: expected a UTC time"),
    ],
)
def test_what_could_not_be_read_back_is_refused(
    store: Store, make_candidate: MakeCandidate, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        store.add_candidates([make_candidate(64), make_candidate(**changes)])
    assert store.candidates() == []


def test_a_candidate_travels_as_a_line_and_by_merging(
    store: Store, tmp_path: Path, make_candidate: MakeCandidate
) -> None:
    candidate = make_candidate()
    records.write_lines(tmp_path / "some.jsonl", [candidate])
    assert store.import_lines(tmp_path / "some.jsonl") == MergeResult(0, 0, 1, 0)
    assert store.import_lines(tmp_path / "some.jsonl") == MergeResult(0, 0, 0, 0)
    with Store.open(tmp_path / "other.db") as other:
        assert other.merge(store.path) == MergeResult(0, 0, 1, 0)
        assert other.merge(store.path) == MergeResult(0, 0)
        other.publish(tmp_path / "published.db")
    with Store.open(tmp_path / "published.db", readonly=True, immutable=True) as published:
        assert published.candidates() == [candidate]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("config", '{"BLOCK_SIZE":256,"num_warps":8}'),
        ("origin", "somewhere else"),
        ("created_at", "2026-01-30T12:00:00Z"),
        ("digest", "0" * 16),
    ],
)
def test_a_column_that_is_not_what_was_written_is_told(
    store: Store, path: Path, make_candidate: MakeCandidate, column: str, value: str
) -> None:
    store.add_candidates([make_candidate()])
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER candidates_refuse_update")
        raw.execute(f"UPDATE candidates SET {column} = ?", [value])
        raw.execute(schema._refusal("candidates", "UPDATE"))
    with pytest.raises(StoreError, match=r"is damaged: .*doctor --db"):
        store.candidates()
    (finding,) = examine(path).findings
    assert finding.startswith("candidate row ")


def test_pruning_keeps_candidates_and_the_problems_they_are_of(
    store: Store,
    path: Path,
    make_candidate: MakeCandidate,
    make_problem: MakeProblem,
    make_evaluation: Callable[..., Evaluation],
) -> None:
    candidate = make_candidate(problem=make_problem(64))
    store.add([make_evaluation()])
    store.add_candidates([candidate])
    pruned = prune(path)
    assert pruned.dropped["problems"] == 1
    assert pruned.kept["candidates"] == 1
    assert store.candidates() == [candidate]
    assert store.problems() == [candidate.problem]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_hash": ""}, "kernel_hash: expected a text that is not empty"),
        ({"config": {"BLOCK": 1.5}}, "config.BLOCK: expected a whole number"),
        ({"uid": "0" * 24}, "uid: expected"),
        ({"time_us": 1.0}, "unknown key 'time_us'"),
    ],
)
def test_a_wrong_line_is_refused(
    make_candidate: MakeCandidate, changes: dict[str, Any], message: str
) -> None:
    record = records.candidate_to_dict(make_candidate()) | changes
    with pytest.raises(ImportFormatError, match=message):
        records.candidate_from_dict(record)
