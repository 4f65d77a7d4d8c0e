"""Programs followed through the text of kernels: lane by lane, and block by block."""

from __future__ import annotations

import numpy as np
import pytest

from tunekit.rules.follow import follow
from tunekit.rules.ranges import Range, Unknown
from tunekit.rules.survey import ids_of
from tunekit.rules.trace import Event, Trace
from tunekit.rules.ttir import Function, parse_ttir

HEAD = """
module {
  tt.func public @mine(%x: !tt.ptr<f32> loc("x"(#loc)), %n: i32 loc("n"(#loc)), %s: f32 loc("s"(#loc))) attributes {} {
    %zero = arith.constant 0 : i32 loc(#loc)
    %one = arith.constant 1 : i32 loc(#loc)
    %four = arith.constant 4 : i32 loc(#loc)
    %pid = tt.get_program_id x : i32 loc(#loc)
    %start = arith.muli %pid, %four : i32 loc(#loc)
    %range = tt.make_range {end = 4 : i32, start = 0 : i32} : tensor<4xi32> loc(#loc)
    %starts = tt.splat %start : i32 -> tensor<4xi32> loc(#loc)
    %o = arith.addi %starts, %range : tensor<4xi32> loc(#loc)
    %xs = tt.splat %x : !tt.ptr<f32> -> tensor<4x!tt.ptr<f32>> loc(#loc)
    %p = tt.addptr %xs, %o : tensor<4x!tt.ptr<f32>>, tensor<4xi32> loc(#loc)
"""  # noqa: E501
TAIL = """
    tt.return loc(#loc)
  } loc(#loc)
}
#loc = loc("/home/me/mine.py":7:0)
"""
MASKED = """
    %ns = tt.splat %n : i32 -> tensor<4xi32> loc(#loc)
    %m = arith.cmpi slt, %o, %ns : tensor<4xi32> loc(#loc)
    %v = tt.load %p, %m : tensor<4x!tt.ptr<f32>> loc(#loc)
"""


def read(body: str) -> Function:
    return parse_ttir(HEAD + body + TAIL)


def traced(
    body: str, n: int | None = 10, *, programs: int = 3, lanes: bool = True, allowed: int = 10**6
) -> Trace:
    arguments = [
        Range.of(0, memory=0),
        Unknown("the argument n") if n is None else Range.of(n),
        Unknown("the scalar s"),
    ]
    grid = (programs, 1, 1)
    return follow(
        read(body), arguments, grid, ids_of(np.arange(programs), grid), lanes=lanes, allowed=allowed
    )


def elements(event: Event, program: int) -> list[int]:
    """Which elements a program accesses, by their masks."""

    def of(array: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.int64]:
        row = array[program if len(array) > 1 else 0]
        return np.broadcast_to(row, event.shape).reshape(-1)

    found = of(event.lo) // event.size
    if event.surely is not None:
        found = found[of(event.surely) == 1]
    return [int(each) for each in found] if event.must[program] else []


