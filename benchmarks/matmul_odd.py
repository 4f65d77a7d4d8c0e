"""`linear_gelu` where rows are an odd number of elements apart, for benchmarks/matmul.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunekit.kernels.linear_library import linear_gelu
from tunekit.kernels.plan import TensorMeta


def _metas(shape: Sequence[int], dtype: str) -> tuple[TensorMeta, ...]:
    """Rows of x and of the weight are one element longer than is used of them."""
    m, n, k = shape
    pitch = k + 1 + k % 2
    x, weight = (TensorMeta((rows, k), (pitch, 1), dtype) for rows in (m, n))
    return x, weight, TensorMeta.contiguous((n,), dtype)


odd_rows = replace(linear_gelu, name="linear_gelu_odd_rows", metas=_metas)
