"""The value of an expression of a Python file that is made of literals, without running it.

Known are the file's own names and functions, comprehensions, arithmetic and comparisons, a few of
Python's functions, `itertools.product` and `chain`, `triton.Config`, `cdiv` and `next_power_of_2`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeGuard

from tunekit.candidates.values import (
    UNBOUND,
    Budget,
    Function,
    Made,
    NotEvaluatedError,
    Scope,
    Unknown,
    binary,
    both,
    bounded,
    compared,
    hashable,
    items_of,
    joined,
    made_in,
    product,
    truth,
    unary,
    weight,
    zipped,
)

CONFIG_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")
_CONFIG_PARAMETERS = ("kwargs", *CONFIG_OPTIONS, "pre_hook", "ir_override")
_MAX_RANGE = 20_000

Skip = Callable[[NotEvaluatedError], None]
Call = Callable[[Function, Sequence[object], Mapping[str, object], ast.AST], object]
Configs = Callable[[ast.Call, object], None]


class Expressions:
    """Evaluates expressions.

    Args:
        budget: of steps.
        skip: told of what is left out of a list, because it cannot be evaluated.
        call: calls a function of the file.
        configs: told of each `configs=` of a call, with its value.

    Attributes:
        reached: the calls of `triton.Config` that were evaluated, or told to `skip`.
        made_in_lines: where those that were evaluated are.
        aliases: names of the file for what it imports, such as `tr` for `triton`.
    """

    def __init__(self, budget: Budget, skip: Skip, call: Call, configs: Configs) -> None:
        self._budget, self._skip, self._call_function = budget, skip, call
        self._configs = configs
        self.reached: set[ast.Call] = set()
        self.made_in_lines: set[int] = set()
        self.aliases: dict[str, str] = {}

    def value(self, node: ast.expr, scope: Scope) -> object:
        """The value of an expression.

        Raises:
            NotEvaluatedError: it cannot be known.
            ImportFormatError: the steps are used up.
        """
        self._budget.spend()
        match node:
            case ast.Constant(value=value):
                if isinstance(value, int | float | str) or value is None:
                    return bounded(value, node)
            case ast.Name():
                return self._name(node, scope)
            case ast.List(elts=parts):
                return self._elements(parts, scope)
            case ast.Tuple(elts=parts):
                return tuple(self._elements(parts, scope))
            case ast.Set(elts=parts):
                return _distinct(self._elements(parts, scope), node)
            case ast.Dict():
                return self._dict(node, scope)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return self._comprehension(node, scope)
            case ast.DictComp():
                return self._dict_comprehension(node, scope)
            case ast.BinOp():
                return self._binary(node, scope)
            case ast.UnaryOp(op=op, operand=operand):
                return unary(op, self.value(operand, scope), node)
            case ast.BoolOp():
                return self._bool(node, scope)
            case ast.Compare():
                return self._compare(node, scope)
            case ast.IfExp():
                return self._either(node, scope)
            case ast.Call():
                return self._call(node, scope)
            case ast.Subscript():
                return self._subscript(node, scope)
            case ast.Attribute():
                return self._attribute(node, scope)
            case ast.Lambda():
                return Function(node, scope)
            case ast.NamedExpr(target=ast.Name(id=name), value=inner):
                scope.names[name] = found = self.value(inner, scope)
                return found
        raise NotEvaluatedError(node, f"{_what(node)} is not evaluated")

    def bind(self, target: ast.expr, value: object, scope: Scope) -> None:
        """Bind the names of an assignment or of a loop.

        Raises:
            NotEvaluatedError: there are not as many values as names, or it binds no names.
        """
        self._budget.spend()
        if isinstance(target, ast.Name):
            scope.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            parts = items_of(value, target)
            if len(parts) != len(target.elts):
                raise NotEvaluatedError(target, "as many names as values are expected")
            for name, part in zip(target.elts, parts, strict=True):
                self.bind(name, part, scope)
        elif isinstance(target, ast.Subscript):
            found, key = self.value(target.value, scope), self.value(target.slice, scope)
            if not isinstance(found, dict):
                raise NotEvaluatedError(target, "an assignment that is not evaluated")
            found[hashable(key, target)] = value
            bounded(found, target)
        else:
            raise NotEvaluatedError(target, "an assignment that is not evaluated")

    def dotted(self, node: ast.expr) -> str:
        """`triton.Config` of what names it; empty where it is no name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.aliases.get(node.id, node.id), *reversed(parts)])

    def is_config(self, node: ast.AST) -> bool:
        """Whether it is a call of `triton.Config`, by whatever name."""
        return isinstance(node, ast.Call) and self.dotted(node.func).split(".")[-1] == "Config"

    def _name(self, node: ast.Name, scope: Scope) -> object:
        found = scope.find(node.id)
        if isinstance(found, Unknown):
            error = NotEvaluatedError(node, f"{node.id:.60} {found.reason}")
            error.root = found
            raise error
        return found

    def _elements(self, parts: Sequence[ast.expr], scope: Scope) -> list[object]:
        found: list[object] = []
        for part in parts:
            try:
                if isinstance(part, ast.Starred):
                    found = joined((found, self.value(part.value, scope)), part)
                    self._budget.spend(weight([found]))
                else:
                    found.append(self.value(part, scope))
            except NotEvaluatedError as error:
                self._leave_out(part, error)
        bounded(found, parts[0] if parts else ast.Pass())
        return found

    def _leave_out(self, part: ast.expr, error: NotEvaluatedError) -> None:
        """Leave a configuration out of its list; anything else is needed to know the list."""
        nodes = list(ast.walk(part))
        self._budget.spend(len(nodes) // 8)
        configs = [node for node in nodes if self.is_config(node)]
        if not configs:
            raise error
        self.reached.update(node for node in configs if isinstance(node, ast.Call))
        self._skip(error)

    def _dict(self, node: ast.Dict, scope: Scope) -> dict[object, object]:
        found: dict[object, object] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                more = self.value(value, scope)
                if not isinstance(more, dict):
                    raise NotEvaluatedError(value, "no dict that is known")
                found |= more
                self._budget.spend(weight([found]))
                bounded(found, node)
            else:
                found[hashable(self.value(key, scope), key)] = self.value(value, scope)
        return found

    def _rounds(self, generators: Sequence[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        """A scope for each round of a comprehension."""
        if not generators:
            yield scope
            return
        first, *rest = generators
        for item in items_of(self.value(first.iter, scope), first.iter):
            inner = Scope({}, scope)
            self.bind(first.target, item, inner)
            if all(self._holds(test, inner) for test in first.ifs):
                yield from self._rounds(rest, inner)

    def _holds(self, test: ast.expr, scope: Scope) -> bool:
        """Whether a condition holds; one that cannot be evaluated is taken to."""
        try:
            return truth(self.value(test, scope), test)
        except NotEvaluatedError as error:
            error.reason = f"a condition is taken to hold: {error.reason}"
            self._skip(error)
            return True

    def _comprehension(
        self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, scope: Scope
    ) -> list[object]:
        found: list[object] = []
        for inner in self._rounds(node.generators, scope):
            try:
                found.append(self.value(node.elt, inner))
            except NotEvaluatedError as error:
                self._leave_out(node.elt, error)
        return _distinct(found, node) if isinstance(node, ast.SetComp) else found

    def _dict_comprehension(self, node: ast.DictComp, scope: Scope) -> dict[object, object]:
        return {
            hashable(self.value(node.key, inner), node): self.value(node.value, inner)
            for inner in self._rounds(node.generators, scope)
        }

    def _binary(self, node: ast.BinOp, scope: Scope) -> object:
        if not isinstance(node.op, ast.Add):
            return binary(
                node.op, self.value(node.left, scope), self.value(node.right, scope), node
            )
        found: list[object] = []
        for part in (node.left, node.right):
            try:
                found.append(self.value(part, scope))
            except NotEvaluatedError as error:
                failed = error
        if len(found) == 2:
            return binary(node.op, found[0], found[1], node)
        # What is added to a list of configurations may be left out of it.
        if not found or not any(made_in(found[0], self._budget)):
            raise failed
        self._skip(failed)
        return found[0]

    def _bool(self, node: ast.BoolOp, scope: Scope) -> object:
        found: object = None
        for part in node.values:
            found = self.value(part, scope)
            if truth(found, part) is isinstance(node.op, ast.Or):
                return found
        return found

    def _compare(self, node: ast.Compare, scope: Scope) -> bool:
        left = self.value(node.left, scope)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part, scope)
            self._budget.spend(4 * weight((left, right)))
            if not compared(op, left, right, node):
                return False
            left = right
        return True

    def _either(self, node: ast.IfExp, scope: Scope) -> object:
        try:
            holds = truth(self.value(node.test, scope), node.test)
        except NotEvaluatedError as error:
            one, other = self.value(node.body, scope), self.value(node.orelse, scope)
            return both(one, other, error)
        return self.value(node.body if holds else node.orelse, scope)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> object:
        found = self.value(node.value, scope)
        if isinstance(node.slice, ast.Slice):
            if isinstance(found, list | tuple | str):
                parts = (node.slice.lower, node.slice.upper, node.slice.step)
                lower, upper, step = (
                    None if part is None else self.value(part, scope) for part in parts
                )
                if _is_index(lower) and _is_index(upper) and _is_index(step) and step != 0:
                    return found[lower:upper:step]
            raise NotEvaluatedError(node, "a slice that is not evaluated")
        key = self.value(node.slice, scope)
        try:
            if isinstance(found, list | tuple) and isinstance(key, int):
                return found[key]
            if isinstance(found, dict):
                return found[hashable(key, node)]
        except (LookupError, TypeError):
            raise NotEvaluatedError(node, "an index that is not there") from None
        raise NotEvaluatedError(node, "an index that is not evaluated")

    def _attribute(self, node: ast.Attribute, scope: Scope) -> object:
        if isinstance(node.value, ast.Name) and scope.find(node.value.id) is UNBOUND:
            raise NotEvaluatedError(node, f"{_what(node)} is not evaluated")
        found = self.value(node.value, scope)
        if isinstance(found, Made):
            if node.attr == "kwargs":
                return dict(found.meta)
            if node.attr in CONFIG_OPTIONS:
                defaults = {"num_warps": 4, "num_stages": 3, "num_ctas": 1}
                return found.options.get(node.attr, defaults.get(node.attr))
        raise NotEvaluatedError(node, f"{_what(node)} is not evaluated")

    def _call(self, node: ast.Call, scope: Scope) -> object:
        for keyword in node.keywords:
            if keyword.arg == "configs":
                self._configs(node, self.value(keyword.value, scope))
        if self.is_config(node):
            return self._config(node, scope)
        name = self.dotted(node.func)
        known = scope.find(name)
        if isinstance(node.func, ast.Lambda):
            known = Function(node.func, scope)
        if isinstance(known, Function):
            arguments, named = self._arguments(node, scope)
            return self._call_function(known, arguments, named, node)
        if known is UNBOUND and name in _FUNCTIONS:
            arguments, named = self._arguments(node, scope)
            return self._builtin(name, arguments, named, node)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func, scope)
        if isinstance(node.func, ast.Call):
            self.value(node.func, scope)  # triton.autotune(configs=…)(kernel)
        raise NotEvaluatedError(node, f"a call of {name or 'that'} is not evaluated")

    def _arguments(self, node: ast.Call, scope: Scope) -> tuple[list[object], dict[str, object]]:
        arguments: list[object] = []
        for part in node.args:
            if isinstance(part, ast.Starred):
                arguments = joined((arguments, self.value(part.value, scope)), part)
                self._budget.spend(weight([arguments]))
            else:
                arguments.append(self.value(part, scope))
        named: dict[str, object] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, scope)
            if keyword.arg is not None:
                named[keyword.arg] = value
            elif isinstance(value, dict):
                named |= {str(name): each for name, each in value.items()}
            else:
                raise NotEvaluatedError(keyword.value, "no dict that is known")
        return arguments, named

    def _config(self, node: ast.Call, scope: Scope) -> Made:
        given: dict[str, object] = {}
        for name, part in zip(_CONFIG_PARAMETERS, node.args, strict=False):
            if name not in ("pre_hook", "ir_override"):
                given[name] = self.value(part, scope)
        for keyword in node.keywords:
            if keyword.arg is None:
                more = self.value(keyword.value, scope)
                if not isinstance(more, dict):
                    raise NotEvaluatedError(keyword.value, "no dict that is known")
                given |= {str(name): each for name, each in more.items()}
            elif keyword.arg not in ("pre_hook", "ir_override"):
                given[keyword.arg] = self.value(keyword.value, scope)
        meta = given.pop("kwargs", None)
        if not isinstance(meta, dict) or not all(isinstance(name, str) for name in meta):
            raise NotEvaluatedError(node, "a Config whose first argument is no dict by name")
        if unknown := given.keys() - set(_CONFIG_PARAMETERS):
            raise NotEvaluatedError(
                node, f"a Config with {min(unknown):.40}=, which Triton has not"
            )
        self.reached.add(node)
        self.made_in_lines.add(node.lineno)
        return Made(meta, given, node.lineno)

    def _method(self, node: ast.Call, function: ast.Attribute, scope: Scope) -> object:
        if isinstance(function.value, ast.Name) and scope.find(function.value.id) is UNBOUND:
            raise NotEvaluatedError(node, f"a call of {_what(function)} is not evaluated")
        found = self.value(function.value, scope)
        if (
            isinstance(found, list)
            and function.attr in ("append", "extend")
            and len(node.args) == 1
        ):
            try:
                item = self.value(node.args[0], scope)
            except NotEvaluatedError as error:
                self._leave_out(node.args[0], error)
                return None
            found += [item] if function.attr == "append" else items_of(item, node)
            self._budget.spend(len(found) // 100)
            bounded(found, node)
            return None
        arguments, named = self._arguments(node, scope)
        match found, function.attr, arguments:
            case list() | dict(), "copy", []:
                return found.copy()
            case dict(), "items", []:
                return [(name, value) for name, value in found.items()]
            case dict(), "keys", []:
                return list(found)
            case dict(), "values", []:
                return list(found.values())
            case dict(), "get", [key, *default]:
                return found.get(hashable(key, node), default[0] if default else None)
            case dict(), "update", [dict() as more]:
                found.update(more)
                found.update(named)
                return None
            case dict(), "update", []:
                found.update(named)
                return None
            case Made(), "all_kwargs", []:
                return {**found.meta, **found.options}
        raise NotEvaluatedError(node, f"a call of {_what(function)} is not evaluated")

    def _builtin(
        self, name: str, arguments: list[object], named: dict[str, object], node: ast.Call
    ) -> object:
        self._budget.spend(weight(arguments))
        if name == "filter" and len(arguments) == 2 and isinstance(arguments[0], Function):
            return self._filtered(arguments[0], items_of(arguments[1], node), node)
        if name == "map" and len(arguments) == 2 and isinstance(arguments[0], Function):
            items = items_of(arguments[1], node)
            return [self._call_function(arguments[0], [item], {}, node) for item in items]
        if name == "dict":
            start = arguments[0] if arguments else {}
            pairs = start.items() if isinstance(start, dict) else items_of(start, node)
            found: dict[object, object] = {}
            for pair in pairs:
                if not isinstance(pair, tuple | list) or len(pair) != 2:
                    raise NotEvaluatedError(node, "no dict that is known")
                found[hashable(pair[0], node)] = pair[1]
            return found | named
        if name == "itertools.product":
            repeat = named.pop("repeat", 1)
            parts = [items_of(part, node) for part in arguments]
            if named or not isinstance(repeat, int) or not 0 <= repeat * len(parts) <= 16:
                raise NotEvaluatedError(node, "a product that is not evaluated")
            rounds = product(parts * repeat, node)
            self._budget.spend(len(rounds))
            return rounds
        if named:
            raise NotEvaluatedError(node, f"a call of {name} that is not evaluated")
        try:
            return bounded(_FUNCTIONS[name](arguments, node), node)
        except (TypeError, ValueError, IndexError, ArithmeticError, AttributeError):
            raise NotEvaluatedError(node, f"a call of {name} that is not evaluated") from None

    def _filtered(self, keep: Function, items: list[object], node: ast.AST) -> list[object]:
        found = []
        for item in items:
            try:
                kept = truth(self._call_function(keep, [item], {}, node), node)
            except NotEvaluatedError as error:
                error.reason = f"a condition is taken to hold: {error.reason}"
                self._skip(error)
                kept = True
            if kept:
                found.append(item)
        return found


def _distinct(items: list[object], node: ast.AST) -> list[object]:
    return list(dict.fromkeys(hashable(item, node) for item in items))


def _what(node: ast.AST) -> str:
    """A short name of an expression for a message."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < 4:
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif not parts:
        return f"an expression of the kind {type(node).__name__}"
    return ".".join(reversed(parts))[:60]


def _is_index(value: object) -> TypeGuard[int | None]:
    return value is None or isinstance(value, int)


def _numbers(arguments: list[object], node: ast.AST) -> list[float]:
    found = arguments if len(arguments) > 1 else items_of(arguments[0], node)
    if not all(isinstance(item, int | float) for item in found):
        raise TypeError
    return found  # type: ignore[return-value]


def _range(arguments: list[object], node: ast.AST) -> object:
    numbers = [number for number in arguments if isinstance(number, int)]
    if len(numbers) < len(arguments):
        raise TypeError
    found = range(*numbers)
    if len(found) > _MAX_RANGE:
        raise NotEvaluatedError(node, f"a range of more than {_MAX_RANGE} numbers")
    return list(found)


def _listed(arguments: list[object], node: ast.AST) -> list[object]:
    return items_of(arguments[0], node) if arguments else []


def _refused(arguments: list[object], node: ast.AST) -> object:
    raise TypeError


def _whole(value: object) -> int:
    if not isinstance(value, int | float | str) or (isinstance(value, str) and len(value) > 20):
        raise TypeError
    return int(value)


def _power_of_two(value: object) -> int:
    number = _whole(value)
    return 1 << max(number - 1, 0).bit_length()


_FUNCTIONS: dict[str, Callable[[list[object], ast.AST], object]] = {
    "range": _range,
    "len": lambda given, node: len(items_of(given[0], node)),
    "min": lambda given, node: min(_numbers(given, node)),
    "max": lambda given, node: max(_numbers(given, node)),
    "sum": lambda given, node: sum(_numbers(given[:1], node)),
    "abs": lambda given, node: abs(given[0]),  # type: ignore[arg-type]
    "any": lambda given, node: any(truth(each, node) for each in items_of(given[0], node)),
    "all": lambda given, node: all(truth(each, node) for each in items_of(given[0], node)),
    "int": lambda given, node: _whole(given[0]),
    "bool": lambda given, node: truth(given[0], node),
    "list": _listed,
    "tuple": lambda given, node: tuple(_listed(given, node)),
    "sorted": lambda given, node: sorted(_numbers([given[0]], node)),
    "reversed": lambda given, node: _listed(given, node)[::-1],
    "set": lambda given, node: _distinct(_listed(given, node), node),
    "zip": zipped,
    "enumerate": lambda given, node: [
        *enumerate(items_of(given[0], node), *map(_whole, given[1:]))
    ],
    "dict": _refused,
    "filter": _refused,
    "map": _refused,
    "itertools.product": _refused,
    "itertools.chain": joined,
    "itertools.chain.from_iterable": lambda given, node: joined(items_of(given[0], node), node),
    "triton.cdiv": lambda given, node: -(_whole(given[0]) // -_whole(given[1])),
    "triton.next_power_of_2": lambda given, node: _power_of_two(given[0]),
}
"""What is called by these names, of arguments in order; what has names of its own is elsewhere."""
