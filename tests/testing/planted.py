"""Kernels with one mistake each, and some with none; run in Triton's interpreter."""

from __future__ import annotations

import itertools

import torch
import triton
import triton.language as tl

import tunekit
from tunekit.kernels.kernel import pointwise

SPACE = {"BLOCK": [64, 16, 32, 128], "num_warps": [4, 2, 8]}
_numbers = itertools.count(1)
ROWS = {"x": ("rows", "columns")}


@triton.jit
def double_kernel(
    y, x, n, offset, BLOCK: tl.constexpr, FAULT: tl.constexpr = 0, SIZE: tl.constexpr = 1
):
    """y = 2x; each FAULT is a mistake."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < n
    if FAULT == 1:  # off by one
        mask = place < n - 1
    if FAULT == 2:  # the last part of a block is left out
        mask = place < n // 16 * 16
    if FAULT == 3:  # past the end
        mask = place < n + 1
    value = tl.load(x + offset + place, mask=mask, other=0.0).to(tl.float32)
    result = value * 2.0
    if FAULT == 4:  # nan is swallowed
        result = tl.where(value == value, result, 0.0)
    if FAULT == 5 and y.dtype.element_ty == tl.bfloat16:  # rounded in between
        result = ((value + 64.0).to(tl.bfloat16).to(tl.float32) - 64.0) * 2.0
    if FAULT == 6 and BLOCK == 128:  # one configuration of several
        result = value * 2.0 + 1.0
    if FAULT == 7:  # what memory held before shows in the last bit
        before = tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
        result = tl.where(before == before, result, result * 1.0000002)
    if FAULT == 8:  # an infinity becomes the largest number
        result = tl.minimum(result, 3.0e38)
    if FAULT == 9:  # the input is overwritten as well
        tl.store(x + offset + place, (value + 1.0).to(x.dtype.element_ty), mask=mask)
    tl.store(y + place, result.to(y.dtype.element_ty), mask=mask)


def nowhere(x):
    return 0


def by_storage(x):
    return x.storage_offset()


def other_each_time(x):
    return next(_numbers) % 2


def divides_by_nothing(x):
    return 1 // (x.shape[0] - 1) * 0


def doubling(name, fault, reference=lambda x: 2 * x, offset=nowhere):
    """A kernel that doubles, with that mistake."""

    def plan(x):
        if not x.is_contiguous():
            raise ValueError("x has to be contiguous")
        y = torch.empty_like(x)
        return tunekit.launch(
            double_kernel, y, x, x.numel(), offset(x), FAULT=fault,
            grid=lambda config: (triton.cdiv(x.numel(), config["BLOCK"]),), outputs=y,
        )  # fmt: skip

    return tunekit.kernel(space=SPACE, reference=reference, shapes={"x": ("n",)}, name=name)(plan)


clean = doubling("clean", 0)
off_by_one = doubling("off_by_one", 1)
odd_sizes = doubling("odd_sizes", 2)
past_the_end = doubling("past_the_end", 3)
swallows_nan = doubling("swallows_nan", 4)
wrong_in_bfloat16 = doubling("wrong_in_bfloat16", 5)
one_configuration = doubling("one_configuration", 6)
not_the_same_twice = doubling("not_the_same_twice", 7)
clamps = doubling("clamps", 8)
changes_its_input = doubling("changes_its_input", 9)
offset_twice = doubling("offset_twice", 0, offset=by_storage)
other_plan_each_time = doubling("other_plan_each_time", 0, offset=other_each_time)
breaks_down = doubling("breaks_down", 0, offset=divides_by_nothing)
wrong_everywhere = doubling("wrong_everywhere", 0, reference=lambda x: 3 * x)


@triton.jit
def rows_kernel(y, total, x, x_stride, y_stride, rows, columns, BLOCK: tl.constexpr,
                WIDTH: tl.constexpr, FAULT: tl.constexpr):  # fmt: skip
    """y = x minus the mean of its row, total = the sum of each row."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    mask = (row < rows) & (column < columns)
    value = tl.load(x + row * x_stride + column, mask=mask, other=0.0).to(tl.float32)
    sums = tl.sum(value, 1)
    tl.store(
        y + row * y_stride + column,
        (value - sums[:, None] / columns).to(y.dtype.element_ty),
        mask=mask,
    )
    one = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if FAULT == 1:
        sums = sums + 0.125
    if FAULT != 2:
        tl.store(total + one, sums, mask=one < rows)
    else:
        tl.store(total + one, sums, mask=one < rows - rows % 2)


def of_rows(x):
    return x.stride(0)


def as_if_dense(x):
    return x.shape[1]


