"""What the kernels of the matmul template share: which tile is whose, and a tile's end."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def known_multiple(size, ALIGN: tl.constexpr):
    """The size itself, known to the compiler to be a multiple of ALIGN.

    Triton finds out by itself what is divisible by 16; a row of 1000 is a multiple of 8 only, which
    is as good for loads of 16 bytes.
    """
    return size // ALIGN * ALIGN if 1 < ALIGN and ALIGN < 16 else size


@triton.constexpr_function
def strip_of(block):
    """Columns of a strip: tl.dot takes powers of two only, so a tile of 192 columns is three of 64.

    A tile as wide as that makes a grid that fills the SMs where 128 columns leave a part of the
    last round idle, as 4096×768 on 132 of them.
    """
    return block & -block


@triton.jit
def zeros_of(BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """The sums of a tile before the first step, strip by strip."""
    totals = ()
    for _ in tl.static_range(BLOCK_N // strip_of(BLOCK_N)):
        strip = tl.zeros((BLOCK_M, strip_of(BLOCK_N)), dtype=tl.float32)
        totals = totals + (strip,)  # type: ignore[assignment]
    return totals


@triton.jit
def place_of(tile, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """Row and column of tile number `tile`.

    Tiles lie in bands GROUP_M tiles high, and a band is walked column by column: those that are
    computed at the same time share rows of x and columns of the weight in the L2 cache. The last
    band may be lower.
    """
    down = tl.cdiv(M, BLOCK_M)
    band_tiles = GROUP_M * tl.cdiv(N, BLOCK_N)
    band = tile // band_tiles
    place = tile % band_tiles
    height = tl.minimum(GROUP_M, down - band * GROUP_M)
    return band * GROUP_M + place % height, place // height


@triton.jit
def steps_of(part, K, BLOCK_K: tl.constexpr, SPLIT_K: tl.constexpr):
    """The first step along K that is part `part`'s, and the first that is not."""
    steps = tl.cdiv(K, BLOCK_K)
    if SPLIT_K == 1:
        return 0, steps
    else:
        each = tl.cdiv(steps, SPLIT_K)
        return part * each, tl.minimum(part * each + each, steps)


@triton.jit
def _inside(BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    return tl.arange(0, BLOCK_M)[:, None] * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]


@triton.jit
def is_last_part(total, partials, counters, tile, tiles, part, SPLIT_K: tl.constexpr):
    """Store a part's sums of a tile; whether all other parts of that tile are stored as well.

    The barrier orders the stores of the whole program before its one addition to the counter, which
    releases them to whoever finds the counter full, and acquires theirs.
    """
    inside = _inside(total.shape[0], total.shape[1])
    own = partials + (part * tiles + tile) * (total.shape[0] * total.shape[1])
    tl.store(own + inside, total, cache_modifier=".cg")
    tl.debug_barrier()
    return tl.atomic_add(counters + tile, 1, sem="acq_rel") == SPLIT_K - 1


@triton.jit
def sum_of_parts(
    partials, tile, tiles, SPLIT_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """The sums of a tile, its parts added in their order, whichever came last."""
    inside = _inside(BLOCK_M, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for part in range(SPLIT_K):
        own = partials + (part * tiles + tile) * (BLOCK_M * BLOCK_N)
        total += tl.load(own + inside, cache_modifier=".cg")
    return total


@triton.jit
def finished_tile(
    total,
    bias,
    residuals,
    residual_strides,
    scalars,
    row,
    column,
    M,
    N,
    epilogue: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """`epilogue(total + bias, *residuals, *scalars)` of a tile; its rows, its columns."""
    rows = row * total.shape[0] + tl.arange(0, total.shape[0])
    columns = column * total.shape[1] + tl.arange(0, total.shape[1])
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    if WIDE:
        rows, columns = rows.to(tl.int64), columns.to(tl.int64)
    mask = (rows < M)[:, None] & (columns < N)[None, :]
    values = ()
    for i in tl.static_range(len(residuals)):
        down, across = residual_strides[2 * i], residual_strides[2 * i + 1]
        places = residuals[i] + rows[:, None] * down + columns[None, :] * across
        values = values + (tl.load(places, mask=mask).to(tl.float32),)  # type: ignore[assignment]
    return epilogue(total, *values, *scalars), rows, columns


@triton.jit
def store_tile(y, output, rows, columns, M, N):
    """Store a finished tile, the one store of it."""
    mask = (rows < M)[:, None] & (columns < N)[None, :]
    places = output + rows[:, None] * N + columns[None, :]
    tl.store(places, y.to(output.dtype.element_ty), mask=mask)
