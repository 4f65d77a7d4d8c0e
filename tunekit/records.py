"""Evaluations, decisions, candidates and counters as plain data, and as lines of a `.jsonl` file.

The format is described in docs/evaluations-format.md. Writing accepts what tunekit made; reading
trusts nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from tunekit import foreign
from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.counter import Counter
from tunekit.core.evaluation import (
    Binary,
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError
from tunekit.store import fields
from tunekit.store.fields import Record
from tunekit.store.files import write_text
from tunekit.store.lines import numbered_lines, parse_object

FORMAT = 1
MAX_ROWS = 10_000
MAX_REASON = 4_000
MAX_AXIS_VALUE = 2**31 - 1

HEADER_KEYS = ("record", "format")
PROBLEM_KEYS = ("kernel", "kernel_hash", "dims", "dtype", "alignment", "device")
PROVENANCE_KEYS = (
    "gpu_name",
    "sm_count",
    "driver",
    "torch",
    "triton",
    "tunekit",
    "protocol",
    "created_at",
)
BINARY_KEYS = (
    "binary_hash",
    "registers",
    "spill_bytes",
    "shared_bytes",
    "load_bytes",
    "store_bytes",
)
RESULT_KEYS = (
    "shape",
    "config",
    "status",
    "reason",
    "source",
    "verified_by",
    "time_us",
    "samples_us",
    *BINARY_KEYS,
    "max_error",
)
OPTIONAL_KEYS = ("uid", "disturbance")
EVALUATION_KEYS = (*HEADER_KEYS, *PROBLEM_KEYS, *RESULT_KEYS, *PROVENANCE_KEYS)
DECISION_KEYS = (
    *HEADER_KEYS,
    *PROBLEM_KEYS,
    "source",
    "winner",
    "default",
    "rows",
    "reason",
    "speedup",
    "copy_us",
    "created_at",
)

CANDIDATE_KEYS = (*HEADER_KEYS, *PROBLEM_KEYS, "config", "origin", "created_at")
COUNTER_KEYS = (
    *HEADER_KEYS,
    "evaluation",
    "name",
    "value",
    "unit",
    "tool",
    "created_at",
)

Line = Evaluation | Decision | Candidate | Counter
"""What a line of a file may be."""


def evaluation_to_dict(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation as flat, JSON-able data."""
    record: dict[str, object] = {
        "record": "evaluation",
        "format": FORMAT,
        "uid": evaluation.uid,
        **_problem_to_dict(evaluation.problem),
        "shape": list(evaluation.shape),
        "config": dict(evaluation.config),
        "status": evaluation.status.value,
        "reason": _storable_reason(evaluation.reason),
        "source": evaluation.source.value,
        "verified_by": None if evaluation.verified_by is None else evaluation.verified_by.value,
        "time_us": evaluation.time_us,
        "samples_us": list(evaluation.samples_us),
        **_binary_to_dict(evaluation.binary),
        "max_error": _error_to_json(evaluation.max_error),
        **asdict(evaluation.provenance),
    }
    # Left out when empty, so that an earlier tunekit can read what was not disturbed.
    if evaluation.disturbance:
        record["disturbance"] = _storable_reason(evaluation.disturbance)
    return record


def evaluation_from_dict(record: Record) -> Evaluation:
    """Read an evaluation back, every field checked.

    Raises:
        ImportFormatError: a field is missing, unknown, of another type or out of range.
    """
    _check_header(record, "evaluation")
    fields.check_keys(record, EVALUATION_KEYS, optional=OPTIONAL_KEYS)
    evaluation = Evaluation(
        problem=problem_from_dict(record),
        shape=fields.shape(record, "shape", empty=_is_foreign(record)),
        config=Config(fields.sizes(record, "config", highest=MAX_AXIS_VALUE)),
        status=fields.member(record, "status", Status),
        source=fields.member(record, "source", Source),
        provenance=provenance_from_dict(record),
        reason=fields.prose(record, "reason", longest=MAX_REASON),
        verified_by=_verified_by(record),
        time_us=fields.maybe_positive(record, "time_us"),
        samples_us=fields.samples(record, "samples_us", most=fields.MAX_SAMPLES),
        binary=binary_from_dict(record),
        max_error=fields.error_ratio(record, "max_error"),
        disturbance=_disturbance(record),
    )
    _check_consistent(evaluation)
    _check_uid(record, evaluation.uid)
    return evaluation


def decision_to_dict(decision: Decision) -> dict[str, object]:
    """The decision as flat, JSON-able data."""
    return {
        "record": "decision",
        "format": FORMAT,
        "uid": decision.uid,
        **_problem_to_dict(decision.problem),
        "source": decision.source.value,
        "winner": decision.winner,
        "default": decision.default,
        "rows": list(decision.rows),
        "reason": _storable_reason(decision.reason),
        "speedup": decision.speedup,
        "copy_us": decision.copy_us,
        "created_at": decision.created_at,
    }