def centring(name, fault, check=True, stride=of_rows):
    """A kernel with two results."""

    def plan(x):
        rows, columns = x.shape
        if check and x.stride(1) != 1:
            raise ValueError("the elements of a row have to lie side by side")
        y = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
        total = torch.empty(rows, dtype=torch.float32, device=x.device)
        return tunekit.launch(
            rows_kernel, y, total, x, stride(x), y.stride(0), rows, columns,
            WIDTH=triton.next_power_of_2(columns), FAULT=fault,
            grid=lambda config: (triton.cdiv(rows, config["BLOCK"]),), outputs=(y, total),
        )  # fmt: skip

    return tunekit.kernel(
        space={"BLOCK": [4, 8, 16], "num_warps": [4, 8]},
        reference=lambda x: (x - x.mean(1, keepdim=True), x.sum(1)),
        shapes=ROWS,
        name=name,
    )(plan)


centred = centring("centred", 0)
second_result = centring("second_result", 1)
second_unwritten = centring("second_unwritten", 2)
ignores_strides = centring("ignores_strides", 0, stride=as_if_dense)
ignores_transposition = centring("ignores_transposition", 0, check=False)


@triton.jit
def shift_kernel(x, n, BLOCK: tl.constexpr, FAULT: tl.constexpr):
    """x += 1 in place; the mistake is to add what the program before may have changed."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + place, mask=place < n, other=0.0).to(tl.float32)
    if FAULT:
        before = tl.load(x + place - 1, mask=(place < n) & (place > 0), other=0.0)
        value = value + before.to(tl.float32)
    else:
        value = value + 1.0
    tl.store(x + place, value.to(x.dtype.element_ty), mask=place < n)


def in_place(name, fault, reference):
    """A kernel that changes its input, which has to be contiguous."""

    def plan(x):
        if name != "fills_gaps" and not x.is_contiguous():
            raise ValueError("x has to be contiguous")
        extent = 1 + (x.numel() - 1) * x.stride(0)
        return tunekit.launch(
            shift_kernel, x, extent, FAULT=fault,
            grid=lambda config: (triton.cdiv(extent, config["BLOCK"]),), outputs=x,
        )  # fmt: skip

    return tunekit.kernel(
        space={"BLOCK": [16, 32]}, reference=reference, shapes={"x": ("n",)}, name=name
    )(plan)


def _shifted(x):
    return x + torch.cat([torch.zeros_like(x[:1]), x[:-1]])


fills_gaps = in_place("fills_gaps", False, lambda x: x + 1)
adds_in_place = in_place("adds_in_place", False, lambda x: x + 1)
reads_its_neighbour = in_place("reads_its_neighbour", True, _shifted)


@triton.jit
def histogram_kernel(counts, index, n, BLOCK: tl.constexpr):
    """How often each of 128 numbers occurs."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(counts + tl.load(index + place, mask=place < n, other=0), 1, mask=place < n)


def counting(name, zeroed):
    """A kernel that adds up by atomics."""

    def plan(index):
        if not index.is_contiguous():
            raise ValueError("index has to be contiguous")
        counts = torch.empty(128, dtype=torch.int32, device=index.device)
        return tunekit.launch(
            histogram_kernel, counts, index, index.numel(),
            grid=lambda config: (triton.cdiv(index.numel(), config["BLOCK"]),),
            outputs=counts, zeroed=counts if zeroed else (), dims={"n": index.numel()},
        )  # fmt: skip

    return tunekit.kernel(
        space={"BLOCK": [32, 64]},
        reference=lambda index: torch.bincount(index, minlength=128).int(),
        inputs=lambda n, *, dtype, device: torch.randint(0, 128, (n,), device=device),
        dtypes=["int64"],
        name=name,
    )(plan)


counts = counting("counts", True)
forgets_to_zero = counting("forgets_to_zero", False)


@triton.jit
def scaled_silu(x, gate, scale):
    return x * tl.sigmoid(x) * gate * scale


@triton.jit
def unscaled_silu(x, gate, scale):
    return x * tl.sigmoid(x) * gate * 0.5


def _silu(x, gate, scale):
    return torch.nn.functional.silu(x) * gate * scale


gated = pointwise(
    "gated", epilogue=scaled_silu, reference=_silu, scalars={"scale": 0.5}, input_count=2
)
ignores_its_scalar = pointwise(
    "ignores_its_scalar",
    epilogue=unscaled_silu,
    reference=_silu,
    scalars={"scale": 0.5},
    input_count=2,
)

without_a_reference = doubling("without_a_reference", 0, reference=None)
wrong_without_a_reference = doubling("wrong_without_a_reference", 6, reference=None)
