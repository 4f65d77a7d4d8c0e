"""Search spaces: axes, a default and constraints, read from TOML.

    description = "one line"                        # optional

    [axes]                                          # tried values, positive integers
    BLOCK_SIZE = { from = 128, to = 16384 }         # every power of two from one to the other
    VEC = [1, 2, 4]

    [default]                                       # one value for every axis
    BLOCK_SIZE = 1024
    VEC = "16 // itemsize"                          # an expression over the context

    [constraints]                                   # optional; all must hold
    load_fits_16_bytes = "VEC * itemsize <= 16"     # an expression over axes and context

The context is what is known before the search: the problem's dims, `itemsize` and the device's
facts. See `tunekit.core.expression` for what an expression may say.
"""

from __future__ import annotations

import difflib
import itertools
import keyword
import math
import os
import reprlib
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.expression import FUNCTIONS, VALUE_LIMIT, Expression, ExpressionError
from tunekit.errors import SpaceError
from tunekit.printable import one_line

MAX_FILE_BYTES = 64 * 1024
"""Most bytes a space file may have."""

MAX_POINTS = 1_000_000
"""Most points, valid or not, that `Space.configs` goes through."""

MAX_WORK = 500_000_000
"""Most characters of constraints that it computes: those of all of them, at each point."""

_PACKAGE = Path(__file__).resolve().parents[1]
_TABLES = ("axes", "default", "constraints", "description")
_MAX_DOTS = 100
_AXIS_FORMAT = "a list of positive integers or {from = .., to = ..}"


@dataclass(frozen=True, slots=True)
class Axis:
    """One launch parameter and the values tried: positive, ascending, each once.

    Raises:
        SpaceError: the values are anything else.
    """

    name: str
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        ascending = all(low < high for low, high in itertools.pairwise(self.values))
        if not (self.values and self.values[0] > 0 and ascending):
            raise SpaceError(
                f"axis {self.name}: expected positive integers, ascending, "
                f"got {_shown(list(self.values))}"
            )


