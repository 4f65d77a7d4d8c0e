"""Evaluations made elsewhere: what the short form says, and nothing it does not."""

from __future__ import annotations

import gzip
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunekit import foreign, records
from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError
from tunekit.store import lines
from tunekit.store.database import MergeResult, Store

DOC = Path(__file__).resolve().parent.parent / "docs" / "evaluations-format.md"

LINE: dict[str, Any] = {
    "kernel": "fp8_matmul",
    "dims": {"m": 512, "n": 256, "k": 64},
    "dtype": "float8_e4m3fn",
    "device": "mi300x",
    "config": {"BLOCK_M": 64, "GROUP": 8, "num_warps": 4},
    "status": "ok",
    "time_us": 12.5,
}
NOWHERE = Provenance("", 0, "", "", "", "", "", "")


def read(**changes: object) -> Evaluation:
    found = records.from_line(json.dumps(LINE | changes))
    assert isinstance(found, Evaluation)
    return found


def test_what_a_line_does_not_say_is_unknown() -> None:
    assert read() == Evaluation(
        problem=Problem.of(
            "fp8_matmul", "", {"m": 512, "n": 256, "k": 64}, "float8_e4m3fn", "", "mi300x"
        ),
        shape=(),
        config=Config(BLOCK_M=64, GROUP=8, num_warps=4),
        status=Status.OK,
        source=Source.MEASURED,
        provenance=NOWHERE,
        time_us=12.5,
    )
    assert not read().verified


def test_the_time_of_samples_is_their_median() -> None:
    samples = [4.0, 1.0, 2.0, 8.0]
    line = {key: value for key, value in LINE.items() if key != "time_us"}
    found = records.from_line(json.dumps(line | {"samples_us": samples}))
    assert isinstance(found, Evaluation)
    assert (found.time_us, found.samples_us) == (statistics.median(samples), tuple(samples))
    assert read(samples_us=samples, time_us=2.5).time_us == 2.5


def test_a_line_may_say_more() -> None:
    said: dict[str, Any] = {
        "verified_by": "device",
        "protocol": "do_bench",
        "gpu_name": "a GPU",
        "created_at": "2026-01-31T12:00:00Z",
        "alignment": "16",
        "shape": [512, 64],
        "disturbance": "it was hot",
    }
    found = read(**said)
    assert (found.verified_by, found.shape) == (VerifiedBy.DEVICE, (512, 64))
    assert found.provenance.protocol == "do_bench"
    assert found.disturbance == "it was hot"
    estimate = read(source="estimated", samples_us=None)
    assert estimate.source is Source.ESTIMATED


