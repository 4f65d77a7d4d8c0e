"""Strict readers for the fields of a record that came from outside.

Every reader takes a record and the name of a field, and raises ImportFormatError that names the
field, what was expected and what was found.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from tunekit.errors import ImportFormatError
from tunekit.printable import printable

Record = Mapping[str, object]
E = TypeVar("E", bound=StrEnum)

MAX_TEXT = 1_000
MAX_NAME = 64
MAX_INT = 2**48
MAX_ITEMS = 32
MAX_SAMPLES = 10_000
LEAST, MOST = 1e-30, 1e30
"""What times, in µs, and ratios lie between, so that neither sums nor ratios of them overflow."""

_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_UID = re.compile(r"[0-9a-f]{24}")


def wrong(name: str, expected: str, value: object) -> ImportFormatError:
    """The error for a field that holds something else than `expected`."""
    return ImportFormatError(f"{name}: expected {expected}, got {shown(value)}")


class _Short(reprlib.Repr):
    """A `repr` of bounded length and depth: `repr` itself fails of what is nested deeply."""

    def __init__(self) -> None:
        super().__init__()  # which takes these from Python 3.12 on only
        self.maxlevel = self.maxlist = self.maxdict = 3
        self.maxstring = self.maxother = MAX_NAME

    def repr_int(self, x: int, level: int) -> str:
        # `str` of an integer of thousands of digits raises.
        return repr(x) if abs(x) < 2**64 else "an integer beyond 64 bits"


_SHORT = _Short()


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line, and nothing a terminal would obey."""
    text = _SHORT.repr(value)
    return printable(text if len(text) <= MAX_NAME else text[:MAX_NAME] + "…")


def check_keys(record: Record, required: Iterable[str], optional: Iterable[str] = ()) -> None:
    """Refuse a record that lacks a key or has one too many."""
    required = list(required)
    missing = [key for key in required if key not in record]
    if missing:
        raise ImportFormatError(f"missing {', '.join(missing)}")
    unknown = sorted(set(record) - set(required) - set(optional))
    if unknown:
        raise ImportFormatError(f"unknown key {', '.join(map(shown, unknown[:5]))}")


def text(record: Record, name: str, *, empty: bool = False, longest: int = MAX_TEXT) -> str:
    """One line of printable text."""
    value = record[name]
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise wrong(name, f"printable text of at most {longest} characters", value)
    if not value and not empty:
        raise wrong(name, "a text that is not empty", value)
    return value


def identifier(record: Record, name: str) -> str:
    """A short name of ASCII letters, digits and underscores, such as `float8_e4m3fn`."""
    value = record[name]
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise wrong(name, "a name such as float32, of letters, digits and underscores", value)
    return value


def prose(record: Record, name: str, *, longest: int) -> str:
    """Text that may have several lines."""
    value = record[name]
    if not isinstance(value, str) or len(value) > longest or value != storable(value):
        raise wrong(name, f"text of at most {longest} characters", value)
    return value


def storable(value: str) -> str:
    """The text without what neither SQLite nor UTF-8 can hold: NUL and lone surrogates."""
    return value.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")


def member(record: Record, name: str, kind: type[E]) -> E:
    """A member of an enumeration, by its value."""
    value = record[name]
    for candidate in kind:
        if value == candidate.value:
            return candidate
    raise wrong(name, f"one of {', '.join(kind)}", value)


def integer(
    record: Record, name: str, *, lowest: int = 0, highest: int = MAX_INT, label: str = ""
) -> int:
    """A whole number in [lowest, highest]."""
    value = record[name]
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise wrong(label or name, f"a whole number from {lowest} to {highest}", value)
    return value


def positive(record: Record, name: str, *, label: str = "") -> float:
    """A number above zero, from `LEAST` to `MOST`."""
    number = _finite(record[name])
    if number is None or number <= 0:
        raise wrong(label or name, "a positive number", record[name])
    if not LEAST <= number <= MOST:
        raise wrong(label or name, f"a positive number from {LEAST} to {MOST}", record[name])
    return number


def maybe_positive(record: Record, name: str) -> float | None:
    """A number above zero, from `LEAST` to `MOST`, or null."""
    return None if record[name] is None else positive(record, name)


def number(record: Record, name: str) -> float:
    """Any finite number up to `MOST`, below zero as well."""
    value = _finite(record[name])
    if value is None or abs(value) > MOST:
        raise wrong(name, f"a number from {-MOST} to {MOST}", record[name])
    return value + 0.0  # SQLite knows no negative zero


def error_ratio(record: Record, name: str) -> float | None:
    """A number from zero up to and including `"inf"`, or null."""
    value = record[name]
    if value is None:
        return None
    if value in ("inf", math.inf):
        return math.inf
    number = _finite(value)
    if number is None or number < 0:
        raise wrong(name, 'a number from 0 up, "inf" or null', value)
    return number


def sizes(record: Record, name: str, *, lowest: int = 0, highest: int = MAX_INT) -> dict[str, int]:
    """An object of whole numbers by identifier, in the order given."""
    value = record[name]
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_ITEMS:
        raise wrong(name, f"an object of 1 to {MAX_ITEMS} whole numbers by name", value)
    for key in value:
        if not isinstance(key, str) or not key.isidentifier() or len(key) > MAX_NAME:
            raise wrong(name, f"identifiers of at most {MAX_NAME} characters as names", key)
    return {
        key: integer(value, key, lowest=lowest, highest=highest, label=f"{name}.{key}")
        for key in value
    }


def shape(record: Record, name: str, *, empty: bool = False) -> tuple[int, ...]:
    """A list of sizes of at least 1."""
    items = _list(record, name, MAX_ITEMS)
    if not items and not empty:
        raise wrong(name, "at least one size", items)
    indexed = dict(zip(map(str, range(len(items))), items, strict=True))
    return tuple(integer(indexed, key, lowest=1, label=f"{name}[{key}]") for key in indexed)


def samples(record: Record, name: str, *, most: int) -> tuple[float, ...]:
    """A list of numbers above zero, from `LEAST` to `MOST`."""
    items = _list(record, name, most)
    return tuple(
        positive({name: item}, name, label=f"{name}[{index}]") for index, item in enumerate(items)
    )


def uid(record: Record, name: str, *, empty: bool = False) -> str:
    """The identity of an evaluation or a decision: 24 hex digits."""
    value = record[name]
    if empty and value == "":
        return ""
    if not isinstance(value, str) or not _UID.fullmatch(value):
        raise wrong(name, "a uid of 24 hex digits", value)
    return value


def uids(record: Record, name: str, *, most: int) -> tuple[str, ...]:
    """A list of identities."""
    return tuple(uid({name: item}, name) for item in _list(record, name, most))


def utc_time(record: Record, name: str, *, empty: bool = False) -> str:
    """A moment as `2026-01-31T23:59:59Z` (or `+00:00`), fractions of a second allowed."""
    value = record[name]
    if empty and value == "":
        return ""
    if isinstance(value, str) and _UTC_TIME.fullmatch(value):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return value
    raise wrong(name, "a UTC time such as 2026-01-31T23:59:59Z", value)


def _list(record: Record, name: str, most: int) -> list[object]:
    value = record[name]
    if not isinstance(value, list) or len(value) > most:
        raise wrong(name, f"a list of at most {most} items", value)
    return value


def _finite(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
