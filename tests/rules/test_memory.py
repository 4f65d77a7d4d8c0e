from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tunekit.kernels.plan import (
    Constant,
    Group,
    Input,
    Integer,
    Launch,
    Output,
    Scalar,
    Slot,
    TensorMeta,
)
from tunekit.rules.memory import read_arguments
from tunekit.rules.ranges import Range, Unknown
from tunekit.rules.ttir import Function, UnreadableError, Value, parse_type

X = TensorMeta.contiguous((2, 3), "float16")
POINTER, INTEGER, FLOAT = "!tt.ptr<f16>", "i32", "f32"


def function(*types: str) -> Function:
    names = [f"p{number}" for number in range(len(types))]
    parameters = [
        Value(f"%{name}", parse_type(type_)) for name, type_ in zip(names, types, strict=True)
    ]
    return Function("mine", parameters, names, [])


def launch(arguments: Mapping[str, Slot], inputs: int = 1, outputs: int = 1) -> Launch:
    return Launch(None, arguments, (X,) * inputs, (X,) * outputs, {}, lambda config: (1, 1, 1))


def test_each_parameter_is_what_was_passed() -> None:
    signature = {"x": "*fp16", "y": "*fp16", "n": "i32", "scale": "fp32"}
    slots = {"x": Input(0), "y": Output(0), "n": Integer(6), "scale": Scalar("scale")}
    arguments, memories = read_arguments(
        function(POINTER, POINTER, INTEGER, FLOAT), signature, launch(slots), {}
    )
    x, y, n, scale = arguments
    assert isinstance(x, Range)
    assert isinstance(y, Range)
    assert isinstance(n, Range)
    assert (x.memory, y.memory, n.lo.tolist()) == (0, 1, [6])
    assert scale == Unknown("the scalar scale")
    assert [str(each) for each in memories.values()] == ["x (input 0)", "y (output 0)"]
    assert memories[0].extent_bytes == 12
    assert memories[0].is_dense


def test_constants_and_what_was_folded_in_are_no_parameters() -> None:
    signature = {"x": "*fp16", "one": "constexpr", "BLOCK": "constexpr", "n": "i32"}
    slots = {"x": Input(0), "one": Integer(1), "BLOCK": Constant(4), "n": Integer(6)}
    arguments, _ = read_arguments(function(POINTER, INTEGER), signature, launch(slots), {})
    assert len(arguments) == 2


def test_a_group_is_several_parameters() -> None:
    signature = {"xs": ("*fp16", "*fp16"), "sizes": ("i32", "constexpr")}
    slots = {"xs": Group((Input(0), Input(1))), "sizes": Group((Integer(6), Integer(1)))}
    arguments, memories = read_arguments(
        function(POINTER, POINTER, INTEGER), signature, launch(slots, inputs=2), {}
    )
    assert len(arguments) == 3
    assert [str(each) for each in memories.values()] == ["xs[0] (input 0)", "xs[1] (input 1)"]


def test_a_tensor_passed_twice_is_one_memory() -> None:
    signature = {"x": "*fp16", "y": "*fp16"}
    slots: dict[str, Slot] = {"x": Output(0), "y": Output(0)}
    in_place = replace(launch(slots), starts=(Input(0),))
    arguments, memories = read_arguments(function(POINTER, POINTER), signature, in_place, {})
    assert [each.memory for each in arguments if isinstance(each, Range)] == [0, 0]
    assert [str(each) for each in memories.values()] == ["x/y (output 0, in place of input 0)"]


def test_a_buffer_is_no_result() -> None:
    slots: dict[str, Slot] = {"y": Output(0), "z": Output(1)}
    buffered = replace(launch(slots, outputs=2), result_count=1)
    _, memories = read_arguments(
        function(POINTER, POINTER), {"y": "*fp16", "z": "*fp16"}, buffered, {}
    )
    assert [each.is_result for each in memories.values()] == [True, False]
    assert str(memories[1]) == "z (output 1, a buffer)"


def test_what_heuristics_add_is_taken_from_what_was_bound() -> None:
    signature = {"x": "*fp16", "rows": "i32", "EVEN": "constexpr"}
    arguments, _ = read_arguments(
        function(POINTER, INTEGER), signature, launch({"x": Input(0)}), {"rows": 7, "EVEN": True}
    )
    assert isinstance(arguments[1], Range)
    assert arguments[1].lo.tolist() == [7]


def test_a_kernel_with_other_parameters_is_refused() -> None:
    slots: dict[str, Slot] = {"x": Input(0)}
    with pytest.raises(UnreadableError, match="has 2 parameters, and the launch passes 1"):
        read_arguments(function(POINTER, INTEGER), {"x": "*fp16"}, launch(slots), {})
