"""Exports: the same bytes for the same rows, nothing but data, and usable without tunekit."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit import export
from tunekit.core.config import Config
from tunekit.core.evaluation import Provenance, Source, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.errors import TunekitError, UsageError
from tunekit.store.cache import CacheRow

DOC = Path(__file__).resolve().parent.parent / "docs" / "export-schema.md"
PROVENANCE = Provenance(
    "NVIDIA H100 80GB HBM3", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-1",
    "2026-01-31T12:00:00Z",
)  # fmt: skip


def cached(n: int = 4096, block: int = 1024, time_us: float = 1.5, **changes: Any) -> CacheRow:
    of_problem = {field.name for field in fields(Problem)}
    problem = Problem.of(
        **{
            "kernel": "mish_mish",
            "kernel_hash": "0a1b2c",
            "dims": {"n": n},
            "dtype": "float32",
            "alignment": "p16",
            "device": "h100",
        }
        | {name: value for name, value in changes.items() if name in of_problem}
    )
    row = CacheRow(
        problem=problem,
        config=Config(num_warps=4, BLOCK_SIZE=block, num_stages=1),
        time_us=time_us,
        source=Source.MEASURED,
        verified_by=VerifiedBy.DEVICE,
        provenance=PROVENANCE,
        speedup=1.25,
        copy_us=1.4,
        default_time_us=time_us * 1.25,
        default_config=Config(BLOCK_SIZE=256, num_warps=4, num_stages=1),
        binary=None,
        reason="beat the default",
        shape=(64, n // 64 or 1),
        winner="0" * 24,
        decided_at="2026-01-31T12:00:00Z",
    )
    rest = {name: value for name, value in changes.items() if name not in of_problem}
    return replace(row, **rest)


def estimated(n: int, block: int, **changes: Any) -> CacheRow:
    return cached(n, block, source=Source.ESTIMATED, verified_by=VerifiedBy.INTERPRETER, **changes)


ROWS = [
    cached(4096, 1024),
    cached(1_048_576, 2048, time_us=4.0),
    cached(4096, 512, dtype="float16"),
    cached(4096, 256, alignment="p1"),
    estimated(4096, 128, device="rtx4090"),
    # The same device, dtype and class as the first ones, and never measured.
    estimated(16_384, 64),
    cached(kernel="bias_gelu", dims={"m": 128, "n": 64}),
]

WITHOUT_TUNEKIT = """
import builtins, runpy, sys

allowed = {"triton"}
real = builtins.__import__

def guarded(name, globals=None, *rest):
    if globals and globals.get("__name__") == "exported" and name not in allowed:
        raise ImportError(f"the export imports {name}")
    return real(name, globals, *rest)

sys.modules["tunekit"] = None
builtins.__import__ = guarded
module = runpy.run_path(sys.argv[1], run_name="exported")
"""


def run_export(tmp_path: Path, text: str, script: str = "") -> str:
    """Run the module in a process that cannot import tunekit; what the script printed."""
    (tmp_path / "exported.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", WITHOUT_TUNEKIT + script, "exported.py"],
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class FakeTriton:
    """As much of Triton as an exported module uses."""

    @staticmethod
    def Config(meta: dict[str, int], **options: int) -> dict[str, int]:  # noqa: N802
        return meta | options


def load(text: str) -> dict[str, Any]:
    """The names a module defines, executed here with nothing at hand but a stand-in of Triton."""

    def only_triton(name: str, *rest: object) -> type[FakeTriton]:
        assert name == "triton"
        return FakeTriton

    allowed = ("sorted", "max", "min", "dict", "KeyError")
    every = vars(__import__("builtins"))
    names: dict[str, Any] = {
        "__builtins__": {name: every[name] for name in allowed} | {"__import__": only_triton}
    }
    exec(compile(text, "exported.py", "exec"), names)
    return names


def test_the_module_gives_triton_configurations_and_needs_triton_only(tmp_path: Path) -> None:
    text = export.render(ROWS, "python")
    script = """
