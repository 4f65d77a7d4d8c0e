from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import triton

from tunekit.kernels.interpreted import mend_bfloat16

PROGRAM = """
import warnings

warnings.simplefilter("error")

import torch
import triton
import triton.language as tl

from tunekit.kernels.interpreted import mend_bfloat16


@triton.jit
def convert(y, x):
    place = tl.arange(0, 16)
    tl.store(y + place, tl.load(x + place))


@triton.jit
def compute(y, x, z):
    place = tl.arange(0, 16)
    one, other = tl.load(x + place), tl.load(z + place)
    tl.store(y + place, tl.where(one < other, one * other - one, tl.abs(other)))


@triton.jit
def multiply(y, x, z):
    row, column = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]
    one, other = tl.load(x + row * 16 + column), tl.load(z + row * 16 + column)
    tl.store(y + row * 16 + column, tl.dot(one, other))


mend_bfloat16()
mend_bfloat16()  # a second time it does nothing
special = [0.0, -0.0, float("inf"), float("-inf"), 3.39e38, 1e-40, 1.00390625, 1.01171875]
x = torch.cat([torch.tensor(special), torch.randn(8)])
y = torch.empty(16, dtype=torch.bfloat16)
convert[(1,)](y, x)
assert torch.equal(y.view(torch.int16), x.bfloat16().view(torch.int16)), (y, x.bfloat16())
convert[(1,)](y, torch.full((16,), torch.nan))
assert y.isnan().all(), y
for dtype in (torch.int8, torch.int32, torch.int64, torch.float16, torch.float32):
    values, wide = torch.arange(-8, 8).to(dtype), torch.empty(16, dtype=dtype)
    convert[(1,)](y, values)
    convert[(1,)](wide, y)
    assert y.tolist() == wide.tolist() == list(range(-8, 8)), (dtype, y, wide)
x, z = torch.randn(2, 16).bfloat16()
compute[(1,)](y, x, z)
assert torch.equal(y, torch.where(x < z, x * z - x, z.abs()))
x, z = torch.randn(2, 16, 16).bfloat16()
product = torch.empty(16, 16)
multiply[(1,)](product, x, z)
torch.testing.assert_close(product, x.float() @ z.float())
"""


def test_bfloat16_is_mended_in_tritons_interpreter(
    write_module: Callable[..., Path],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """A process of its own: a kernel is interpreted, or not, from its definition on."""
    done = run_python(write_module(PROGRAM), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_touched_where_kernels_are_compiled() -> None:
    assert not triton.knobs.runtime.interpret
    modules = set(sys.modules)
    mend_bfloat16()
    assert set(sys.modules) == modules
