"""Dense tensors of any layout: made from metadata, and seen as a run of elements."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tunekit.kernels.plan import TensorMeta

_PART = 2**24
"""Elements compared at a time, so that what a comparison writes stays in the L2 cache."""
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def empty_of(meta: TensorMeta, device: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor with that shape and those strides, its contents undefined; `dtype` overrides."""
    kind = getattr(torch, meta.dtype) if dtype is None else dtype
    return torch.empty_strided(meta.shape, meta.strides, dtype=kind, device=device)


def clone_of(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides, also of a tensor with gaps, whose gaps hold nothing."""
    return empty_as(tensor).copy_(tensor)


def empty_as(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same kind with the same strides, its contents undefined."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )


def laid_out(values: torch.Tensor, meta: TensorMeta) -> torch.Tensor:
    """As many values, in the order of memory, as a tensor with that shape and those strides."""
    return values.view(-1).as_strided(meta.shape, meta.strides)


def in_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The elements in the order of memory, shape (numel,); of a dense tensor it is a view."""
    strides = tensor.stride()
    axes = sorted(range(tensor.dim()), key=lambda axis: -strides[axis])
    return tensor.permute(axes).reshape(-1)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The elements in the order of memory, as integers of their size; of a dense tensor a view."""
    return in_memory(tensor).view(_INTEGERS[tensor.element_size()])


def differing(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    """Places of the pairs whose bits differ, of tensors of one layout: the GPU is asked once.

    A nan equals itself, and 0 is not -0.
    """
    found = []
    for one, other in pairs:
        parts = zip(bits(one).split(_PART), bits(other).split(_PART), strict=True)
        found.append(torch.stack([(a != b).any() for a, b in parts]).any())
    return torch.stack(found).nonzero().flatten().tolist() if found else []


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one layout hold the same bits: a nan equals itself, 0 is not -0."""
    parts = zip(bits(one).split(_PART), bits(other).split(_PART), strict=True)
    return all(torch.equal(a, b) for a, b in parts)
