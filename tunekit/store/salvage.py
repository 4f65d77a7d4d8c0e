"""What can be saved of a damaged database: every row that can still be read, and checked.

A row is saved if it is what was written: its problem's and its run's columns add up to their keys,
its own to its uid and its digest. The damaged file is only read, and SQLite has no part in that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tunekit import records
from tunekit.core.candidate import Candidate
from tunekit.core.counter import Counter
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError, StoreError
from tunekit.store import rows
from tunekit.store.candidates import to_candidate
from tunekit.store.counters import to_counter
from tunekit.store.database import Store
from tunekit.store.digest import CANDIDATE_COLUMNS, DECISION_COLUMNS, EVALUATION_COLUMNS
from tunekit.store.pages import Row, Value, rows_of

T = TypeVar("T")

_PROBLEM = ("id", "key", *records.PROBLEM_KEYS)
_RUN = ("id", "key", *records.PROVENANCE_KEYS)
_EVALUATION = ("id", "uid", "problem_id", "run_id", *EVALUATION_COLUMNS[1:], "digest")
_DECISION = ("id", "uid", "problem_id", *DECISION_COLUMNS[1:], "digest")
_CANDIDATE = ("id", "uid", "problem_id", *CANDIDATE_COLUMNS[1:], "digest")
_COUNTER = ("id", "uid", "evaluation_uid", "name", "value", "unit", "tool", "created_at")
_FEWEST_EVALUATION, _FEWEST_DECISION = len(_EVALUATION) - 2, len(_DECISION) - 1
"""Columns of an earlier version's rows: those added since are at the end."""


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was found in a file.

    Attributes:
        evaluations, decisions: sound ones, in the order they were added; a decision only if all
            that it rests on is sound.
        refused: rows of any kind that were found and are not what was written, or rest on
            what is not there.
        candidates, counters: sound ones; a counter only if its evaluation is.
    """

    evaluations: tuple[Evaluation, ...]
    decisions: tuple[Decision, ...]
    refused: int
    candidates: tuple[Candidate, ...] = ()
    counters: tuple[Counter, ...] = ()

    def __str__(self) -> str:
        text = f"{len(self.evaluations)} evaluations and {len(self.decisions)} decisions"
        for name, found in (("candidates", self.candidates), ("counters", self.counters)):
            text += f", {len(found)} {name}" if found else ""
        return f"{text}, not {self.refused} rows that are damaged" if self.refused else text


def salvage(path: Path) -> Salvage:
    """Read what can be read of a database, whatever state it is in.

    Raises:
        StoreError: the file itself cannot be read.
    """
    data = _read(path)
    log = path.with_name(f"{path.name}-wal")
    found = list(dict.fromkeys(rows_of(data, _read(log) if log.is_file() else b"")))
    problems = {row.rowid: problem for row, problem in _sound(found, _PROBLEM, _to_problem)}
    runs = {row.rowid: run for row, run in _sound(found, _RUN, _to_run)}
    evaluations: dict[str, Evaluation] = {}
    refused = set()
    for row in sorted(found, key=lambda row: row.rowid):
        named = _named(row, _EVALUATION, _FEWEST_EVALUATION)
        if named is not None:
            evaluation = _checked(_to_evaluation, named, problems, runs)
            if evaluation is None:
                refused.add(named["uid"])
            else:
                evaluations.setdefault(evaluation.uid, evaluation)
    decisions: dict[str, Decision] = {}
    for row in sorted(found, key=lambda row: row.rowid):
        named = _named(row, _DECISION, _FEWEST_DECISION)
        if named is not None:
            decision = _checked(_to_decision, named, problems, runs)
            if decision is None or not _is_founded(decision, evaluations):
                refused.add(named["uid"])
            else:
                decisions.setdefault(decision.uid, decision)
    candidates: dict[str, Candidate] = {}
    counters: dict[str, Counter] = {}
    for row in sorted(found, key=lambda row: row.rowid):
        named = _named(row, _CANDIDATE, len(_CANDIDATE))
        if named is not None:
            candidate = _checked(_to_candidate, named, problems)
            if candidate is None:
                refused.add(named["uid"])
            else:
                candidates.setdefault(candidate.uid, candidate)
        named = _named_counter(row)
        if named is not None:
            counter = _checked(to_counter, named)
            if counter is None or counter.evaluation not in evaluations:
                refused.add(named["uid"])
            else:
                counters.setdefault(counter.uid, counter)
    lost = refused - evaluations.keys() - decisions.keys() - candidates.keys() - counters.keys()
    return Salvage(
        tuple(evaluations.values()),
        tuple(decisions.values()),
        len(lost),
        tuple(candidates.values()),
        tuple(counters.values()),
    )


def save(found: Salvage, destination: Path) -> None:
    """Write what was salvaged to a new database.

    Raises:
        StoreError: there is such a file already, or it cannot be written.
    """
    if destination.exists():
        raise StoreError(f"{destination}: is there already; name a file that is not")
    try:
        with Store.open(destination) as store:
            store.add(found.evaluations)
            for decision in found.decisions:
                store.decide(decision)
            store.add_candidates(found.candidates)
            store.add_counter_rows(found.counters)
    except BaseException:
        for rest in ("", "-wal", "-shm"):
            destination.with_name(destination.name + rest).unlink(missing_ok=True)
        raise


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot read: {error.strerror}; check its rights") from None


def _named(row: Row, columns: tuple[str, ...], fewest: int) -> dict[str, Value] | None:
    """The row's values by column, if it may be a row of that table."""
    if not fewest <= len(row.values) <= len(columns):
        return None
    named = dict(zip(columns, row.values, strict=False))
    uid, problem = named["uid"], named["problem_id"]
    if named["id"] is not None or not isinstance(uid, str) or not isinstance(problem, int):
        return None
    return {"disturbance": "", "digest": "", **named}


