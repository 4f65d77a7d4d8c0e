"""The hash of a kernel of a plan: what makes another kernel of it, and what does not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunekit.errors import KernelError
from tunekit.planned import PlannedKernel

SOURCE = '''
import math

import torch
import triton
import triton.language as tl

import tunekit

ROUND = 16
SCALE = tl.constexpr(0.5)
UNUSED = 1
divided = lambda a, b: -(-a // b)


@triton.jit
def halve(x):
    return x * SCALE


@triton.heuristics({"EVEN": lambda arguments: arguments["n"] % arguments["BLOCK"] == 0})
@triton.jit
def my_kernel(y, x, n, WIDTH: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr):
    """What it computes."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + place, halve(tl.load(x + place, mask=place < n)), mask=place < n)


@triton.jit
def stranger(y, x, n):
    tl.store(y, tl.load(x))


def width_of(x):
    """How wide."""
    return rounded(x.shape[0])  # the sizes


def rounded(n, least=8):
    return max(ROUND, n, least)


def unused(x):
    return 3


@tunekit.kernel(
    space={"BLOCK": [64, 128]},
    reference=lambda x, eps: x / 2,
    shapes={"x": ("n",)},
)
def mine(x, eps=1e-6):
    """One line."""
    n = x.numel()  # all of it
    y = torch.empty_like(x)
    return tunekit.launch(
        my_kernel, y, x, n, WIDTH=width_of(x),
        grid=lambda config: divided(n, config["BLOCK"]), outputs=y,
    )
'''

Hash = Callable[..., str]


@pytest.fixture
def hash_of(tmp_path: Path) -> Iterator[Hash]:
    """The hash of `mine`, with some text of the file replaced."""
    names: list[str] = []

    def run(*replacements: tuple[str, str], folder: str = "a") -> str:
        source = SOURCE
        for old, new in replacements:
            assert old in source
            source = source.replace(old, new)
        name = f"mine{len(names)}"
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        names.append(name)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        assert isinstance(module.mine, PlannedKernel)
        return module.mine.source_hash

    yield run
    for name in names:
        del sys.modules[name]


@pytest.mark.parametrize(
    "edit",
    [
        ("    n = x.numel()  # all of it", "    n = x.numel() + 1"),
        ("WIDTH=width_of(x)", "WIDTH=16"),
        ('config["BLOCK"]), outputs', '2 * config["BLOCK"]), outputs'),
        ("y = torch.empty_like(x)", "y = torch.empty_like(x, dtype=torch.float16)"),
        ("outputs=y,", "outputs=y, zeroed=y,"),
        ("return x * SCALE", "return x - SCALE"),
        ("tl.constexpr(0.5)", "tl.constexpr(0.25)"),
        ("mask=place < n)), mask", "mask=place < n, other=1)), mask"),
        ("return rounded(x.shape[0])", "return rounded(2 * x.shape[0])"),
        ("return max(ROUND, n", "return min(ROUND, n"),
        ("least=8", "least=4"),
        ("ROUND = 16", "ROUND = 32"),
        ("-(-a // b)", "a // b + 1"),
        ('arguments["n"] % arguments["BLOCK"] == 0', "False"),
        ("        my_kernel, y, x, n, WIDTH=width_of(x)", "        stranger, y, x, n"),
        ("def mine(x, eps=1e-6)", "def mine(x, epsilon=1e-6)"),
    ],
    ids=[
        "the plan",
        "an argument",
        "the grid",
        "an output",
        "what is zeroed",
        "a function of the kernel",
        "a constant of the kernel",
        "the kernel",
        "a function of the plan",
        "a function of that",
        "a default of that",
        "a number of that",
        "a lambda",
        "a heuristic",
        "another kernel",
        "a scalar's name",
    ],
)
def test_what_makes_it_another_kernel(edit: tuple[str, str], hash_of: Hash) -> None:
    edits = [edit]
    if "epsilon" in edit[1]:
        edits.append(("lambda x, eps:", "lambda x, epsilon:"))
    assert hash_of(*edits) != hash_of()


@pytest.mark.parametrize(
    "edit",
    [
        ("  # all of it", ""),
        ("  # the sizes", "  # others"),
        ('    """One line."""\n', ""),
        ('    """How wide."""\n', ""),
        ("What it computes.", "What it gives."),
        ("ROUND = 16", "\n\n# above\nROUND = 16"),
        ("eps=1e-6", "eps=1e-5"),
        ("UNUSED = 1", "UNUSED = 2"),
        ("return 3", "return 4"),
        ("tl.store(y, tl.load(x))", "tl.store(y, 0.0)"),
        ("lambda x, eps: x / 2", "lambda x, eps: x * 0.5"),
        ("[64, 128]", "[64, 256]"),
        ('{"x": ("n",)}', '{"x": ("size",)}'),
        ("    y = torch.empty_like(x)\n", "\n    y = torch.empty_like( x )\n\n"),
    ],
    ids=[
        "a comment",
        "a comment of a function",
        "the docstring",
        "a function's docstring",
        "the kernel's docstring",
        "lines above",
        "a scalar's default",
        "a number that is not named",
        "a function that is not called",
        "a kernel that is not launched",
        "the reference",
        "the space",
        "names of sizes",
        "spaces",
    ],
)
def test_what_is_the_same_kernel(edit: tuple[str, str], hash_of: Hash) -> None:
    assert hash_of(edit) == hash_of()


def test_where_the_file_lies_does_not_matter(hash_of: Hash) -> None:
    assert hash_of() == hash_of(folder="b")


def test_a_plan_without_source_is_refused() -> None:
    namespace: dict[str, object] = {"__name__": "made_up"}
    exec("import tunekit\n@tunekit.kernel(space={'B': [1]})\ndef mine(x): pass\n", namespace)
    kernel = namespace["mine"]
    assert isinstance(kernel, PlannedKernel)
    with pytest.raises(KernelError, match=r"mine: its source cannot be read; define it in a file$"):
        _ = kernel.source_hash
