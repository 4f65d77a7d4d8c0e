"""The values that an expression of a Python file may have here, and what is done with them.

Numbers, texts, lists, tuples, dicts, `triton.Config`s and the file's own functions. Everything is
bounded: an expression can neither take long nor make anything large.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tunekit.errors import ImportFormatError

MAX_STEPS = 200_000
"""Parts of expressions that are evaluated of one file."""

_MAX_NUMBER = 2**63
_MAX_SHIFT = 63
_MAX_TEXT = 1_000
_MAX_ITEMS = 20_000
_MAX_COMPARED = 100


class NotEvaluatedError(Exception):
    """What cannot be known without running the file.

    Attributes:
        line: where.
        reason: why.
        root: what the name is bound to that this is about, None where it is not a name.
    """

    def __init__(self, node: ast.AST, reason: str) -> None:
        super().__init__(reason)
        self.line = getattr(node, "lineno", 0)
        self.reason = reason
        self.root: Unknown | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Unknown:
    """What a name is bound to that could not be evaluated."""

    reason: str


UNBOUND = Unknown("is not known here")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A `triton.Config`.

    Attributes:
        meta: the kernel's parameters.
        options: Triton's, as far as they are given.
        line: where it is made.
    """

    meta: Mapping[str, object]
    options: Mapping[str, object]
    line: int


@dataclass(slots=True, eq=False)
class Scope:
    """Names and what they are bound to; those of the outer scope where a name is not there."""

    names: dict[str, object] = field(default_factory=dict)
    outer: Scope | None = None

    def find(self, name: str) -> object:
        """What a name is bound to; `UNBOUND` where nothing is known of it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return UNBOUND


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function of the file, and where it was made."""

    node: ast.FunctionDef | ast.Lambda
    scope: Scope


