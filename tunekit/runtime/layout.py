"""How tensors lie in memory."""

from __future__ import annotations

import torch


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill one run of memory, each in a place of its own, in any order.

    True of contiguous, channels-last and permuted tensors; not of sliced or expanded ones.
    """
    if tensor.is_contiguous():
        return True
    filled = 1
    for stride, size in _axes(tensor):
        if stride != filled:
            return False
        filled *= size
    return True


def same_layout(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether elements of one index are at one offset; both have the same shape.

    The stride of an axis of size 1 is never used and may be anything.
    """
    if first.stride() == second.stride():
        return True
    pairs = zip(first.shape, first.stride(), second.stride(), strict=True)
    return first.numel() == 0 or all(size == 1 or one == other for size, one, other in pairs)


def may_overlap_itself(tensor: torch.Tensor) -> bool:
    """Whether two indices may be one place in memory, as in an expanded tensor.

    Some strides of `as_strided` are called so although they happen to miss each other.
    """
    if tensor.is_contiguous():
        return False
    reach = 0
    for stride, size in _axes(tensor):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def shares_memory(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether the spans of memory from first to last element meet; both are on one device."""
    start, end = _span(first)
    other_start, other_end = _span(second)
    return start < other_end and other_start < end


def overlaps_partly(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two dense tensors of one shape share memory, but not element for element."""
    if first is second or not shares_memory(first, second):
        return False
    if not (is_dense(first) and is_dense(second)):
        return False
    return first.data_ptr() != second.data_ptr() or not same_layout(first, second)


def _axes(tensor: torch.Tensor) -> list[tuple[int, int]]:
    """Stride and size of each axis that has more than one element, fastest first."""
    axes = zip(tensor.stride(), tensor.shape, strict=True)
    return sorted((stride, size) for stride, size in axes if size != 1)


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """Addresses of the first byte and of the one after the last; equal without elements."""
    start = tensor.data_ptr()
    if tensor.is_contiguous():
        return start, start + tensor.nbytes
    reach = sum(stride * (size - 1) for stride, size in _axes(tensor))
    return start, start + (reach + 1) * tensor.element_size()
