"""Dense tensors of any layout: made from metadata, and seen as a run of elements."""

from __future__ import annotations

import torch

from tunekit.kernels.plan import TensorMeta


def empty_of(meta: TensorMeta, device: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor with that shape and those strides, its contents undefined; `dtype` overrides."""
    kind = getattr(torch, meta.dtype) if dtype is None else dtype
    return torch.empty_strided(meta.shape, meta.strides, dtype=kind, device=device)


def laid_out(values: torch.Tensor, meta: TensorMeta) -> torch.Tensor:
    """As many values, in the order of memory, as a tensor with that shape and those strides."""
    return values.view(-1).as_strided(meta.shape, meta.strides)


def in_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The elements in the order of memory, shape (numel,); of a dense tensor it is a view."""
    strides = tensor.stride()
    axes = sorted(range(tensor.dim()), key=lambda axis: -strides[axis])
    return tensor.permute(axes).reshape(-1)
