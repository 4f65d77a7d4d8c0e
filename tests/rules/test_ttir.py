from __future__ import annotations

import pytest

from tunekit.rules.ttir import Op, Type, UnreadableError, element_bytes, parse_ttir, parse_type

KERNEL = """
#loc = loc("/home/me/mine.py":7:0)
#loc2 = loc("x"(#loc))
module {
  tt.func public @mine(%x: !tt.ptr<f32> {tt.divisibility = 16 : i32} loc("x"(#loc)), %n: i32 loc("n"(#loc))) attributes {noinline = false} {
%s
    tt.return loc(#loc5)
  } loc(#loc)
} loc(#loc)
#loc1 = loc(unknown)
#loc3 = loc("/home/me/mine.py":12:4)
#loc4 = loc("value"(#loc3))
#loc5 = loc(callsite(#loc4 at #loc6))
#loc6 = loc("/home/me/other.py":3:9)
"""  # noqa: E501


def ops(body: str) -> list[Op]:
    return list(parse_ttir(KERNEL.replace("%s", body)).ops())[:-1]


def only(body: str) -> Op:
    (op,) = ops(body)
    return op


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i32", Type((), "i32")),
        ("tensor<1024xf32>", Type((1024,), "f32")),
        ("tensor<16x64x!tt.ptr<f16>>", Type((16, 64), "!tt.ptr<f16>")),
        ("!tt.ptr<bf16>", Type((), "!tt.ptr<bf16>")),
    ],
)
def test_types(text: str, expected: Type) -> None:
    assert parse_type(text) == expected


def test_what_a_type_says() -> None:
    pointers = parse_type("tensor<16x64x!tt.ptr<f16, 1>>")
    assert (pointers.numel, pointers.is_pointer, pointers.is_integer) == (1024, True, False)
    assert pointers.pointee_bytes == 2
    assert parse_type("tensor<4xi1>").is_integer


@pytest.mark.parametrize(
    ("element", "size"),
    [("f32", 4), ("bf16", 2), ("f8E4M3FN", 1), ("i1", 1), ("i8", 1), ("i64", 8), ("f64", 8)],
)
def test_bytes_of_an_element(element: str, size: int) -> None:
    assert element_bytes(element) == size


def test_parameters() -> None:
    function = parse_ttir(KERNEL.replace("%s", ""))
    assert function.name == "mine"
    assert [each.name for each in function.parameters] == ["%x", "%n"]
    assert function.labels == ["x", "n"]
    assert [each.type.element for each in function.parameters] == ["!tt.ptr<f32>", "i32"]


def test_an_operation() -> None:
    op = only("%0 = tt.splat %n : i32 -> tensor<64xi32> loc(#loc5)")
    assert (op.name, op.text, op.width) == ("tt.splat", "%n", 64)
    assert [each.name for each in op.operands if each] == ["%n"]
    assert op.result_type == Type((64,), "i32")
    assert str(op.place) == "mine.py:12"
    assert op.place.key == (("mine.py", 12, 4), ("other.py", 3, 9))


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("%0 = arith.constant true loc(#loc1)", Type((), "i1")),
        ("%0 = arith.constant dense<2.0> : tensor<8xf32> loc(#loc1)", Type((8,), "f32")),
        ("%0 = arith.cmpi slt, %n, %n : i32 loc(#loc1)", Type((), "i1")),
        ("%0 = arith.truncf %n : tensor<8xf32> to tensor<8xf16> loc(#loc1)", Type((8,), "f16")),
        (
            "%0 = arith.select %a, %b, %c : tensor<8xi1>, tensor<8xf32> loc(#loc1)",
            Type((8,), "f32"),
        ),
        ("%0 = tt.load %a, %b, %c : tensor<8x!tt.ptr<f16>> loc(#loc1)", Type((8,), "f16")),
        (
            "%0 = tt.addptr %a, %b : tensor<8x!tt.ptr<f32>>, tensor<8xi32> loc(#loc1)",
            Type((8,), "!tt.ptr<f32>"),
        ),
        (
            "%0 = tt.dot %a, %b, %c : tensor<8x4xf16> * tensor<4x2xf16> -> tensor<8x2xf32> loc(#l)",
            Type((8, 2), "f32"),
        ),
        (
            "%0 = tt.atomic_rmw fadd, acq_rel, gpu, %a, %b : (!tt.ptr<f32>, f32) -> f32 loc(#loc1)",
            Type((), "f32"),
        ),
        (
            '%0 = tt.elementwise_inline_asm "mov.b32 %r1, $0; // : {" {pure = true} %n : i32 -> i32'
            " loc(#loc1)",
            Type((), "i32"),
        ),
    ],
)
def test_result_types(line: str, result: Type) -> None:
    assert only(line).result_type == result


def test_names_in_inline_assembly_are_no_operands() -> None:
    op = only('%0 = tt.elementwise_inline_asm "mov.b32 %n, $0;" {pure = true} %n : i32 -> i32')
    assert [each.name for each in op.operands if each] == ["%n"]


def test_attributes() -> None:
    line = "%r = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32> loc(#loc1)"
    assert only(line).attribute("end") == 128
    assert only(line).attribute("axis") is None


