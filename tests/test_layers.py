"""Imports point downward, and the run-time path stays light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "tunekit"

# Lowest first. A module may import its own layer and those below it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "notices", "_version", "paths", "printable"}),
    frozenset({"core"}),
    frozenset({"kernels", "gpu", "driver"}),
    frozenset({"candidates", "foreign", "here", "recorded", "records", "store", "evaluate"}),
    frozenset({"rules", "runtime", "search"}),
    frozenset({"autotuning", "doctor", "ops", "nn", "export", "planned", "portfolio", "profile"})
    | frozenset({"linear_ops"})
    | frozenset({"report", "report_evaluation", "report_explain", "report_json", "report_recorded"})
    | frozenset({"report_autotuned", "report_check", "report_counters", "runlog", "testing"}),
    frozenset({"arguments", "cli", "hosts", "shapes", "__main__"}),
)
LAYER_OF = {name: level for level, names in enumerate(LAYERS) for name in names}

NOT_IN_CORE = frozenset({"torch", "triton", "optuna", "sqlite_utils"})
ONLY_IMPORTED_BY = {"optuna": "search", "sqlite_utils": "store"}
RUN_TIME = (
    "tunekit",
    "tunekit.autotuning.decorator",
    "tunekit.runtime.call",
    "tunekit.runtime.lookup",
    "tunekit.ops",
    "tunekit.nn",
)
NOT_AT_RUN_TIME = frozenset({"optuna", "sqlalchemy", "sqlite_utils"})


class Import(NamedTuple):
    """One import statement of a module: what is imported, and in which line."""

    target: str
    line: int


def _module_files(root: Path) -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    files = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


MODULES = _module_files(ROOT)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _statements(node: ast.AST, *, inside_functions: bool) -> Iterator[ast.AST]:
    """The nodes that run: not `if TYPE_CHECKING`, and function bodies only when asked."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for alternative in child.orelse:
                yield alternative
                yield from _statements(alternative, inside_functions=inside_functions)
            continue
        if not inside_functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield child
        yield from _statements(child, inside_functions=inside_functions)


def _base_of(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The absolute name a `from … import` names, relative dots resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, node.module] if node.module else parents)


def _imports_in(
    source: str,
    module: str,
    *,
    is_package: bool = False,
    inside_functions: bool = False,
    modules: Iterable[str] = (),
) -> Iterator[Import]:
    """Absolute names of what a source imports; `from a import b` is `a.b` if that is a module."""
    for node in _statements(ast.parse(source), inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base_of(node, module, is_package)
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield Import(deeper if deeper in modules else base, node.lineno)


@cache
def _imports(module: str, *, inside_functions: bool = False) -> tuple[Import, ...]:
    path = MODULES[module]
    return tuple(
        _imports_in(
            path.read_text(encoding="utf-8"),
            module,
            is_package=path.name == "__init__.py",
            inside_functions=inside_functions,
            modules=MODULES.keys(),
        )
    )


def _top(name: str) -> str:
    return name.split(".")[0]


def _part(module: str) -> str:
    """The part of the package a module belongs to: `core` of `tunekit.core.space`."""
    return module.split(".")[1] if "." in module else "__init__"


def _where(module: str, found: Import) -> str:
    return f"{MODULES[module].relative_to(ROOT)}:{found.line}: imports {found.target}"


def _outward(module: str) -> Iterator[tuple[str, Import]]:
    """Each module of the package that importing `module` loads, with the import to blame."""
    for found in _imports(module):
        if _top(found.target) == PACKAGE:
            # Python runs the `__init__` of every parent first.
            parts = found.target.split(".")
            names = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
            yield from ((name, found) for name in names if name in MODULES)


def _way_to(start: str, forbidden: frozenset[str]) -> list[str]:
    """The chain of imports by which `start` reaches something forbidden; empty if it cannot."""
    ways: dict[str, list[str]] = {start: []}
    queue = [start]
    for module in queue:
        for found in _imports(module):
            if _top(found.target) in forbidden:
                return [*ways[module], _where(module, found)]
        for name, found in _outward(module):
            if name not in ways:
                ways[name] = [*ways[module], _where(module, found)]
                queue.append(name)
    return []


def test_there_are_modules_to_look_at() -> None:
    assert "tunekit.core.config" in MODULES


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {PACKAGE}))
def test_every_module_has_a_layer(module: str) -> None:
    assert _part(module) in LAYER_OF, f"{module}: give {_part(module)!r} a place in LAYERS"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {PACKAGE}))
