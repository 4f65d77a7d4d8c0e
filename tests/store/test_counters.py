"""Hardware counters of evaluations, as rows of a database and as lines of a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunekit import records
from tunekit.core.counter import Counter
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.errors import ImportFormatError, StoreError
from tunekit.store.database import MergeResult, Store
from tunekit.store.prune import prune

MakeEvaluation = Callable[..., Evaluation]
MakeCounter = Callable[..., Counter]


def test_what_was_read_of_an_evaluation_comes_back(
    store: Store, make_evaluation: MakeEvaluation
) -> None:
    evaluation = make_evaluation()
    store.add([evaluation])
    values = {
        "dram__bytes.sum": (12_345_678, "byte"),
        "occupancy": (0.1 + 0.2, ""),
        "x": (-0.0, ""),
    }
    assert store.add_counters(evaluation.uid, values, "Nsight Compute 2025.3.1") == 3
    found = store.counters(evaluation.uid)
    assert list(found) == sorted(values)
    for name, (value, unit) in values.items():
        counter = found[name]
        assert (counter.value, counter.unit) == (value, unit)
        assert isinstance(counter.value, float)
        assert counter.tool == "Nsight Compute 2025.3.1"
        assert counter.evaluation == evaluation.uid
    assert store.counters("0" * 24) == {}


def test_the_latest_of_each_name_counts(
    store: Store, make_evaluation: MakeEvaluation, make_counter: MakeCounter
) -> None:
    one = make_evaluation()
    store.add([one])
    later = make_counter(one, 2.0, at="13:00:00")
    earlier = make_counter(one, 1.0, created_at="2026-01-31T12:59:59.999999+00:00")
    other = make_counter(one, 3.0, at="01:00:00", name="l2 hit rate")
    assert store.add_counter_rows([later, earlier, other]) == 3
    assert store.add_counter_rows([later, earlier]) == 0
    assert store.counters(one.uid) == {"l2 hit rate": other, later.name: later}
    assert store.all_counters() == [later, earlier, other]


def test_counters_of_no_evaluation_are_refused(
    store: Store, make_evaluation: MakeEvaluation
) -> None:
    with pytest.raises(StoreError, match="is no evaluation of the database"):
        store.add_counters(make_evaluation().uid, {"a": (1.0, "")}, "a tool")
    assert store.all_counters() == []


@pytest.mark.parametrize(
    ("name", "value", "unit", "tool", "message"),
    [
        ("a", math.nan, "", "tool", "value: expected a number"),
        ("a", math.inf, "", "tool", "value: expected a number"),
        ("", 1.0, "", "tool", "name: expected a text that is not empty"),
        ("a", 1.0, "\x1b[2J", "tool", "unit: expected printable text"),
        ("a", 1.0, "", "", "tool: expected a text that is not empty"),
    ],
)
def test_what_could_not_be_read_back_is_refused(
    store: Store,
    make_evaluation: MakeEvaluation,
    name: str,
    value: float,
    unit: str,
    tool: str,
    message: str,
) -> None:
    store.add([make_evaluation()])
    with pytest.raises(StoreError, match=message):
        store.add_counters(make_evaluation().uid, {"b": (1.0, ""), name: (value, unit)}, tool)
    assert store.all_counters() == []


def test_counters_travel_with_their_evaluation(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation, make_counter: MakeCounter
) -> None:
    evaluation = make_evaluation()
    counter = make_counter(evaluation)
    path = tmp_path / "some.jsonl"
    records.write_lines(path, [counter, evaluation])
    assert store.import_lines(path) == MergeResult(1, 0, 0, 1)
    assert store.import_lines(path) == MergeResult(0, 0)
    with Store.open(tmp_path / "other.db") as other:
        assert other.merge(store.path) == MergeResult(1, 0, 0, 1)
        assert other.merge(store.path) == MergeResult(0, 0)
        assert other.counters(evaluation.uid) == {counter.name: counter}


def test_a_counter_without_its_evaluation_adds_nothing_of_a_file(
    store: Store, tmp_path: Path, make_evaluation: MakeEvaluation, make_counter: MakeCounter
) -> None:
    path = tmp_path / "some.jsonl"
    records.write_lines(path, [make_evaluation(), make_counter(make_evaluation(2.0))])
    with pytest.raises(StoreError, match=r"some\.jsonl: counter .* nothing was added"):
        store.import_lines(path)
    assert store.evaluations() == []


def test_counters_go_with_the_evaluation_that_is_dropped(
    store: Store,
    path: Path,
    make_evaluation: MakeEvaluation,
    make_decision: Callable[..., Decision],
    make_counter: MakeCounter,
) -> None:
    kept, dropped = make_evaluation(), make_evaluation(2.0, 64)
    store.add([kept, dropped])
    store.decide(make_decision(kept))
    store.add_counter_rows([make_counter(kept), make_counter(dropped)])
    pruned = prune(path)
    assert (pruned.dropped["counters"], pruned.kept["counters"]) == (1, 1)
    assert store.all_counters() == [make_counter(kept)]


@pytest.mark.parametrize(
    "changes",
    [{"value": "1"}, {"value": True}, {"evaluation": "x"}, {"uid": "0" * 24}, {"more": 1}],
)
def test_a_wrong_line_is_refused(
    make_evaluation: MakeEvaluation, make_counter: MakeCounter, changes: dict[str, Any]
) -> None:
    record = records.counter_to_dict(make_counter(make_evaluation())) | changes
    with pytest.raises(ImportFormatError, match=next(iter(changes))):
        records.counter_from_dict(record)
