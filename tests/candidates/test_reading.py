"""Which kind a file is, by what it holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunekit.candidates.json_file import MAX_JSON_BYTES
from tunekit.candidates.reading import holds_evaluations, read_configs
from tunekit.errors import ImportFormatError
from tunekit.paths import shipped_database
from tunekit.records import to_line
from tunekit.store.database import Store

PYTHON = "import triton\nconfigs = [triton.Config({'B': 16})]\n"
TABLE = {"16": {"B": 16}}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PYTHON, "Python"),
        (f"\ufeff{PYTHON}", "Python"),
        (f"#!/usr/bin/env python\n{{1}}\n{PYTHON}", "Python"),
        (json.dumps(TABLE), "a table of configurations"),
        (f"\n  {json.dumps(TABLE, indent=4)}", "a table of configurations"),
        ('[{"B": 16}]', "a list of configurations"),
        (
            '{"key": [], "configs_timings": [[{"kwargs": {"B": 1}}, Infinity]]}',
            "Triton's cache of an autotuning",
        ),
    ],
)
@pytest.mark.parametrize("name", ["configs.py", "configs.json", "configs"])
def test_the_name_decides_nothing(tmp_path: Path, name: str, content: str, kind: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert read_configs(path).kind == kind


def test_evaluations_are_told_apart(tmp_path: Path) -> None:
    with Store.open(shipped_database(), readonly=True, immutable=True) as shipped:
        line = to_line(shipped.decisions(kernel="mish_mish")[0])
    assert holds_evaluations(f"\n{line}\n{line}\n")
    assert holds_evaluations('{"kernel": "a", "config": {}, "status": "ok", "time_us": 1}')
    assert not holds_evaluations(json.dumps(TABLE))
    assert not holds_evaluations("")
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    with pytest.raises(ImportFormatError, match="holds evaluations, which say what they are of"):
        read_configs(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "expected UTF-8 text, byte 0 is none"),
        (b" " * (MAX_JSON_BYTES + 1), "larger than 4194304 bytes"),
        (b"x =", "line 1: no Python"),
        (b"[1,", "no JSON"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some file"
    path.write_bytes(content)
    with pytest.raises(ImportFormatError, match=message) as caught:
        read_configs(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(ImportFormatError, match=f"{path}: cannot read"):
            read_configs(path)
