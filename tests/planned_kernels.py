"""Kernels of plans, for tests: all that a launch may have, and mistakes in it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

import tunekit
from tunekit.errors import KernelError

ROWS = {"x": ("rows", "columns")}


@triton.jit
def rows_kernel(y, place, x, x_stride, y_stride, rows, columns, factor,
                WIDTH: tl.constexpr, BLOCK: tl.constexpr, FAULT: tl.constexpr = 0):  # fmt: skip
    """y = x * factor, place = where the largest of each row is."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, WIDTH)[None, :]
    mask = (row[:, None] < rows) & (column < columns)
    value = tl.load(x + row[:, None] * x_stride + column, mask=mask, other=float("-inf"))
    value = value.to(tl.float32)
    tl.store(
        y + row[:, None] * y_stride + column, (value * factor).to(y.dtype.element_ty), mask=mask
    )
    largest = tl.argmax(value, 1).to(tl.int64)
    if FAULT == 1:
        largest = largest + 1
    if FAULT == 2:
        tl.store(place + row, largest, mask=row < rows // 2)
    else:
        tl.store(place + row, largest, mask=row < rows)


def scaled(name, fault=0, **options):
    """A kernel with two results, of two dtypes."""

    def plan(x, factor=2.0):
        rows, columns = x.shape
        if x.stride(1) != 1:
            raise KernelError(f"{name}: the elements of a row have to lie side by side")
        y = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
        place = torch.empty(rows, dtype=torch.int64, device=x.device)
        return tunekit.launch(
            rows_kernel, y, place, x, x.stride(0), y.stride(0), rows, columns, factor,
            WIDTH=triton.next_power_of_2(columns), FAULT=fault,
            grid=lambda config: triton.cdiv(rows, config["BLOCK"]), outputs=(y, place),
        )  # fmt: skip

    defaults = {
        "space": {"BLOCK": [4, 2, 8], "num_warps": [4]},
        "reference": lambda x, factor: (x * factor, x.argmax(1)),
        "shapes": ROWS,
        "flops": lambda rows, columns: rows * columns,
    }
    return tunekit.kernel(name=name, **(defaults | options))(plan)


scale_and_place = scaled("scale_and_place")
wrong_second = scaled("wrong_second", 1)
unwritten_second = scaled("unwritten_second", 2)
one_result_short = scaled("one_result_short", reference=lambda x, factor: x * factor)
other_shape = scaled("other_shape", reference=lambda x, factor: (x * factor, x))
reference_raises = scaled("reference_raises", reference=lambda x, factor: 1 // 0)
off_by_a_little = scaled(
    "off_by_a_little", reference=lambda x, factor: (x * (factor + 1e-3), x.argmax(1))
)
allowed_by_a_little = scaled(
    "allowed_by_a_little",
    reference=lambda x, factor: (x * (factor + 1e-3), x.argmax(1)),
    tolerance=(1e-3, 1e-6),
)
allowed_in_16_bits = scaled(
    "allowed_in_16_bits",
    reference=lambda x, factor: (x * (factor + 1e-2), x.argmax(1)),
    tolerance={"float16": (1e-2, 1e-5)},
)
without_reference = scaled("without_reference", reference=None)
strided = scaled(
    "strided",
    inputs=lambda rows, columns, *, dtype, device: torch.randn(
        rows, columns + 5, dtype=torch.float32, device=device
    ).to(dtype)[:, :columns],
)


@triton.jit
def add_kernel(x, w, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < n
    value = tl.load(x + place, mask=mask) + tl.load(w + place, mask=mask)
    tl.store(x + place, value, mask=mask)


@tunekit.kernel(
    space={"BLOCK": [32, 64]},
    reference=lambda x, w: x + w,
    shapes={"x": ("n",), "w": ("n",)},
)
def add_in_place(x, w):
    """x += w."""
    if not (x.is_contiguous() and w.is_contiguous()):
        raise KernelError("add_in_place: contiguous tensors only")
    return tunekit.launch(
        add_kernel, x, w, x.numel(),
        grid=lambda config: triton.cdiv(x.numel(), config["BLOCK"]), outputs=x,
    )  # fmt: skip


@triton.jit
def count_kernel(counts, index, done, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if EVEN:
        tl.atomic_add(counts + tl.load(index + place), 1)
    else:
        mask = place < n
        tl.atomic_add(counts + tl.load(index + place, mask=mask, other=0), 1, mask=mask)
    tl.atomic_add(done, 1)


even = triton.heuristics({"EVEN": lambda arguments: arguments["n"] % arguments["BLOCK"] == 0})
with_heuristics = even(count_kernel)


def counting(name, zeroed, reference=lambda index: torch.bincount(index, minlength=100).int()):
    """A kernel of whole numbers that adds up by atomics, with a buffer."""

    def plan(index):
        counts = torch.empty(100, dtype=torch.int32, device=index.device)
        done = torch.empty(1, dtype=torch.int32, device=index.device)
        return tunekit.launch(
            with_heuristics, counts, index, done, index.numel(),
            grid=lambda config: triton.cdiv(index.numel(), config["BLOCK"]),
            outputs=counts, buffers=done, zeroed=(counts, done) if zeroed else done,
        )  # fmt: skip

    return tunekit.kernel(
        space={"BLOCK": [16, 32]},
        reference=reference,
        shapes={"index": ("n",)},
        inputs=lambda n, *, dtype, device: torch.randint(0, 100, (n,), device=device),
        dtypes=["int64"],
        name=name,
    )(plan)


counts = counting("counts", True)
forgets_to_zero = counting("forgets_to_zero", False)
forgets_without_reference = counting("forgets_without_reference", False, reference=None)


@tunekit.kernel(space={"BLOCK": [16]}, shapes={"x": ("n",)})
def plan_raises(x):
    """Takes no size at all."""
    return x.shape[0] // 0


def bad_inputs(n, *, dtype, device):
    return torch.zeros(n, dtype=dtype, device=device) @ torch.zeros(n + 1, 2, device=device)


@tunekit.kernel(space={"BLOCK": [16]}, shapes={"x": ("n",)}, inputs=bad_inputs)
def inputs_raise(x):
    """Its hook is wrong."""
    return x
