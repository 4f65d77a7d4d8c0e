"""The matmul template by tensor descriptors: tiles copied by hardware, from Hopper on."""

from __future__ import annotations

import triton
import triton.language as tl

from tunekit.kernels.matmul_tiles import (
    finished_tile,
    is_last_part,
    place_of,
    steps_of,
    store_tile,
    sum_of_parts,
    zeros_of,
)


@triton.jit
def _added(
    totals,
    x,
    weight,
    row,
    column,
    step,
    X_ACROSS: tl.constexpr,
    W_ACROSS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The sums of a tile's strips with one step along K added."""
    if X_ACROSS:
        a = x.load([step * BLOCK_K, row * BLOCK_M]).T
    else:
        a = x.load([row * BLOCK_M, step * BLOCK_K])
    strips: tl.constexpr = len(totals)
    added = ()
    for i in tl.static_range(strips):
        strip = column * strips + i
        if W_ACROSS:
            b = weight.load([step * BLOCK_K, strip * totals[i].shape[1]])
        else:
            b = weight.load([strip * totals[i].shape[1], step * BLOCK_K]).T
        added = added + (tl.dot(a, b, totals[i], input_precision=PRECISION),)  # type: ignore[assignment]
    return added


@triton.jit
def _stored(
    totals,
    bias,
    residuals,
    residual_strides,
    output,
    output_tiles,
    scalars,
    row,
    column,
    M,
    N,
    epilogue: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    STORE_TILES: tl.constexpr,
    WIDE: tl.constexpr,
):
    strips: tl.constexpr = len(totals)
    for i in tl.static_range(strips):
        strip = column * strips + i
        y, rows, columns = finished_tile(
            totals[i], bias, residuals, residual_strides, scalars, row, strip, M, N,
            epilogue, HAS_BIAS, WIDE,
        )  # fmt: skip
        if STORE_TILES:
            place = [row * y.shape[0], strip * y.shape[1]]
            output_tiles.store(place, y.to(output.dtype.element_ty))
        else:
            store_tile(y, output, rows, columns, M, N)


@triton.jit
def matmul_descriptors_kernel(
    x,
    weight,
    bias,
    residuals,
    residual_strides,
    output,
    output_tiles,
    partials,
    counters,
    scalars,
    M,
    N,
    K,
    epilogue: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    X_ACROSS: tl.constexpr,
    W_ACROSS: tl.constexpr,
    STORE_TILES: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    SPLIT_K: tl.constexpr,
    SCHEDULE: tl.constexpr,
):
    """Tiles of `epilogue(x @ weight.T + bias, *residuals, *scalars)`.

    SCHEDULE 1 is a program for each tile, or part of one; 2 is as many programs as the GPU has SMs,
    each going through tiles. What lies past the end of a tensor is read as 0, and is not written.
    """
    tiles = tl.cdiv(M, BLOCK_M) * tl.cdiv(N, BLOCK_N)
    if SCHEDULE == 1:
        tile, part = tl.program_id(0), tl.program_id(1)
        row, column = place_of(tile, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        first, end = steps_of(part, K, BLOCK_K, SPLIT_K)
        totals = zeros_of(BLOCK_M, BLOCK_N)
        for step in range(first, end):
            totals = _added(
                totals, x, weight, row, column, step, X_ACROSS, W_ACROSS, PRECISION,
                BLOCK_M, BLOCK_K,
            )  # fmt: skip
        is_last = True
        if SPLIT_K > 1:  # of one strip
            is_last = is_last_part(totals[0], partials, counters, tile, tiles, part, SPLIT_K)
            if is_last:
                totals = (sum_of_parts(partials, tile, tiles, SPLIT_K, BLOCK_M, BLOCK_N),)
        if is_last:
            _stored(
                totals, bias, residuals, residual_strides, output, output_tiles, scalars,
                row, column, M, N, epilogue, HAS_BIAS, STORE_TILES, WIDE,
            )  # fmt: skip
    else:
        for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
            row, column = place_of(tile, M, N, BLOCK_M, BLOCK_N, GROUP_M)
            totals = zeros_of(BLOCK_M, BLOCK_N)
            for step in range(tl.cdiv(K, BLOCK_K)):
                totals = _added(
                    totals, x, weight, row, column, step, X_ACROSS, W_ACROSS, PRECISION,
                    BLOCK_M, BLOCK_K,
                )  # fmt: skip
            _stored(
                totals, bias, residuals, residual_strides, output, output_tiles, scalars,
                row, column, M, N, epilogue, HAS_BIAS, STORE_TILES, WIDE,
            )  # fmt: skip
