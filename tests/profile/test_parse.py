"""Logs that Nsight Compute wrote, in whatever language, and what only looks like one."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import ProfileError
from tunekit.profile import parse
from tunekit.profile.counters import KNOWN
from tunekit.profile.parse import Read, errors_in, launches_in

DATA = Path(__file__).parent / "data"
WANTED = [each.name for each in KNOWN]
SM = "sm__throughput.avg.pct_of_peak_sustained_elapsed"
READ_BYTES = "dram__bytes_read.sum"


def log_of(*rows: list[str]) -> str:
    """A log with one table."""
    table = io.StringIO()
    csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return f"==PROF== Connected to process 7 (/usr/bin/python3)\n{table.getvalue()}"


def one(value: str, unit: str = "%", name: str = SM, **others: str) -> str:
    """A log of one launch with one counter, and others."""
    return log_of(
        ["ID", "Kernel Name", "Block Size", "Grid Size", name, *others],
        ["", "", "", "", unit, *("" for _ in others)],
        ["0", "f", "(128, 1, 1)", "(64, 2, 1)", value, *others.values()],
    )


def read(log: str, name: str = SM) -> Read | None:
    (launch,) = launches_in(log, [name])
    return launch.counters.get(name)


def test_two_launches_of_an_h100() -> None:
    winner, default = launches_in((DATA / "two-launches.csv").read_text(), WANTED)
    assert set(winner.counters) == set(default.counters) == set(WANTED)
    assert (winner.kernel, winner.grid, winner.block) == (
        "pointwise_kernel",
        (524288, 1, 1),
        (256, 1, 1),
    )
    assert winner.counters[SM] == Read(30.02, "%")
    assert default.counters[SM] == Read(17.72, "%")
    assert winner.counters[READ_BYTES].value > 2e9
    assert winner.counters["gpu__time_duration.sum"] == Read(1_410_368.0, "ns")
    assert winner.counters["launch__registers_per_thread"] == Read(32.0, "register/thread")


def test_what_is_not_wanted_is_not_read() -> None:
    (launch,) = launches_in((DATA / "one-launch.csv").read_text(), [SM, "absent__metric.sum"])
    assert dict(launch.counters) == {SM: Read(28.23, "%")}


def test_a_log_among_what_the_program_said_and_without_separators() -> None:
    (launch,) = launches_in((DATA / "no-separators.csv").read_text(), WANTED)
    assert launch.grid == (1, 1, 1)
    assert launch.counters[READ_BYTES] == Read(11520.0, "byte")
    assert launch.counters["gpu__time_duration.sum"] == Read(3040.0, "ns")
    assert launch.counters["launch__waves_per_multiprocessor"] == Read(0.0, "")


_WRITTEN: dict[str, Callable[[str], str]] = {
    "German": lambda text: text.translate(str.maketrans(",.", ".,")),
    "French": lambda text: text.replace(",", "\u202f").replace(".", ","),
    "Swiss": lambda text: text.replace(",", "’"),
    "Swedish": lambda text: text.replace(",", "\xa0").replace(".", ","),
    "C": lambda text: text.replace(",", ""),
}


@pytest.mark.parametrize("language", _WRITTEN)
def test_numbers_are_read_in_any_language(language: str) -> None:
    path = DATA / "two-launches.csv"
    names, units, *launches = csv.reader(
        line for line in path.read_text().splitlines() if not line.startswith("==")
    )
    for row in launches:
        for column, name in enumerate(names):
            if "__" in name and row[column].replace(",", "").replace(".", "").isdigit():
                row[column] = _WRITTEN[language](row[column])
    log = log_of(names, units, *launches)
    assert launches_in(log, WANTED) == launches_in(path.read_text(), WANTED)


@pytest.mark.parametrize(
    ("text", "others", "value"),
    [
        ("12", {}, 12.0),
        ("-0.5", {}, -0.5),
        ("1,234", {}, 1234.0),
        ("1,234", {"other__x.sum": "0,5"}, 1.234),
        ("1.234", {}, 1.234),
        ("1.234", {"other__x.sum": "0,5"}, 1234.0),
        ("1.234", {"other__x.sum": "1.234.567"}, 1234.0),
        ("1,234", {"other__x.sum": "1.234.567"}, 1.234),
        ("1.234,5", {}, 1234.5),
        ("1,234.5", {}, 1234.5),
        ("1’234.5", {}, 1234.5),
        ("1 234", {}, 1234.0),
        ("2.5e+06", {}, 2.5e6),
        ("12,345,678.90", {}, 12345678.9),
    ],
)
def test_a_number_is_what_the_whole_table_says_it_is(
    text: str, others: dict[str, str], value: float
) -> None:
    assert read(one(text, **others)) == Read(value, "%")


@pytest.mark.parametrize(
    "text",
    ["n/a", "N/A", "nan", "inf", "", "-", "(!) n/a", "12,34,567", "1.2.3", "1e", "٣",
     "0x10", "1_000", "12%", "1e999", "1.", "no data", "1,,000"],
)  # fmt: skip
def test_what_is_no_number_is_not_read(text: str) -> None:
    assert read(one(text)) is None


def test_a_table_of_two_languages_is_refused() -> None:
    with pytest.raises(ProfileError, match="decimal points and numbers with decimal commas"):
        read(one("0.5", **{"other__x.sum": "0,5"}))


def test_what_is_no_counter_tells_nothing_about_the_language() -> None:
    assert read(one("1.234,5", CC="9.0")) == Read(1234.5, "%")


@pytest.mark.parametrize(
    ("unit", "read_as"),
    [
        ("ns", Read(2.0, "ns")),
        ("nsecond", Read(2.0, "ns")),
        ("us", Read(2e3, "ns")),
        ("usecond", Read(2e3, "ns")),
        ("msecond", Read(2e6, "ns")),
        ("second", Read(2e9, "ns")),
        ("byte", Read(2.0, "byte")),
        ("wave\x1b[31m", Read(2.0, "wave\\x1b[31m")),
    ],
)
def test_units(unit: str, read_as: Read) -> None:
    assert read(one("2", unit)) == read_as


def test_a_log_without_a_table_tells_of_no_launch() -> None:
    assert launches_in("", WANTED) == []
    assert launches_in((DATA / "no-kernels.log").read_text(), WANTED) == []
    assert launches_in("hello\n==PROF== Connected\n", WANTED) == []


HEAD = '"ID","Kernel Name","Block Size","Grid Size","a__b.sum"\n'


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (HEAD, "names alone"),
        (HEAD + '"","","",""\n', "a line of 4 fields in a table of 5"),
        (HEAD + '"","","","",""\n"0","f"\n', "a line of 2 fields"),
        (HEAD + '"","","","",""\n"0","f","(1, 1, 1)","64","1"\n', "where three sizes belong"),
        (HEAD + '"","","","",""\n"0","f","(1, 1, 1)","(1, 1, 1)","1\n', "of its table"),
        ('"ID","a__b.sum"\n"",""\n"0","1"\n', "no column 'Kernel Name'"),
        (HEAD + '"","","","",""\n' * 200, "too large"),
        ('"ID",' + ",".join(["x"] * 60_000), "too large"),
        ("x" * (parse.MAX_BYTES + 1), "more than 16 MB"),
    ],
)
def test_what_only_looks_like_a_table_is_refused(log: str, said: str) -> None:
    with pytest.raises(ProfileError, match=said) as refused:
        launches_in(log, ["a__b.sum"])
    assert "\n" not in str(refused.value)


@given(st.text(), st.text(alphabet='0123456789.,"\n\r ID=()-eE'))
def test_any_text_is_read_or_refused(before: str, after: str) -> None:
    for log in (before + after, HEAD + after, one(after)):
        with suppress(ProfileError):
            launches_in(log, WANTED)


def test_errors_are_told_apart_from_the_rest() -> None:
    assert errors_in((DATA / "unknown-metric.log").read_text()) == [
        r"Failed to find metric regex:^sm__throughput\.(sum|min|max|avg|pct|ratio|max_rate)$",
        'Failed to profile "twice(float *, int)" in process 912',
        "The application returned an error code (9).",
    ]
    assert errors_in((DATA / "two-launches.csv").read_text()) == []
    assert errors_in("ERROR : nsight-compute directory is not found under /opt\n") == [
        "nsight-compute directory is not found under /opt"
    ]
    assert errors_in("==ERROR==\n==ERROR== a\x1b[31mb\n") == [r"a\x1b[31mb"]