@pytest.mark.parametrize(
    ("said", "binary"),
    [
        ({}, None),
        ({"registers": None}, None),
        ({"registers": 32}, Binary("", 32, 0, 0, 0, 0)),
        ({"registers": 32, "spill_bytes": 8}, Binary("", 32, 8, 0, 0, 0)),
        ({"shared_bytes": 1024}, Binary("", 0, 0, 1024, 0, 0)),
        # As Triton has them: spills are words of four bytes.
        ({"n_regs": 255, "n_spills": 2, "shared": 64}, Binary("", 255, 8, 64, 0, 0)),
        ({"spills": 3}, Binary("", 0, 12, 0, 0, 0)),
    ],
)
def test_what_is_known_of_the_binary(said: dict[str, Any], binary: Binary | None) -> None:
    assert read(**said).binary == binary


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8", "float64", "fp8e5", "tf32"])
def test_any_dtype_can_be_recorded(dtype: str) -> None:
    assert read(dtype=dtype).problem.dtype == dtype


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_what_failed_has_no_time(status: Status) -> None:
    found = read(status=status.value, time_us=None, reason="out of shared memory")
    assert (found.status, found.time_us, found.reason) == (status, None, "out of shared memory")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"time_us": None}, "time_us: expected a positive number when the status is ok"),
    ({"time_us": None, "samples_us": []}, "time_us: expected a positive number when"),
    ({"time_us": None, "samples_us": [0]}, "samples_us[0]: expected a positive number"),
    ({"time_us": None, "samples_us": "abc"}, "samples_us: expected a list"),
    (
        {"time_us": None, "samples_us": [1e308, 1.7e308]},
        "samples_us[0]: expected a positive number from",
    ),
    ({"time_us": -1}, "time_us: expected a positive number"),
    ({"status": "timeout"}, "time_us: expected null when the status is timeout"),
    ({"status": "fast"}, "status: expected one of ok, rejected,"),
    ({"status": None, "samples_us": [1.5, 2]}, "status: expected one of ok, rejected,"),
    ({"config": None}, "config: expected"),
    ({"dtype": "torch.int8"}, "dtype: expected a name such as float32"),
    ({"dtype": ""}, "dtype: expected a name such as float32"),
    ({"kernel": None}, "kernel: expected printable text"),
    ({"kernel": ""}, "kernel: expected a text that is not empty"),
    ({"config": {"allow_tf32": True}}, "config.allow_tf32: expected a whole number"),
    ({"config": {}}, "config: expected an object of 1 to 32 whole numbers"),
    ({"dims": 512}, "dims: expected an object of 1 to 32 whole numbers"),
    ({"registers": 3.5}, "registers: expected a whole number"),
    ({"n_regs": 3, "registers": 3}, "n_regs: says the same as another key, registers"),
    ({"spills": 3, "n_spills": 3}, "spills: says the same as another key, spill_bytes"),
    ({"spills": -1}, "spills: expected a whole number from 0"),
    ({"spills": "many"}, "spills: expected a whole number from 0"),
    ({"speed": 3}, "unknown key 'speed'"),
    ({"kernel_hash": "0a"}, 'missing record: "evaluation" or "decision"'),
    ({"format": 1}, 'missing record: "evaluation" or "decision"'),
    ({"source": "estimated", "samples_us": [1.0]}, "samples_us: expected an empty list"),
    ({"record": "evaluation"}, "missing format"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_a_bad_line_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImportFormatError) as caught:
        read(**changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", foreign.REQUIRED_KEYS)
def test_a_missing_key_is_named(key: str) -> None:
    line = {name: value for name, value in LINE.items() if name != key}
    with pytest.raises(ImportFormatError, match=f"missing record, or for the short form {key}$"):
        records.from_line(json.dumps(line))


def test_a_full_line_of_a_kernel_that_is_not_known_reads_back() -> None:
    for found in (read(), read(registers=32), read(status="error", time_us=None)):
        assert records.from_line(records.to_line(found)) == found


def test_nothing_is_decided_on_a_kernel_that_is_not_known() -> None:
    winner = read(verified_by="device")
    decision = {
        "record": "decision", "format": 1, "kernel": "fp8_matmul", "kernel_hash": "",
        "dims": LINE["dims"], "dtype": "float8_e4m3fn", "alignment": "", "device": "mi300x",
        "source": "measured", "winner": winner.uid, "default": "", "rows": [], "reason": "",
        "speedup": None, "copy_us": None, "created_at": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    with pytest.raises(ImportFormatError, match="kernel_hash: expected a text that is not empty"):
        records.from_line(json.dumps(decision))


def write(path: Path, *wanted: dict[str, Any]) -> Path:
    text = "".join(json.dumps(line) + "\n" for line in wanted)
    compressed = path.suffix == ".gz"
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    return path


@pytest.mark.parametrize("name", ["some.jsonl", "some.jsonl.gz"])
def test_importing_and_importing_again(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, LINE, LINE | {"time_us": 3}, LINE | {"n_regs": 9}, LINE)
    with Store.open(tmp_path / "mine.db") as store:
        # A uid is of what was measured: what is known of the binary adds nothing to it.
        assert store.import_lines(path) == MergeResult(2, 0)
        assert store.import_lines(path) == MergeResult(0, 0)
        assert store.evaluations() == [read(), read(time_us=3)]
        assert store.cache() == []
        with Store.open(tmp_path / "other.db") as other:
            assert other.merge(store.path) == MergeResult(2, 0)


@pytest.mark.parametrize("name", ["some.jsonl", "some.jsonl.gz"])
def test_nothing_is_half_imported(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, LINE, {}, LINE | {"time_us": "fast"})
    with Store.open(tmp_path / "mine.db") as store:
        with pytest.raises(ImportFormatError) as caught:
            store.import_lines(path)
        assert str(caught.value).startswith(f"{path} line 2: missing record")
        assert store.evaluations() == store.problems() == []


def test_short_and_full_lines_may_stand_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "both.jsonl"
    full = json.loads(records.to_line(read(created_at="2026-01-31T12:00:00Z")))
    write(path, LINE, full)
    assert len(list(records.read_lines(path))) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"{}\n" * 999)[:-20], "the gzip data is damaged: "),
        (b"\x1f\x8b" + b"\0" * 30, "the gzip data is damaged: "),
        (gzip.compress(b"\n" * 9) + b"more", "the gzip data is damaged: "),
        (gzip.compress(b"\xff"), "line 1: not UTF-8 text"),
        (gzip.compress(b"\n" + b" " * 2_000_000), "line 2: longer than 1000000 bytes"),
    ],
    ids=["cut", "empty header", "trailing", "no text", "long line"],
)
def test_a_damaged_compressed_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ImportFormatError) as caught:
        list(records.read_lines(path))
    assert re.match(rf"{re.escape(str(path))}:? (line 1: )?{message}", str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("limit", "most"), [("BYTES", 1000), ("LINES", 100)])