import triton
config = module["lookup"]("mish_mish", "h100", "float32", {"n": 4096}, alignment="p16")
assert type(config) is triton.Config, config
print(config.kwargs, config.num_warps, config.num_stages)
"""
    assert run_export(tmp_path, text, script) == "{'BLOCK_SIZE': 1024} 4 1\n"


@pytest.mark.parametrize(
    ("asked", "block"),
    [
        (("mish_mish", "h100", "float32", {"n": 4096}, "p16"), 1024),
        (("mish_mish", "h100", "float32", {"n": 4096}, "p1"), 256),
        (("mish_mish", "h100", "float16", {"n": 4096}), 512),
        (("mish_mish", "rtx4090", "float32", {"n": 4096}), 128),
        (("bias_gelu", "h100", "float32", {"m": 128, "n": 64}), 1024),
        # The nearest size, as a ratio: 4096 × 16 = 65,536 is the middle.
        (("mish_mish", "h100", "float32", {"n": 60_000}, "p16"), 1024),
        (("mish_mish", "h100", "float32", {"n": 70_000}, "p16"), 2048),
        (("mish_mish", "h100", "float32", {"n": 1}, "p16"), 1024),
        (("mish_mish", "h100", "float32", {"n": 10**12}, "p16"), 2048),
        # Estimated for that very size, and still behind what was measured at another.
        (("mish_mish", "h100", "float32", {"n": 16_384}, "p16"), 1024),
    ],
)
def test_lookup(asked: tuple[Any, ...], block: int) -> None:
    found = load(export.render(ROWS, "python"))["lookup"](*asked)
    assert found == {"BLOCK_SIZE": block, "num_warps": 4, "num_stages": 1}


def test_lookup_in_every_alignment_class_prefers_the_exact_size() -> None:
    rows = [cached(4096, 1024, alignment="a"), cached(5000, 512, alignment="b")]
    lookup = load(export.render(rows, "python"))["lookup"]
    assert lookup("mish_mish", "h100", "float32", {"n": 5000})["BLOCK_SIZE"] == 512
    assert lookup("mish_mish", "h100", "float32", {"n": 5000}, "a")["BLOCK_SIZE"] == 1024


@pytest.mark.parametrize(
    "asked",
    [
        ("none", "h100", "float32", {"n": 4096}),
        ("mish_mish", "a100", "float32", {"n": 4096}),
        ("mish_mish", "h100", "bfloat16", {"n": 4096}),
        ("mish_mish", "h100", "float32", {"n": 4096}, "p2"),
        ("mish_mish", "h100", "float32", {"m": 4096}),
        ("mish_mish", "h100", "float32", {}),
    ],
)
def test_lookup_says_what_there_is(asked: tuple[Any, ...]) -> None:
    lookup = load(export.render(ROWS[:3], "python"))["lookup"]
    with pytest.raises(KeyError) as caught:
        lookup(*asked)
    assert f"nothing tuned for {asked[0]!r} on {asked[1]!r}" in str(caught.value)
    assert "mish_mish on h100 (float16), mish_mish on h100 (float32)" in str(caught.value)


@pytest.mark.parametrize("format", ["python", "json"])
def test_the_same_rows_give_the_same_bytes(format: str) -> None:
    expected = export.render(ROWS, format)
    for seed in range(5):
        shuffled = random.Random(seed).sample(ROWS, len(ROWS))
        reordered = [
            replace(row, config=Config(dict(reversed(list(row.config.items())))))
            for row in shuffled
        ]
        assert export.render(reordered, format) == expected
    assert expected.endswith("\n")
    assert "\r" not in expected
    assert expected.isascii()


def test_every_entry_says_where_its_time_comes_from() -> None:
    text = export.render(ROWS, "python")
    entries = [line for line in text.splitlines() if "triton.Config({" in line]
    assert len(entries) == len(ROWS)
    assert entries[0].endswith("# measured, 1.500 us, kernel 0a1b2c, from 2")
    measured, rest = text.split("ESTIMATED = {")
    assert measured.count("# measured, ") == 5
    assert rest.count("# estimated, ") == 2
    assert "# estimated, " not in measured
    assert "#   1: h100, estimated, verified by interpreter, " in text
    assert "#   2: h100, measured, verified by device, NVIDIA H100 80GB HBM3 with 132 SMs" in text
    found = load(text)
    assert list(found["ESTIMATED"]) == ["mish_mish"]
    assert list(found["MEASURED"]) == ["bias_gelu", "mish_mish"]


def test_sizes_are_in_order_of_size() -> None:
    rows = [cached(n) for n in (1_048_576, 512, 65_536, 4096)]
    sizes = load(export.render(rows, "python"))["MEASURED"]["mish_mish"]["h100"]["float32"]["p16"]
    assert list(sizes) == [(("n", n),) for n in (512, 4096, 65_536, 1_048_576)]


def test_runs_that_differ_in_nothing_but_time_are_one_origin() -> None:
    later = replace(PROVENANCE, created_at="2026-02-02T12:00:00Z")
    text = export.render([cached(), cached(512, provenance=later)], "python")
    assert "2026-01-31 to 2026-02-02" in text
    assert "#   2:" not in text


def test_one_row_a_problem_measured_then_newest() -> None:
    def newer(row: CacheRow) -> CacheRow:
        # Later, although as a text it sorts before "…T12:00:00Z".
        return replace(
            row, provenance=replace(row.provenance, created_at="2026-01-31T12:00:00.5+00:00")
        )

    old = cached(block=1, time_us=1.0)
    new = newer(cached(block=2, time_us=9.0, kernel_hash="another version of the kernel"))
    estimate = newer(estimated(4096, 3, time_us=0.1, kernel_hash="a third version"))
    for rows in ([old, new, estimate], [estimate, new, old]):
        (entry,) = json.loads(export.render(rows, "json"))["entries"]
        assert entry["config"]["BLOCK_SIZE"] == 2


def test_an_export_of_nothing_is_an_empty_table() -> None:
    names = load(export.render([], "python"))
    assert (names["MEASURED"], names["ESTIMATED"]) == ({}, {})
    with pytest.raises(KeyError, match="this file has nothing"):
        names["lookup"]("a", "b", "c", {})
    assert json.loads(export.render([], "json")) == {"schema": "tunekit-export/1", "entries": []}


def test_json_says_everything() -> None:
    row = cached(time_us=1 / 3)
    (entry,) = json.loads(export.render([row], "json"))["entries"]
    assert entry == {
        "kernel": "mish_mish",
        "kernel_hash": "0a1b2c",
        "device": "h100",
        "dtype": "float32",
        "alignment": "p16",
        "dims": {"n": 4096},
        "shape": [64, 64],
        "config": {"BLOCK_SIZE": 1024, "num_warps": 4, "num_stages": 1},
        "source": "measured",
        "verified_by": "device",
        "time_us": 0.333,
        "default_config": {"BLOCK_SIZE": 256, "num_warps": 4, "num_stages": 1},
        "default_time_us": 0.417,
        "copy_us": 1.4,
        "speedup": 1.25,
        "reason": "beat the default",
        "provenance": {
            "gpu_name": "NVIDIA H100 80GB HBM3",
            "sm_count": 132,
            "driver": "580.1",
            "torch": "2.11.0",
            "triton": "3.6.0",
            "tunekit": "0.1.0",
            "protocol": "graph-1",
            "created_at": "2026-01-31T12:00:00Z",
        },
    }


def test_what_there_is_not_is_null_in_json() -> None:
    row = cached(speedup=None, copy_us=None, default_time_us=None, default_config=None)
    (entry,) = json.loads(export.render([row], "json"))["entries"]
    absent = {name for name, value in entry.items() if value is None}
    assert absent == {"speedup", "copy_us", "default_time_us", "default_config"}


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    text = DOC.read_text("utf-8").split("## Portfolio")[0]
    documented = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))
    exported = json.loads(export.render([cached()], "json"))
    (entry,) = exported["entries"]
    provenance = {f"provenance.{name}" for name in entry["provenance"]}
    assert documented == {*exported, *entry, *provenance}


NASTY = [
    '"\nraise SystemExit(1)\n"',
    "'''\nraise SystemExit(1)\n'''",
    '"""\nraise SystemExit(1)',
    "x\r\nraise SystemExit(1)",
    "x\x0craise SystemExit(1)",
    "x\x85\u2028\u2029raise SystemExit(1)",
    "\\",
    "\\\n",
    "'] = 1; raise SystemExit(1) #",
    "{}{0}%s%(x)s",
    "\u202etxet\ud800",
    "coding: utf-7",
    "\0",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_no_text_of_a_database_becomes_code(nasty: str) -> None:
    row = cached(
        kernel=nasty,
        kernel_hash=nasty,
        device=nasty,
        dtype=nasty,
        alignment=nasty,
        reason=nasty,
        provenance=Provenance(nasty, 132, *[nasty] * 5, created_at="2026-01-31T12:00:00Z"),
    )
    found = load(export.render([row], "python"))["lookup"](nasty, nasty, nasty, {"n": 4096}, nasty)
    assert found["BLOCK_SIZE"] == 1024
    (entry,) = json.loads(export.render([row], "json"))["entries"]
    assert entry["kernel"] == entry["provenance"]["driver"] == nasty


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=50)
def test_any_text_survives_as_a_key(kernel: str, made_with: str) -> None:
    row = cached(kernel=kernel, provenance=replace(PROVENANCE, torch=made_with, driver=made_with))
    assert list(load(export.render([row], "python"))["MEASURED"]) == [kernel]


