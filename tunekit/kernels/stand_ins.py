"""Tensors without memory that stand for real ones where only their metadata counts."""

from __future__ import annotations

import torch

from tunekit.kernels.plan import TensorMeta


def stand_in(meta: TensorMeta, device: str = "meta") -> torch.Tensor:
    """A tensor with that metadata and no memory; its address has the same misalignment."""
    dtype = getattr(torch, meta.dtype)
    offset = meta.misalignment // meta.itemsize
    base = torch.empty(offset + meta.extent, dtype=dtype, device=device)
    return torch.as_strided(base, meta.shape, meta.strides, offset)