def decision_from_dict(record: Record) -> Decision:
    """Read a decision back, every field checked.

    Raises:
        ImportFormatError: a field is missing, unknown, of another type or out of range.
    """
    _check_header(record, "decision")
    fields.check_keys(record, DECISION_KEYS, optional=("uid",))
    fields.text(record, "kernel_hash")  # nothing is decided on a kernel that is not known
    decision = Decision(
        problem=problem_from_dict(record),
        source=fields.member(record, "source", Source),
        winner=fields.uid(record, "winner"),
        default=fields.uid(record, "default", empty=True),
        reason=fields.prose(record, "reason", longest=MAX_REASON),
        created_at=fields.utc_time(record, "created_at"),
        rows=fields.uids(record, "rows", most=MAX_ROWS),
        speedup=fields.maybe_positive(record, "speedup"),
        copy_us=fields.maybe_positive(record, "copy_us"),
    )
    _check_uid(record, decision.uid)
    return decision


def candidate_to_dict(candidate: Candidate) -> dict[str, object]:
    """The candidate as flat, JSON-able data."""
    return {
        "record": "candidate",
        "format": FORMAT,
        "uid": candidate.uid,
        **_problem_to_dict(candidate.problem),
        "config": dict(candidate.config),
        "origin": candidate.origin,
        "created_at": candidate.created_at,
    }


def candidate_from_dict(record: Record) -> Candidate:
    """Read a candidate back, every field checked.

    Raises:
        ImportFormatError: a field is missing, unknown, of another type or out of range.
    """
    _check_header(record, "candidate")
    fields.check_keys(record, CANDIDATE_KEYS, optional=("uid",))
    fields.text(record, "kernel_hash")
    candidate = Candidate(
        problem=problem_from_dict(record),
        config=Config(fields.sizes(record, "config", highest=MAX_AXIS_VALUE)),
        origin=fields.text(record, "origin"),
        created_at=fields.utc_time(record, "created_at"),
    )
    _check_uid(record, candidate.uid)
    return candidate


def counter_to_dict(counter: Counter) -> dict[str, object]:
    """The counter as flat, JSON-able data."""
    return {"record": "counter", "format": FORMAT, "uid": counter.uid, **asdict(counter)}


def counter_from_dict(record: Record) -> Counter:
    """Read a counter back, every field checked.

    Raises:
        ImportFormatError: a field is missing, unknown, of another type or out of range.
    """
    _check_header(record, "counter")
    fields.check_keys(record, COUNTER_KEYS, optional=("uid",))
    counter = Counter(
        evaluation=fields.uid(record, "evaluation"),
        name=fields.text(record, "name"),
        value=fields.number(record, "value"),
        unit=fields.text(record, "unit", empty=True),
        tool=fields.text(record, "tool"),
        created_at=fields.utc_time(record, "created_at"),
    )
    _check_uid(record, counter.uid)
    return counter


def problem_from_dict(record: Record) -> Problem:
    """The problem's own fields of a record.

    An empty `kernel_hash` says that the kernel is none of tunekit's. The dtype may be one that
    tunekit does not tune.

    Raises:
        ImportFormatError: a field is of another type or out of range.
    """
    return Problem.of(
        kernel=fields.text(record, "kernel"),
        kernel_hash=fields.text(record, "kernel_hash", empty=True),
        dims=fields.sizes(record, "dims"),
        dtype=fields.identifier(record, "dtype"),
        alignment=fields.text(record, "alignment", empty=True),
        device=fields.text(record, "device"),
    )


def provenance_from_dict(record: Record) -> Provenance:
    """The provenance fields of a record.

    Raises:
        ImportFormatError: a field is of another type or out of range.
    """
    return Provenance(
        gpu_name=fields.text(record, "gpu_name", empty=True),
        sm_count=fields.integer(record, "sm_count"),
        driver=fields.text(record, "driver", empty=True),
        torch=fields.text(record, "torch", empty=True),
        triton=fields.text(record, "triton", empty=True),
        tunekit=fields.text(record, "tunekit", empty=True),
        protocol=fields.text(record, "protocol", empty=True),
        created_at=fields.utc_time(record, "created_at", empty=_is_foreign(record)),
    )


def binary_from_dict(record: Record) -> Binary | None:
    """The compiled kernel's fields of a record: all of them, or none.

    Raises:
        ImportFormatError: some are null, or a field is of another type or out of range.
    """
    given = [name for name in BINARY_KEYS if record[name] is not None]
    if not given:
        return None
    if len(given) < len(BINARY_KEYS):
        absent = [name for name in BINARY_KEYS if name not in given]
        raise ImportFormatError(f"{', '.join(absent)}: null although {given[0]} is given")
    return Binary(
        hash=fields.text(record, "binary_hash", empty=_is_foreign(record)),
        registers=fields.integer(record, "registers"),
        spill_bytes=fields.integer(record, "spill_bytes"),
        shared_bytes=fields.integer(record, "shared_bytes"),
        load_bytes=fields.integer(record, "load_bytes"),
        store_bytes=fields.integer(record, "store_bytes"),
    )


