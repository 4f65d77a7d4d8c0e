"""Integer expressions of space files, parsed from text without ever running it.

An expression is what `ast` makes of the text, checked node by node against a short list of what
is allowed, and compiled once to closures:

    integers, True, False, names
    + - * // %   unary -   < <= == != >= >   and or not   a if condition else b
    min(a, b, ...)  max(a, b, ...)  abs(a)  cdiv(a, b)  next_power_of_2(a)

Length, nesting and every value are bounded, so that no text can take long or much memory.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MAX_LENGTH = 500
"""Most characters an expression may have."""

MAX_DEPTH = 50
"""Most operations that may be nested in one another; `1 + 1 + 1` nests two."""

VALUE_LIMIT = 2**63
"""Every value, in between ones too, lies strictly between -VALUE_LIMIT and VALUE_LIMIT."""

_Run = Callable[[Mapping[str, int]], int]

_ALLOWED = "integers, names, + - * // %, comparisons, and, or, not, if else"


class ExpressionError(ValueError):
    """An expression that is wrong, or has no value; one line that says what and where."""


def cdiv(dividend: int, divisor: int) -> int:
    """The quotient rounded up.

    Raises:
        ZeroDivisionError: `divisor` is 0.
    """
    return -(-dividend // divisor)


def next_power_of_2(value: int) -> int:
    """The smallest power of two that is at least `value`.

    Raises:
        ValueError: `value` is less than 1.
    """
    if value < 1:
        raise ValueError(f"next_power_of_2 needs at least 1, got {value}")
    return 1 << (value - 1).bit_length()


@dataclass(frozen=True, slots=True)
class _Function:
    """A function that expressions may call, with the bounds on its number of arguments."""

    call: Callable[..., int]
    fewest: int
    most: int | None

    def accepts(self, count: int) -> bool:
        return self.fewest <= count and (self.most is None or count <= self.most)

    @property
    def arity(self) -> str:
        if self.most is None:
            return f"at least {self.fewest} arguments"
        return "1 argument" if self.fewest == 1 else f"{self.fewest} arguments"


_FUNCTIONS = {
    "min": _Function(min, 2, None),
    "max": _Function(max, 2, None),
    "abs": _Function(abs, 1, 1),
    "cdiv": _Function(cdiv, 2, 2),
    "next_power_of_2": _Function(next_power_of_2, 1, 1),
}

FUNCTIONS = tuple(_FUNCTIONS)
"""Names of the functions that expressions may call."""

_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}

_COMPARISONS: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.GtE: operator.ge,
    ast.Gt: operator.gt,
}

_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Pow: "**",
    ast.Div: "/",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.UAdd: "unary +",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked and compiled expression; equal to another of the same text.

    Attributes:
        text: what it was parsed from, each run of whitespace made one space.
        names: the names it needs to have a value.
    """

    text: str
    names: frozenset[str] = field(compare=False)
    _run: _Run = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Check and compile `text`.

        Raises:
            ExpressionError: it is too long, too deep, no expression, or uses what is not allowed.
        """
        if len(text) > MAX_LENGTH:
            raise ExpressionError(
                f"an expression may have {MAX_LENGTH} characters, this one has {len(text)}"
            )
        text = " ".join(text.split())
        _check_characters(text)
        compiler = _Compiler(text)
        run = compiler.compile(_syntax_tree(text))
        return cls(text, frozenset(compiler.names), run)

    def evaluate(self, names: Mapping[str, int]) -> int:
        """The value with `names` in place of the names; a true condition is 1, a false one 0.

        Raises:
            ExpressionError: a name that is reached is missing, a divisor is 0, or a value leaves
                the range of `VALUE_LIMIT`.
        """
        return int(self._run(names))

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        # Closures cannot be pickled; the text says everything.
        return Expression.parse, (self.text,)

    def __str__(self) -> str:
        return self.text


def _check_characters(text: str) -> None:
    """Refuse what would make Python's own parser warn, normalise names, or read strings."""
    if not text:
        raise ExpressionError("the expression is empty")
    if wrong := re.search(r"[^A-Za-z0-9_ +\-*/%<>=!(),]", text):
        raise _error(text, wrong.start(), f"{wrong.group()!r} is not allowed")
    for number in re.finditer(r"\b[0-9]\w*", text):
        if not re.fullmatch(r"[0-9]+(_[0-9]+)*", number.group()):
            raise _error(text, number.start(), f"{number.group()!r} is no decimal integer")


def _syntax_tree(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        # The parser says 0 where the text ends too early.
        offset = error.offset - 1 if error.offset else len(text)
        raise _error(text, offset, error.msg) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"{text!r} cannot be parsed") from None


def _error(text: str, offset: int, what: str) -> ExpressionError:
    return ExpressionError(f"{what}, at column {offset + 1} of {text!r}")


