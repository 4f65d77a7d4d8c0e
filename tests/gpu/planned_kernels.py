"""Kernels of plans for tests: every way that outputs may be filled, and a few mistakes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

import tunekit


@triton.jit
def _two_results(
    x, mean, largest, stride, rows, columns, BLOCK: tl.constexpr, BLOCK_ROWS: tl.constexpr
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK)
    mask = (row[:, None] < rows) & (column[None, :] < columns)
    values = tl.load(x + row[:, None] * stride + column[None, :], mask=mask, other=0.0)
    values = values.to(tl.float32)
    tl.store(mean + row, tl.sum(values, 1) / columns, mask=row < rows)
    values = tl.where(column[None, :] < columns, values, -float("inf"))
    tl.store(largest + row, tl.max(values, 1), mask=row < rows)


@tunekit.kernel(
    space={"BLOCK_ROWS": [1, 4], "num_warps": [4, 1]},
    reference=lambda x: (x.mean(-1), x.amax(-1)),
    shapes={"x": ("rows", "columns")},
)
def statistics(x):  # type: ignore[no-untyped-def]
    """Mean and maximum of each row, in float32."""
    rows, columns = x.shape
    mean, largest = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
    return tunekit.launch(
        _two_results, x, mean, largest, x.stride(0), rows, columns,
        BLOCK=triton.next_power_of_2(columns),
        grid=lambda config: triton.cdiv(rows, config["BLOCK_ROWS"]),
        outputs=(mean, largest),
    )  # fmt: skip


@triton.jit
def _add_to(x, y, factor, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    total = tl.load(x + offsets, mask=mask) + factor * tl.load(y + offsets, mask=mask)
    tl.store(x + offsets, total.to(x.dtype.element_ty), mask=mask)


@tunekit.kernel(
    space={"BLOCK": [1024, 256, 512], "num_warps": [4]},
    reference=lambda x, y, factor: x + factor * y,
    shapes={"x": ("n",), "y": ("n",)},
)
def add_to(x, y, factor=0.5):  # type: ignore[no-untyped-def]
    """In place: x += factor y."""
    n = x.numel()
    return tunekit.launch(
        _add_to, x, y, factor, n, grid=lambda config: triton.cdiv(n, config["BLOCK"]), outputs=x
    )


@triton.jit
def _column_sums(x, sums, stride, rows, columns, BLOCK: tl.constexpr, BLOCK_ROWS: tl.constexpr):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = (row[:, None] < rows) & (column[None, :] < columns)
    values = tl.load(x + row[:, None] * stride + column[None, :], mask=mask, other=0.0)
    tl.atomic_add(sums + column, tl.sum(values.to(tl.float32), 0), mask=column < columns)


def _sums(zeroed: bool):  # type: ignore[no-untyped-def]
    def plan(x):  # type: ignore[no-untyped-def]
        rows, columns = x.shape
        sums = torch.empty(columns, dtype=torch.float32, device=x.device)
        return tunekit.launch(
            _column_sums, x, sums, x.stride(0), rows, columns,
            grid=lambda config: (
                triton.cdiv(rows, config["BLOCK_ROWS"]), triton.cdiv(columns, config["BLOCK"]),
            ),
            outputs=sums,
            zeroed=sums if zeroed else (),
        )  # fmt: skip

    return tunekit.kernel(
        space={"BLOCK_ROWS": [32, 64], "BLOCK": [64, 128], "num_warps": [4]},
        reference=lambda x: x.sum(0),
        shapes={"x": ("rows", "columns")},
        tolerance=(2.0**-14, 2.0**-10),
        name="column_sums" if zeroed else "unzeroed_sums",
    )(plan)


column_sums = _sums(zeroed=True)
"""Sums over rows by atomics, into what was zeroed."""
unzeroed_sums = _sums(zeroed=False)
"""The same into whatever was there: wrong."""


@triton.jit
def _through_buffer(x, y, buffer, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(buffer + offsets, tl.load(x + offsets, mask=mask).to(tl.float32) * 2.0, mask=mask)
    tl.debug_barrier()
    doubled = tl.load(buffer + offsets, mask=mask)
    tl.store(y + offsets, (doubled + 1.0).to(y.dtype.element_ty), mask=mask)


@tunekit.kernel(
    space={"BLOCK": [512, 256], "num_warps": [4]},
    shapes={"x": ("n",)},
)
def through_buffer(x):  # type: ignore[no-untyped-def]
    """2 x + 1 by way of an auxiliary buffer, without a reference."""
    n = x.numel()
    y, buffer = torch.empty_like(x), torch.empty(n, dtype=torch.float32, device=x.device)
    return tunekit.launch(
        _through_buffer, x, y, buffer, n,
        grid=lambda config: triton.cdiv(n, config["BLOCK"]), outputs=y, buffers=[buffer],
    )  # fmt: skip


@triton.jit
def _gather(table, indices, y, table_stride, columns, BLOCK: tl.constexpr):
    row = tl.load(indices + tl.program_id(0))
    for start in range(0, columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        mask = column < columns
        values = tl.load(table + row * table_stride + column, mask=mask)
        tl.store(y + tl.program_id(0).to(tl.int64) * columns + column, values, mask=mask)


def _table_and_indices(rows, columns, tokens, *, dtype, device):  # type: ignore[no-untyped-def]
    table = torch.randn(rows, columns, dtype=dtype, device=device)
    return table, torch.randint(0, rows, (tokens,), dtype=torch.int64, device=device)


@tunekit.kernel(
    space={"BLOCK": [256, 128, 512], "num_warps": [2, 4]},
    reference=lambda table, indices: table[indices],
    shapes={"table": ("rows", "columns"), "indices": ("tokens",)},
    inputs=_table_and_indices,
)
def gather(table, indices):  # type: ignore[no-untyped-def]
    """Rows of a table."""
    y = table.new_empty(indices.shape[0], table.shape[1])
    return tunekit.launch(
        _gather, table, indices, y, table.stride(0), table.shape[1],
        grid=lambda config: indices.shape[0], outputs=y,
    )  # fmt: skip


@triton.jit
def _tile_copy(source, target, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    row, column = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    target.store([row, column], source.load([row, column]) * 2.0)


@tunekit.kernel(
    space={"BLOCK_M": [64, 32], "BLOCK_N": [64, 32], "num_warps": [4]},
    reference=lambda x: 2 * x,
    shapes={"x": ("M", "N")},
)
def doubled_by_descriptors(x):  # type: ignore[no-untyped-def]
    """2 x, tile by tile, by the hardware that copies tiles."""
    y = torch.empty_like(x)
    block = ("BLOCK_M", "BLOCK_N")
    return tunekit.launch(
        _tile_copy, tunekit.descriptor(x, block), tunekit.descriptor(y, block),
        grid=lambda config: (
            triton.cdiv(x.shape[0], config["BLOCK_M"]), triton.cdiv(x.shape[1], config["BLOCK_N"]),
        ),
        outputs=y,
    )  # fmt: skip
