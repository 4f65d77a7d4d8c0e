from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.problem import ITEMSIZES, Problem, parse_dtype, parse_shape
from tunekit.errors import ShapeError, UsageError

PROBLEM = Problem.of("mish_mish", "0a1b", {"n": 4096}, "float32", "aligned", "h100")
SHAPES = st.one_of(
    st.lists(st.integers(1, 255), min_size=1, max_size=5),
    st.lists(st.integers(1, (1 << 24) - 1), min_size=1, max_size=2),
).map(tuple)


@given(SHAPES, st.sampled_from([",", "x", ", ", " x "]))
def test_a_shape_is_read_back(shape: tuple[int, ...], separator: str) -> None:
    assert parse_shape(separator.join(map(str, shape))) == shape


@given(SHAPES)
def test_a_shape_is_read_as_python_and_torch_print_it(shape: tuple[int, ...]) -> None:
    assert parse_shape(str(list(shape))) == shape
    if len(shape) > 1:
        assert parse_shape(str(shape)) == shape


@pytest.mark.parametrize("text", ["", ",", "64,", "64,,2", "sixty", "1.5", "64;128", "64 128"])
def test_what_is_no_shape_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ShapeError, match="such as 64,128,254,254") as caught:
        parse_shape(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9" * 4000, "too many elements"),
        ("16777216,16777216", "too many elements"),
        (",".join("1" * 33), "at most 32 dims"),
        ("9" * 5000, "expected positive integers"),
    ],
)
def test_a_shape_has_bounds(text: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        parse_shape(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["0", "64,0", "-1", "64,-128"])
def test_a_dim_must_be_positive(text: str) -> None:
    with pytest.raises(ShapeError, match="at least 1"):
        parse_shape(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("float32", "float32"),
        ("fp32", "float32"),
        ("torch.float16", "float16"),
        ("half", "float16"),
        ("BF16", "bfloat16"),
        ("torch.bfloat16", "bfloat16"),
    ],
)
def test_a_dtype_has_one_name(text: str, name: str) -> None:
    assert parse_dtype(text) == name


@pytest.mark.parametrize("text", ["", "int7", "complex64", "float"])
def test_a_dtype_that_is_not_tuned_is_refused_with_the_list(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_dtype(text)
    assert repr(text) in str(caught.value)
    assert all(name in str(caught.value) for name in ITEMSIZES)


def test_dims_are_kept_in_one_order() -> None:
    given_as = [("n", 2), ("k", 3), ("m", 1)]
    problem = Problem.of("matmul", "0a1b", given_as, "float16", "aligned", "h100")
    again = Problem.of("matmul", "0a1b", dict(reversed(given_as)), "float16", "aligned", "h100")
    assert problem.dims == (("k", 3), ("m", 1), ("n", 2))
    assert problem == again
    assert hash(problem) == hash(again)


def test_the_key_is_written_in_stone() -> None:
    """It names studies in databases that people keep: a change of it loses what they measured."""
    assert PROBLEM.key == "mish_mish@0a1b[n=4096]:float32:aligned:h100"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kernel", "gelu"),
        ("kernel_hash", "ffff"),
        ("dims", (("n", 4097),)),
        ("dtype", "float16"),
        ("alignment", "odd"),
        ("device", "h200"),
    ],
)
def test_every_field_tells_problems_apart(field: str, value: Any) -> None:
    other = dataclasses.replace(PROBLEM, **{field: value})
    assert other != PROBLEM
    assert other.key != PROBLEM.key


def test_every_field_is_covered_above() -> None:
    assert [field.name for field in dataclasses.fields(Problem)] == [
        *("kernel", "kernel_hash", "dims", "dtype", "alignment", "device")
    ]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBLEM.dtype = "float16"  # type: ignore[misc]


@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_itemsize(dtype: str, itemsize: int) -> None:
    assert dataclasses.replace(PROBLEM, dtype=dtype).itemsize == itemsize
