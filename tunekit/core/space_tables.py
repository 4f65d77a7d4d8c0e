"""Reading a search space: a file's text, what its TOML says, and what each table stands for."""

from __future__ import annotations

import keyword
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tunekit.core.axis import Axis, Constraint
from tunekit.core.expression import FUNCTIONS, VALUE_LIMIT, Expression, ExpressionError
from tunekit.core.space_messages import key_shown, no_such, shown, space_error

MAX_FILE_BYTES = 64 * 1024
"""Most bytes a space file may have."""

_TABLES = ("axes", "default", "constraints", "description")
_MAX_DOTS = 100
_AXIS_FORMAT = "a list of positive integers or {from = .., to = ..}"


def text_of(path: Path, origin: str) -> str:
    """The text of a file, of which no more than the limit is read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise space_error(origin, "", f"cannot be read: {reason}") from None
    if len(content) > MAX_FILE_BYTES:
        raise space_error(origin, "", f"expected at most {MAX_FILE_BYTES} bytes, the file has more")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise space_error(origin, "", f"expected UTF-8 text, byte {error.start} is none") from None


def tables_of(document: Mapping[str, object], origin: str) -> dict[str, object]:
    """The top-level values of a space file, the optional ones filled in."""
    for key in document:
        if key not in _TABLES:
            raise space_error(origin, key_shown(key), no_such(key, "key", _TABLES))
    for key in ("axes", "default"):
        if key not in document:
            raise space_error(origin, key, "the table is missing")
    return {"constraints": {}, "description": "", **document}


def document_of(text: str, origin: str) -> dict[str, object]:
    """What the TOML says, read in bounded time."""
    if len(text) > MAX_FILE_BYTES:
        raise space_error(origin, "", f"expected at most {MAX_FILE_BYTES} characters, got more")
    for number, line in enumerate(text.split("\n"), start=1):
        # tomllib takes time quadratic in the parts of a dotted key: minutes for a full file.
        if line.count(".") > _MAX_DOTS and not line.lstrip().startswith("#"):
            raise space_error(
                origin, f"line {number}", f"expected at most {_MAX_DOTS} dots, got more"
            )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise space_error(origin, "", f"not valid TOML: {error}") from None
    except ValueError:
        # Python itself refuses integers of thousands of digits.
        raise space_error(origin, "", "not valid TOML: a number is too long") from None
    except RecursionError:
        raise space_error(origin, "", "not valid TOML: nested too deeply") from None


def description_of(value: object, origin: str) -> str:
    """The one line for people."""
    if not isinstance(value, str):
        raise space_error(origin, "description", f"expected a string, got {shown(value)}")
    return value


def _table(value: object, key: str, origin: str) -> dict[str, object]:
    """A table whose keys can stand as names in an expression."""
    if not isinstance(value, dict):
        raise space_error(origin, key, f"expected a table, got {shown(value)}")
    for name in value:
        if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise space_error(origin, f"{key}.{key_shown(name)}", "expected a name as in Python")
    return value


def axes_of(value: object, origin: str) -> tuple[Axis, ...]:
    """The axes that the table of that name lists, in its order."""
    table = _table(value, "axes", origin)
    if not table:
        raise space_error(origin, "axes", "expected at least one axis")
    return tuple(_axis(name, values, origin) for name, values in table.items())


def _axis(name: str, value: object, origin: str) -> Axis:
    key = f"axes.{name}"
    if name in FUNCTIONS:
        raise space_error(origin, key, "this is a function of expressions; rename the axis")
    if isinstance(value, dict):
        return Axis(name, _powers_of_two(value, key, origin))
    if not isinstance(value, list) or not value or not all(map(_is_positive_integer, value)):
        raise space_error(origin, key, f"expected {_AXIS_FORMAT}, got {shown(value)}")
    values = tuple(sorted(set(value)))
    if len(values) < len(value):
        repeated = next(entry for entry, count in Counter(value).items() if count > 1)
        raise space_error(origin, key, f"expected each value once, got {repeated} more than once")
    return Axis(name, values)


def _powers_of_two(table: dict[str, object], key: str, origin: str) -> tuple[int, ...]:
    """The powers of two that `{from = .., to = ..}` stands for."""
    if table.keys() != {"from", "to"}:
        raise space_error(origin, key, f"expected {_AXIS_FORMAT}, got {shown(table)}")
    first = _power_of_two(table["from"], f"{key}.from", origin)
    last = _power_of_two(table["to"], f"{key}.to", origin)
    if first > last:
        raise space_error(origin, key, f"expected from <= to, got from {first} to {last}")
    return tuple(1 << bit for bit in range(first.bit_length() - 1, last.bit_length()))


def _power_of_two(value: object, key: str, origin: str) -> int:
    if isinstance(value, int) and _is_positive_integer(value) and value.bit_count() == 1:
        return value
    raise space_error(origin, key, f"expected a power of two, got {shown(value)}")


def _is_positive_integer(value: object) -> bool:
    # A bool is an int in Python and not in a space file.
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < VALUE_LIMIT


def defaults_of(value: object, axes: tuple[Axis, ...], origin: str) -> dict[str, Expression]:
    """Of each axis the expression of its default."""
    table = _table(value, "default", origin)
    names = [axis.name for axis in axes]
    for name in table:
        if name not in names:
            raise space_error(origin, f"default.{key_shown(name)}", no_such(name, "axis", names))
    for name in names:
        if name not in table:
            raise space_error(origin, f"default.{name}", "missing; every axis needs a default")
    return {name: _default(table[name], f"default.{name}", origin) for name in names}


def _default(value: object, key: str, origin: str) -> Expression:
    if _is_positive_integer(value):
        return Expression.parse(str(value))
    return _expression(value, key, origin, "a positive integer or an expression in a string")


def constraints_of(value: object, origin: str) -> tuple[Constraint, ...]:
    """The constraints, in the order of their table."""
    return tuple(
        Constraint(
            name, _expression(text, f"constraints.{name}", origin, "an expression in a string")
        )
        for name, text in _table(value, "constraints", origin).items()
    )


def _expression(value: object, key: str, origin: str, expected: str) -> Expression:
    if not isinstance(value, str):
        raise space_error(origin, key, f"expected {expected}, got {shown(value)}")
    try:
        return Expression.parse(value)
    except ExpressionError as error:
        raise space_error(origin, key, str(error)) from None
