from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from tunekit.autotuning.problem import Kernel, describe
from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Provenance, Source, Status
from tunekit.records import evaluation_from_dict, evaluation_to_dict

KERNEL = Kernel(
    name="theirs:kernel",
    source_hash="0" * 12,
    arg_names=("x", "y", "n", "m", "scale", "HOW", "D", "BLOCK"),
    constexprs=frozenset({"HOW", "D", "BLOCK"}),
    keys=("n", "m"),
    axes=frozenset({"BLOCK"}),
)
ARGUMENTS: dict[str, Any] = {
    "x": torch.empty(64), "y": torch.empty(64), "n": 64, "m": 7, "scale": 0.5, "HOW": "plus",
    "D": 128,
}  # fmt: skip


@triton.jit
def plus(a, b):
    return a + b


class Pair(NamedTuple):
    first: Any
    second: Any


def described(kernel: Kernel = KERNEL, **others: Any) -> Any:
    return describe(kernel, {**ARGUMENTS, **others}, "h100")


def test_sizes_are_the_keys_and_the_rest_is_the_class() -> None:
    found = described()
    problem = found.problem
    assert dict(problem.dims) == {"n": 64, "m": 7}
    assert (problem.dtype, problem.device) == ("float32", "h100")
    assert problem.alignment == "p16,p16,i32x16,i32,float,=plus,=128"
    assert (found.shape, found.itemsize) == ((64, 7), 4)


@pytest.mark.parametrize(
    ("others", "part"),
    [
        ({"x": torch.empty(65)[1:]}, "p1,"),
        ({"y": torch.empty(64, dtype=torch.int32)}, "p16:int32"),
        ({"y": None}, "p16,NoneType"),
        ({"n": 1}, ",1,i32,"),
        ({"n": 2**40}, "i64x16"),
        ({"m": True}, ",bool=True,"),
        ({"scale": 2}, "i32,i32,=plus"),
        ({"HOW": plus}, "=plus@"),
        ({"HOW": tl.float16}, "=fp16"),
        ({"HOW": None}, "=None"),
        ({"HOW": "a, b\x1b[31m" * 40}, "=a; b\\x1b[31m"),
        ({"y": (torch.empty(4), 3)}, "(p16 i32)"),
        ({"y": Pair(torch.empty(4, dtype=torch.float16), None)}, "(p16:float16 NoneType)"),
        ({"y": TensorDescriptor.from_tensor(torch.empty(16, 16), [8, 8])}, "p16,d,"),
        ({"y": triton.reinterpret(torch.empty(4), tl.int32)}, "p16:int32"),
    ],
)
def test_what_a_binary_depends_on_is_in_the_class(others: dict[str, Any], part: str) -> None:
    assert part in described(**others).problem.alignment


def test_the_dtype_is_of_the_first_tensor_of_floats() -> None:
    found = described(x=torch.empty(4, dtype=torch.int8), y=torch.empty(4, dtype=torch.bfloat16))
    assert (found.problem.dtype, found.itemsize) == ("bfloat16", 2)
    assert found.problem.alignment.startswith("p16:int8,p16,")
    assert described(x=3, y=3).problem.dtype == "none"
    assert described(x=3, y=torch.empty(4, dtype=torch.int8)).problem.dtype == "int8"


@pytest.mark.parametrize("value", [-1, 2**60, "rows", 0.5, None])
def test_a_key_that_is_no_size_tells_problems_apart_all_the_same(value: object) -> None:
    found = described(m=value)
    assert dict(found.problem.dims) == {"n": 64}
    assert found.problem != described(m=8 if value == 7 else "other").problem


def test_a_key_that_is_a_constant_is_a_size() -> None:
    found = describe(replace(KERNEL, keys=("D",)), ARGUMENTS, "h100")
    assert dict(found.problem.dims) == {"D": 128}
    assert found.problem.alignment.endswith("=plus")


def test_without_a_key_there_is_one_problem() -> None:
    found = describe(replace(KERNEL, keys=()), ARGUMENTS, "h100")
    assert dict(found.problem.dims) == {"any": 1}


def test_a_long_class_is_a_hash_of_it() -> None:
    names = tuple(f"p{place}" for place in range(300))
    kernel = replace(KERNEL, arg_names=names)
    found = describe(kernel, dict.fromkeys(names, 16), "h100")
    assert found.problem.alignment.startswith("sha256:")
    other = describe(kernel, {**dict.fromkeys(names, 16), "p299": 17}, "h100")
    assert other.problem != found.problem


@pytest.mark.parametrize("others", [{}, {"n": 0}, {"HOW": "ü\n"}, {"x": 3, "y": 3, "m": "all"}])
def test_a_database_can_hold_it(others: dict[str, Any]) -> None:
    found = described(**others)
    row = Evaluation(
        problem=found.problem,
        shape=found.shape,
        config=Config(BLOCK=64),
        status=Status.ERROR,
        source=Source.MEASURED,
        provenance=Provenance("H100", 1, "1", "2", "3", "4", "p", "2026-01-01T00:00:00Z"),
    )
    assert evaluation_from_dict(evaluation_to_dict(row)) == row