@pytest.mark.parametrize("format", ["python", "json"])
@pytest.mark.parametrize(
    "changes",
    [
        {"config": Config({"BLOCK SIZE": 1})},
        {"config": Config({"x'): raise SystemExit(1)#": 1})},
        {"config": Config({"num_warps": "4, evil()"})},  # type: ignore[dict-item]
        {"config": Config({"num_warps": True})},
        {"config": Config({"num_warps": 4.0})},  # type: ignore[dict-item]
        {"dims": {"n\n": 1}},
        {"dims": {"n": "1"}},
    ],
)
def test_what_triton_could_not_take_is_refused(format: str, changes: dict[str, Any]) -> None:
    with pytest.raises(TunekitError, match=r"^'mish_mish@.*: cannot export ") as caught:
        export.render([cached(**changes)], format)
    assert "\n" not in str(caught.value)


def test_an_unknown_format_is_a_wrong_argument() -> None:
    with pytest.raises(UsageError, match="--format 'yaml': expected python or json"):
        export.render(ROWS, "yaml")


def test_writing_and_checking(tmp_path: Path) -> None:
    path, text = tmp_path / "table.py", export.render(ROWS, "python")
    assert not export.check(path, text)
    export.write(path, text)
    assert export.check(path, text)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert not export.check(path, text)
    export.write(path, text)
    assert export.check(path, text)
    assert [each.name for each in tmp_path.iterdir()] == ["table.py"]


def test_a_path_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TunekitError, match="cannot write: No such file or directory"):
        export.write(tmp_path / "none" / "table.py", "")
    with pytest.raises(TunekitError, match="cannot write: Is a directory"):
        export.write(tmp_path, "")
    with pytest.raises(TunekitError, match="cannot read: Is a directory"):
        export.check(tmp_path, "")
