from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunekit.kernels.jit import is_jit
from tunekit.kernels.library import KERNELS
from tunekit.kernels.registry import find_kernel
from tunekit.kernels.source_hash import source_hash

# Formulas in another module, reached by name, as an attribute and through a package.
HELPERS = '''
import triton
import triton.language as tl

HALF = tl.constexpr(0.5)
UNUSED = tl.constexpr(1)

@triton.jit
def inner(x):
    return x * HALF

@triton.jit
def square(x):
    return x * x

@triton.jit
def stranger(x):
    return x + 100.0

STEP = 3

def doubled(x):
    return 2 * x

@triton.constexpr_function
def computed(x):
    """A constant of a constant."""
    return doubled(x) + STEP
'''

KERNEL = '''
import triton
import triton.language as tl

import pack.helpers
from pack import helpers
from pack.helpers import inner

BIAS = 3.0
SHIFT = tl.constexpr(1.0)
FUNCTION = tl.constexpr(helpers.square)

@triton.jit
def outer(x, power: tl.constexpr = 2, bias: tl.constexpr = BIAS):
    """What it computes."""
    y = inner(x) + SHIFT  # a comment
    y = helpers.square(y) + pack.helpers.inner(y)
    y = FUNCTION(y)
    return tl.sigmoid(y) * power + bias

def plain(x):
    return x
'''

Hash = Callable[..., str]


@pytest.fixture
def hash_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hash:
    """The hash of `outer`, with some text of the two files replaced."""
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    count = 0

    def run(*replacements: tuple[str, str]) -> str:
        nonlocal count
        count += 1
        helpers, kernel = HELPERS, KERNEL
        for old, new in replacements:
            assert old in helpers + kernel
            helpers, kernel = helpers.replace(old, new), kernel.replace(old, new)
        for name in [name for name in sys.modules if name.split(".")[0] == "pack"]:
            del sys.modules[name]
        # A size or second that did not change would let Python use its old byte code.
        sources = {package / "helpers.py": helpers, tmp_path / f"kernel{count}.py": kernel}
        for path, text in sources.items():
            path.write_text(text)
        importlib.invalidate_caches()
        for cached in package.glob("__pycache__/helpers.*"):
            cached.unlink()
        return source_hash(_load(tmp_path / f"kernel{count}.py").outer)

    return run


def _load(path: Path) -> Any:
    import linecache

    linecache.checkcache()
    spec = importlib.util.spec_from_file_location("kernel_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernel_under_test"] = module
    spec.loader.exec_module(module)
    return module


def test_it_is_twelve_hexadecimal_digits(hash_of: Hash) -> None:
    assert re.fullmatch("[0-9a-f]{12}", hash_of())


@pytest.mark.parametrize(
    "edit",
    [
        ("  # a comment", ""),
        ("# a comment", "# another"),
        ('    """What it computes."""\n', ""),
        ("What it computes.", "What it gives."),
        ("SHIFT = tl", "\n\n# above\n\nSHIFT = tl"),
        ("    y = FUNCTION(y)\n", "\n    y = FUNCTION( y )\n\n"),
        ("return x + 100.0", "return x + 101.0"),
        ("UNUSED = tl.constexpr(1)", "UNUSED = tl.constexpr(2)"),
        ("def plain(x):\n    return x", "def plain(x):\n    return -x"),
    ],
    ids=[
        "comment removed",
        "comment changed",
        "docstring removed",
        "docstring changed",
        "lines above",
        "spaces",
        "function not called",
        "constant not used",
        "plain function",
    ],
)
def test_what_computes_the_same_hashes_the_same(edit: tuple[str, str], hash_of: Hash) -> None:
    assert hash_of(edit) == hash_of()


@pytest.mark.parametrize(
    "edit",
    [
        ("inner(x) + SHIFT", "inner(x) - SHIFT"),
        ("return x * HALF", "return x / HALF"),
        ("return x * x", "return x * x * x"),
        ("constexpr(0.5)", "constexpr(0.25)"),
        ("constexpr(1.0)", "constexpr(2.0)"),
        ("constexpr(helpers.square)", "constexpr(helpers.stranger)"),
        ("helpers.square(y)", "helpers.stranger(y)"),
        ("pack.helpers.inner(y)", "pack.helpers.square(y)"),
        ("constexpr = 2", "constexpr = 3"),
        ("BIAS = 3.0", "BIAS = 4.0"),
    ],
    ids=[
        "formula",
        "nested formula",
        "formula by attribute",
        "nested constant",
        "constant",
        "function in a constant",
        "function by attribute",
        "function through a package",
        "default of a parameter",
        "constant in a default",
    ],
)
def test_what_computes_something_else_hashes_differently(
    edit: tuple[str, str], hash_of: Hash
) -> None:
    assert hash_of(edit) != hash_of()