class Budget:
    """Counts steps, so that reading a file ends."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """Take some.

        Raises:
            ImportFormatError: there are none left.
        """
        self._left -= steps
        if self._left < 0:
            raise ImportFormatError(
                f"working out its configurations takes more than {MAX_STEPS} steps; put those to "
                "be measured into a shorter file"
            )


def bounded(value: object, node: ast.AST) -> object:
    """The value, if it is not too large.

    Raises:
        NotEvaluatedError: it is.
    """
    if isinstance(value, int) and abs(value) >= _MAX_NUMBER:
        raise NotEvaluatedError(node, "a number of more than 63 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotEvaluatedError(node, "a number that is not finite")
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise NotEvaluatedError(node, f"a text of more than {_MAX_TEXT} characters")
    if isinstance(value, list | tuple | dict | range) and len(value) > _MAX_ITEMS:
        raise NotEvaluatedError(node, f"more than {_MAX_ITEMS} items")
    return value


def joined(parts: Iterable[object], node: ast.AST) -> list[object]:
    """The items of several lists.

    Raises:
        NotEvaluatedError: there are too many, or one is nothing to go through.
    """
    found: list[object] = []
    for part in parts:
        found += items_of(part, node)
        bounded(found, node)
    return found


def zipped(parts: Sequence[object], node: ast.AST) -> list[object]:
    """`zip`.

    Raises:
        NotEvaluatedError: it is too large, or one is nothing to go through.
    """
    columns = [items_of(part, node) for part in parts]
    if len(columns) * min(map(len, columns), default=0) > _MAX_ITEMS:
        raise NotEvaluatedError(node, f"more than {_MAX_ITEMS} items")
    return list(zip(*columns, strict=False))


def weight(values: Iterable[object]) -> int:
    """Steps that going through some values takes."""
    return sum(
        len(value) // 50 for value in values if isinstance(value, list | tuple | dict | range)
    )


def truth(value: object, node: ast.AST) -> bool:
    """Whether a condition holds.

    Raises:
        NotEvaluatedError: the value is none of a condition's.
    """
    if isinstance(value, bool | int | float | str | list | tuple | dict | range) or value is None:
        return bool(value)
    raise NotEvaluatedError(node, "a condition that cannot be evaluated")


def items_of(value: object, node: ast.AST) -> list[object]:
    """What a loop goes through.

    Raises:
        NotEvaluatedError: it is nothing to go through.
    """
    if isinstance(value, list | tuple | dict | range):
        return list(value)
    raise NotEvaluatedError(node, "nothing that can be gone through without running the file")


def binary(op: ast.operator, left: object, right: object, node: ast.AST) -> object:
    """The value of `left op right`.

    Raises:
        NotEvaluatedError: there is none, or it would be too large.
    """
    if isinstance(op, ast.Add) and isinstance(left, list | tuple | str):
        if type(left) is type(right):
            return bounded(left + right, node)  # type: ignore[operator]
    elif isinstance(op, ast.BitOr) and isinstance(left, dict) and isinstance(right, dict):
        return bounded(left | right, node)
    elif isinstance(op, ast.Mult) and isinstance(left, list | tuple) and isinstance(right, int):
        if len(left) * right <= _MAX_ITEMS:
            return left * right
    elif isinstance(left, int | float) and isinstance(right, int | float):
        return bounded(_arithmetic(op, left, right, node), node)
    raise NotEvaluatedError(node, "an operation that is not evaluated")


def unary(op: ast.unaryop, value: object, node: ast.AST) -> object:
    """The value of `op value`.

    Raises:
        NotEvaluatedError: there is none.
    """
    if isinstance(op, ast.Not):
        return not truth(value, node)
    if isinstance(value, int | float):
        if isinstance(op, ast.USub):
            return -value
        if isinstance(op, ast.UAdd):
            return +value
    raise NotEvaluatedError(node, "an operation that is not evaluated")


def compared(op: ast.cmpop, left: object, right: object, node: ast.AST) -> bool:
    """Whether `left op right`.

    Raises:
        NotEvaluatedError: the two cannot be compared.
    """
    if isinstance(op, ast.In | ast.NotIn) and isinstance(right, list | tuple | dict | range):
        if _is_flat(left):
            return (left in right) is isinstance(op, ast.In)
    elif isinstance(op, ast.Is | ast.IsNot) and (left is None or right is None):
        return (left is right) is isinstance(op, ast.Is)
    elif isinstance(op, ast.Eq | ast.NotEq) and _is_flat(left) and _is_flat(right):
        return (left == right) is isinstance(op, ast.Eq)
    elif isinstance(left, int | float) and isinstance(right, int | float):
        found = _ORDERS.get(type(op))
        if found is not None:
            return found(left, right)
    raise NotEvaluatedError(node, "a comparison that is not evaluated")


def product(parts: Iterable[list[object]], node: ast.AST) -> list[object]:
    """`itertools.product`.

    Raises:
        NotEvaluatedError: it is too long.
    """
    found: list[tuple[object, ...]] = [()]
    for part in parts:
        if len(found) * len(part) > _MAX_ITEMS:
            raise NotEvaluatedError(node, f"a product of more than {_MAX_ITEMS} items")
        found = [(*before, item) for before in found for item in part]
    return list(found)


def made_in(value: object, budget: Budget, depth: int = 4) -> Iterator[Made]:
    """Every configuration in a value.

    Raises:
        ImportFormatError: the steps are used up.
    """
    if isinstance(value, Made):
        yield value
    elif depth and isinstance(value, list | tuple | dict):
        budget.spend(len(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from made_in(item, budget, depth - 1)


def both(one: object, other: object, error: NotEvaluatedError) -> object:
    """What either of two branches gives: of lists all, of what is the same that.

    Raises:
        NotEvaluatedError: they differ, and what decides is not known.
    """
    if isinstance(one, list) and isinstance(other, list):
        return list({_key(item): item for item in (*one, *other)}.values())
    if _key(one) == _key(other):
        return one
    raise error


def _key(value: object) -> object:
    """Equal for what is the same."""
    plain = isinstance(value, int | float | str) or value is None
    return (type(value), value) if plain else id(value)


def hashable(value: object, node: ast.AST) -> object:
    """The value as a key.

    Raises:
        NotEvaluatedError: it is none.
    """
    if _is_flat(value) and not isinstance(value, list):
        return value
    raise NotEvaluatedError(node, "a key that is not evaluated")


def copied(value: object) -> object:
    """A list or dict that can be changed without changing the other."""
    return value.copy() if isinstance(value, list | dict) else value


_ORDERS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _is_flat(value: object) -> bool:
    """Whether comparing it takes little time: a tuple of tuples of tuples … may be endless."""
    if isinstance(value, tuple | list):
        return len(value) <= _MAX_COMPARED and all(map(_is_scalar, value))
    return _is_scalar(value)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, int | float | str)


def _arithmetic(op: ast.operator, left: float, right: float, node: ast.AST) -> float:
    try:
        match op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
            case ast.FloorDiv():
                return left // right
            case ast.Mod():
                return left % right
        if isinstance(left, int) and isinstance(right, int):
            match op:
                case ast.BitAnd():
                    return left & right
                case ast.BitOr():
                    return left | right
                case ast.BitXor():
                    return left ^ right
            if 0 <= right <= _MAX_SHIFT:
                match op:
                    case ast.Pow():
                        return int(left**right)
                    case ast.LShift():
                        return left << right
                    case ast.RShift():
                        return left >> right
    except (ArithmeticError, ValueError) as error:
        raise NotEvaluatedError(node, str(error)) from None
    raise NotEvaluatedError(node, "an operation that is not evaluated")
