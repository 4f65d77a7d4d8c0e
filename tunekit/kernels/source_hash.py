"""A hash of what a kernel computes, that edits elsewhere in its file leave alone."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import triton.language as tl

from tunekit.errors import KernelError
from tunekit.kernels.jit import beneath, heuristics_of, is_computed, is_jit

_PLAIN = (bool, int, float, str, tuple)


def source_hash(*functions: Any) -> str:
    """Hash the code of `@triton.jit` functions, or of plans, and of everything they call.

    Triton's own cache key includes the line number; this one sees only the syntax tree, without
    docstrings and comments, of each function reached, and the compile-time constants they name.
    Triton's own functions count by name only: another Triton is not another kernel. Where a file
    lies does not count: it may be imported by several names. Of a plan count the functions of its
    own module that it calls, the numbers and texts it names, and not the defaults of its scalars.

    Raises:
        KernelError: the source of one cannot be read.
    """
    collected = sorted(_collected(functions).values())
    text = "\n".join(f"{label}\n{code}" for label, code in collected)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def counts(function: Any, part: Any) -> bool:
    """Whether a `@triton.jit` function is one of those that the hash of `function` covers."""
    python = part.fn
    where = (python.__module__, python.__qualname__)
    return where in _collected((function,)) or _is_of_triton(python.__module__)


def _collected(functions: Iterable[Any]) -> dict[tuple[str, str], tuple[str, str]]:
    """Label and code of all that is reached, by module and name."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for function in functions:
        _collect(function, seen, is_kernel=True)
    return seen


def _collect(
    function: Any, seen: dict[tuple[str, str], tuple[str, str]], *, is_kernel: bool = False
) -> None:
    python = getattr(function, "fn", function)
    is_plan = not is_jit(function)  # or computes a constant as a plan does, in Python
    module, name = python.__module__, python.__qualname__
    # All lambdas of a module have one name.
    key = (module, f"{name}, line {python.__code__.co_firstlineno}" if is_plan else name)
    if key in seen or _is_of_triton(module):
        return
    label = f"{module}.{name}" if module.split(".")[0] == "tunekit" else name
    # What Triton read when the function was defined: its file may have changed since.
    source = getattr(function, "raw_src", None)
    tree = _tree(python, "".join(source) if source else None)
    if isinstance(tree, ast.FunctionDef):
        tree.decorator_list = []
        if ast.get_docstring(tree, clean=False) is not None:
            tree.body = tree.body[1:] or [ast.Pass()]
        if is_kernel and is_plan:  # its scalars: what a function it calls has there does count
            tree.args.defaults = []
            tree.args.kw_defaults = [None] * len(tree.args.kwonlyargs)
    # Not ast.dump: that differs between Python versions.
    seen[key] = label, ast.unparse(tree)
    for referred, value in _referred(tree, python, is_plan=is_plan):
        constant = value.value if isinstance(value, tl.constexpr) else value
        for heuristic in heuristics_of(constant).values():
            _collect(heuristic, seen)
        constant = beneath(constant)
        if is_jit(constant) or is_computed(constant):
            _collect(constant, seen)
        elif is_plan and isinstance(constant, FunctionType):
            if constant.__module__ == python.__module__:
                _collect(constant, seen)
        elif isinstance(value, tl.constexpr) or (is_plan and isinstance(value, _PLAIN)):
            seen[module, f"{key[1]}.{referred}"] = f"{label}.{referred}", repr(constant)


def _tree(python: Any, source: str | None) -> ast.stmt:
    """The statement that defines a function.

    Raises:
        KernelError: it cannot be read.
    """
    name = python.__qualname__
    try:
        if python.__name__ == "<lambda>":
            return _lambda_of(python)
        return ast.parse(textwrap.dedent(source or inspect.getsource(python))).body[0]
    except OSError:
        raise KernelError(f"{name}: its source cannot be read; define it in a file") from None


def _lambda_of(python: Any) -> ast.stmt:
    """The lambdas of the line that one begins in: what stands around them is none of it."""
    lines, _ = inspect.findsource(python)
    first = python.__code__.co_firstlineno
    nodes = ast.walk(ast.parse("".join(lines)))
    found: list[ast.expr] = [
        node for node in nodes if isinstance(node, ast.Lambda) and node.lineno == first
    ]
    return ast.Expr(ast.Tuple(found, ast.Load()))


def _referred(tree: ast.stmt, python: Any, *, is_plan: bool) -> Iterator[tuple[str, Any]]:
    """What the function names outside itself: `mish`, and `epilogues.mish` of a module."""
    closure = inspect.getclosurevars(python)
    outside = {**closure.globals, **closure.nonlocals}
    if is_plan:  # its lambdas name things too
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        outside |= {name: python.__globals__[name] for name in names & python.__globals__.keys()}
    yield from outside.items()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node), _resolved(node, outside)
    for parameter in inspect.signature(python).parameters.values():
        if not is_plan and parameter.default is not parameter.empty:
            # The syntax tree may have a name there, which stood for a value when it was defined.
            yield f"{parameter.name}=", tl.constexpr(parameter.default)


def _resolved(node: ast.expr, outside: Mapping[str, Any]) -> Any:
    """What a dotted name stands for, where it leads through modules other than Triton's."""
    if isinstance(node, ast.Name):
        return outside.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, outside)
        if isinstance(owner, ModuleType) and not _is_of_triton(owner.__name__):
            return getattr(owner, node.attr, None)
    return None


def _is_of_triton(module: str) -> bool:
    return module.split(".")[0] == "triton"
