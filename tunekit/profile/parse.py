"""What Nsight Compute wrote, messages and a table with a line a launch: none of it is trusted."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tunekit.errors import ProfileError
from tunekit.printable import one_line
from tunekit.profile.counters import in_base_unit

MAX_BYTES = 16_000_000
"""Of a log: a launch is 20 KB, all counters that an H100 has are 2 MB."""
_MAX_COLUMNS = 50_000
_MAX_LAUNCHES = 100
_MAX_TEXT = 500
"""Characters of a name or a unit that is kept."""

_MESSAGE = "=="
"""How a line begins that belongs to no table."""
_ERROR = re.compile(r"(?:==ERROR==|ERROR\s*:)\s*(.*)")
"""The latter is how the script says it that many hosts have in the place of ncu."""
_FIRST_COLUMN, _GRID, _BLOCK, _KERNEL = "ID", "Grid Size", "Block Size", "Kernel Name"
_SIZES = re.compile(r"\(\s*([0-9]{1,10}),\s*([0-9]{1,10}),\s*([0-9]{1,10})\s*\)")
_PLAIN = re.compile(r"-?[0-9]{1,30}")
_GROUPED = re.compile(r"-?[0-9]{1,3}(?:([.,'’\s])[0-9]{3})(?:\1[0-9]{3}){0,9}")
_DECIMALS = re.compile(r"[0-9]{1,20}(?:[eE][-+]?[0-9]{1,3})?")
_DECIMAL = re.compile(rf"(-?[0-9][0-9.,'’\s]{{0,40}}?)([.,]){_DECIMALS.pattern}")


@dataclass(frozen=True, slots=True)
class Read:
    """The value of a counter, finite, in `unit`."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Profiled:
    """What was read of one launch.

    Attributes:
        kernel: name of the function.
        grid, block: programs, and threads of one, on axes 0, 1, 2.
        counters: by full name; what was not read is absent.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    counters: Mapping[str, Read]


def errors_in(log: str) -> list[str]:
    """The error messages of a log, each one line, without the mark before it."""
    found = []
    for line in log.splitlines():
        if (matched := _ERROR.match(line)) and (said := one_line(matched[1])):
            found.append(said)
    return found


def launches_in(log: str, wanted: Iterable[str]) -> list[Profiled]:
    """The launches that a log tells of, in order, with the counters wanted.

    Args:
        log: messages, and one CSV table: names, units, and a line a launch.
        wanted: full names.

    Raises:
        ProfileError: it is something else, or too large.
    """
    if len(log) > MAX_BYTES:
        raise _odd(f"more than {MAX_BYTES // 1_000_000} MB of it")
    rows = list(_rows(log))
    if not rows:
        return []
    if len(rows) < 2:
        raise _odd("a table of names alone")
    names, units, *launches = rows
    for row in (units, *launches):
        if len(row) != len(names):
            raise _odd(f"a line of {len(row)} fields in a table of {len(names)}")
    missing = [each for each in (_KERNEL, _GRID, _BLOCK) if each not in names]
    if missing:
        raise _odd(f"no column {missing[0]!r}")
    mark = _decimal_mark(
        field for row in launches for name, field in zip(names, row, strict=True) if "__" in name
    )
    columns = [(names.index(name), name) for name in dict.fromkeys(wanted) if name in names]
    return [
        Profiled(
            kernel=one_line(row[names.index(_KERNEL)])[:_MAX_TEXT],
            grid=_sizes(row[names.index(_GRID)]),
            block=_sizes(row[names.index(_BLOCK)]),
            counters={
                name: read
                for column, name in columns
                if (read := _read(row[column], units[column], mark)) is not None
            },
        )
        for row in launches
    ]


def _rows(log: str) -> Iterator[list[str]]:
    """The fields of each line of the table."""
    reader = csv.reader(_table_lines(log), strict=True)
    try:
        for count, row in enumerate(reader):
            if len(row) > _MAX_COLUMNS or count >= _MAX_LAUNCHES + 2:
                raise _odd("a table that is too large")
            yield row
    except csv.Error as error:
        raise _odd(f"{error} in line {reader.line_num} of its table") from None


def _table_lines(log: str) -> Iterator[str]:
    """The lines from that of the names on, those of messages left out."""
    started = False
    for line in log.splitlines():
        if not line.strip() or line.startswith(_MESSAGE):
            continue
        started = started or line.startswith((f'"{_FIRST_COLUMN}",', f"{_FIRST_COLUMN},"))
        if started:
            yield line


def _sizes(text: str) -> tuple[int, int, int]:
    matched = _SIZES.fullmatch(text.strip())
    if matched is None:
        raise _odd(f"{text!a:.60} where three sizes belong")
    return int(matched[1]), int(matched[2]), int(matched[3])


def _read(text: str, unit: str, mark: str) -> Read | None:
    """A field's value; None where it says that there is none, as `n/a` or `nan` does."""
    number = _number(text.strip(), mark)
    if number is None or not math.isfinite(number):
        return None
    value, base = in_base_unit(number, one_line(unit)[:_MAX_TEXT])
    return Read(value, base)


def _decimal_mark(texts: Iterable[str]) -> str:
    """`.` or `,`: which of them the numbers of a table have before their decimals.

    Numbers are written as the host's language writes them. Groups of three digits alone do not
    tell: 1,234 is one thing in English and another in German, and both are in one table.

    Raises:
        ProfileError: both are.
    """
    found: set[str] = set()
    for text in texts:
        text = text.strip()
        if _PLAIN.fullmatch(text):
            continue
        if grouped := _GROUPED.fullmatch(text):
            if text.count(grouped[1]) > 1 and grouped[1] in ".,":
                found.add("," if grouped[1] == "." else ".")
        elif (matched := _DECIMAL.fullmatch(text)) and matched[2] not in matched[1]:
            found.add(matched[2])
    if len(found) > 1:
        raise _odd("numbers with decimal points and numbers with decimal commas")
    return found.pop() if found else "."


def _number(text: str, mark: str) -> float | None:
    """A number with that decimal mark, groups of three digits or none; None if it is no number."""
    whole, marked, decimals = text.partition(mark)
    if not _PLAIN.fullmatch(whole):
        grouped = _GROUPED.fullmatch(whole)
        if grouped is None:
            return None
        whole = whole.replace(grouped[1], "")
    if marked and not _DECIMALS.fullmatch(decimals):
        return None
    return float(f"{whole}{'.' if marked else ''}{decimals}")


def _odd(what: str) -> ProfileError:
    return ProfileError(f"Nsight Compute wrote what cannot be read: {what}")