def test_imports_point_downward(module: str) -> None:
    own = LAYER_OF.get(_part(module), len(LAYERS))
    # The package itself may import anything, so only the top may import it.
    upward = [
        f"{_where(module, found)}, which is above {_part(module)}"
        for found in _imports(module)
        if _top(found.target) == PACKAGE
        and LAYER_OF.get(_part(found.target), len(LAYERS) - 1) > own
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if _part(name) == "core"))
def test_core_is_plain_data(module: str) -> None:
    heavy = [
        _where(module, found) for found in _imports(module) if _top(found.target) in NOT_IN_CORE
    ]
    assert not heavy, "\n".join(heavy)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_optuna_and_sqlite_utils_have_one_home_each(module: str) -> None:
    """Not even inside a function."""
    strays = [
        f"{_where(module, found)}; only tunekit.{home} may"
        for found in _imports(module, inside_functions=True)
        if (home := ONLY_IMPORTED_BY.get(_top(found.target))) and _part(module) != home
    ]
    assert not strays, "\n".join(strays)


@pytest.mark.parametrize("module", RUN_TIME)
def test_the_run_time_path_reaches_no_search_and_no_storage(module: str) -> None:
    assert module in MODULES, f"{module} does not exist"
    way = _way_to(module, NOT_AT_RUN_TIME)
    assert not way, f"{module} reaches what it must not:\n" + "\n".join(way)


def test_importing_tunekit_and_its_ops_loads_nothing_of_the_search_or_the_command_line() -> None:
    unwanted = sorted(NOT_AT_RUN_TIME | {"click", "rich"})
    script = (
        "import sys, tunekit, tunekit.ops, tunekit.nn\n"
        f"print(*(name for name in {unwanted} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


# The rules above are only as good as the reading of imports: here is what it must see.
@pytest.mark.parametrize(
    ("source", "targets"),
    [
        ("import torch.nn as nn, optuna", ["torch.nn", "optuna"]),
        ("from tunekit import ops", ["tunekit.ops"]),
        ("from tunekit import Space", ["tunekit"]),
        ("from . import config", ["tunekit.core.config"]),
        ("from .config import Config", ["tunekit.core.config"]),
        ("from .. import ops", ["tunekit.ops"]),
        ("try:\n    import a\nexcept ImportError:\n    import b", ["a", "b"]),
        ("class A:\n    import a", ["a"]),
        ("if X:\n    import a", ["a"]),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", ["b"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import a", ["typing"]),
        ("def f():\n    import a", []),
    ],
)
def test_imports_are_read(source: str, targets: list[str]) -> None:
    known = ["tunekit", "tunekit.ops", "tunekit.core", "tunekit.core.config"]
    found = _imports_in(source, "tunekit.core.space", modules=known)
    assert [each.target for each in found] == targets


def test_imports_inside_functions_are_read_when_asked() -> None:
    source = "def f():\n    import a\n    if TYPE_CHECKING:\n        import b"
    found = list(_imports_in(source, "tunekit.cli", inside_functions=True))
    assert found == [Import("a", 2)]


def test_a_relative_import_of_a_package_starts_at_itself() -> None:
    known = ["tunekit.core", "tunekit.core.config"]
    found = _imports_in("from . import config", "tunekit.core", is_package=True, modules=known)
    assert [each.target for each in found] == ["tunekit.core.config"]
