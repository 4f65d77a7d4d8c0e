from __future__ import annotations

import os

import pytest
import triton

from tunekit.rules.places import Place, Places

TRITON = os.path.dirname(triton.__file__)
LINES = [
    '#loc = loc("/home/me/mine.py":7:0)',
    "#loc1 = loc(unknown)",
    f'#loc2 = loc("{TRITON}/language/standard.py":43:17)',
    '#loc3 = loc("x"(#loc))',
    "#loc4 = loc(callsite(#loc2 at #loc3))",
    "#loc5 = loc(fused[#loc3, #loc2])",
    "#loc6 = loc(callsite(#loc7 at #loc6))",
    "#loc7 = loc(#loc6)",
    "    %0 = tt.load %1 loc(#loc)",
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("#loc", "mine.py:7"),
        ("#loc1", ""),
        ("#loc3", "mine.py:7"),
        ("#loc4", "mine.py:7"),  # what Triton's own library does is told where it is called
        ("#loc2", "standard.py:43"),
        ("#loc5", "mine.py:7"),
        ('callsite("a"("/b c/at (1).py":1:2) at "/d.py":3:4)', "at (1).py:1"),
        ("#loc99", ""),
        ("nonsense", ""),
    ],
)
def test_where_an_operation_is_from(text: str, shown: str) -> None:
    assert str(Places.of(LINES).read(text)) == shown


def test_the_key_has_every_frame() -> None:
    key = Places.of(LINES).read("#loc4").key
    assert key == (("standard.py", 43, 17), ("mine.py", 7, 0))


def test_aliases_that_go_round_end() -> None:
    assert Places.of(LINES).read("#loc6") == Place(())