@dataclass(frozen=True, slots=True)
class Constraint:
    """A named condition that a configuration must meet: the expression is not 0."""

    name: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Space:
    """The configurations a kernel can be launched with.

    Attributes:
        name: what it is loaded by, such as `pointwise`.
        axes: in the order that every configuration has.
        defaults: for each axis, an expression over the context.
        constraints: in the order they are tested.
        origin: the file, for messages.
        description: one line for people, or empty.

    Raises:
        SpaceError: two axes share a name, or the defaults are not those of the axes.
    """

    name: str
    axes: tuple[Axis, ...]
    defaults: Mapping[str, Expression] = field(hash=False)
    constraints: tuple[Constraint, ...]
    origin: str
    description: str = ""

    def __post_init__(self) -> None:
        names = self.axis_names
        if not names or len(set(names)) < len(names):
            raise _error(self.origin, "axes", f"expected distinct axes, got {_listed(names)}")
        if self.defaults.keys() != set(names):
            raise _error(
                self.origin,
                "default",
                f"expected a value for each of {_listed(names)}, got {_listed(self.defaults)}",
            )

    @classmethod
    def load(cls, name_or_path: str | Path) -> Space:
        """Read a shipped space by its name, or any file: `pointwise`, `my/space.toml`.

        Raises:
            SpaceError: there is no such space, or the file cannot be read or is wrong.
        """
        text = str(name_or_path)
        if text.endswith(".toml") or "/" in text or os.sep in text:
            path, origin = Path(text), text
        else:
            path, origin = _shipped_path(text), f"spaces/{text}.toml"
        return cls.parse(_read(path, origin), origin, path.stem)

    @classmethod
    def parse(cls, text: str, origin: str, name: str) -> Space:
        """Read a space from the text of a file; `origin` names that file in messages.

        Raises:
            SpaceError: the text is not TOML, or says anything a space file may not.
        """
        return cls.of(_document(text, origin), origin, name)

    @classmethod
    def of(cls, document: Mapping[str, object], origin: str, name: str) -> Space:
        """A space of what such a file says, as nested mappings.

        Raises:
            SpaceError: it says anything a space file may not.
        """
        tables = _tables(document, origin)
        axes = _axes(tables["axes"], origin)
        return cls(
            name=name,
            axes=axes,
            defaults=_defaults(tables["default"], axes, origin),
            constraints=_constraints(tables["constraints"], origin),
            origin=origin,
            description=_description(tables["description"], origin),
        )

    @property
    def size(self) -> int:
        """Number of points, those that violate a constraint included."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes, in order."""
        return tuple(axis.name for axis in self.axes)

    def default(self, context: Mapping[str, int]) -> Config:
        """The configuration to launch when nothing is tuned.

        Args:
            context: dims, itemsize and device facts, see `context`.

        Raises:
            SpaceError: an expression has no value, its value is none of the axis, or the whole
                violates a constraint.
        """
        self._check_context(context)
        config = Config({axis.name: self._default_value(axis, context) for axis in self.axes})
        names = {**context, **config}
        for constraint in self.constraints:
            if not self._holds(constraint, names):
                raise _error(
                    self.origin,
                    "default",
                    f"{config} violates {constraint.name} ({constraint.expression})"
                    f"{_where(constraint.expression.names, names)}",
                )
        return config

    def violated(self, config: Config, context: Mapping[str, int]) -> str | None:
        """The name of the first constraint that `config` violates, or None.

        Args:
            config: a value for every axis of this space, not necessarily one that is tried.
            context: dims, itemsize and device facts, see `context`.

        Raises:
            SpaceError: `config` has other axes, or a constraint has no value.
        """
        self._check_context(context)
        if config.keys() != set(self.axis_names):
            raise _error(
                self.origin,
                "axes",
                f"a configuration has {_listed(self.axis_names)}, got one with {_listed(config)}",
            )
        return self._first_violated({**context, **config})

    def configs(self, context: Mapping[str, int]) -> list[Config]:
        """Every configuration that meets the constraints, the last axis varying fastest.

        Args:
            context: dims, itemsize and device facts, see `context`.

        Raises:
            SpaceError: a constraint has no value, none is met by any configuration, or the space
                has more than `MAX_POINTS` points.
        """
        self._check_context(context)
        if self.size > MAX_POINTS:
            raise _error(self.origin, "axes", f"they span more than {MAX_POINTS:,} points")
        length = sum(len(constraint.expression.text) for constraint in self.constraints)
        if self.size * length > MAX_WORK:
            raise _error(
                self.origin,
                "constraints",
                f"{length} characters at each of {self.size} points take too long; leave values "
                "of an axis out",
            )
        axis_names = self.axis_names
        names = dict(context)
        rejected: Counter[str] = Counter()
        configs = []
        for values in itertools.product(*(axis.values for axis in self.axes)):
            point = dict(zip(axis_names, values, strict=True))
            names.update(point)
            violated = self._first_violated(names)
            if violated is None:
                configs.append(Config(point))
            else:
                rejected[violated] += 1
        if not configs:
            raise self._nothing_left(rejected, context)
        return configs

    def _first_violated(self, names: Mapping[str, int]) -> str | None:
        for constraint in self.constraints:
            if not self._holds(constraint, names):
                return constraint.name
        return None

    def _holds(self, constraint: Constraint, names: Mapping[str, int]) -> bool:
        return bool(self._evaluate(f"constraints.{constraint.name}", constraint.expression, names))

    def _default_value(self, axis: Axis, context: Mapping[str, int]) -> int:
        key, expression = f"default.{axis.name}", self.defaults[axis.name]
        value = self._evaluate(key, expression, context)
        if value not in axis.values:
            where = f" ({expression})" if expression.names else ""
            raise _error(
                self.origin,
                key,
                f"{value}{where} is not a value of the axis: {_listed(axis.values)}",
            )
        return value

    def _evaluate(self, key: str, expression: Expression, names: Mapping[str, int]) -> int:
        # `names` may bind more than is needed, but an unknown name must not hide behind an `or`.
        unknown = expression.names - names.keys()
        if unknown:
            raise _error(self.origin, key, _unknown(min(unknown), "name", names))
        try:
            return expression.evaluate(names)
        except ExpressionError as error:
            where = _where(expression.names, names)
            raise _error(self.origin, key, f"{error}{where}") from None

    def _check_context(self, context: Mapping[str, int]) -> None:
        for name in self.axis_names:
            if name in context:
                raise _error(
                    self.origin,
                    f"axes.{name}",
                    "a dim or a device fact has this name; rename the axis or the dim",
                )

    def _nothing_left(self, rejected: Counter[str], context: Mapping[str, int]) -> SpaceError:
        counts = ", ".join(f"{name} rejected {count}" for name, count in rejected.most_common())
        used = {name for c in self.constraints if c.name in rejected for name in c.expression.names}
        return _error(
            self.origin,
            "",
            f"constraints leave no configuration of {self.size}: {counts}"
            f"{_where(used & context.keys(), context)}",
        )