def test_a_block_and_its_mask() -> None:
    (event,) = traced(MASKED).events
    assert (event.kind, event.memory, event.size, event.lanes) == ("load", 0, 4, 4)
    assert [elements(event, each) for each in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_block_by_block_a_mask_holds_everywhere_nowhere_or_perhaps() -> None:
    (event,) = traced(MASKED, lanes=False, programs=4).events
    assert event.surely is not None
    assert event.perhaps is not None
    assert event.lo.ravel().tolist() == [0, 16, 32, 48]
    assert event.hi.ravel().tolist() == [12, 28, 44, 60]
    assert event.surely.ravel().tolist() == [1, 1, 0, 0]
    assert event.perhaps.ravel().tolist() == [1, 1, 1, 0]


BRANCH = """
    %end = arith.addi %start, %four : i32 loc(#loc)
    %full = arith.cmpi sle, %end, %n : i32 loc(#loc)
    %k = scf.if %full -> (i32) {
      %v = tt.load %p : tensor<4x!tt.ptr<f32>> loc(#loc)
      scf.yield %one : i32 loc(#loc)
    } else {
      scf.yield %four : i32 loc(#loc)
    } loc(#loc)
    %q = tt.addptr %x, %k : !tt.ptr<f32>, i32 loc(#loc)
    tt.store %q, %s : !tt.ptr<f32> loc(#loc)
"""


@pytest.mark.parametrize("lanes", [True, False])
def test_only_those_who_come_to_a_branch_take_it(lanes: bool) -> None:
    load, store = traced(BRANCH, lanes=lanes).events
    assert load.must.tolist() == [True, True, False]
    assert load.may.tolist() == [True, True, False]
    assert (store.lo // 4).ravel().tolist() == [1, 1, 4]


def test_a_branch_on_what_is_not_known_is_taken_perhaps() -> None:
    trace = traced(BRANCH, n=None)
    load, store = trace.events
    assert load.may.all()
    assert not load.must.any()
    assert trace.doubts == ["the branch at mine.py:7 depends on the argument n"]
    assert ((store.lo // 4).min(), (store.hi // 4).max()) == (1, 4)


LOOP = """
    %r = scf.for %k = %pid to %n step %four iter_args(%at = %x) -> (!tt.ptr<f32>)  : i32 {
      %v = tt.load %at : !tt.ptr<f32> loc(#loc)
      %next = tt.addptr %at, %k : !tt.ptr<f32>, i32 loc(#loc)
      scf.yield %next : !tt.ptr<f32> loc(#loc)
    } loc(#loc)
    tt.store %r, %s : !tt.ptr<f32> loc(#loc)
"""


@pytest.mark.parametrize("lanes", [True, False])
def test_a_loop_repeats_for_each_program_as_often_as_it_does(lanes: bool) -> None:
    *loads, store = traced(LOOP, lanes=lanes).events
    # Program 0 sees k = 0, 4, 8; program 1 sees 1, 5, 9; program 2 sees 2, 6.
    assert [[elements(each, program) for each in loads] for program in range(3)] == [
        [[0], [0], [4]],
        [[0], [1], [6]],
        [[0], [2], []],
    ]
    assert (store.lo // 4).ravel().tolist() == [12, 15, 8]


def test_a_loop_of_unknown_length_is_entered_once_and_said() -> None:
    trace = traced(LOOP, n=None)
    load, store = trace.events
    assert trace.doubts == ["how often the loop at mine.py:7 repeats depends on the argument n"]
    assert load.memory is None
    assert not load.must.any()
    assert store.why == "the loop at mine.py:7"


def test_a_loop_that_touches_nothing_is_no_doubt() -> None:
    body = """
    scf.for %k = %zero to %n step %one  : i32 {
      %j = arith.addi %k, %one : i32 loc(#loc)
    } loc(#loc)
    %v = tt.load %p : tensor<4x!tt.ptr<f32>> loc(#loc)
    """
    trace = traced(body, n=None)
    assert trace.doubts == []
    assert len(trace.events) == 1


def test_a_loop_that_never_ends_is_given_up() -> None:
    body = LOOP.replace("step %four", "step %zero")
    trace = traced(body, allowed=10**5)
    assert trace.stopped == "it is longer than is followed here"


WHILE = """
    %r:2 = scf.while (%i = %pid, %at = %x) : (i32, !tt.ptr<f32>) -> (i32, !tt.ptr<f32>) {
      %on = arith.cmpi slt, %i, %n : i32 loc(#loc)
      scf.condition(%on) %i, %at : i32, !tt.ptr<f32> loc(#loc)
    } do {
    ^bb0(%i: i32 loc("i"), %at: !tt.ptr<f32> loc("at")):
      %j = arith.addi %i, %four : i32 loc(#loc)
      %next = tt.addptr %at, %one : !tt.ptr<f32>, i32 loc(#loc)
      scf.yield %j, %next : i32, !tt.ptr<f32> loc(#loc)
    } loc(#loc)
    tt.store %r#1, %s : !tt.ptr<f32> loc(#loc)
"""


@pytest.mark.parametrize("lanes", [True, False])
def test_a_while_loop(lanes: bool) -> None:
    (store,) = traced(WHILE, lanes=lanes).events
    assert (store.lo // 4).ravel().tolist() == [3, 3, 2]


def test_a_jump_over_the_rest() -> None:
    body = """
    %late = arith.cmpi sge, %start, %n : i32 loc(#loc)
    cf.cond_br %late, ^bb1(%four : i32), ^bb2 loc(#loc)
    ^bb2:  // pred: ^bb0
    %v = tt.load %p : tensor<4x!tt.ptr<f32>> loc(#loc)
    cf.br ^bb1(%one : i32) loc(#loc)
    ^bb1(%k: i32 loc("k")):  // 2 preds: ^bb0, ^bb2
    %q = tt.addptr %x, %k : !tt.ptr<f32>, i32 loc(#loc)
    tt.store %q, %s : !tt.ptr<f32> loc(#loc)
    """
    load, store = traced(body, n=8).events
    assert load.must.tolist() == [True, True, False]
    assert store.must.tolist() == [True, True, True]
    assert (store.lo // 4).ravel().tolist() == [1, 1, 4]


def test_an_address_that_is_loaded_is_not_known_and_says_of_what() -> None:
    body = """
    %is = tt.bitcast %p : tensor<4x!tt.ptr<f32>> -> tensor<4x!tt.ptr<i32>> loc(#loc)
    %i = tt.load %is : tensor<4x!tt.ptr<i32>> loc(#loc)
    %q = tt.addptr %xs, %i : tensor<4x!tt.ptr<f32>>, tensor<4xi32> loc(#loc)
    %v = tt.load %q : tensor<4x!tt.ptr<f32>> loc(#loc)
    """
    trace = traced(body)
    first, second = trace.events
    assert (first.memory, first.why) == (0, "")
    assert (second.memory, second.why) == (None, "what is loaded at mine.py:7")
    assert trace.doubts == []


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (
            '%i = tt.elementwise_inline_asm "mov $0, $1;" {pure = true} %o : tensor<4xi32> -> '
            "tensor<4xi32> loc(#loc)",
            "inline assembly at mine.py:7",
        ),
        (
            "%f = arith.sitofp %o : tensor<4xi32> to tensor<4xf32> loc(#loc)\n"
            "%i = arith.fptosi %f : tensor<4xf32> to tensor<4xi32> loc(#loc)",
            "arith.fptosi at mine.py:7",
        ),
        (
            "%i = tt.call @helper(%o) : (tensor<4xi32>) -> tensor<4xi32> loc(#loc)",
            "a function that is not inlined at mine.py:7",
        ),
    ],
)
def test_what_cannot_be_looked_into(op: str, why: str) -> None:
    body = f"{op}\n%q = tt.addptr %xs, %i : tensor<4x!tt.ptr<f32>>, tensor<4xi32> loc(#loc)\n"
    body += "%v = tt.load %q : tensor<4x!tt.ptr<f32>> loc(#loc)\n"
    (event,) = traced(body).events
    assert event.why == why


def test_integers_of_32_bits_overflow_as_they_do() -> None:
    body = """
    %big = arith.constant 1500000000 : i32 loc(#loc)
    %far = arith.muli %pid, %big : i32 loc(#loc)
    %q = tt.addptr %x, %far : !tt.ptr<f32>, i32 loc(#loc)
    tt.store %q, %s : !tt.ptr<f32> loc(#loc)
    """
    trace = traced(body)
    assert (trace.events[0].lo // 4).ravel().tolist() == [0, 1500000000, 3000000000 - 2**32]
    assert [op.name for op in trace.overflows] == ["arith.muli"]


def test_what_a_program_that_does_not_come_here_computes_is_nothing() -> None:
    body = """
    %big = arith.constant 1500000000 : i32 loc(#loc)
    %first = arith.cmpi slt, %pid, %one : i32 loc(#loc)
    scf.if %first {
      %far = arith.muli %pid, %big : i32 loc(#loc)
    } loc(#loc)
    """
    assert traced(body).overflows == []


def test_a_transposed_tile() -> None:
    body = """
    %a = tt.expand_dims %o {axis = 0 : i32} : tensor<4xi32> -> tensor<1x4xi32> loc(#loc)
    %b = tt.expand_dims %range {axis = 1 : i32} : tensor<4xi32> -> tensor<4x1xi32> loc(#loc)
    %c = tt.broadcast %a : tensor<1x4xi32> -> tensor<4x4xi32> loc(#loc)
    %d = tt.broadcast %b : tensor<4x1xi32> -> tensor<4x4xi32> loc(#loc)
    %tens = arith.constant dense<10> : tensor<4x4xi32> loc(#loc)
    %e = arith.muli %d, %tens : tensor<4x4xi32> loc(#loc)
    %f = arith.addi %c, %e : tensor<4x4xi32> loc(#loc)
    %g = tt.trans %f {order = array<i32: 1, 0>} : tensor<4x4xi32> -> tensor<4x4xi32> loc(#loc)
    %h = tt.reshape %g : tensor<4x4xi32> -> tensor<16xi32> loc(#loc)
    %ys = tt.splat %x : !tt.ptr<f32> -> tensor<16x!tt.ptr<f32>> loc(#loc)
    %q = tt.addptr %ys, %h : tensor<16x!tt.ptr<f32>>, tensor<16xi32> loc(#loc)
    %v = tt.load %q : tensor<16x!tt.ptr<f32>> loc(#loc)
    """
    (event,) = traced(body).events
    expected = [4 + column + 10 * row for column in range(4) for row in range(4)]
    assert elements(event, 1) == expected
    (block,) = traced(body, lanes=False).events
    assert (block.lo // 4).ravel().tolist() == [0, 4, 8]
    assert (block.hi // 4).ravel().tolist() == [33, 37, 41]