def test_a_compressed_file_expands_so_far_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(lines, f"MAX_EXPANDED_{limit}", most)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"         \n" * 10_000))
    with pytest.raises(ImportFormatError, match="line 101: a compressed file may expand to"):
        list(records.read_lines(path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
known_keys = st.sampled_from(
    [*foreign.REQUIRED_KEYS, *foreign.UNKNOWN, *foreign.BINARY_UNKNOWN, *foreign.TRITON_NAMES]
)
garbage = (
    st.binary(max_size=60)
    | st.dictionaries(known_keys | st.text(max_size=5), json_values, max_size=4).map(
        lambda changes: json.dumps(LINE | changes).encode()
    )
    | st.sampled_from([b"\x1f\x8b", gzip.compress(json.dumps(LINE).encode())])
)


@given(st.lists(garbage, max_size=4), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_file_is_read_or_refused(tmp_path: Path, parts: list[bytes], squeeze: bool) -> None:
    path = tmp_path / "any.jsonl"
    content = b"\n".join(parts)
    path.write_bytes(gzip.compress(content) if squeeze else content)
    found, error = [], ""
    try:
        found = list(records.read_lines(path))
    except ImportFormatError as caught:
        error = str(caught)
    assert error == "" or error.startswith(str(path))
    assert "\n" not in error
    assert [records.from_line(records.to_line(each)) for each in found] == found


positive = st.floats(min_value=1e-9, max_value=1e12)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
counts = st.integers(0, 2**31 - 1)


@given(
    kernel=st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20),
    dims=st.dictionaries(names, counts, min_size=1, max_size=4),
    dtype=names,
    config=st.dictionaries(names, counts, min_size=1, max_size=4),
    samples=st.lists(positive, min_size=1, max_size=5),
    binary=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("registers", "spill_bytes", "shared_bytes"), counts)
    ),
)
@settings(max_examples=50)
def test_what_a_line_says_is_what_is_kept(
    kernel: str,
    dims: dict[str, int],
    dtype: str,
    config: dict[str, int],
    samples: list[float],
    binary: dict[str, int],
) -> None:
    line = {
        "kernel": kernel, "dims": dims, "dtype": dtype, "device": "d", "config": config,
        "status": "ok", "samples_us": samples, **binary,
    }  # fmt: skip
    found = records.from_line(json.dumps(line))
    assert isinstance(found, Evaluation)
    assert found.problem == Problem.of(kernel, "", dims, dtype, "", "d")
    assert (dict(found.config), found.samples_us) == (config, tuple(samples))
    assert found.time_us == statistics.median(samples)
    kept = {name: getattr(found.binary, name) for name in binary}
    assert kept == binary
    assert records.from_line(records.to_line(found)) == found


def test_the_documented_example_can_be_imported(tmp_path: Path) -> None:
    section = DOC.read_text("utf-8").split("## The short form")[1].split("\n## ")[0]
    (example,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    path = tmp_path / "elsewhere.jsonl"
    path.write_text(example, encoding="utf-8")
    with Store.open(tmp_path / "mine.db") as store:
        added = store.import_lines(path)
        assert added == MergeResult(len(example.splitlines()), 0)
        assert store.cache() == []


def test_every_key_of_the_short_form_is_documented() -> None:
    section = DOC.read_text("utf-8").split("## The short form")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", section))
    assert documented >= {*foreign.REQUIRED_KEYS, *foreign.UNKNOWN, *foreign.TRITON_NAMES}