def context(dims: Mapping[str, int], itemsize: int, device: Device) -> dict[str, int]:
    """The names, other than axes, that the expressions of a space may use.

    Args:
        dims: the sizes the launch depends on, in elements.
        itemsize: bytes of one element.
        device: whose facts are added.

    Raises:
        SpaceError: a dim has the name of a device fact, or is called `itemsize`.
    """
    known = {"itemsize": itemsize, **device.facts()}
    for name in dims:
        if name in known:
            raise SpaceError(
                f"dim {name}: the name is taken in search spaces ({_listed(known)}); rename the dim"
            )
    return {**dims, **known}


def shipped_spaces() -> dict[str, Path]:
    """The files of the spaces that come with tunekit, by name."""
    installed = _PACKAGE / "spaces"
    # In a checkout the folder lies beside the package; the wheel puts it inside.
    folder = installed if installed.is_dir() else _PACKAGE.parent / "spaces"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _shipped_path(name: str) -> Path:
    shipped = shipped_spaces()
    if name not in shipped:
        raise SpaceError(
            f"{_unknown(name, 'search space', shipped)}; a file is named by its path, "
            "such as ./space.toml"
        )
    return shipped[name]


def _read(path: Path, origin: str) -> str:
    """The text of a file, of which no more than the limit is read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _error(origin, "", f"cannot be read: {reason}") from None
    if len(content) > MAX_FILE_BYTES:
        raise _error(origin, "", f"expected at most {MAX_FILE_BYTES} bytes, the file has more")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _error(origin, "", f"expected UTF-8 text, byte {error.start} is none") from None


def _tables(document: Mapping[str, object], origin: str) -> dict[str, object]:
    """The top-level values of a space file, the optional ones filled in."""
    for key in document:
        if key not in _TABLES:
            raise _error(origin, _key(key), _unknown(key, "key", _TABLES))
    for key in ("axes", "default"):
        if key not in document:
            raise _error(origin, key, "the table is missing")
    return {"constraints": {}, "description": "", **document}


def _document(text: str, origin: str) -> dict[str, object]:
    """What the TOML says, read in bounded time."""
    if len(text) > MAX_FILE_BYTES:
        raise _error(origin, "", f"expected at most {MAX_FILE_BYTES} characters, got more")
    for number, line in enumerate(text.split("\n"), start=1):
        # tomllib takes time quadratic in the parts of a dotted key: minutes for a full file.
        if line.count(".") > _MAX_DOTS and not line.lstrip().startswith("#"):
            raise _error(origin, f"line {number}", f"expected at most {_MAX_DOTS} dots, got more")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _error(origin, "", f"not valid TOML: {error}") from None
    except ValueError:
        # Python itself refuses integers of thousands of digits.
        raise _error(origin, "", "not valid TOML: a number is too long") from None
    except RecursionError:
        raise _error(origin, "", "not valid TOML: nested too deeply") from None


def _description(value: object, origin: str) -> str:
    if not isinstance(value, str):
        raise _error(origin, "description", f"expected a string, got {_shown(value)}")
    return value


def _table(value: object, key: str, origin: str) -> dict[str, object]:
    """A table whose keys can stand as names in an expression."""
    if not isinstance(value, dict):
        raise _error(origin, key, f"expected a table, got {_shown(value)}")
    for name in value:
        if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise _error(origin, f"{key}.{_key(name)}", "expected a name as in Python")
    return value


def _axes(value: object, origin: str) -> tuple[Axis, ...]:
    table = _table(value, "axes", origin)
    if not table:
        raise _error(origin, "axes", "expected at least one axis")
    return tuple(_axis(name, values, origin) for name, values in table.items())


def _axis(name: str, value: object, origin: str) -> Axis:
    key = f"axes.{name}"
    if name in FUNCTIONS:
        raise _error(origin, key, "this is a function of expressions; rename the axis")
    if isinstance(value, dict):
        return Axis(name, _powers_of_two(value, key, origin))
    if not isinstance(value, list) or not value or not all(map(_is_positive_integer, value)):
        raise _error(origin, key, f"expected {_AXIS_FORMAT}, got {_shown(value)}")
    values = tuple(sorted(set(value)))
    if len(values) < len(value):
        repeated = next(entry for entry, count in Counter(value).items() if count > 1)
        raise _error(origin, key, f"expected each value once, got {repeated} more than once")
    return Axis(name, values)


def _powers_of_two(table: dict[str, object], key: str, origin: str) -> tuple[int, ...]:
    """The powers of two that `{from = .., to = ..}` stands for."""
    if table.keys() != {"from", "to"}:
        raise _error(origin, key, f"expected {_AXIS_FORMAT}, got {_shown(table)}")
    first = _power_of_two(table["from"], f"{key}.from", origin)
    last = _power_of_two(table["to"], f"{key}.to", origin)
    if first > last:
        raise _error(origin, key, f"expected from <= to, got from {first} to {last}")
    return tuple(1 << bit for bit in range(first.bit_length() - 1, last.bit_length()))


def _power_of_two(value: object, key: str, origin: str) -> int:
    if isinstance(value, int) and _is_positive_integer(value) and value.bit_count() == 1:
        return value
    raise _error(origin, key, f"expected a power of two, got {_shown(value)}")


def _is_positive_integer(value: object) -> bool:
    # A bool is an int in Python and not in a space file.
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < VALUE_LIMIT


def _defaults(value: object, axes: tuple[Axis, ...], origin: str) -> dict[str, Expression]:
    table = _table(value, "default", origin)
    names = [axis.name for axis in axes]
    for name in table:
        if name not in names:
            raise _error(origin, f"default.{_key(name)}", _unknown(name, "axis", names))
    for name in names:
        if name not in table:
            raise _error(origin, f"default.{name}", "missing; every axis needs a default")
    return {name: _default(table[name], f"default.{name}", origin) for name in names}


def _default(value: object, key: str, origin: str) -> Expression:
    if _is_positive_integer(value):
        return Expression.parse(str(value))
    return _expression(value, key, origin, "a positive integer or an expression in a string")


def _constraints(value: object, origin: str) -> tuple[Constraint, ...]:
    return tuple(
        Constraint(
            name, _expression(text, f"constraints.{name}", origin, "an expression in a string")
        )
        for name, text in _table(value, "constraints", origin).items()
    )


def _expression(value: object, key: str, origin: str, expected: str) -> Expression:
    if not isinstance(value, str):
        raise _error(origin, key, f"expected {expected}, got {_shown(value)}")
    try:
        return Expression.parse(value)
    except ExpressionError as error:
        raise _error(origin, key, str(error)) from None


def _error(origin: str, key: str, what: str) -> SpaceError:
    """`origin: key: what`, on one line whatever the file held."""
    return SpaceError(one_line(": ".join(part for part in (origin, key, what) if part)))


def _unknown(name: str, kind: str, known: Iterable[str]) -> str:
    """No such name, the nearest one, and all there are."""
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return f"there is no {kind} {_key(name)}{hint}, expected one of: {_listed(known) or 'none'}"


def _where(names: Iterable[str], values: Mapping[str, int]) -> str:
    """The end of a message that says what the names stood for."""
    pairs = _listed(f"{name}={values[name]}" for name in sorted(names))
    return f", where {pairs}" if pairs else ""


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))


class _Short(reprlib.Repr):
    """A `repr` of bounded length and depth, of any value that TOML can hold."""

    def repr_int(self, x: int, level: int) -> str:
        # `str` of an integer of thousands of digits raises.
        return repr(x) if abs(x) < VALUE_LIMIT else "an integer beyond 63 bits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 60


def _shown(value: object) -> str:
    return _SHORT.repr(value)


def _key(name: str) -> str:
    """A key as it is, unless it is long or would be misread."""
    return name if name.isidentifier() and len(name) <= 60 else _shown(name)
