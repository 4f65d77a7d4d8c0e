"""Rows of the database to and from problems, evaluations, decisions, candidates and counters.

A row is a record of `tunekit.records` whose lists and objects are JSON text; what is read is
checked as strictly as an imported line, for a database may come from anywhere as well.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from typing import TypeVar

from tunekit import records
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError, StoreError
from tunekit.printable import printable
from tunekit.store import fields
from tunekit.store.digest import decision_digest, evaluation_digest

Row = Mapping[str, object]
T = TypeVar("T")

_EVALUATION_COLUMNS = (*records.EVALUATION_KEYS, *records.OPTIONAL_KEYS)
_DECISION_COLUMNS = (*records.DECISION_KEYS, "uid")
_JSON_COLUMNS = ("dims", "shape", "config", "default_config", "samples_us", "rows")


def problem_row(problem: Problem) -> dict[str, object]:
    """Columns of `problems`."""
    return {
        "key": problem.key,
        "kernel": problem.kernel,
        "kernel_hash": problem.kernel_hash,
        "dims": json_text(dict(problem.dims)),
        "dtype": problem.dtype,
        "alignment": problem.alignment,
        "device": problem.device,
    }


def run_row(evaluation: Evaluation) -> dict[str, object]:
    """Columns of `runs`."""
    record = records.evaluation_to_dict(evaluation)
    columns = {name: record[name] for name in records.PROVENANCE_KEYS}
    return {"key": evaluation.provenance.key, **columns}


def evaluation_row(evaluation: Evaluation, problem_id: int, run_id: int) -> dict[str, object]:
    """Columns of `evaluations`."""
    record = records.evaluation_to_dict(evaluation)
    columns = {name: record[name] for name in records.RESULT_KEYS}
    columns["disturbance"] = record.get("disturbance", "")
    for name in ("shape", "config", "samples_us"):
        columns[name] = json_text(columns[name])
    if columns["max_error"] == "inf":
        columns["max_error"] = math.inf
    row = {"uid": evaluation.uid, "problem_id": problem_id, "run_id": run_id, **columns}
    return {**row, "digest": evaluation_digest(row)}


def decision_row(decision: Decision, problem_id: int) -> dict[str, object]:
    """Columns of `decisions`."""
    record = records.decision_to_dict(decision)
    row = {
        "uid": decision.uid,
        "problem_id": problem_id,
        "source": record["source"],
        "winner": decision.winner,
        "default_uid": decision.default or None,
        "row_uids": json_text(record["rows"]),
        "reason": record["reason"],
        "speedup": decision.speedup,
        "copy_us": decision.copy_us,
        "created_at": decision.created_at,
    }
    return {**row, "digest": decision_digest(row)}


def checked_evaluation(evaluation: Evaluation) -> Evaluation:
    """The evaluation as it will be read back.

    Raises:
        StoreError: it could not be read back.
    """
    try:
        record = records.evaluation_to_dict(evaluation)
        # The uid of what is stored follows from the stored values: 3 becomes 3.0 first.
        del record["uid"]
        return records.evaluation_from_dict(record)
    except ImportFormatError as error:
        raise StoreError(f"an evaluation of {evaluation.problem.key}: {error}") from None


def checked_decision(decision: Decision) -> Decision:
    """The decision as it will be read back.

    Raises:
        StoreError: it could not be read back.
    """
    try:
        return records.decision_from_dict(records.decision_to_dict(decision))
    except ImportFormatError as error:
        raise StoreError(f"a decision on {decision.problem.key}: {error}") from None


def to_evaluation(row: Row) -> Evaluation:
    """An evaluation from a row of `evaluation_rows`; see `read` for the errors."""
    evaluation = records.evaluation_from_dict(as_record("evaluation", row, _EVALUATION_COLUMNS))
    _check_digest(row, evaluation_digest)
    return evaluation


def to_decision(row: Row) -> Decision:
    """A decision from a row of `decision_rows`; see `read` for the errors."""
    renamed = {**row, "default": row["default_uid"] or "", "rows": row["row_uids"]}
    decision = records.decision_from_dict(as_record("decision", renamed, _DECISION_COLUMNS))
    _check_digest(row, decision_digest)
    return decision


def to_problem(row: Row) -> Problem:
    """A problem from a row of `problems`; see `read` for the errors."""
    return records.problem_from_dict(parsed(row))


def read(convert: Callable[[Row], T], row: Row, where: object) -> T:
    """Convert a row.

    Raises:
        StoreError: the row holds what tunekit never writes; the message starts with `where`.
    """
    try:
        return convert(row)
    except (ImportFormatError, ValueError, TypeError, RecursionError) as error:
        name = row.get("uid") or row.get("winner") or row.get("key")
        name = f"{printable(str(name)):.{fields.MAX_NAME}}"
        raise StoreError(
            f"{where}: row {name} is damaged: {printable(str(error))[:200]}; "
            f"`tunekit doctor --db {shlex.quote(str(where))}` says what can be saved"
        ) from None


def parsed(row: Row) -> dict[str, object]:
    """The row with its JSON columns parsed."""
    return {
        name: json.loads(value) if name in _JSON_COLUMNS and isinstance(value, str) else value
        for name, value in row.items()
    }


def sort_key(problem: Problem) -> tuple[object, ...]:
    """An order of problems for people: by kernel and device, then by size."""
    return (
        problem.kernel,
        problem.device,
        problem.dtype,
        problem.alignment,
        problem.dims,
        problem.kernel_hash,
    )


def as_record(kind: str, row: Row, keys: tuple[str, ...]) -> dict[str, object]:
    """The row as the record of that kind, with those keys."""
    full = {**parsed(row), "record": kind, "format": records.FORMAT}
    return {name: full[name] for name in keys}


def _check_digest(row: Row, digest_of: Callable[[Row], str]) -> None:
    """Refuse a row that is not what was written; one salvaged from an old file may have none."""
    if row["digest"] and row["digest"] != digest_of(row):
        raise ImportFormatError("its columns are not those that were written")


def json_text(value: object) -> str:
    """A list or an object as a column holds it."""
    return json.dumps(value, separators=(",", ":"))