def to_line(record: Line) -> str:
    """The record as one line of JSON, without the newline."""
    match record:
        case Evaluation():
            data = evaluation_to_dict(record)
        case Decision():
            data = decision_to_dict(record)
        case Candidate():
            data = candidate_to_dict(record)
        case Counter():
            data = counter_to_dict(record)
    return json.dumps(data, allow_nan=False, separators=(", ", ": "))


def from_line(line: str) -> Line:
    """Read one line of JSON, in the full form or, without `record`, in the short one.

    Raises:
        ImportFormatError: the line is no JSON object or does not follow the format.
    """
    record = parse_object(line)
    if "record" not in record:
        full = {"record": "evaluation", "format": FORMAT, **foreign.full_record(record)}
        return evaluation_from_dict(full)
    kind = record["record"]
    for name, read in _READERS:
        if kind == name:
            return read(record)
    raise fields.wrong("record", "evaluation, decision, candidate or counter", kind)


_READERS: tuple[tuple[str, Callable[[Record], Line]], ...] = (
    ("evaluation", evaluation_from_dict),
    ("decision", decision_from_dict),
    ("candidate", candidate_from_dict),
    ("counter", counter_from_dict),
)


def read_lines(path: str | Path) -> Iterator[Line]:
    """Read a `.jsonl` file, plain or compressed by gzip; blank lines are skipped.

    Raises:
        ImportFormatError: the file cannot be read, or a line does not follow the format; the
            message starts with the file's name and the line's number.
    """
    for number, line in numbered_lines(Path(path)):
        try:
            record = from_line(line)
        except ImportFormatError as error:
            raise ImportFormatError(f"{path} line {number}: {error}") from None
        yield record


def write_lines(path: str | Path, records: Iterable[Line]) -> None:
    """Write records as a `.jsonl` file, atomically.

    Raises:
        TunekitError: the file cannot be written.
    """
    write_text(path, (to_line(record) + "\n" for record in records))


def _check_header(record: Record, kind: str) -> None:
    fields.check_keys({key: None for key in HEADER_KEYS if key in record}, HEADER_KEYS)
    if record["record"] != kind:
        raise fields.wrong("record", kind, record["record"])
    version = record["format"]
    if isinstance(version, bool) or version != FORMAT:
        raise fields.wrong("format", f"{FORMAT}, the one this tunekit reads", version)


def _check_uid(record: Record, computed: str) -> None:
    if record.get("uid", computed) != computed:
        raise fields.wrong("uid", f"{computed}, which the other fields add up to", record["uid"])


def _check_consistent(evaluation: Evaluation) -> None:
    if evaluation.status is Status.OK and evaluation.time_us is None:
        raise fields.wrong("time_us", "a positive number when the status is ok", None)
    if evaluation.status is not Status.OK and evaluation.time_us is not None:
        raise fields.wrong(
            "time_us", f"null when the status is {evaluation.status}", evaluation.time_us
        )
    if evaluation.source is Source.ESTIMATED and evaluation.samples_us:
        raise fields.wrong(
            "samples_us", "an empty list when the source is estimated", evaluation.samples_us
        )


def _is_foreign(record: Record) -> bool:
    """Whether the kernel is none of tunekit's, so that more may be unknown of it."""
    return record["kernel_hash"] == ""


def _disturbance(record: Record) -> str:
    if "disturbance" not in record:
        return ""
    return fields.prose(record, "disturbance", longest=MAX_REASON)


def _verified_by(record: Record) -> VerifiedBy | None:
    if record["verified_by"] is None:
        return None
    return fields.member(record, "verified_by", VerifiedBy)


def _problem_to_dict(problem: Problem) -> dict[str, object]:
    return {
        "kernel": problem.kernel,
        "kernel_hash": problem.kernel_hash,
        "dims": dict(problem.dims),
        "dtype": problem.dtype,
        "alignment": problem.alignment,
        "device": problem.device,
    }


def _binary_to_dict(binary: Binary | None) -> dict[str, object]:
    if binary is None:
        return dict.fromkeys(BINARY_KEYS)
    values = asdict(binary)
    return {"binary_hash": values.pop("hash"), **values}


def _error_to_json(max_error: float | None) -> float | str | None:
    """JSON has no infinity; a NaN where a number was due is as wrong as can be."""
    if max_error is None or math.isfinite(max_error):
        return max_error
    return "inf"


def _storable_reason(reason: str) -> str:
    return fields.storable(reason)[:MAX_REASON]
