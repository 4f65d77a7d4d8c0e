"""Nothing that is read executes: not in the code that reads, nor by a name in what is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunekit.errors import UnknownKernelError
from tunekit.export import check
from tunekit.kernels.library import KERNELS
from tunekit.kernels.registry import find_library_kernel

PACKAGE = Path(__file__).resolve().parent.parent / "tunekit"
MODULES = sorted(PACKAGE.rglob("*.py"))

CODE_AS_DATA = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
RUNS_TEXT = {"eval", "exec", "__import__"}
RUNS_A_FILE = {("torch", "load"), ("pickle", "loads"), ("numpy", "load"), ("np", "load")}

# The direct launch is made of indices and of names that are all made there.
MAY_RUN_TEXT = {"runtime/direct.py"}


def _dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = {alias.name.partition(".")[0] for alias in node.names} & CODE_AS_DATA
            yield from found
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from {node.module.partition(".")[0]} & CODE_AS_DATA
        elif isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in RUNS_TEXT:
                yield function.id
            elif (
                isinstance(function, ast.Attribute)
                and isinstance(function.value, ast.Name)
                and (function.value.id, function.attr) in RUNS_A_FILE
            ):
                yield f"{function.value.id}.{function.attr}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_runs_what_it_reads(path: Path) -> None:
    found = set(_dangers(ast.parse(path.read_text())))
    if str(path.relative_to(PACKAGE)) in MAY_RUN_TEXT:
        found -= {"eval"}
    assert found == set()


def test_the_dangers_are_found() -> None:
    source = "import pickle\nfrom yaml import load\neval('1')\ntorch.load('x')\nmodel.eval()\n"
    assert set(_dangers(ast.parse(source))) == {"pickle", "yaml", "eval", "torch.load"}


def test_a_database_cannot_name_a_module_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel of a row is looked for in the library alone."""
    file = tmp_path / "theirs.py"
    file.write_text("raise AssertionError('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("theirs:K", f"{file}:K", "theirs:K+bias", f"{file}:K/channels_last"):
        with pytest.raises(UnknownKernelError, match="no kernel of the library"):
            find_library_kernel(name)
    assert find_library_kernel("mish_mish") is KERNELS["mish_mish"]
    assert find_library_kernel("mish_mish+bias").name == "mish_mish+bias"


@pytest.mark.parametrize("module", ["cli/confirm.py", "runtime/precompile.py"])
def test_rows_of_a_database_are_looked_for_there(module: str) -> None:
    """What has a kernel's name from a row, or from a person, says which it means."""
    text = (PACKAGE / module).read_text()
    assert re.search(r"find_library_kernel\((name|row\.problem\.kernel)\)", text)
    assert not re.search(r"find_kernel\((name|row\.problem\.kernel)\)", text)


def test_an_export_is_compared_with_a_file_without_an_end() -> None:
    assert not check("/dev/zero", "text")