def test_several_results() -> None:
    first, second = ops(
        "%a, %b = tt.split %n : tensor<8x2xf32> -> tensor<8xf32> loc(#loc1)\n"
        "%c = arith.addf %a, %b : tensor<8xf32> loc(#loc1)"
    )
    assert [each.name for each in first.results] == ["%a", "%b"]
    assert [each.op for each in second.operands if each] == [first, first]


def test_a_branch() -> None:
    branch = ops(
        """
        %0 = arith.cmpi slt, %n, %n : i32 loc(#loc1)
        %1 = scf.if %0 -> (i32) {
          %2 = arith.addi %n, %n : i32 loc(#loc1)
          scf.yield %2 : i32 loc(#loc1)
        } else {
          %2 = arith.muli %n, %n : i32 loc(#loc1)
          scf.yield %2 : i32 loc(#loc1)
        } loc(#loc3)
        """
    )[1]
    assert branch.result_type == Type((), "i32")
    assert str(branch.place) == "mine.py:12"
    names = [[op.name for op in region[0].ops] for region in branch.regions]
    assert names == [["arith.addi", "scf.yield"], ["arith.muli", "scf.yield"]]
    # The same name in the two regions is not the same value.
    yields = [region[0].ops[-1].operands[0] for region in branch.regions]
    assert [each.op.name for each in yields if each and each.op] == ["arith.addi", "arith.muli"]


def test_a_loop() -> None:
    loop, after = (
        op
        for op in ops(
            """
            %0:2 = scf.for %k = %n to %n step %n iter_args(%p = %x, %i = %n) -> (!tt.ptr<f32>, i32)  : i32 {
              %1 = arith.addi %i, %k : i32 loc(#loc1)
              scf.yield %p, %1 : !tt.ptr<f32>, i32 loc(#loc1)
            } loc(#loc1)
            %2 = arith.addi %0#1, %n : i32 loc(#loc1)
            """  # noqa: E501
        )
        if op.name in ("scf.for", "arith.addi") and op.text != "%i, %k"
    )
    assert [each.name for each in loop.operands if each] == ["%n", "%n", "%n", "%x", "%n"]
    (block,) = loop.regions[0]
    assert [each.name for each in block.arguments] == ["%k", "%p", "%i"]
    assert [each.type.element for each in loop.results] == ["!tt.ptr<f32>", "i32"]
    assert after.operands[0] is loop.results[1]


def test_a_loop_that_carries_nothing() -> None:
    (loop,) = ops("scf.for %k = %n to %n step %n  : i32 {\n} loc(#loc1)")
    assert len(loop.operands) == 3
    assert [each.name for each in loop.regions[0][0].arguments] == ["%k"]


def test_a_while_loop() -> None:
    loop = ops(
        """
        %i:2 = scf.while (%a = %x, %b = %n) : (!tt.ptr<f32>, i32) -> (!tt.ptr<f32>, i32) {
          %1 = arith.cmpi slt, %b, %n : i32 loc(#loc1)
          scf.condition(%1) %a, %b : !tt.ptr<f32>, i32 loc(#loc1)
        } do {
        ^bb0(%a: !tt.ptr<f32> loc("a"), %b: i32 loc("b")):
          scf.yield %a, %b : !tt.ptr<f32>, i32 loc(#loc1)
        } loc(#loc1)
        """
    )[0]
    before, after = loop.regions
    assert [each.name for each in before[0].arguments] == ["%a", "%b"]
    assert [each.name for each in after[0].arguments] == ["%a", "%b"]
    assert before[0].ops[-1].name == "scf.condition"
    assert before[0].ops[-1].operands[1] is before[0].arguments[0]
    assert after[0].ops[0].operands[1] is after[0].arguments[1]


def test_a_reduction() -> None:
    reduction = ops(
        """
        %m = "tt.reduce"(%x) <{axis = 0 : i32}> ({
        ^bb0(%a: f32 loc(callsite(#loc1 at #loc3)), %b: f32 loc(callsite(#loc1 at #loc3))):
          %c = arith.addf %a, %b : f32 loc(#loc1)
          tt.reduce.return %c : f32 loc(#loc1)
        }) : (tensor<256xf32>) -> f32 loc(#loc3)
        """
    )[0]
    assert (reduction.name, reduction.result_type) == ("tt.reduce", Type((), "f32"))
    assert [each.name for each in reduction.regions[0][0].arguments] == ["%a", "%b"]


def test_blocks() -> None:
    function = parse_ttir(
        KERNEL.replace(
            "%s",
            """
            %0 = arith.cmpi slt, %n, %n : i32 loc(#loc1)
            cf.cond_br %0, ^bb1, ^bb2(%n : i32) loc(#loc1)
            ^bb1:  // pred: ^bb0
            tt.return loc(#loc1)
            ^bb2(%1: i32 loc("one")):  // pred: ^bb0
            """,
        )
    )
    assert [block.label for block in function.blocks] == ["", "^bb1", "^bb2"]
    assert [each.name for each in function.blocks[2].arguments] == ["%1"]


@pytest.mark.parametrize("text", ["", "module {\n}", KERNEL.partition("tt.return")[0]])
def test_what_is_no_kernel_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError, match="TTIR"):
        parse_ttir(text)
