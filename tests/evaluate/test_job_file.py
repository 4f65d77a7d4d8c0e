"""Jobs from a file: exact both ways, and one clear line for whatever else a file holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.config import Config
from tunekit.errors import ImportFormatError
from tunekit.evaluate.job import Job
from tunekit.evaluate.job_file import job_from_json, read_job

JOB = Job(
    kernel="my/file.py:gelu+bias/channels_last",
    shape=(64, 128),
    dtype="float16",
    scalars={"add_value": -0.25},
    config=Config(BLOCK_SIZE=1024, num_warps=4),
    target="h100",
    seed=7,
    deadline_s=12.5,
    compile_deadline_s=3.0,
    warm=True,
    hopeless_us=99.5,
)
DATA = json.loads(json.dumps(JOB.to_json()))
SHORT = ("kernel", "shape", "dtype", "scalars", "config", "target")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], str]:
    def file(*lines: Any) -> str:
        path = tmp_path / "job.json"
        path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
        return str(path)

    return file


def test_a_job_is_read_as_it_was_written(write: Callable[..., str]) -> None:
    data = JOB.to_json()
    assert read_job(write(data)) == JOB
    assert read_job(write(json.dumps(data, indent=2))) == JOB
    assert read_job(write({"event": "evaluated", "job": data, "outcome": {}})) == JOB
    assert read_job(write({"job": data})) == JOB


def test_a_line_of_several(write: Callable[..., str]) -> None:
    other = replace(JOB, seed=8)
    path = write({"event": "run"}, "", {"job": JOB.to_json()}, other.to_json())
    assert read_job(f"{path}:3") == JOB
    assert read_job(f"{path}:4") == other


def test_a_file_whose_name_ends_like_a_line(tmp_path: Path) -> None:
    path = tmp_path / "job:23"
    path.write_text(json.dumps(JOB.to_json()))
    assert read_job(str(path)) == JOB


def test_what_has_a_default_may_be_left_out() -> None:
    short = {name: value for name, value in DATA.items() if name in SHORT}
    assert job_from_json(short) == Job(
        JOB.kernel, JOB.shape, JOB.dtype, JOB.scalars, JOB.config, JOB.target
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kernel", "", "kernel: expected a text that is not empty"),
        ("kernel", "a\nb", "kernel: expected printable text"),
        ("kernel", 3, "kernel: expected printable text"),
        ("shape", [], "shape: expected at least one size"),
        ("shape", [0], "shape[0]: expected a whole number from 1"),
        ("shape", [2] * 33, "shape: expected a list of at most 32 items"),
        ("shape", [2.0], "shape[0]: expected a whole number"),
        ("shape", "64", "shape: expected a list"),
        ("dtype", "int7", "dtype: expected one of float32, float16, bfloat16"),
        ("dtype", ["float32"], "dtype: expected printable text"),
        ("scalars", [], "scalars: expected an object of at most 32 numbers"),
        ("scalars", {"a": "1"}, "scalars.'a': expected a finite number"),
        ("scalars", {"a": True}, "scalars.'a': expected a finite number"),
        ("scalars", {"a": 10**400}, "scalars.'a': expected a finite number"),
        ("scalars", {str(i): 1 for i in range(33)}, "scalars: expected an object of at most 32"),
        ("config", {}, "config: expected an object of 1 to 32 whole numbers"),
        ("config", {"BLOCK_SIZE": 2**31}, "config.BLOCK_SIZE: expected a whole number from 0"),
        ("config", {"BLOCK_SIZE": 4.0}, "config.BLOCK_SIZE: expected a whole number"),
        ("config", {"a b": 4}, "config: expected identifiers"),
        ("target", "", "target: expected a text that is not empty"),
        ("seed", -1, "seed: expected a whole number from 0"),
        ("seed", 2**32, "seed: expected a whole number from 0 to 4294967295"),
        ("deadline_s", 0, "deadline_s: expected a positive number"),
        ("deadline_s", 3601, "deadline_s: expected at most 3600 seconds, got 3601"),
        ("compile_deadline_s", None, "compile_deadline_s: expected a positive number, got None"),
        ("compile_deadline_s", 1e20, "compile_deadline_s: expected at most 3600 seconds"),
        ("warm", 1, "warm: expected true or false, got 1"),
        ("hopeless_us", "soon", "hopeless_us: expected a positive number"),
        ("extra", 1, "unknown key 'extra'"),
    ],
)
def test_every_field_is_checked(
    name: str, value: object, said: str, write: Callable[..., str]
) -> None:
    path = write({"job": JOB.to_json() | {name: value}})
    with pytest.raises(ImportFormatError) as caught:
        read_job(path)
    assert str(caught.value).startswith(f"{path}: {said}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*DATA, "extra"]), JSON, max_size=3))
def test_whatever_a_field_holds_it_is_a_job_or_one_line(changes: dict[str, Any]) -> None:
    said = ""
    try:
        job = job_from_json(DATA | changes)
    except ImportFormatError as error:
        said = str(error)
    else:
        again = json.loads(json.dumps(job.to_json(), allow_nan=False))
        assert job_from_json(again) == job
    assert "\n" not in said


@pytest.mark.parametrize("name", SHORT)
def test_what_a_job_cannot_be_without(name: str) -> None:
    with pytest.raises(ImportFormatError, match=f"missing {name}"):
        job_from_json({key: value for key, value in DATA.items() if key != name})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": the file is empty"),
        ("\n\n", ": the file is empty"),
        ("{", ": not JSON: "),
        ("[]", ": expected a JSON object"),
        ('{"seed": NaN}', ": NaN is no JSON number"),
        ('{"seed": 1, "seed": 2}', ": key 'seed' appears twice"),
        ("[" * 100_000, ": not JSON: "),
        ('{"event": "run"}\n{"job": 1}', ": not JSON: Extra data"),
        ('{"event": "run"}', ": there is no job in it, its event is 'run'"),
        ('{"job": [1]}', ": there is no job in it"),
        ("{}", ": missing kernel, shape"),
        (f'"{"x" * 1_000_000}"', " line 1: longer than 1000000 bytes"),
        ("x" * 600_000 + "\n" + "x" * 600_000, " line 2: too long for one job"),
        (b"\xff\xfe", " line 1: not UTF-8 text"),
    ],
)
def test_what_is_no_job(text: str | bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ImportFormatError) as caught:
        read_job(str(path))
    assert str(caught.value).startswith(f"{path}{said}")
    assert "\n" not in str(caught.value)


def test_of_several_lines_one_is_to_be_named(write: Callable[..., str]) -> None:
    path = write({"job": JOB.to_json()}, {"job": JOB.to_json()})
    with pytest.raises(ImportFormatError, match=r"name the line, as FILE\.jsonl:23$"):
        read_job(path)


@pytest.mark.parametrize("place", ["0", "2", "4", "999999999"])
def test_a_line_that_is_not_there(place: str, write: Callable[..., str]) -> None:
    path = write({"job": JOB.to_json()}, "", {"job": JOB.to_json()})
    with pytest.raises(ImportFormatError, match=f"there is nothing in line {place}"):
        read_job(f"{path}:{place}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for place in (tmp_path / "none.json", f"{tmp_path / 'none.json'}:3", tmp_path, "x" * 5000):
        with pytest.raises(ImportFormatError, match="cannot read: "):
            read_job(str(place))