def test_a_constant_of_another_module_counts(hash_of: Hash) -> None:
    by_attribute = ("y = FUNCTION(y)", "y = FUNCTION(y) + pack.helpers.UNUSED")
    changed = ("UNUSED = tl.constexpr(1)", "UNUSED = tl.constexpr(2)")
    assert hash_of(by_attribute) != hash_of(by_attribute, changed)


def test_a_formula_reached_only_through_a_package_counts(hash_of: Hash) -> None:
    only = ("from pack.helpers import inner", ""), ("inner(x) + SHIFT", "x + SHIFT")
    assert hash_of(*only, ("return x * HALF", "return x - HALF")) != hash_of(*only)


@pytest.mark.parametrize(
    "edit",
    [
        ("doubled(x) + STEP", "doubled(x) - STEP"),
        ("return 2 * x", "return 4 * x"),
        ("STEP = 3", "STEP = 5"),
    ],
)
def test_what_is_computed_as_it_is_compiled_counts(edit: tuple[str, str], hash_of: Hash) -> None:
    by_attribute = ("y = FUNCTION(y)", "y = FUNCTION(y) + helpers.computed(power)")
    assert hash_of(by_attribute) != hash_of(by_attribute, edit)
    assert hash_of(edit) == hash_of()
    comment = ("A constant of a constant.", "Another text.")
    assert hash_of(by_attribute) == hash_of(by_attribute, comment)


def test_functions_of_triton_count_by_name_only(
    hash_of: Hash, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Triton, whose own sigmoid is written otherwise, is not another kernel."""
    import triton.language as tl

    imported = (
        ("import pack.helpers\n", "import pack.helpers\nfrom triton.language import sigmoid\n"),
        ("tl.sigmoid(y)", "sigmoid(y)"),
    )
    before = hash_of(*imported)
    other = _load_other_sigmoid()
    monkeypatch.setattr(other.fn, "__module__", tl.sigmoid.fn.__module__)
    monkeypatch.setattr(tl, "sigmoid", other)
    assert hash_of(*imported) == before


def _load_other_sigmoid() -> Any:
    from tunekit.kernels import epilogues

    function = type(epilogues.identity)(epilogues.identity.fn)
    assert is_jit(function)
    return function


def test_the_order_of_definitions_does_not_matter() -> None:
    from tunekit.kernels import epilogues

    assert source_hash(epilogues.mish_mish, epilogues.identity) == source_hash(
        epilogues.identity, epilogues.mish_mish
    )


def test_the_interpreter_sees_the_same_hashes(
    interpret: Callable[[Sequence[dict[str, str]]], list[str]],
) -> None:
    hashes = interpret([{"kernel": name} for name in KERNELS])
    assert hashes == [kernel.source_hash for kernel in KERNELS.values()]


def test_is_jit() -> None:
    from tunekit.kernels import epilogues

    assert is_jit(epilogues.mish)
    assert not is_jit(epilogues.mish.fn)
    assert not is_jit(None)


HELPED = """
    import torch, triton, tunekit
    import triton.language as tl

    cdiv = lambda a, b: -(-a // b)

    @triton.heuristics({
        "EVEN": lambda args: args["n"] % args["BLOCK"] == 0,
        "TWO": lambda args: 2,
    })
    @triton.jit
    def kernel(x, y, n, BLOCK: tl.constexpr, EVEN: tl.constexpr, TWO: tl.constexpr):
        o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(y + o, tl.load(x + o, mask=o < n) * TWO, mask=o < n)

    @tunekit.kernel(space={"BLOCK": [256, 512]}, reference=lambda x: 2 * x)
    def doubled(x):
        y, n = torch.empty_like(x), x.numel()
        return tunekit.launch(kernel, x, y, n, grid=lambda c: cdiv(n, c["BLOCK"]), outputs=y)
"""


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("lambda args: 2,", "lambda args: 3,", True),
        ("-(-a // b)", "a // b + 1", True),
        ('c["BLOCK"]', 'c["BLOCK"] + 0', True),
        ("lambda x: 2 * x", "lambda x: x + x", False),
        ("    cdiv =", "    # a comment\n\n    cdiv =", False),
        ("-(-a // b)", "-( -a//b )", False),
    ],
)
def test_heuristics_and_lambdas_of_a_plan_count(
    old: str, new: str, counts: bool, tmp_path: Path
) -> None:
    text = textwrap.dedent(HELPED)
    (tmp_path / "before.py").write_text(text)
    (tmp_path / "after.py").write_text(textwrap.dedent(HELPED.replace(old, new)))
    before, after = (
        find_kernel(f"{tmp_path}/{name}.py:doubled").source_hash for name in ("before", "after")
    )
    assert (before != after) is counts
