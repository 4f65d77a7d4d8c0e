from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import triton
import triton.language as tl

from tunekit.autotuning.identity import kernel_hash, kernel_name
from tunekit.kernels.source_hash import source_hash

Made = Callable[..., ModuleType]

SOURCE = """
import triton
import triton.language as tl

SIZE = 16

@triton.heuristics({
    "EVEN": lambda args: args["n"] % args["BLOCK"] == 0,
    "WIDE": lambda args: args["n"] > 1024,
})
@triton.jit
def kernel(x_ptr, n, BLOCK: tl.constexpr, EVEN: tl.constexpr, WIDE: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), 1.0)
"""


@triton.jit
def bare_kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), 1.0)


def test_a_kernel_is_its_module_and_its_name(module: Made) -> None:
    assert kernel_name(bare_kernel) == f"{__name__}:bare_kernel"
    assert kernel_name(module(SOURCE).kernel) == "theirs:kernel"


def test_a_kernel_of_a_function_says_so() -> None:
    @triton.jit
    def inner_kernel(x_ptr):
        tl.store(x_ptr, 1.0)

    assert kernel_name(inner_kernel).endswith("of_a_function_says_so.<locals>.inner_kernel")


@pytest.mark.parametrize(
    ("main", "name"),
    [
        ({"__spec__": None, "__file__": "/some/where/train.py"}, "train"),
        ({"__spec__": type("Spec", (), {"name": "package.tool"})}, "package.tool"),
        ({"__spec__": type("Spec", (), {"name": "package.__main__"})}, "package"),
        ({"__spec__": None}, "__main__"),
    ],
)
def test_what_a_script_defines_is_named_as_where_it_is_imported(
    main: dict[str, object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("__main__")
    vars(module).update(main)
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(bare_kernel.fn, "__module__", "__main__")
    assert kernel_name(bare_kernel) == f"{name}:bare_kernel"


def test_without_heuristics_the_hash_is_the_sources() -> None:
    assert kernel_hash(bare_kernel) == source_hash(bare_kernel)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("SIZE = 16", "SIZE = 16\n# a comment\n\n", True),
        ("@triton.heuristics({\n", "@triton.heuristics({ # chosen\n\n", True),
        ('args["n"] % args["BLOCK"] == 0', 'args["n"] % 32 == 0', False),
        ("> 1024", "> 2048", False),
        ('"WIDE": lambda', '"WIDTH": lambda', False),
        ("x_ptr + tl.arange(0, BLOCK), 1.0", "x_ptr + tl.arange(0, BLOCK), 2.0", False),
    ],
)
def test_the_hash_is_of_the_source_and_of_the_heuristics(
    before: str, after: str, same: bool, module: Made
) -> None:
    assert before in SOURCE
    first = kernel_hash(module(SOURCE, "one").kernel)
    other = kernel_hash(module(SOURCE.replace(before, after), "other").kernel)
    assert (first == other) is same


def test_a_heuristic_may_be_a_function_or_anything_callable(module: Made) -> None:
    source = SOURCE.replace(
        "@triton.heuristics",
        "def even(args):\n    return args['n'] % 2 == RULE\n\n\n@triton.heuristics",
    ).replace('lambda args: args["n"] % args["BLOCK"] == 0', "even")
    hashes = {
        kernel_hash(module(source.replace("RULE", rule), f"with{rule}").kernel) for rule in "01"
    }
    assert len(hashes) == 2
    from functools import partial

    odd = triton.heuristics({"BLOCK": partial(max, 16)})(bare_kernel)
    assert kernel_hash(odd) != kernel_hash(bare_kernel)