class _Compiler:
    """Compiles the tree of one text, collecting the names it uses."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self._text = text

    def compile(self, node: ast.expr, depth: int = 0) -> _Run:
        """The closure that computes `node`, which is nested in `depth` others.

        Raises:
            ExpressionError: the node or one below it is not allowed.
        """
        if depth > MAX_DEPTH:
            raise self._error(node, f"more than {MAX_DEPTH} operations are nested")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.BinOp():
                return self._arithmetic(node, depth + 1)
            case ast.UnaryOp():
                return self._unary(node, depth + 1)
            case ast.Compare():
                return self._comparison(node, depth + 1)
            case ast.BoolOp():
                return self._connective(node, depth + 1)
            case ast.IfExp():
                return self._conditional(node, depth + 1)
            case ast.Call():
                return self._call(node, depth + 1)
        raise self._refusal(node, node)

    def _constant(self, node: ast.Constant) -> _Run:
        value = node.value
        if not isinstance(value, int):
            raise self._refusal(node, node)
        self._bounded(node, value)
        return lambda names: value

    def _name(self, node: ast.Name) -> _Run:
        name = node.id
        if name in _FUNCTIONS:
            raise self._error(node, f"{name} is a function, not a value")
        self.names.add(name)

        def run(names: Mapping[str, int]) -> int:
            try:
                return self._bounded(node, names[name])
            except KeyError:
                raise self._error(node, f"unknown name {name!r}") from None

        return run

    def _arithmetic(self, node: ast.BinOp, depth: int) -> _Run:
        operate = _ARITHMETIC.get(type(node.op))
        if operate is None:
            raise self._refusal(node, node.op)
        left, right = self.compile(node.left, depth), self.compile(node.right, depth)

        def run(names: Mapping[str, int]) -> int:
            try:
                value = operate(left(names), right(names))
            except ZeroDivisionError:
                raise self._error(node, "division by zero") from None
            return self._bounded(node, value)

        return run

    def _unary(self, node: ast.UnaryOp, depth: int) -> _Run:
        operand = self.compile(node.operand, depth)
        match node.op:
            case ast.USub():
                return lambda names: -operand(names)
            case ast.Not():
                return lambda names: not operand(names)
        raise self._refusal(node, node.op)

    def _comparison(self, node: ast.Compare, depth: int) -> _Run:
        first = self.compile(node.left, depth)
        links: list[tuple[Callable[[int, int], bool], _Run]] = []
        for symbol, operand in zip(node.ops, node.comparators, strict=True):
            compare = _COMPARISONS.get(type(symbol))
            if compare is None:
                raise self._refusal(node, symbol)
            links.append((compare, self.compile(operand, depth)))

        def run(names: Mapping[str, int]) -> bool:
            left = first(names)
            for compare, operand in links:
                right = operand(names)
                if not compare(left, right):
                    return False
                left = right
            return True

        return run

    def _connective(self, node: ast.BoolOp, depth: int) -> _Run:
        operands = [self.compile(operand, depth) for operand in node.values]
        decides = isinstance(node.op, ast.Or)

        def run(names: Mapping[str, int]) -> int:
            value = 0
            for operand in operands:
                value = operand(names)
                if bool(value) is decides:
                    break
            return value

        return run

    def _conditional(self, node: ast.IfExp, depth: int) -> _Run:
        condition = self.compile(node.test, depth)
        yes, no = self.compile(node.body, depth), self.compile(node.orelse, depth)
        return lambda names: yes(names) if condition(names) else no(names)

    def _call(self, node: ast.Call, depth: int) -> _Run:
        name, function = self._callee(node)
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self._error(node, f"{name} takes positional arguments only")
        if not function.accepts(len(node.args)):
            raise self._error(node, f"{name} takes {function.arity}, got {len(node.args)}")
        call = function.call
        arguments = [self.compile(argument, depth) for argument in node.args]

        def run(names: Mapping[str, int]) -> int:
            values = [argument(names) for argument in arguments]
            try:
                value = call(*values)
            except ZeroDivisionError:
                raise self._error(node, "division by zero") from None
            except ValueError as error:
                raise self._error(node, str(error)) from None
            return self._bounded(node, value)

        return run

    def _callee(self, node: ast.Call) -> tuple[str, _Function]:
        if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
            return node.func.id, _FUNCTIONS[node.func.id]
        raise self._error(node, f"only {', '.join(FUNCTIONS)} can be called")

    def _bounded(self, node: ast.expr, value: int) -> int:
        if -VALUE_LIMIT < value < VALUE_LIMIT:
            return value
        raise self._error(node, "a value is beyond 63 bits")

    def _refusal(self, node: ast.expr, what: ast.AST) -> ExpressionError:
        name = _SYMBOLS.get(type(what), type(what).__name__)
        return self._error(node, f"{name} is not allowed (allowed: {_ALLOWED})")

    def _error(self, node: ast.expr, what: str) -> ExpressionError:
        return _error(self._text, node.col_offset, what)
