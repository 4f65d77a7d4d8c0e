"""A job that comes from a file, alone or as a line of a run's log: nothing of it is trusted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING
from dataclasses import fields as fields_of
from pathlib import Path

from tunekit.core.config import Config
from tunekit.core.problem import ITEMSIZES
from tunekit.errors import ImportFormatError
from tunekit.evaluate.job import Job
from tunekit.store import fields
from tunekit.store.fields import Record
from tunekit.store.lines import MAX_LINE_BYTES, numbered_lines, parse_object

MAX_DEADLINE_S = 3600

_MAX_AXIS_VALUE = 2**31 - 1
_DEFAULTS = {each.name: each.default for each in fields_of(Job) if each.default is not MISSING}
_REQUIRED = [each.name for each in fields_of(Job) if each.default is MISSING]
_PLACE = re.compile(r"(.+):([0-9]{1,9})", re.DOTALL)
_HINT = "of a file with several name the line, as FILE.jsonl:23"


def read_job(place: str) -> Job:
    """The job in a file that holds one, `FILE`, or in a line of one, `FILE:LINE`.

    It is an object as `Job.to_json` gives, or one that has such an object as its `job`.

    Raises:
        ImportFormatError: the file cannot be read, has no such line, or that is no job; the
            message names the file and the line.
    """
    named = _PLACE.fullmatch(place)
    if named is None or os.path.exists(place):
        where, text = place, _text_of(Path(place))
    else:
        path, number = Path(named[1]), int(named[2])
        where, text = f"{path} line {number}", _line_of(path, number)
    try:
        record = parse_object(text)
    except ImportFormatError as error:
        hint = f"; {_HINT}" if where == place else ""
        raise ImportFormatError(f"{where}: {error}{hint}") from None
    try:
        return job_from_json(_job_in(record))
    except ImportFormatError as error:
        raise ImportFormatError(f"{where}: {error}") from None


def job_from_json(record: Record) -> Job:
    """What `Job.to_json` gave, every field checked; one that has a default may be left out.

    Raises:
        ImportFormatError: a field is missing, unknown, of another type or out of range.
    """
    fields.check_keys(record, _REQUIRED, _DEFAULTS)
    record = _DEFAULTS | dict(record)
    return Job(
        kernel=fields.text(record, "kernel"),
        shape=fields.shape(record, "shape"),
        dtype=_dtype(record),
        scalars=_scalars(record),
        config=Config(fields.sizes(record, "config", highest=_MAX_AXIS_VALUE)),
        target=fields.text(record, "target"),
        seed=fields.integer(record, "seed", highest=2**32 - 1),
        deadline_s=_deadline(record, "deadline_s"),
        compile_deadline_s=_deadline(record, "compile_deadline_s"),
        warm=_flag(record, "warm"),
        hopeless_us=fields.maybe_positive(record, "hopeless_us"),
    )


def _text_of(path: Path) -> str:
    """Of a file that is one object, on one line or on several."""
    lines: list[str] = []
    size = 0
    for number, line in numbered_lines(path):
        size += len(line)
        if size > MAX_LINE_BYTES:
            raise ImportFormatError(f"{path} line {number}: too long for one job; {_HINT}")
        lines.append(line)
    if not lines:
        raise ImportFormatError(f"{path}: the file is empty")
    return "\n".join(lines)


def _line_of(path: Path, number: int) -> str:
    for each, line in numbered_lines(path):
        if each == number:
            return line
        if each > number:
            break
    raise ImportFormatError(f"{path}: there is nothing in line {number}")


def _job_in(record: Record) -> Record:
    """The object itself, or of a log's line the job in it."""
    if "event" not in record and "job" not in record:
        return record
    job = record.get("job")
    if not isinstance(job, Mapping):
        what = f", its event is {record['event']!a:.40}" if "event" in record else ""
        raise ImportFormatError(f"there is no job in it{what}; name a line that has one")
    return job


def _dtype(record: Record) -> str:
    name = fields.text(record, "dtype")
    if name not in ITEMSIZES:
        raise fields.wrong("dtype", f"one of {', '.join(ITEMSIZES)}", name)
    return name


def _scalars(record: Record) -> dict[str, float]:
    value = record["scalars"]
    if not isinstance(value, Mapping) or len(value) > fields.MAX_ITEMS:
        raise fields.wrong("scalars", f"an object of at most {fields.MAX_ITEMS} numbers", value)
    return {name: _number(value, name) for name in value}


def _number(scalars: Record, name: str) -> float:
    value = scalars[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise fields.wrong(f"scalars.{fields.shown(name)}", "a finite number", value)
    return float(value)


def _deadline(record: Record, name: str) -> float:
    seconds = fields.positive(record, name)
    if seconds > MAX_DEADLINE_S:
        raise fields.wrong(name, f"at most {MAX_DEADLINE_S} seconds", record[name])
    return seconds


def _flag(record: Record, name: str) -> bool:
    value = record[name]
    if not isinstance(value, bool):
        raise fields.wrong(name, "true or false", value)
    return value
