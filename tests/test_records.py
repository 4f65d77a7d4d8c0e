"""Evaluations, decisions and others as data and as lines: exact both ways, strict on the way in."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunekit import records
from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.counter import Counter
from tunekit.core.evaluation import (
    Binary,
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import ITEMSIZES, Problem
from tunekit.errors import ImportFormatError, TunekitError
from tunekit.store import lines

DOC = Path(__file__).resolve().parent.parent / "docs" / "evaluations-format.md"

PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4096}, "float32", "p16,p16,i32x16", "h100")
PROVENANCE = Provenance(
    "NVIDIA H100 80GB HBM3", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-1",
    "2026-01-31T23:59:59.123+00:00",
)  # fmt: skip
MEASURED = Evaluation(
    problem=PROBLEM,
    shape=(64, 64),
    config=Config(BLOCK_SIZE=1024, VEC=4, num_warps=4),
    status=Status.OK,
    source=Source.MEASURED,
    provenance=PROVENANCE,
    verified_by=VerifiedBy.DEVICE,
    time_us=0.1 + 0.2,
    samples_us=(1.5, 0.1 + 0.2),
    binary=Binary("beef", 32, 0, 0, 16, 16),
    max_error=0.25,
)
WRONG = replace(
    MEASURED, status=Status.WRONG, time_us=None, samples_us=(), reason="line 1\nline 2 π"
)
DECISION = Decision(
    problem=PROBLEM,
    source=Source.MEASURED,
    winner=MEASURED.uid,
    default="",
    reason="beat the default by 3.0% ± 0.5%",
    created_at="2026-01-31T23:59:59Z",
    rows=(MEASURED.uid, WRONG.uid),
    speedup=1.03,
    copy_us=0.29,
)

printable = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20)
positive = st.floats(min_value=1e-9, max_value=1e12)
size = st.integers(1, 2**48)
name = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
count = st.integers(0, 2**31)

problems = st.builds(
    Problem.of,
    printable.filter(bool),
    printable.filter(bool),
    st.dictionaries(name, size, min_size=1, max_size=4),
    st.sampled_from([*sorted(ITEMSIZES), "float8_e4m3fn", "int8"]),
    printable,
    printable.filter(bool),
)
provenances = st.builds(
    Provenance, printable, count, printable, printable, printable, printable, printable,
    st.datetimes().map(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + "Z"),
)  # fmt: skip
binaries = st.builds(Binary, printable.filter(bool), count, count, count, count, count)


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    status = draw(st.sampled_from(Status))
    source = draw(st.sampled_from(Source))
    measured_ok = status is Status.OK and source is Source.MEASURED
    return Evaluation(
        problem=draw(problems),
        shape=tuple(draw(st.lists(size, min_size=1, max_size=5))),
        config=Config(draw(st.dictionaries(name, count, min_size=1, max_size=5).map(_capped))),
        status=status,
        source=source,
        provenance=draw(provenances),
        reason=draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)),
        verified_by=draw(st.none() | st.sampled_from(VerifiedBy)),
        time_us=draw(positive) if status is Status.OK else None,
        samples_us=tuple(draw(st.lists(positive, max_size=5))) if measured_ok else (),
        binary=draw(st.none() | binaries),
        max_error=draw(st.none() | st.floats(min_value=0, allow_nan=False)),
        disturbance=draw(printable),
    )


def _capped(values: dict[str, int]) -> dict[str, int]:
    return {axis: min(value, records.MAX_AXIS_VALUE) for axis, value in values.items()}


uids = st.from_regex(r"[0-9a-f]{24}", fullmatch=True)
decisions = st.builds(
    Decision,
    problem=problems,
    source=st.sampled_from(Source),
    winner=uids,
    default=uids | st.just(""),
    reason=printable,
    created_at=st.just("2026-01-31T23:59:59.5+00:00"),
    rows=st.lists(uids, max_size=3).map(tuple),
    speedup=st.none() | positive,
    copy_us=st.none() | positive,
)


candidates = st.builds(
    Candidate,
    problem=problems,
    config=st.dictionaries(name, count, min_size=1, max_size=5).map(_capped).map(Config),
    origin=printable.filter(bool),
    created_at=st.just("2026-01-31T23:59:59Z"),
)
counters = st.builds(
    Counter,
    evaluation=uids,
    name=printable.filter(bool),
    value=st.floats(-1e30, 1e30) | st.integers(-(2**53), 2**53),
    unit=printable,
    tool=printable.filter(bool),
    created_at=st.just("2026-01-31T23:59:59.5+00:00"),
)


def line_of(record: Evaluation | Decision, /, **changes: object) -> str:
    data = json.loads(records.to_line(record))
    del data["uid"]
    return json.dumps(data | changes)


@given(evaluations() | decisions | candidates | counters)
@settings(max_examples=80)
def test_a_line_reads_back_as_what_was_written(record: records.Line) -> None:
    line = records.to_line(record)
    assert "\n" not in line
    back = records.from_line(line)
    assert back == record
    assert back.uid == record.uid


@given(st.lists(evaluations() | decisions | candidates | counters, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_a_file_reads_back_as_what_was_written(tmp_path: Path, written: list[records.Line]) -> None:
    path = tmp_path / "some.jsonl"
    records.write_lines(path, written)
    assert list(records.read_lines(path)) == written


def test_the_order_of_a_configuration_survives() -> None:
    config = Config(num_warps=4, BLOCK_SIZE=1024)
    back = records.from_line(records.to_line(replace(MEASURED, config=config)))
    assert isinstance(back, Evaluation)
    assert list(back.config) == ["num_warps", "BLOCK_SIZE"]


@pytest.mark.parametrize("error", [math.inf, math.nan])
def test_an_infinite_error_is_written_without_breaking_json(error: float) -> None:
    line = records.to_line(replace(WRONG, max_error=error))
    json.loads(line, parse_constant=pytest.fail)
    back = records.from_line(line)
    assert isinstance(back, Evaluation)
    assert back.max_error == math.inf


def test_a_reason_is_made_storable() -> None:
    back = records.from_line(records.to_line(replace(WRONG, reason="a\0b\ud800" + "x" * 9_000)))
    assert back.reason.startswith("a?b?xxx")
    assert len(back.reason) == records.MAX_REASON


def test_a_line_written_before_there_were_disturbances_can_be_read() -> None:
    assert "disturbance" not in json.loads(records.to_line(MEASURED))
    disturbed = replace(MEASURED, disturbance="clocks throttled: power cap")
    assert disturbed.uid == MEASURED.uid
    assert records.from_line(records.to_line(disturbed)) == disturbed


def test_whole_numbers_become_floats() -> None:
    back = records.from_line(line_of(MEASURED, time_us=3, samples_us=[1, 2]))
    assert isinstance(back, Evaluation)
    assert (type(back.time_us), type(back.samples_us[0])) == (float, float)


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"time_us": "x"}, "time_us: expected a positive number, got 'x'"),
    ({"time_us": 0}, "time_us: expected a positive number, got 0"),
    ({"time_us": -1.0}, "time_us: expected a positive number"),
    ({"time_us": True}, "time_us: expected a positive number, got True"),
    ({"time_us": 10**400}, "time_us: expected a positive number"),
    ({"time_us": None}, "time_us: expected a positive number when the status is ok, got None"),
    ({"status": "wrong"}, "time_us: expected null when the status is wrong"),
    ({"status": "fine"}, "status: expected one of ok, rejected,"),
    ({"status": ["ok"]}, "status: expected one of"),
    ({"source": "guessed"}, "source: expected one of measured, estimated"),
    ({"source": "estimated"}, "samples_us: expected an empty list when the source is estimated"),
    ({"verified_by": "me"}, "verified_by: expected one of device, interpreter"),
    ({"samples_us": [1.0, "x"]}, "samples_us[1]: expected a positive number, got 'x'"),
    ({"samples_us": "1"}, "samples_us: expected a list of at most 10000 items"),
    ({"samples_us": [1.0] * 10_001}, "samples_us: expected a list of at most 10000 items"),
    ({"shape": []}, "shape: expected at least one size"),
    ({"shape": [64, 0]}, "shape[1]: expected a whole number from 1"),
    ({"shape": [64.0]}, "shape[0]: expected a whole number"),
    ({"shape": [True]}, "shape[0]: expected a whole number"),
    ({"shape": [2**60]}, "shape[0]: expected a whole number"),
    ({"shape": [1] * 33}, "shape: expected a list of at most 32 items"),
    ({"dims": {}}, "dims: expected an object of 1 to 32 whole numbers"),
    ({"dims": [["n", 1]]}, "dims: expected an object"),
    ({"dims": {"n": "4096"}}, "dims.n: expected a whole number"),
    ({"dims": {"n m": 1}}, "dims: expected identifiers"),
    ({"config": {"BLOCK_SIZE": 2**31}}, "config.BLOCK_SIZE: expected a whole number"),
    ({"config": {"a": None}}, "config.a: expected a whole number"),
    ({"config": {"x" * 65: 1}}, "config: expected identifiers of at most 64 characters"),
    ({"dtype": "float 64"}, "dtype: expected a name such as float32, of letters, digits and"),
    ({"dtype": "x" * 33}, "dtype: expected a name such as float32"),
    ({"dtype": "größe"}, "dtype: expected a name such as float32"),
    ({"dtype": None}, "dtype: expected a name such as float32"),
    ({"disturbance": 1}, "disturbance: expected text of at most 4000 characters"),
    ({"created_at": ""}, "created_at: expected a UTC time such as"),
    ({"binary_hash": ""}, "binary_hash: expected a text that is not empty"),
    ({"kernel": ""}, "kernel: expected a text that is not empty"),
    ({"kernel": "a\nb"}, "kernel: expected printable text"),
    ({"device": "\ud800"}, "device: expected printable text"),
    ({"device": 5}, "device: expected printable text"),
    ({"gpu_name": "x" * 1001}, "gpu_name: expected printable text of at most 1000 characters"),
    ({"sm_count": -1}, "sm_count: expected a whole number from 0"),
    ({"registers": None}, "registers: null although binary_hash is given"),
    ({"registers": 1.5}, "registers: expected a whole number"),
    ({"max_error": -0.1}, 'max_error: expected a number from 0 up, "inf" or null'),
    ({"max_error": "nan"}, "max_error: expected a number from 0 up"),
    ({"reason": "x" * 4001}, "reason: expected text of at most 4000 characters"),
    ({"created_at": "yesterday"}, "created_at: expected a UTC time such as"),
    ({"created_at": "2026-02-30T00:00:00Z"}, "created_at: expected a UTC time"),
    ({"created_at": "2026-01-31T00:00:00+02:00"}, "created_at: expected a UTC time"),
    ({"created_at": "2026-01-31T00:00:00"}, "created_at: expected a UTC time"),
    ({"format": 2}, "format: expected 1, the one this tunekit reads, got 2"),
    ({"format": True}, "format: expected 1"),
    ({"record": "trial"}, "record: expected evaluation, decision, candidate or counter, got"),
    ({"colour": 1, "size": 2}, "unknown key 'colour', 'size'"),
    ({"uid": "0" * 24}, "uid: expected "),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImportFormatError) as caught:
        records.from_line(line_of(MEASURED, **changes))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"winner": "abc"}, "winner: expected a uid of 24 hex digits"),
        ({"winner": ""}, "winner: expected a uid"),
        ({"default": None}, "default: expected a uid"),
        ({"rows": ["abc"]}, "rows: expected a uid"),
        ({"rows": {}}, "rows: expected a list"),
        ({"speedup": 0}, "speedup: expected a positive number"),
        ({"copy_us": "1"}, "copy_us: expected a positive number"),
        ({"time_us": 1.0}, "unknown key 'time_us'"),
    ],
)
def test_a_wrong_field_of_a_decision_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImportFormatError, match=re.escape(message)):
        records.from_line(line_of(DECISION, **changes))


@pytest.mark.parametrize("record", [MEASURED, DECISION])
def test_a_missing_key_is_named(record: Evaluation | Decision) -> None:
    data = json.loads(line_of(record))
    for key in data:
        rest = {name: value for name, value in data.items() if name != key}
        with pytest.raises(ImportFormatError, match=f"missing {key}"):
            records.from_line(json.dumps(rest))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ("{}", "missing record"),
        ('{"record": NaN}', "NaN is no JSON number"),
        ('{"record": -Infinity}', "-Infinity is no JSON number"),
        ('{"record": 1, "record": 2}', "key 'record' appears twice"),
        ("[" * 200_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
    ],
)
def test_what_is_no_record_is_refused(line: str, message: str) -> None:
    with pytest.raises(ImportFormatError, match=re.escape(message)):
        records.from_line(line)


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(ImportFormatError):
        records.from_line(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(records.EVALUATION_KEYS), json_values)
def test_no_value_of_a_field_raises_anything_else(key: str, value: object) -> None:
    data = json.loads(line_of(MEASURED)) | {key: value}
    with contextlib.suppress(ImportFormatError):
        records.evaluation_from_dict(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n\n{\n", " line 3: not JSON"),
        (b"\xff\n", " line 1: not UTF-8 text"),
        (b" " * (lines.MAX_LINE_BYTES + 1), " line 1: longer than 1000000 bytes"),
    ],
)
def test_the_file_and_the_line_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(content)
    with pytest.raises(ImportFormatError) as caught:
        list(records.read_lines(path))
    assert str(caught.value).startswith(f"{path}{message}")


def test_the_message_says_what_where_and_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(records.to_line(MEASURED) + "\n" + line_of(MEASURED, time_us="x") + "\n")
    with pytest.raises(ImportFormatError) as caught:
        list(records.read_lines(path))
    assert str(caught.value) == f"{path} line 2: time_us: expected a positive number, got 'x'"


def test_a_file_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImportFormatError, match=r"none\.jsonl: cannot read: No such file"):
        list(records.read_lines(tmp_path / "none.jsonl"))


def test_blank_lines_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"\r\n" + records.to_line(MEASURED).encode() + b"\r\n\r\n")
    assert list(records.read_lines(path)) == [MEASURED]


def test_writing_replaces_the_file_or_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    records.write_lines(path, [MEASURED])
    before = path.read_bytes()

    def failing() -> Any:
        yield WRONG
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        records.write_lines(path, failing())
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["some.jsonl"]


def test_writing_follows_a_link_to_its_file(tmp_path: Path) -> None:
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    target.touch()
    link.symlink_to(target)
    records.write_lines(link, [MEASURED])
    assert link.is_symlink()
    assert list(records.read_lines(target)) == [MEASURED]


def test_a_device_file_is_written_to_and_not_replaced() -> None:
    records.write_lines("/dev/null", [MEASURED])
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    "make", [lambda path: path, lambda path: path / "none" / "x", lambda path: path / "f" / "x"]
)
def test_an_unwritable_path_is_said_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    (tmp_path / "f").touch()
    path = make(tmp_path)
    with pytest.raises(TunekitError, match=re.escape(f"{path}: cannot write: ")):
        records.write_lines(path, [MEASURED])


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", DOC.read_text("utf-8"), re.MULTILINE))
    keys = {
        *records.EVALUATION_KEYS,
        *records.DECISION_KEYS,
        *records.CANDIDATE_KEYS,
        *records.COUNTER_KEYS,
        *records.OPTIONAL_KEYS,
    }
    assert documented == keys


def test_the_documented_examples_can_be_read() -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOC.read_text("utf-8"), re.DOTALL)
    read = [records.from_line(block) for block in blocks]
    assert [type(record) for record in read] == [Evaluation, Decision, Candidate, Counter]
    evaluation, decision, candidate, counter = read
    assert isinstance(decision, Decision)
    assert isinstance(candidate, Candidate)
    assert isinstance(counter, Counter)
    assert decision.winner == counter.evaluation == evaluation.uid
    assert candidate.problem == decision.problem


class TestBounds:
    """What a line can cost, whatever it holds."""

    def test_of_many_keys_one_that_is_there_twice_is_found_at_once(self) -> None:
        keys = [f'"{number}":1' for number in range(90_000)]
        line = "{" + ",".join([*keys, keys[-1]]) + "}"
        began = time.process_time()
        with pytest.raises(ImportFormatError, match="key '89999' appears twice"):
            records.from_line(line)
        assert time.process_time() - began < 5  # each against each took minutes

    @pytest.mark.parametrize(
        "name", ["status", "kernel", "dims", "time_us", "samples_us", "record"]
    )
    def test_a_value_is_shown_however_deep(self, name: str) -> None:
        # As deep as the parser just takes it, and a little less: `repr` has to go as deep as that.
        for depth in range(700, 1_000, 7):
            record = {**records.evaluation_to_dict(MEASURED), name: "DEEP"}
            deep = "[" * depth + "]" * depth
            with pytest.raises(ImportFormatError) as caught:
                records.from_line(json.dumps(record).replace('"DEEP"', deep))
            assert len(str(caught.value)) < 300

    @pytest.mark.parametrize(
        "changes",
        [{"x" * 100_000: 1}, {"kernel": "x" * 100_000}, {"registers": 10**4_000}, {"\x1b[2J": 1}],
    )
    def test_a_message_is_short_and_printable(self, changes: dict[str, Any]) -> None:
        line = json.dumps({**records.evaluation_to_dict(MEASURED), **changes})
        with pytest.raises(ImportFormatError) as caught:
            records.from_line(line)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize("time_us", [1e-31, 1e31, 1.7e308, 5e-324])
    def test_a_time_is_one_that_sums_and_ratios_can_be_made_of(self, time_us: float) -> None:
        record = {**records.evaluation_to_dict(MEASURED), "time_us": time_us}
        with pytest.raises(ImportFormatError, match="a positive number from 1e-30 to 1e"):
            records.evaluation_from_dict(record)
