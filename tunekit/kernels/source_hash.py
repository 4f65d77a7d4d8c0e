"""A hash of what a kernel computes, that edits elsewhere in its file leave alone."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import triton
import triton.language as tl


def source_hash(*functions: Any) -> str:
    """Hash the code of `@triton.jit` functions and of everything they call.

    Triton's own cache key includes the line number; this one sees only the syntax tree, without
    docstrings and comments, of each function reached, and the compile-time constants they name.
    Triton's own functions count by name only: another Triton is not another kernel.
    """
    seen: dict[str, str] = {}
    for function in functions:
        _collect(function, seen)
    text = "\n".join(f"{name}\n{seen[name]}" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _collect(function: Any, seen: dict[str, str]) -> None:
    python = function.fn
    name = f"{python.__module__}.{python.__qualname__}"
    if name in seen or _is_of_triton(python.__module__):
        return
    # What Triton read when the function was defined: its file may have changed since.
    source = getattr(function, "raw_src", None)
    text = "".join(source) if source else inspect.getsource(python)
    tree = ast.parse(textwrap.dedent(text)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    if ast.get_docstring(tree, clean=False) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    seen[name] = ast.unparse(tree)  # not ast.dump: that differs between Python versions
    for referred, value in _referred(tree, python):
        constant = value.value if isinstance(value, tl.constexpr) else value
        if is_jit(constant):
            _collect(constant, seen)
        elif isinstance(value, tl.constexpr):
            seen[f"{name}.{referred}"] = repr(constant)


def _referred(tree: ast.FunctionDef, python: Any) -> Iterator[tuple[str, Any]]:
    """What the function names outside itself: `mish`, and `epilogues.mish` of a module."""
    closure = inspect.getclosurevars(python)
    outside = {**closure.globals, **closure.nonlocals}
    yield from outside.items()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node), _resolved(node, outside)
    for parameter in inspect.signature(python).parameters.values():
        if parameter.default is not parameter.empty:
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


def is_jit(value: Any) -> bool:
    """Whether it is a `@triton.jit` function, compiled or interpreted."""
    # The interpreter's class by its module, which is not worth importing for this.
    interpreted = type(value).__module__ == "triton.runtime.interpreter"
    return isinstance(value, triton.JITFunction) or interpreted
