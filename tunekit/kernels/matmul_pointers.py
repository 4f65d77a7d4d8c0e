"""The matmul template by plain pointers: any strides, any GPU."""

from __future__ import annotations

import triton
import triton.language as tl

from tunekit.kernels.matmul_tiles import (
    finished_tile,
    is_last_part,
    known_multiple,
    place_of,
    steps_of,
    store_tile,
    strip_of,
    sum_of_parts,
    zeros_of,
)


@triton.jit
def matmul_pointers_kernel(
    x,
    weight,
    bias,
    residuals,
    residual_strides,
    output,
    partials,
    counters,
    scalars,
    M,
    N,
    K,
    stride_xm,
    stride_xk,
    stride_wn,
    stride_wk,
    epilogue: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    M_ALIGN: tl.constexpr,
    N_ALIGN: tl.constexpr,
    K_ALIGN: tl.constexpr,
    XM_ALIGN: tl.constexpr,
    XK_ALIGN: tl.constexpr,
    WN_ALIGN: tl.constexpr,
    WK_ALIGN: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    SPLIT_K: tl.constexpr,
    SCHEDULE: tl.constexpr,
):
    """One tile of `epilogue(x @ weight.T + bias, *residuals, *scalars)`, or a part of its sums.

    Rows and columns past the end wrap around, so that only K needs a mask, and only where BLOCK_K
    does not divide it; what they give is not stored. SCHEDULE is the other kernel's.
    """
    M, N = known_multiple(M, M_ALIGN), known_multiple(N, N_ALIGN)
    K = known_multiple(K, K_ALIGN)
    stride_xm, stride_xk = known_multiple(stride_xm, XM_ALIGN), known_multiple(stride_xk, XK_ALIGN)
    stride_wn, stride_wk = known_multiple(stride_wn, WN_ALIGN), known_multiple(stride_wk, WK_ALIGN)
    tile, part, tiles = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    row, column = place_of(tile, M, N, BLOCK_M, BLOCK_N, GROUP_M)
    rows = (row * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    columns = tl.arange(0, strip_of(BLOCK_N))
    first, end = steps_of(part, K, BLOCK_K, SPLIT_K)
    inner = tl.arange(0, BLOCK_K)
    if WIDE:
        rows, columns, inner = rows.to(tl.int64), columns.to(tl.int64), inner.to(tl.int64)
    x_tile = x + rows[:, None] * stride_xm + (first * BLOCK_K + inner)[None, :] * stride_xk
    w_rows = weight + (first * BLOCK_K + inner)[:, None] * stride_wk
    strips: tl.constexpr = BLOCK_N // strip_of(BLOCK_N)
    w_tiles = ()
    for i in tl.static_range(strips):
        own = ((column * strips + i) * strip_of(BLOCK_N) + columns) % N
        w_tiles = w_tiles + (w_rows + own[None, :] * stride_wn,)  # type: ignore[assignment]
    totals = zeros_of(BLOCK_M, BLOCK_N)
    for step in range(first, end):
        is_left = inner < K - step * BLOCK_K
        if K_ALIGN % BLOCK_K == 0:
            a = tl.load(x_tile)
        else:
            a = tl.load(x_tile, mask=is_left[None, :], other=0.0)
        x_tile += BLOCK_K * stride_xk
        added, moved = (), ()
        for i in tl.static_range(strips):
            if K_ALIGN % BLOCK_K == 0:
                b = tl.load(w_tiles[i])
            else:
                b = tl.load(w_tiles[i], mask=is_left[:, None], other=0.0)
            added = added + (tl.dot(a, b, totals[i], input_precision=PRECISION),)  # type: ignore[assignment]
            moved = moved + (w_tiles[i] + BLOCK_K * stride_wk,)  # type: ignore[assignment]
        totals, w_tiles = added, moved
    is_last = True
    if SPLIT_K > 1:  # of one strip
        is_last = is_last_part(totals[0], partials, counters, tile, tiles, part, SPLIT_K)
        if is_last:
            totals = (sum_of_parts(partials, tile, tiles, SPLIT_K, BLOCK_M, BLOCK_N),)
    if is_last:
        for i in tl.static_range(strips):
            y, rows, columns = finished_tile(
                totals[i], bias, residuals, residual_strides, scalars, row, column * strips + i,
                M, N, epilogue, HAS_BIAS, WIDE,
            )  # fmt: skip
            store_tile(y, output, rows, columns, M, N)
