"""Other layouts of the same tensors: where they start, and with which strides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from tunekit.kernels.plan import TensorMeta

_PADDING = 3
"""Elements between rows, so that rows begin at no multiple of 16 bytes."""


def layouts_of(
    metas: Sequence[TensorMeta], names: Sequence[str]
) -> Iterator[tuple[str, tuple[TensorMeta, ...]]]:
    """Metadata of the same tensors in other layouts, one changed at a time, with what it is.

    Args:
        metas: as tuning allocates them.
        names: of each.
    """
    yield (
        "starting at no multiple of 16 bytes",
        tuple(replace(meta, misalignment=meta.itemsize) for meta in metas),
    )
    for index, (meta, name) in enumerate(zip(metas, names, strict=True)):
        for what, other in _strided(meta):
            yield f"{name} {what}", (*metas[:index], other, *metas[index + 1 :])


def _strided(meta: TensorMeta) -> Iterator[tuple[str, TensorMeta]]:
    plain = TensorMeta.contiguous(meta.shape, meta.dtype)
    if not meta.numel or not meta.shape:
        return
    if len(meta.shape) == 1 or meta.strides != plain.strides:
        yield "with a gap after each element", _with(meta, [2 * each for each in meta.strides])
        return
    *outer, last = meta.shape
    padded = TensorMeta.contiguous([*outer, last + _PADDING], meta.dtype)
    yield f"with rows {last + _PADDING} elements apart", _with(meta, padded.strides)
    *rest, second, _ = meta.shape
    if min(second, last) > 1:
        turned = TensorMeta.contiguous([*rest, last, second], meta.dtype).strides
        yield "transposed in memory", _with(meta, [*turned[:-2], turned[-1], turned[-2]])


def whole(x: torch.Tensor) -> torch.Tensor:
    """The memory from a tensor's first element to its last, gaps among them."""
    return x.as_strided((TensorMeta.of(x).extent,), (1,), x.storage_offset())


def between(x: torch.Tensor) -> torch.Tensor:
    """The elements of its memory that are none of the tensor's, shape (count,): a copy."""
    memory = whole(x)
    is_gap = torch.ones(memory.shape, dtype=torch.bool, device=x.device)
    is_gap.as_strided(x.shape, x.stride()).fill_(False)
    return memory[is_gap]


def _with(meta: TensorMeta, strides: Sequence[int]) -> TensorMeta:
    return replace(meta, strides=tuple(strides))
