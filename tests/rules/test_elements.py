from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.rules.elements import distinct, runs, sectors

OFFSETS = st.lists(st.integers(-50, 200), max_size=40)


@settings(max_examples=30)
@given(OFFSETS)
def test_each_once_and_in_order(offsets: list[int]) -> None:
    assert distinct(np.array(offsets, dtype=np.int64)).tolist() == sorted(set(offsets))


@settings(max_examples=30)
@given(OFFSETS, st.sampled_from([1, 2, 4]))
def test_runs_fill_what_the_elements_fill(numbers: list[int], size: int) -> None:
    offsets = np.array(numbers, dtype=np.int64) * size
    starts, lengths = runs(offsets, size)
    filled = {byte for first in offsets for byte in range(first, first + size)}
    assert {
        byte
        for start, length in zip(starts, lengths, strict=True)
        for byte in range(start, start + length)
    } == filled
    ends = starts + lengths
    assert (starts[1:] > ends[:-1]).all()  # none touches the next


def test_sectors() -> None:
    assert sectors(np.arange(0, 64, 4), 4).tolist() == [0, 1]
    assert sectors(np.arange(0, 64, 4), 4, misalignment=8).tolist() == [0, 1, 2]
    assert sectors(np.array([30]), 4).tolist() == [0, 1]  # one element in two sectors
    assert sectors(np.array([], dtype=np.int64), 4).tolist() == []
