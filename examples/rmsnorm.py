"""RMSNorm of each row; and the same after adding to a residual, which is changed in place.

tunekit tune examples/rmsnorm.py:add_rms_norm --dim rows=4096 --dim columns=4096 --dtype bfloat16
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

import tunekit

SPACE = {
    "axes": {"BLOCK_ROWS": [1, 2, 4, 8, 16], "num_warps": [1, 2, 4, 8, 16, 32]},
    "default": {"BLOCK_ROWS": 1, "num_warps": "max(4, min(32, columns // 1024))"},
    "constraints": {
        "row_fits_registers": "BLOCK_ROWS * columns <= num_warps * 32 * 64",
        "every_thread_has_work": "BLOCK_ROWS * columns > num_warps * 32 * 2 or num_warps <= 4",
    },
}


@triton.jit
def normalised(values, weight, column, columns, eps):
    mean_square = tl.sum(values * values, 1)[:, None] / columns
    factors = tl.load(weight + column, mask=column < columns, other=0.0).to(tl.float32)
    return values * tl.rsqrt(mean_square + eps) * factors


@triton.jit(do_not_specialize=["rows"])  # one binary, and one tuned row, for any number of rows
def rms_norm_kernel(
    y, x, weight, y_stride, x_stride, rows, columns, eps,
    BLOCK_SIZE: tl.constexpr, BLOCK_ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    column = tl.arange(0, BLOCK_SIZE)[None, :]
    mask = (row < rows) & (column < columns)
    values = tl.load(x + row * x_stride + column, mask=mask, other=0.0).to(tl.float32)
    result = normalised(values, weight, column, columns, eps)
    tl.store(y + row * y_stride + column, result, mask=mask)


@tunekit.kernel(
    shapes={"x": ("rows", "columns"), "weight": ("columns",)},
    reference=lambda x, weight, eps: F.rms_norm(x, weight.shape, weight, eps),
    space=SPACE,
)
def rms_norm(x, weight, eps=1e-6):
    """RMSNorm of each row, times a weight."""
    assert x.stride(1) == weight.stride(0) == 1, "the elements of a row must be neighbours"
    rows, columns = x.shape
    y = torch.empty_like(x)
    return tunekit.launch(
        rms_norm_kernel,
        *(y, x, weight, y.stride(0), x.stride(0), rows, columns, eps),
        BLOCK_SIZE=triton.next_power_of_2(columns),
        grid=lambda config: triton.cdiv(rows, config["BLOCK_ROWS"]),
        outputs=y,
    )


@triton.jit(do_not_specialize=["rows"])
def add_rms_norm_kernel(
    y, residual, x, weight, y_stride, residual_stride, x_stride, rows, columns, eps,
    BLOCK_SIZE: tl.constexpr, BLOCK_ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    column = tl.arange(0, BLOCK_SIZE)[None, :]
    mask = (row < rows) & (column < columns)
    places = residual + row * residual_stride + column
    values = tl.load(x + row * x_stride + column, mask=mask, other=0.0).to(tl.float32)
    values += tl.load(places, mask=mask, other=0.0).to(tl.float32)
    tl.store(places, values, mask=mask)
    result = normalised(values, weight, column, columns, eps)
    tl.store(y + row * y_stride + column, result, mask=mask)


def add_rms_norm_reference(x, residual, weight, eps):
    total = x + residual
    return F.rms_norm(total, weight.shape, weight, eps), total


@tunekit.kernel(
    shapes={"x": ("rows", "columns"), "residual": ("rows", "columns"), "weight": ("columns",)},
    reference=add_rms_norm_reference,
    space=SPACE,
)
def add_rms_norm(x, residual, weight, eps=1e-6):
    """Adds x to the residual, in place; the result is RMSNorm of the sum, times a weight."""
    assert x.stride(1) == residual.stride(1) == weight.stride(0) == 1, "rows must be contiguous"
    rows, columns = x.shape
    y = torch.empty_like(x)
    return tunekit.launch(
        add_rms_norm_kernel,
        *(y, residual, x, weight, y.stride(0), residual.stride(0), x.stride(0), rows, columns, eps),
        BLOCK_SIZE=triton.next_power_of_2(columns),
        grid=lambda config: triton.cdiv(rows, config["BLOCK_ROWS"]),
        outputs=(y, residual),  # what is an input too is changed in place
    )