def _named_counter(row: Row) -> dict[str, Value] | None:
    """The same of a counter's row, which has as many columns as a problem's."""
    if len(row.values) != len(_COUNTER):
        return None
    named = dict(zip(_COUNTER, row.values, strict=True))
    texts = named["uid"], named["evaluation_uid"], named["name"]
    if named["id"] is not None or not all(isinstance(text, str) for text in texts):
        return None
    return named if isinstance(named["value"], int | float) else None


def _sound(
    found: Iterable[Row], columns: tuple[str, ...], convert: Callable[[Mapping[str, Value]], T]
) -> Iterator[tuple[Row, T]]:
    for row in found:
        if len(row.values) == len(columns) and row.values[0] is None:
            value = _checked(convert, dict(zip(columns, row.values, strict=True)))
            if value is not None:
                yield row, value


def _checked(convert: Callable[..., T], *arguments: object) -> T | None:
    """What is converted; None where that is refused: the row is not what was written."""
    try:
        return convert(*arguments)
    except (ImportFormatError, KeyError, ValueError, TypeError, RecursionError):
        return None


def _to_problem(row: Mapping[str, Value]) -> Problem:
    problem = rows.to_problem(row)
    if rows.problem_row(problem) != {name: row[name] for name in _PROBLEM[1:]}:
        raise ValueError("not what was written")
    return problem


def _to_run(row: Mapping[str, Value]) -> dict[str, Value]:
    run = records.provenance_from_dict({"kernel_hash": "", **row})
    if run.key != row["key"]:
        raise ValueError("not what was written")
    return {name: row[name] for name in records.PROVENANCE_KEYS}


def _to_evaluation(
    row: Mapping[str, Value],
    problems: Mapping[object, Problem],
    runs: Mapping[object, Mapping[str, Value]],
) -> Evaluation:
    problem = rows.problem_row(problems[row["problem_id"]])
    return rows.to_evaluation({**problem, **runs[row["run_id"]], **_floats(row)})


def _to_decision(
    row: Mapping[str, Value],
    problems: Mapping[object, Problem],
    runs: Mapping[object, Mapping[str, Value]],
) -> Decision:
    return rows.to_decision({**rows.problem_row(problems[row["problem_id"]]), **_floats(row)})


def _to_candidate(row: Mapping[str, Value], problems: Mapping[object, Problem]) -> Candidate:
    return to_candidate({**rows.problem_row(problems[row["problem_id"]]), **row})


def _floats(row: Mapping[str, Value]) -> dict[str, Value]:
    """A whole number in a column of REAL is stored as an integer."""
    real = ("time_us", "max_error", "speedup", "copy_us")
    return {
        name: float(value) if name in real and isinstance(value, int) else value
        for name, value in row.items()
    }


def _is_founded(decision: Decision, evaluations: Mapping[str, Evaluation]) -> bool:
    """Whether all that it rests on is there, and as it has to be."""
    named = {decision.winner, *decision.rows, *filter(None, [decision.default])}
    there = [evaluations[uid] for uid in named if uid in evaluations]
    return (
        len(there) == len(named)
        and evaluations[decision.winner].verified
        and all(
            each.problem == decision.problem and each.source is decision.source for each in there
        )
    )
