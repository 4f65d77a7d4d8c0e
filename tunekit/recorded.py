"""What a program launched, as data and as lines of a `.jsonl` file.

`runtime/recording.py` writes the lines, each process its own; reading adds up those of one problem
and trusts nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from tunekit.core.config import Config
from tunekit.core.problem import ITEMSIZES, Problem
from tunekit.errors import ImportFormatError
from tunekit.records import FORMAT, HEADER_KEYS, MAX_AXIS_VALUE, PROBLEM_KEYS, problem_from_dict
from tunekit.store import fields
from tunekit.store.fields import Record
from tunekit.store.lines import numbered_lines, parse_object

_KIND = "calls"
_OWN_KEYS = (
    "reference",
    "shape",
    "served",
    "config",
    "count",
    "bytes_moved",
    "time_us",
    "timed",
    "tunekit",
)
_KEYS = (*HEADER_KEYS, *PROBLEM_KEYS, *_OWN_KEYS)
_REFERENCE = re.compile(r"[^:]+|.+\.py:\w+|\w+(\.\w+)*:\w+")


class Served(StrEnum):
    """What a call was served; the members of `tunekit.runtime.lookup.Served`."""

    EXACT = "exact"
    NEAREST = "nearest"
    ESTIMATED = "estimated"
    DEFAULT = "default"


class Timed(StrEnum):
    """Where the time of a call is from."""

    MEASURED = "measured"  # of the row that serves: measured at this very size
    SCALED = "scaled"  # of the row that serves, by the ratio of the sizes
    BOUND = "bound"  # bytes over DRAM bandwidth: it takes at least that long
    UNKNOWN = "unknown"  # of this GPU model the bandwidth is not known either


@dataclass(frozen=True, slots=True)
class Recorded:
    """One problem that a program launched.

    Attributes:
        reference: how the command line names the kernel.
        shape: of the inputs, at the first call; an element-wise kernel's problem has others too.
        served: where its configuration came from, and `config` that configuration.
        count: launches; those captured in a CUDA graph count once, its replays do not.
        bytes_moved: the fewest bytes of DRAM traffic of a launch.
        time_us: of a launch, µs; `timed` says from where.
        tunekit: the version that recorded it.
    """

    reference: str
    problem: Problem
    shape: tuple[int, ...]
    served: Served
    config: Config
    count: int
    bytes_moved: int
    time_us: float | None
    timed: Timed
    tunekit: str


def to_line(recorded: Recorded) -> str:
    """One line of JSON, without the newline."""
    data = {
        "record": _KIND,
        "format": FORMAT,
        **asdict(recorded.problem),
        "dims": dict(recorded.problem.dims),
        **{name: getattr(recorded, name) for name in _OWN_KEYS},
        "config": dict(recorded.config),
    }
    return json.dumps(data, allow_nan=False, separators=(", ", ": "))


def from_line(line: str) -> Recorded:
    """Read one line, every field checked.

    Raises:
        ImportFormatError: it is no JSON object, or does not follow the format.
    """
    record = parse_object(line)
    if record.get("record") != _KIND:
        raise fields.wrong("record", f"{_KIND}, as of a recording", record.get("record"))
    fields.check_keys(record, _KEYS)
    if isinstance(record["format"], bool) or record["format"] != FORMAT:
        raise fields.wrong("format", f"{FORMAT}, the one this tunekit reads", record["format"])
    problem = problem_from_dict(record)
    if problem.dtype not in ITEMSIZES:
        raise fields.wrong("dtype", f"one of {', '.join(ITEMSIZES)}", problem.dtype)
    return Recorded(
        reference=_reference(record),
        problem=problem,
        shape=fields.shape(record, "shape"),
        served=fields.member(record, "served", Served),
        config=Config(fields.sizes(record, "config", highest=MAX_AXIS_VALUE)),
        count=fields.integer(record, "count", lowest=1),
        bytes_moved=fields.integer(record, "bytes_moved"),
        time_us=fields.maybe_positive(record, "time_us"),
        timed=_timed(record),
        tunekit=fields.text(record, "tunekit"),
    )


def read(path: str | Path) -> list[Recorded]:
    """The problems of a recording, in the order in which they first appear.

    Lines of one problem are added up; of what else they say the last one holds.

    Raises:
        ImportFormatError: the file cannot be read, or a line does not follow the format; the
            message names the file and the line.
    """
    lines: list[Recorded] = []
    for number, line in numbered_lines(Path(path)):
        try:
            lines.append(from_line(line))
        except ImportFormatError as error:
            raise ImportFormatError(
                f"{path} line {number}: {error}; take that line out, or record again"
            ) from None
    return added_up(lines)


def added_up(recorded: Iterable[Recorded]) -> list[Recorded]:
    """One for each problem."""
    found: dict[Problem, Recorded] = {}
    for each in recorded:
        before = found.get(each.problem)
        found[each.problem] = replace(each, count=each.count + (before.count if before else 0))
    return list(found.values())


def _reference(record: Record) -> str:
    # What is tuned is imported by it, so it is nothing but a name or the place of one.
    text = fields.text(record, "reference")
    if not _REFERENCE.fullmatch(text):
        raise fields.wrong("reference", "NAME, package.module:NAME or path/file.py:NAME", text)
    return text


def _timed(record: Record) -> Timed:
    timed = fields.member(record, "timed", Timed)
    if (timed is Timed.UNKNOWN) != (record["time_us"] is None):
        expected = "null" if timed is Timed.UNKNOWN else "a positive number"
        raise fields.wrong("time_us", f"{expected} where timed is {timed}", record["time_us"])
    return timed
