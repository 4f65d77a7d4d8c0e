"""A disk that is full, and files that may not be written: one line, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., Any]

# From no page at all over a few tables to within a search.
FEW = [0, 160_000]
MANY = [0, 512, 1024, 4096, *range(8192, 220_000, 16384)]


@pytest.mark.parametrize(
    "sizes", [FEW, pytest.param(MANY, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_a_full_disk_keeps_what_was_stored_and_says_so_in_one_line(
    sizes: list[int], server: Ask, tally: Callable[[str, str, int], None]
) -> None:
    counted = server("fill", sizes)
    assert counted["full"] >= len(sizes)
    assert counted["kept"] > 0
    tally("Faults", "runs that a full disk ended", counted["full"])
    tally("Faults", "rows stored before that, all there", counted["kept"])


def test_what_may_not_be_written_is_said_and_left_alone(server: Ask) -> None:
    assert server("forbid")["refused"] == 3
