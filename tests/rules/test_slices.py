from __future__ import annotations

import numpy as np
import pytest

from tunekit.rules.follow import follow
from tunekit.rules.ranges import Range, Unknown
from tunekit.rules.slices import stores_only
from tunekit.rules.survey import ids_of
from tunekit.rules.trace import Trace
from tunekit.rules.ttir import Function, parse_ttir

KERNEL = """
module {
  tt.func public @mine(%x: !tt.ptr<f32> loc("x"(#loc)), %n: i32 loc("n"(#loc)), %s: f32 loc("s"(#loc))) attributes {} {
    %zero = arith.constant 0 : i32 loc(#loc)
    %one = arith.constant 1 : i32 loc(#loc)
    %pid = tt.get_program_id x : i32 loc(#loc)
%s
    tt.return loc(#loc)
  } loc(#loc)
}
#loc = loc("/home/me/mine.py":7:0)
"""  # noqa: E501
SUM = """
    %total = scf.for %k = %zero to %n step %one iter_args(%sum = %s) -> (f32)  : i32 {
      %q = tt.addptr %x, %k : !tt.ptr<f32>, i32 loc(#loc)
      %v = tt.load %q : !tt.ptr<f32> loc(#loc)
      %next = arith.addf %sum, %v : f32 loc(#loc)
      scf.yield %next : f32 loc(#loc)
    } loc(#loc)
    %y = tt.addptr %x, %pid : !tt.ptr<f32>, i32 loc(#loc)
    tt.store %y, %total : !tt.ptr<f32> loc(#loc)
"""
MOVED = """
    %at = scf.for %k = %zero to %n step %one iter_args(%p = %x) -> (!tt.ptr<f32>)  : i32 {
      %v = tt.load %p : !tt.ptr<f32> loc(#loc)
      %next = tt.addptr %p, %one : !tt.ptr<f32>, i32 loc(#loc)
      %even = arith.cmpi sgt, %k, %one : i32 loc(#loc)
      scf.if %even {
        tt.store %p, %v : !tt.ptr<f32> loc(#loc)
      } loc(#loc)
      scf.yield %next : !tt.ptr<f32> loc(#loc)
    } loc(#loc)
    tt.store %at, %s : !tt.ptr<f32> loc(#loc)
"""
JUMPS = """
    %late = arith.cmpi sge, %pid, %n : i32 loc(#loc)
    cf.cond_br %late, ^bb2, ^bb1(%one : i32) loc(#loc)
    ^bb1(%k: i32 loc("k")):  // pred: ^bb0
    %v = tt.load %x : !tt.ptr<f32> loc(#loc)
    %y = tt.addptr %x, %k : !tt.ptr<f32>, i32 loc(#loc)
    tt.store %y, %v : !tt.ptr<f32> loc(#loc)
    cf.br ^bb2 loc(#loc)
    ^bb2:  // 2 preds: ^bb0, ^bb1
"""


def traced(function: Function) -> Trace:
    arguments = [Range.of(0, memory=0), Range.of(4), Unknown("the scalar s")]
    grid = (6, 1, 1)
    ids = ids_of(np.arange(6), grid)
    return follow(function, arguments, grid, ids, lanes=True, allowed=10**6)


@pytest.mark.parametrize("body", [SUM, MOVED, JUMPS])
def test_what_is_stored_is_stored_at_the_same_places(body: str) -> None:
    function = parse_ttir(KERNEL.replace("%s\n", body, 1))
    whole, slim = traced(function), traced(stores_only(function))
    assert {event.kind for event in slim.events} == {"store"}
    stores = [event for event in whole.events if event.kind == "store"]
    assert len(stores) == len(slim.events) > 0
    for one, other in zip(stores, slim.events, strict=True):
        assert one.op is other.op
        assert (one.memory, one.size) == (other.memory, other.size)
        assert one.must.tolist() == other.must.tolist()
        assert one.lo.tolist() == other.lo.tolist()


def test_a_loop_that_only_computes_the_value_is_left_out() -> None:
    slim = stores_only(parse_ttir(KERNEL.replace("%s\n", SUM, 1)))
    assert [op.name for op in slim.ops()] == [
        "tt.get_program_id",
        "tt.addptr",
        "tt.store",
        "tt.return",
    ]
