from __future__ import annotations

import pytest
import torch

from tunekit.runtime.layout import (
    is_dense,
    may_overlap_itself,
    overlaps_partly,
    same_layout,
    shares_memory,
)

MEMORY = torch.zeros(2, 3, 4, 5)
DENSE = {
    "contiguous": MEMORY,
    "channels last": MEMORY.to(memory_format=torch.channels_last),
    "permuted": MEMORY.permute(3, 0, 2, 1),
    "part": MEMORY[1],
    "0-dim": torch.tensor(1.0),
    "no elements": MEMORY[:, :0],
    "an axis of 1 with any stride": torch.zeros(100).as_strided((4, 1, 3), (3, 77, 1)),
    "one element with any stride": torch.zeros(100).as_strided((1, 1), (9, 9)),
}
SLICED = {
    "columns": MEMORY[..., 1:],
    "every second": MEMORY[:, ::2],
    "sliced and permuted": MEMORY.permute(3, 0, 2, 1)[:2],
    "holes": torch.zeros(100).as_strided((2, 2), (3, 1)),
}
OVERLAPPING = {
    "expanded": torch.zeros(3, 1).expand(3, 4),
    "windows": torch.zeros(10).unfold(0, 3, 1),
    "expanded to one row": torch.zeros(1).expand(5),
}


@pytest.mark.parametrize("name", DENSE)
def test_dense(name: str) -> None:
    assert is_dense(DENSE[name])
    assert not may_overlap_itself(DENSE[name])
    assert same_layout(DENSE[name], torch.empty_like(DENSE[name]))


@pytest.mark.parametrize("name", SLICED)
def test_sliced(name: str) -> None:
    assert not is_dense(SLICED[name])
    assert not may_overlap_itself(SLICED[name])
    assert is_dense(SLICED[name].clone())


@pytest.mark.parametrize("name", OVERLAPPING)
def test_overlapping(name: str) -> None:
    assert not is_dense(OVERLAPPING[name])
    assert may_overlap_itself(OVERLAPPING[name])
    assert is_dense(OVERLAPPING[name].clone())


def test_layouts_are_the_same_where_strides_are_used() -> None:
    first = torch.zeros(100).as_strided((4, 1, 3), (3, 77, 1))
    assert same_layout(first, torch.zeros(4, 1, 3))
    assert not same_layout(first, torch.zeros(3, 1, 4).permute(2, 1, 0))
    assert same_layout(torch.zeros(0, 3), torch.zeros(3, 0).t())


def test_partial_overlap() -> None:
    flat = torch.zeros(64)
    square = flat.view(8, 8)
    assert overlaps_partly(flat[1:], flat[:-1])
    assert overlaps_partly(square, square.t())
    assert overlaps_partly(flat[:8].view(2, 4), flat[4:12].view(2, 4))
    assert not overlaps_partly(square, square)
    assert not overlaps_partly(square, square.view(8, 8))
    assert not overlaps_partly(flat[:32], flat[32:])
    assert not overlaps_partly(flat, torch.zeros(64))


def test_what_is_copied_before_the_launch_may_overlap() -> None:
    flat = torch.zeros(64)
    assert not overlaps_partly(flat[::2], flat[1::2])
    assert not overlaps_partly(flat[:8], flat[3].expand(8))


def test_spans_of_memory() -> None:
    flat = torch.zeros(64)
    assert shares_memory(flat[::2], flat[1::2])
    assert shares_memory(flat[:10], flat[9:])
    assert not shares_memory(flat[:10], flat[10:])
    assert not shares_memory(flat[5:5], flat)
