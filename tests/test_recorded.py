from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunekit import recorded
from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError
from tunekit.recorded import Recorded, Served, Timed
from tunekit.runtime import lookup

ONE = Recorded(
    reference="mish_mish",
    problem=Problem.of("mish_mish", "abc", {"n": 4096}, "float16", "p16,p16,i32x16", "h100"),
    shape=(64, 64),
    served=Served.NEAREST,
    config=Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1),
    count=7,
    bytes_moved=16384,
    time_us=2.5,
    timed=Timed.SCALED,
    tunekit="0.1.0",
)


def test_a_line_is_read_as_it_was_written() -> None:
    for each in (ONE, replace(ONE, time_us=None, timed=Timed.UNKNOWN)):
        line = recorded.to_line(each)
        assert "\n" not in line
        assert recorded.from_line(line) == each


def test_what_is_served_is_what_the_run_time_knows() -> None:
    assert [(each.name, each.value) for each in Served] == [
        (each.name, each.value) for each in lookup.Served
    ]


def test_lines_of_one_problem_are_added_up(tmp_path: Path) -> None:
    other = replace(ONE, problem=replace(ONE.problem, dtype="float32"), count=5)
    later = replace(ONE, served=Served.EXACT, shape=(4096,), count=100)
    path = tmp_path / "calls.jsonl"
    path.write_text("\n\n".join(map(recorded.to_line, (ONE, other, later))))
    assert recorded.read(path) == [replace(later, count=107), other]


def test_nothing_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.touch()
    assert recorded.read(path) == []


@pytest.mark.parametrize(
    "reference",
    ["mish_mish", "my-gelu", "package.module:NAME", "/some/path with/mine.py:NAME", "C:/m.py:NAME"],
)
def test_references(reference: str) -> None:
    each = replace(ONE, reference=reference)
    assert recorded.from_line(recorded.to_line(each)) == each


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"record": "evaluation"}, "record: expected calls, as of a recording, got 'evaluation'"),
        ({"format": 2}, "format: expected 1"),
        ({"format": True}, "format: expected 1"),
        ({"more": 1}, "unknown key 'more'"),
        ({"count": 0}, "count: expected a whole number from 1"),
        ({"count": 1.5}, "count: expected a whole number"),
        ({"count": 2**60}, "count: expected a whole number"),
        ({"dtype": "int7"}, "dtype: expected one of float32"),
        ({"shape": []}, "shape: expected at least one size"),
        ({"shape": [0]}, "shape[0]: expected"),
        ({"shape": [1] * 99}, "a list of at most"),
        ({"config": {}}, "config: expected an object"),
        ({"served": "guessed"}, "served: expected one of exact"),
        ({"timed": "bound", "time_us": None}, "time_us: expected a positive number where timed is"),
        ({"timed": "unknown"}, "time_us: expected null where timed is unknown"),
        ({"time_us": -1}, "time_us: expected a positive number"),
        ({"reference": "import os:x"}, "reference: expected NAME, package.module:NAME or path"),
        ({"reference": "a.b:c:d"}, "reference: expected NAME"),
        ({"reference": ""}, "reference: expected a text that is not empty"),
    ],
)
def test_a_line_that_is_wrong(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    line = json.dumps(json.loads(recorded.to_line(ONE)) | changed)
    path.write_text(f"{recorded.to_line(ONE)}\n{line}\n")
    with pytest.raises(ImportFormatError) as raised:
        recorded.read(path)
    text = str(raised.value)
    assert text.startswith(f"{path} line 2: ")
    assert said in text
    assert text.endswith("; take that line out, or record again")
    assert "\n" not in text


@pytest.mark.parametrize("content", [b'{"record": "calls"', b"[]", b"{}", b"{" * 10_000])
def test_what_is_no_line_of_a_recording(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(content)
    with pytest.raises(ImportFormatError, match=r"line 1: .*take that line out"):
        recorded.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImportFormatError, match="cannot read: No such file"):
        recorded.read(tmp_path / "none.jsonl")
