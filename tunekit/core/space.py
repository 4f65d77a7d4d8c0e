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

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunekit.core.axis import Axis, Constraint
from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.expression import Expression, ExpressionError
from tunekit.core.space_messages import listed, no_such, space_error, where_of
from tunekit.core.space_tables import (
    axes_of,
    constraints_of,
    defaults_of,
    description_of,
    document_of,
    tables_of,
    text_of,
)
from tunekit.errors import SpaceError

MAX_POINTS = 1_000_000
"""Most points, valid or not, that `Space.configs` goes through."""

MAX_WORK = 500_000_000
"""Most characters of constraints that it computes: those of all of them, at each point."""

_PACKAGE = Path(__file__).resolve().parents[1]


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
            raise space_error(self.origin, "axes", f"expected distinct axes, got {listed(names)}")
        if self.defaults.keys() != set(names):
            raise space_error(
                self.origin,
                "default",
                f"expected a value for each of {listed(names)}, got {listed(self.defaults)}",
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
        return cls.parse(text_of(path, origin), origin, path.stem)

    @classmethod
    def parse(cls, text: str, origin: str, name: str) -> Space:
        """Read a space from the text of a file; `origin` names that file in messages.

        Raises:
            SpaceError: the text is not TOML, or says anything a space file may not.
        """
        return cls.of(document_of(text, origin), origin, name)

    @classmethod
    def of(cls, document: Mapping[str, object], origin: str, name: str) -> Space:
        """A space of what such a file says, as nested mappings.

        Raises:
            SpaceError: it says anything a space file may not.
        """
        tables = tables_of(document, origin)
        axes = axes_of(tables["axes"], origin)
        return cls(
            name=name,
            axes=axes,
            defaults=defaults_of(tables["default"], axes, origin),
            constraints=constraints_of(tables["constraints"], origin),
            origin=origin,
            description=description_of(tables["description"], origin),
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
                raise space_error(
                    self.origin,
                    "default",
                    f"{config} violates {constraint.name} ({constraint.expression})"
                    f"{where_of(constraint.expression.names, names)}",
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
            raise space_error(
                self.origin,
                "axes",
                f"a configuration has {listed(self.axis_names)}, got one with {listed(config)}",
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
            raise space_error(self.origin, "axes", f"they span more than {MAX_POINTS:,} points")
        length = sum(len(constraint.expression.text) for constraint in self.constraints)
        if self.size * length > MAX_WORK:
            raise space_error(
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
            raise space_error(
                self.origin,
                key,
                f"{value}{where} is not a value of the axis: {listed(axis.values)}",
            )
        return value

    def _evaluate(self, key: str, expression: Expression, names: Mapping[str, int]) -> int:
        # `names` may bind more than is needed, but an unknown name must not hide behind an `or`.
        unknown = expression.names - names.keys()
        if unknown:
            raise space_error(self.origin, key, no_such(min(unknown), "name", names))
        try:
            return expression.evaluate(names)
        except ExpressionError as error:
            where = where_of(expression.names, names)
            raise space_error(self.origin, key, f"{error}{where}") from None

    def _check_context(self, context: Mapping[str, int]) -> None:
        for name in self.axis_names:
            if name in context:
                raise space_error(
                    self.origin,
                    f"axes.{name}",
                    "a dim or a device fact has this name; rename the axis or the dim",
                )

    def _nothing_left(self, rejected: Counter[str], context: Mapping[str, int]) -> SpaceError:
        counts = ", ".join(f"{name} rejected {count}" for name, count in rejected.most_common())
        used = {name for c in self.constraints if c.name in rejected for name in c.expression.names}
        return space_error(
            self.origin,
            "",
            f"constraints leave no configuration of {self.size}: {counts}"
            f"{where_of(used & context.keys(), context)}",
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
                f"dim {name}: the name is taken in search spaces ({listed(known)}); rename the dim"
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
            f"{no_such(name, 'search space', shipped)}; a file is named by its path, "
            "such as ./space.toml"
        )
    return shipped[name]
