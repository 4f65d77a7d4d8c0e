"""The statements of a Python file, followed as far as its lists of configurations need them.

Where a condition is not known both branches are taken: what is listed is measured, and what was
not meant for this GPU loses.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

from tunekit.candidates.expressions import Expressions
from tunekit.candidates.values import (
    Budget,
    Function,
    NotEvaluatedError,
    Scope,
    Unknown,
    binary,
    both,
    copied,
    items_of,
    made_in,
    truth,
    weight,
)

_MAX_DEPTH = 16
_MAX_BINDINGS = 1_000

Note = Callable[[int, str], None]


class _Flow(Enum):
    NEXT, RETURN, BREAK, CONTINUE = range(4)


class _Frame:
    """A call under way: what it has returned, and what it has yielded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.returned: list[object] = []
        self.yielded: list[object] = []
        self.yields = False


class Statements:
    """Follows a file.

    Args:
        tree: the file.
        note: told the line and the reason of what is not read.

    Attributes:
        budget: of steps.
        bindings: names of lists, and the lists: of a variable, a function, or of the kernel whose
            decorator has them.
    """

    def __init__(self, tree: ast.Module, note: Note) -> None:
        self._tree, self._note = tree, note
        self.budget = Budget()
        self._expressions = Expressions(self.budget, self._skip, self._call, self._configs)
        self._expressions.aliases.update(_aliases(tree))
        self._with_configs = self._containers(tree)
        self._relevant = _names_in(each for each in tree.body if each in self._with_configs)
        self._owners = _decorated(tree)
        self._functions: list[Function] = []
        self._calls: list[ast.AST] = []
        self.bindings: list[tuple[str, object]] = []

    def follow(self) -> None:
        """Follow the module, then every function with configurations that nothing has called.

        Raises:
            ImportFormatError: that takes too long.
        """
        self._block(self._tree.body, Scope(), _Frame(""), prefix="")
        for function in self._functions:  # which grows, as functions make functions
            if self._unreached(function.node):
                try:
                    self._call(function, [], {}, function.node)
                except NotEvaluatedError as error:
                    self._tell(function.node, error)
        for node in ast.walk(self._tree):
            if self._expressions.is_config(node) and node not in self._expressions.reached:
                self._note(getattr(node, "lineno", 0), "a triton.Config that nothing here reaches")
        listed = {made.line for _, value in self.bindings for made in made_in(value, self.budget)}
        for line in self._expressions.made_in_lines - listed:
            self._note(line, "a triton.Config that is in no list")

    def _containers(self, tree: ast.AST) -> set[ast.AST]:
        """Every node that has a configuration in it."""
        found: set[ast.AST] = set()
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if self._expressions.is_config(node):
                inner: ast.AST | None = node
                while inner is not None and inner not in found:
                    found.add(inner)
                    inner = parents.get(inner)
        return found

    def _unreached(self, tree: ast.AST) -> list[ast.Call]:
        if tree not in self._with_configs:
            return []
        reached = self._expressions.reached
        nodes = list(ast.walk(tree))
        self.budget.spend(len(nodes) // 8)
        return [
            node
            for node in nodes
            if isinstance(node, ast.Call)
            and node in self._with_configs
            and self._expressions.is_config(node)
            and node not in reached
        ]

    def _skip(self, error: NotEvaluatedError) -> None:
        self._note(error.line, error.reason)

    def _tell(self, node: ast.AST, error: NotEvaluatedError) -> None:
        """Say why the configurations of a statement are not read, if it has any that were not."""
        unreached = self._unreached(node)
        if unreached:
            self._expressions.reached.update(unreached)
            self._note(error.line or unreached[0].lineno, error.reason)

    def _configs(self, node: ast.Call, value: object) -> None:
        """What a call is given as `configs=`."""
        self._bind(self._owners.get(node, f"line {node.lineno}"), value)

    def _bind(self, name: str, value: object) -> None:
        if len(self.bindings) > _MAX_BINDINGS:
            self._note(0, f"more than {_MAX_BINDINGS} lists: the rest is not read")
        elif any(made_in(value, self.budget)):
            self.bindings.append((name, value))

    def _block(
        self, body: Sequence[ast.stmt], scope: Scope, frame: _Frame, prefix: str | None = None
    ) -> _Flow:
        """Follow statements; `prefix` is of the names of lists, None where they are local."""
        for statement in body:
            self.budget.spend()
            try:
                flow = self._statement(statement, scope, frame, prefix)
            except NotEvaluatedError as error:
                self._tell(statement, error)
                if isinstance(statement, ast.Return):
                    raise
                _forget(statement, error, scope)
                flow = _Flow.NEXT
            if flow is not _Flow.NEXT:
                return flow
        return _Flow.NEXT

    def _statement(
        self, statement: ast.stmt, scope: Scope, frame: _Frame, prefix: str | None
    ) -> _Flow:
        value = self._expressions.value
        match statement:
            case ast.Assign(targets=targets, value=part):
                found = value(part, scope)
                for target in targets:
                    self._expressions.bind(target, found, scope)
                    if prefix is not None and isinstance(target, ast.Name):
                        self._bind(prefix + target.id, found)
            case ast.AnnAssign(target=target, value=ast.expr() as part):
                found = value(part, scope)
                self._expressions.bind(target, found, scope)
                if prefix is not None and isinstance(target, ast.Name):
                    self._bind(prefix + target.id, found)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=part):
                before = value(ast.copy_location(ast.Name(name, ast.Load()), statement), scope)
                scope.names[name] = found = binary(op, before, value(part, scope), statement)
                if prefix is not None:
                    self._bind(prefix + name, found)
            case ast.Expr(value=ast.Yield(value=part)):
                frame.yields = True
                frame.yielded.append(None if part is None else value(part, scope))
            case ast.Expr(value=ast.YieldFrom(value=part)):
                frame.yields = True
                frame.yielded += items_of(value(part, scope), part)
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(value=part):
                value(part, scope)
            case ast.Return(value=part):
                frame.returned.append(None if part is None else value(part, scope))
                return _Flow.RETURN
            case ast.If():
                return self._if(statement, scope, frame, prefix)
            case ast.For():
                return self._for(statement, scope, frame, prefix)
            case ast.While():
                return self._while(statement, scope, frame, prefix)
            case ast.With(body=body):
                return self._block(body, scope, frame, prefix)
            case ast.Try(body=body, orelse=orelse, finalbody=finalbody):
                return self._block([*body, *orelse, *finalbody], scope, frame, prefix)
            case ast.FunctionDef():
                self._define(statement, scope)
            case ast.ClassDef(name=name, body=body):
                inner = None if prefix is None else f"{prefix}{name}."
                self._block(body, Scope({}, scope), _Frame(name), inner)
                scope.names[name] = Unknown("is a class, which is not followed")
            case ast.Break():
                return _Flow.BREAK
            case ast.Continue():
                return _Flow.CONTINUE
            case ast.Raise():
                return _Flow.RETURN
            case ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal():
                pass
            case ast.Pass() | ast.Assert() | ast.Delete():
                pass
            case _:
                raise NotEvaluatedError(statement, "a statement that is not followed")
        return _Flow.NEXT

    def _if(self, node: ast.If, scope: Scope, frame: _Frame, prefix: str | None) -> _Flow:
        try:
            holds = truth(self._expressions.value(node.test, scope), node.test)
        except NotEvaluatedError as error:
            return self._either(node, scope, frame, prefix, error)
        return self._block(node.body if holds else node.orelse, scope, frame, prefix)

    def _either(
        self,
        node: ast.If,
        scope: Scope,
        frame: _Frame,
        prefix: str | None,
        error: NotEvaluatedError,
    ) -> _Flow:
        """Take both branches, each with what was known before."""
        self.budget.spend(len(scope.names) + weight(scope.names.values()))
        one, other = (
            Scope({name: copied(value) for name, value in scope.names.items()}, scope.outer)
            for _ in range(2)
        )
        flows = (
            self._block(node.body, one, frame, prefix),
            self._block(node.orelse, other, frame, prefix),
        )
        if node in self._with_configs:
            self._note(error.line, f"both branches are taken: {error.reason}")
        if flows[0] is not _Flow.NEXT and flows[1] is not _Flow.NEXT:
            return flows[0]
        if flows[0] is not _Flow.NEXT:
            scope.names = other.names
        elif flows[1] is not _Flow.NEXT:
            scope.names = one.names
        else:
            self._merge(one, other, scope, error)
        return _Flow.NEXT

    def _merge(self, one: Scope, other: Scope, scope: Scope, error: NotEvaluatedError) -> None:
        merged: dict[str, object] = {}
        for name in {**one.names, **other.names}:
            if name not in one.names or name not in other.names:
                merged[name] = one.names.get(name, other.names.get(name))
                continue
            first, second = one.names[name], other.names[name]
            try:
                if isinstance(first, dict) and _same(first, second):
                    merged[name] = first
                    continue
                merged[name] = found = both(first, second, error)
            except NotEvaluatedError:
                merged[name] = Unknown(f"depends on line {error.line}, where {error.reason}")
                continue
            if isinstance(found, list) and isinstance(first, list) and isinstance(second, list):
                self.budget.spend(len(found))
                if len(found) > max(len(first), len(second)) and name in self._relevant:
                    self._note(error.line, f"{name} is taken from both branches: {error.reason}")
        scope.names = merged

    def _for(self, node: ast.For, scope: Scope, frame: _Frame, prefix: str | None) -> _Flow:
        for item in items_of(self._expressions.value(node.iter, scope), node.iter):
            self._expressions.bind(node.target, item, scope)
            flow = self._block(node.body, scope, frame, prefix)
            if flow is _Flow.RETURN:
                return flow
            if flow is _Flow.BREAK:
                return _Flow.NEXT
        return self._block(node.orelse, scope, frame, prefix)

    def _while(self, node: ast.While, scope: Scope, frame: _Frame, prefix: str | None) -> _Flow:
        while truth(self._expressions.value(node.test, scope), node.test):
            self.budget.spend()
            flow = self._block(node.body, scope, frame, prefix)
            if flow is _Flow.RETURN:
                return flow
            if flow is _Flow.BREAK:
                break
        return _Flow.NEXT

    def _define(self, node: ast.FunctionDef, scope: Scope) -> None:
        function = Function(node, scope)
        scope.names[node.name] = function
        if node in self._with_configs:
            self._functions.append(function)
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                try:
                    self._expressions.value(decorator, scope)
                except NotEvaluatedError as error:
                    self._tell(decorator, error)

    def _call(
        self,
        function: Function,
        arguments: Sequence[object],
        named: Mapping[str, object],
        node: ast.AST,
    ) -> object:
        if len(self._calls) >= _MAX_DEPTH:
            raise NotEvaluatedError(node, f"calls more than {_MAX_DEPTH} deep")
        if function.node in self._calls:
            raise NotEvaluatedError(node, "a function that calls itself is not followed")
        self._calls.append(function.node)
        try:
            scope = self._bound(function, arguments, dict(named))
            if isinstance(function.node, ast.Lambda):
                return self._expressions.value(function.node.body, scope)
            name = function.node.name
            frame = _Frame(name)
            self._block(function.node.body, scope, frame)
            result = frame.yielded if frame.yields else self._joined(frame.returned, node)
            if isinstance(result, list | tuple):
                self._bind(name, result)
            return result
        finally:
            self._calls.pop()

    def _joined(self, returned: Sequence[object], node: ast.AST) -> object:
        """What a function returned, in whichever branch."""
        if not returned:
            return None
        found, *others = returned
        for other in others:
            self.budget.spend(1 + 10 * weight((found, other)))
            error = NotEvaluatedError(node, "what it returns depends on a condition")
            found = both(found, other, error)
        return found

    def _bound(
        self, function: Function, arguments: Sequence[object], named: dict[str, object]
    ) -> Scope:
        """The parameters of a call; one that is not given is not known."""
        given, scope = function.node.args, Scope({}, function.scope)
        names = [each.arg for each in (*given.posonlyargs, *given.args)]
        defaults = [None] * (len(names) - len(given.defaults)) + list(given.defaults)
        missing = Unknown("is an argument that is not known")
        pairs = [*zip(names, defaults, strict=True)]
        pairs += [
            (each.arg, part) for each, part in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        ]
        for place, (name, default) in enumerate(pairs):
            if place < min(len(arguments), len(names)):
                scope.names[name] = arguments[place]
            elif name in named:
                scope.names[name] = named.pop(name)
            elif default is None:
                scope.names[name] = missing
            else:
                try:
                    scope.names[name] = self._expressions.value(default, function.scope)
                except NotEvaluatedError as error:
                    scope.names[name] = Unknown(f"is not known: {error.reason}")
        if given.vararg:
            scope.names[given.vararg.arg] = tuple(arguments[len(names) :])
        if given.kwarg:
            scope.names[given.kwarg.arg] = dict(named)
        return scope


def _same(one: dict[object, object], other: object) -> bool:
    return (
        isinstance(other, dict)
        and one.keys() == other.keys()
        and all(value is other[name] for name, value in one.items())
    )


def _forget(statement: ast.stmt, error: NotEvaluatedError, scope: Scope) -> None:
    """What a statement that was not followed would have bound is not known."""
    why = f"is not known: line {error.line}: {error.reason}"[:200]
    unknown = error.root or Unknown(why)
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign | ast.For):
        targets = [statement.target]
    for target in targets:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                scope.names[node.id] = unknown


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Names for what is imported, wherever in the file."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.asname: each.name for each in node.names if each.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found


def _decorated(tree: ast.AST) -> dict[ast.AST, str]:
    """The function that each decorator is of."""
    return {
        decorator: node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
    }


def _names_in(statements: Iterable[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for statement in statements:
        found.update(node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
    return found
