"""Softmax of each row: in registers where a row fits, in two passes where it does not.

tunekit tune examples/softmax.py:softmax --dim rows=8192 --dim columns=4096 --dtype float16
"""

import torch
import triton
import triton.language as tl

import tunekit


@triton.jit(do_not_specialize=["rows"])  # one binary, and one tuned row, for any number of rows
def softmax_kernel(
    y, x, y_stride, x_stride, rows, columns, BLOCK_SIZE: tl.constexpr, BLOCK_ROWS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    column = tl.arange(0, BLOCK_SIZE)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * x_stride + column, mask=mask, other=-float("inf")).to(tl.float32)
    powers = tl.exp(values - tl.max(values, 1)[:, None])
    tl.store(y + row * y_stride + column, powers / tl.sum(powers, 1)[:, None], mask=mask)


@tunekit.kernel(
    shapes={"x": ("rows", "columns")},
    reference=lambda x: torch.softmax(x, -1),
    space={
        "axes": {"BLOCK_ROWS": [1, 2, 4, 8, 16], "num_warps": [1, 2, 4, 8, 16, 32]},
        "default": {"BLOCK_ROWS": 1, "num_warps": "max(4, min(32, columns // 1024))"},
        "constraints": {
            "row_fits_registers": "BLOCK_ROWS * columns <= num_warps * 32 * 64",
            "softmax_long_is_for_more": "columns <= 32768",
            "every_thread_has_work": "BLOCK_ROWS * columns > num_warps * 32 * 2 or num_warps <= 4",
        },
    },
)
def softmax(x):
    """Softmax of each row, which is loaded once: up to 32,768 columns."""
    assert x.stride(1) == 1, "the elements of a row must be neighbours in memory"
    rows, columns = x.shape
    y = torch.empty_like(x)
    return tunekit.launch(
        softmax_kernel,
        *(y, x, y.stride(0), x.stride(0), rows, columns),
        BLOCK_SIZE=triton.next_power_of_2(columns),
        grid=lambda config: triton.cdiv(rows, config["BLOCK_ROWS"]),
        outputs=y,
    )


@triton.jit
def softmax_long_kernel(y, x, y_stride, x_stride, columns, BLOCK_SIZE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK_SIZE)
    largest, total = -3.4e38, 0.0  # -inf would make nan of blocks that are all -inf
    for start in range(0, columns, BLOCK_SIZE):
        mask = start + column < columns
        values = tl.load(x + row * x_stride + start + column, mask=mask, other=-float("inf"))
        values = values.to(tl.float32)
        before, largest = largest, tl.maximum(largest, tl.max(values, 0))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(values - largest), 0)
    for start in range(0, columns, BLOCK_SIZE):
        mask = start + column < columns
        values = tl.load(x + row * x_stride + start + column, mask=mask).to(tl.float32)
        powers = tl.exp(values - largest)
        tl.store(y + row * y_stride + start + column, powers / total, mask=mask)


@tunekit.kernel(
    shapes={"x": ("rows", "columns")},
    reference=lambda x: torch.softmax(x, -1),
    space={
        "axes": {
            "BLOCK_SIZE": {"from": 1024, "to": 16384},
            "num_warps": [4, 8, 16, 32],
            "num_stages": [1, 2, 3, 4],
        },
        "default": {"BLOCK_SIZE": 4096, "num_warps": 8, "num_stages": 2},
        "constraints": {
            "block_fits_registers": "BLOCK_SIZE <= num_warps * 32 * 32",
            "loads_are_wide": "BLOCK_SIZE * itemsize >= num_warps * 32 * 16",
        },
    },
)
def softmax_long(x):
    """Softmax of each row, which is loaded twice: for any number of columns."""
    assert x.stride(1) == 1, "the elements of a row must be neighbours in memory"
    y = torch.empty_like(x)
    return tunekit.launch(
        softmax_long_kernel,
        *(y, x, y.stride(0), x.stride(0), x.shape[1]),
        grid=x.shape[0],
        outputs=y,
    )
