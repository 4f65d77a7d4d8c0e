"""The counters as data: each is named once, and shown in the unit its title says."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tunekit.profile import counters
from tunekit.profile.counters import KNOWN, in_base_unit, ordered, text_of, title_of
from tunekit.profile.parse import Read

DATA = Path(__file__).parent / "data"


def test_names_and_titles_are_distinct() -> None:
    assert len({each.name for each in KNOWN}) == len({each.title for each in KNOWN}) == len(KNOWN)


def test_an_h100_has_them_all_in_the_units_they_are_stored_in() -> None:
    lines = (DATA / "two-launches.csv").read_text().splitlines()
    names, units, *_ = csv.reader(line for line in lines if not line.startswith("=="))
    there = dict(zip(names, units, strict=True))
    for each in KNOWN:
        assert in_base_unit(1.0, there[each.name]) == (1.0, each.unit), each.name


@pytest.mark.parametrize(
    ("name", "read", "text"),
    [
        (counters.DURATION.name, Read(1_410_368.0, "ns"), "1,410.37"),
        (counters.SM.name, Read(30.02, "%"), "30.0"),
        (counters.GRID.name, Read(524288.0, ""), "524,288"),
        ("dram__bytes_read.sum", Read(2_147_483_648.0, "byte"), "2,147.5"),
        ("dram__bytes_read.sum", Read(2.0, "sector"), "2 sector"),
        ("other__counter.sum", Read(272_515_584.0, "inst"), "272,515,584 inst"),
        ("other__counter.ratio", Read(0.5, ""), "0.5"),
        ("other__counter.sum", Read(100.0, ""), "100"),
    ],
)
def test_texts(name: str, read: Read, text: str) -> None:
    assert text_of(name, read) == text


def test_order_and_titles() -> None:
    names = {"b__x.sum", "a__x.sum", counters.GRID.name, counters.SM.name}
    assert ordered(names) == [counters.SM.name, counters.GRID.name, "a__x.sum", "b__x.sum"]
    assert title_of(counters.SM.name) == "sm %"
    assert title_of("a__x.sum") == "a__x.sum"
