"""Small kernels: a few that keep every rule, and for each rule one that breaks it and no other.

`find_kernel("tests/rules/kernels.py:NAME")` finds them. They are compiled, never run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.space import Space
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import (
    Descriptor,
    Input,
    Integer,
    Launch,
    Output,
    Slot,
    Start,
    TensorMeta,
)

FLAT = Config(BLOCK_SIZE=1024, num_warps=4)


def _make(
    function: Any,
    config: Config = FLAT,
    *,
    metas: Callable[[Sequence[int], str], tuple[TensorMeta, ...]] | None = None,
    outputs: Callable[[TensorMeta], Sequence[TensorMeta]] = lambda x: [x],
    arguments: Callable[[tuple[TensorMeta, ...]], Mapping[str, Slot]] | None = None,
    grid: Callable[[tuple[TensorMeta, ...], Config], Sequence[int]] | None = None,
    inputs: int = 1,
    results: int | None = None,
    starts: tuple[Start, ...] = (),
) -> Kernel:
    """A kernel of inputs x0, x1, …, outputs y0, y1, … and the number of elements n."""

    def plan(given: Sequence[TensorMeta], device: Device) -> Launch:
        x, made = given[0], tuple(outputs(given[0]))
        if arguments is None:
            own: dict[str, Slot] = {f"x{i}": Input(i) for i in range(len(given))}
            own |= {f"y{i}": Output(i) for i in range(len(made))} | {"n": Integer(x.numel)}
        else:
            own = dict(arguments(tuple(given)))

        def programs(config: Config) -> tuple[int, int, int]:
            if grid is None:
                return (-(-x.numel // config["BLOCK_SIZE"]), 1, 1)
            a, b, c = (*grid(tuple(given), config), 1, 1)[:3]
            return (a, b, c)

        return Launch(
            function, own, tuple(given), made, {"n": x.numel}, programs,
            result_count=results, starts=starts,
        )  # fmt: skip

    space = {"axes": {axis: [size] for axis, size in config.items()}, "default": dict(config)}
    return Kernel(
        name=function.fn.__name__,
        plan=plan,
        reference=None,
        space=Space.of(space, __file__, "test"),
        input_count=inputs,
        scalars={},
        functions=(function,),
        metas=metas,
    )


@triton.jit
def _offsets(n, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    return offsets, offsets < n


@triton.jit
def add(x0, x1, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask) + tl.load(x1 + offsets, mask=mask)
    tl.store(y0 + offsets, x, mask=mask)


@triton.jit
def early_return(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    start = tl.program_id(0) * BLOCK_SIZE
    if start + BLOCK_SIZE > n:
        return
    offsets = start + tl.arange(0, BLOCK_SIZE)
    tl.store(y0 + offsets, tl.load(x0 + offsets) * 2.0)


@triton.jit
def softmax(x0, y0, columns, BLOCK_SIZE: tl.constexpr):
    offsets = tl.arange(0, BLOCK_SIZE)
    row = tl.program_id(0) * columns
    x = tl.load(x0 + row + offsets, mask=offsets < columns, other=float("-inf"))
    e = tl.exp(x - tl.max(x, 0))
    tl.store(y0 + row + offsets, e / tl.sum(e, 0), mask=offsets < columns)


@triton.jit
def in_place(x0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.store(x0 + offsets, tl.load(x0 + offsets, mask=mask) * 2.0, mask=mask)


@triton.jit
def loads_twice(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    first = tl.load(x0 + offsets, mask=mask)
    second = tl.load(x0 + offsets, mask=mask, other=1.0)
    tl.store(y0 + offsets, first * second, mask=mask)


@triton.jit
def two_passes(x0, y0, columns, BLOCK_SIZE: tl.constexpr):
    row = tl.program_id(0) * columns
    total = 0.0
    for start in range(0, columns, BLOCK_SIZE):
        total += tl.sum(tl.load(x0 + row + start + tl.arange(0, BLOCK_SIZE)), 0)
    for start in range(0, columns, BLOCK_SIZE):
        offsets = row + start + tl.arange(0, BLOCK_SIZE)
        tl.store(y0 + offsets, tl.load(x0 + offsets) - total)


@triton.jit
def reads_one_input(x0, x1, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=mask)


@triton.jit
def stores_twice(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask)
    tl.store(y0 + offsets, x, mask=mask)
    tl.store(y0 + offsets, x * 2.0, mask=mask)


@triton.jit
def writes_its_input(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask)
    tl.store(y0 + offsets, x, mask=mask)
    tl.store(x0 + offsets, x, mask=mask)


@triton.jit
def writes_one_output(x0, y0, y1, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=mask)


@triton.jit
def stored_by_pairs(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(0) // 2 * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=mask)


@triton.jit
def through_a_buffer(x0, y0, y1, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.store(y1 + offsets, tl.load(x0 + offsets, mask=mask) * 2.0, mask=mask)
    tl.debug_barrier()
    tl.store(y0 + offsets, tl.load(y1 + offsets, mask=mask) + 1.0, mask=mask)


@triton.jit
def shifts_in_place(x0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    ahead = offsets + BLOCK_SIZE
    tl.store(x0 + offsets, tl.load(x0 + ahead, mask=ahead < n, other=0.0), mask=mask)


@triton.jit
def reads_its_output(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask) + tl.load(y0 + offsets, mask=mask)
    tl.store(y0 + offsets, x, mask=mask)


@triton.jit
def unmasked(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(y0 + offsets, tl.load(x0 + offsets) * 2.0)


@triton.jit
def masked_too_late(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, _ = _offsets(n, BLOCK_SIZE)
    mask = offsets < n + 16
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=mask)


@triton.jit
def forgets_the_last(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=offsets < n - 16)


@triton.jit
def gathers(x0, x1, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.store(y0 + offsets, tl.load(x0 + tl.load(x1 + offsets, mask=mask)), mask=mask)


@triton.jit
def loops_by_data(x0, x1, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask)
    for _ in range(tl.load(x1 + tl.program_id(0))):
        x = x * x
    tl.store(y0 + offsets, x, mask=mask)


@triton.jit
def sums(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.atomic_add(y0, tl.sum(tl.load(x0 + offsets, mask=mask, other=0.0), 0))


@triton.jit
def narrow(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    lanes = tl.max_contiguous(tl.arange(0, BLOCK_SIZE), 1)
    offsets = tl.program_id(0) * BLOCK_SIZE + lanes
    mask = offsets < n
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask) * 2.0, mask=mask)


@triton.jit
def far_apart(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    block = tl.program_id(0) % 256 * (tl.num_programs(0) // 256) + tl.program_id(0) // 256
    offsets = block * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=mask)


@triton.jit
def every_fourth(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    tl.store(y0 + offsets, tl.load(x0 + offsets * 4, mask=mask), mask=mask)


@triton.jit
def on_two_axes(x0, y0, columns, rows, BLOCK_SIZE: tl.constexpr):
    row = tl.program_id(1)
    columns_here = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    offsets, mask = row * columns + columns_here, columns_here < columns
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=mask)


@triton.jit
def block_of_96(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    lanes = tl.arange(0, 128)
    offsets = tl.program_id(0) * BLOCK_SIZE + lanes
    mask = (lanes < BLOCK_SIZE) & (offsets < n)
    tl.store(y0 + offsets, tl.load(x0 + offsets, mask=mask), mask=mask)


@triton.jit
def both_sides(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask)
    tl.store(y0 + offsets, tl.where(x > 0.0, tl.log(x), tl.exp(x)), mask=mask)


@triton.jit
def computes_long(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask)
    for _ in tl.static_range(30):
        x = tl.exp(x) / (x + 2.0)
    tl.store(y0 + offsets, x, mask=mask)


@triton.jit
def by_assembly(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=r,r", [tl.load(x0 + offsets, mask=mask)],
        dtype=tl.float32, is_pure=True, pack=1,
    )  # fmt: skip
    tl.store(y0 + offsets, x, mask=mask)


@triton.jit
def spills(x0, y0, n, BLOCK_SIZE: tl.constexpr):
    offsets, mask = _offsets(n, BLOCK_SIZE)
    x = tl.load(x0 + offsets, mask=mask, other=0.0)
    tl.store(y0 + offsets, x - tl.max(x, 0), mask=mask)


@triton.jit
def matmul(
    a, b, c, M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    num_stages: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in tl.range(0, K, BLOCK_K, num_stages=num_stages):
        left = (rows[:, None] < M) & (k + inner[None, :] < K)
        right = (k + inner[:, None] < K) & (columns[None, :] < N)
        x = tl.load(a + rows[:, None] * K + (k + inner)[None, :], mask=left, other=0.0)
        y = tl.load(b + (k + inner)[:, None] * N + columns[None, :], mask=right, other=0.0)
        total = tl.dot(x, y, total)
    mask = (rows[:, None] < M) & (columns[None, :] < N)
    at = c + rows[:, None] * N + columns[None, :]
    tl.store(at, total.to(c.dtype.element_ty), mask=mask)


@triton.jit
def by_descriptor(x0, y0, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    source = tl.make_tensor_descriptor(x0, [rows, columns], [columns, 1], [BLOCK_M, BLOCK_N])
    target = tl.make_tensor_descriptor(y0, [rows, columns], [columns, 1], [BLOCK_M, BLOCK_N])
    at = [tl.program_id(1) * BLOCK_M, tl.program_id(0) * BLOCK_N]
    target.store(at, source.load(at) * 2.0)


@triton.jit
def by_given_descriptor(x0, y0, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    at = [tl.program_id(1) * BLOCK_M, tl.program_id(0) * BLOCK_N]
    y0.store(at, x0.load(at) * 2.0)


def _two(shape: Sequence[int], dtype: str) -> tuple[TensorMeta, ...]:
    return (TensorMeta.contiguous(shape, dtype),) * 2


def _with_integers(shape: Sequence[int], dtype: str) -> tuple[TensorMeta, ...]:
    return TensorMeta.contiguous(shape, dtype), TensorMeta.contiguous(shape, "int32")


def _matrices(shape: Sequence[int], dtype: str) -> tuple[TensorMeta, ...]:
    m, n, k = shape
    return TensorMeta.contiguous((m, k), dtype), TensorMeta.contiguous((k, n), dtype)


def _rows(metas: tuple[TensorMeta, ...], config: Config) -> Sequence[int]:
    return (metas[0].shape[0],)


def _tiles(metas: tuple[TensorMeta, ...], config: Config) -> Sequence[int]:
    rows, columns = metas[0].shape
    return (-(-columns // config["BLOCK_N"]), -(-rows // config["BLOCK_M"]))


_TILE = Config(BLOCK_M=64, BLOCK_N=64, num_warps=4)
_BOTH: dict[str, Slot] = {"x0": Input(0), "y0": Output(0)}


def _in_place_arguments(metas: tuple[TensorMeta, ...]) -> dict[str, Slot]:
    return {"x0": Output(0), "n": Integer(metas[0].numel)}


def _matrix_arguments(metas: tuple[TensorMeta, ...]) -> dict[str, Slot]:
    rows, columns = metas[0].shape
    return {**_BOTH, "rows": Integer(rows), "columns": Integer(columns)}


ADD = _make(add, inputs=2, metas=_two)
EARLY_RETURN = _make(early_return)
SOFTMAX = _make(
    softmax,
    arguments=lambda metas: {**_BOTH, "columns": Integer(metas[0].shape[1])},
    grid=_rows,
)
IN_PLACE = _make(in_place, arguments=_in_place_arguments, starts=(Input(0),))
BY_DESCRIPTOR = _make(by_descriptor, _TILE, arguments=_matrix_arguments, grid=_tiles)
BY_GIVEN_DESCRIPTOR = _make(
    by_given_descriptor,
    _TILE,
    arguments=lambda metas: {
        name: Descriptor(of, ("BLOCK_M", "BLOCK_N"))
        for name, of in (("x0", Input(0)), ("y0", Output(0)))
    },
    grid=_tiles,
)

LOADS_TWICE = _make(loads_twice)
TWO_PASSES = _make(
    two_passes,
    arguments=lambda metas: {**_BOTH, "columns": Integer(metas[0].shape[1])},
    grid=_rows,
)
READS_ONE_INPUT = _make(reads_one_input, inputs=2, metas=_two)
STORES_TWICE = _make(stores_twice)
WRITES_ITS_INPUT = _make(writes_its_input)
WRITES_ONE_OUTPUT = _make(writes_one_output, outputs=lambda x: [x, x])
STORED_BY_PAIRS = _make(
    stored_by_pairs,
    grid=lambda metas, config: (2 * math.ceil(metas[0].numel / config["BLOCK_SIZE"]),),
)
THROUGH_A_BUFFER = _make(through_a_buffer, outputs=lambda x: [x, x], results=1)
SHIFTS_IN_PLACE = _make(shifts_in_place, arguments=_in_place_arguments, starts=(Input(0),))
READS_ITS_OUTPUT = _make(reads_its_output)
UNMASKED = _make(unmasked)
MASKED_TOO_LATE = _make(masked_too_late)
FORGETS_THE_LAST = _make(forgets_the_last)
GATHERS = _make(gathers, inputs=2, metas=_with_integers)
LOOPS_BY_DATA = _make(loops_by_data, inputs=2, metas=_with_integers)
SUMS = _make(sums, outputs=lambda x: [TensorMeta.contiguous((1,), x.dtype)], starts=(0,))
NARROW = _make(narrow)
FAR_APART = _make(far_apart, Config(BLOCK_SIZE=128, num_warps=1))
EVERY_FOURTH = _make(
    every_fourth,
    outputs=lambda x: [TensorMeta.contiguous((x.numel // 4,), x.dtype)],
    arguments=lambda metas: {**_BOTH, "n": Integer(metas[0].numel // 4)},
    grid=lambda metas, config: (-(-metas[0].numel // 4 // config["BLOCK_SIZE"]),),
)
ON_TWO_AXES = _make(
    on_two_axes,
    arguments=_matrix_arguments,
    grid=lambda metas, config: (
        -(-metas[0].shape[1] // config["BLOCK_SIZE"]),
        metas[0].shape[0],
    ),
)
UNREAD_AXIS = _make(
    add,
    inputs=2,
    metas=_two,
    grid=lambda metas, config: (-(-metas[0].numel // config["BLOCK_SIZE"]), 2),
)
BLOCK_OF_96 = _make(block_of_96, Config(BLOCK_SIZE=128, num_warps=1))
BOTH_SIDES = _make(both_sides)
COMPUTES_LONG = _make(computes_long)
BY_ASSEMBLY = _make(by_assembly)
SPILLS = _make(spills, Config(BLOCK_SIZE=8192, num_warps=1))
MATMUL = _make(
    matmul,
    Config(BLOCK_M=64, BLOCK_N=64, BLOCK_K=32, num_warps=4, num_stages=2),
    metas=_matrices,
    outputs=lambda a: [a],
    arguments=lambda metas: {
        "a": Input(0), "b": Input(1), "c": Output(0), "M": Integer(metas[0].shape[0]),
        "N": Integer(metas[1].shape[1]), "K": Integer(metas[0].shape[1]),
    },
    grid=lambda metas, config: (
        -(-metas[0].shape[0] // config["BLOCK_M"]), -(-metas[1].shape[1] // config["BLOCK_N"]),
    ),
)  # fmt: skip
LARGE_TILES = _make(
    matmul,
    Config(BLOCK_M=128, BLOCK_N=256, BLOCK_K=64, num_warps=8, num_stages=4),
    metas=_matrices,
    outputs=lambda a: [a],
    arguments=lambda metas: {
        "a": Input(0), "b": Input(1), "c": Output(0), "M": Integer(metas[0].shape[0]),
        "N": Integer(metas[1].shape[1]), "K": Integer(metas[0].shape[1]),
    },
    grid=lambda metas, config: (
        -(-metas[0].shape[0] // config["BLOCK_M"]), -(-metas[1].shape[1] // config["BLOCK_N"]),
    ),
)  # fmt: skip
