from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit import report, report_explain, report_json
from tunekit.core.config import Config
from tunekit.core.evaluation import Provenance, Source, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.runtime.explanation import Explanation
from tunekit.runtime.lookup import Choice, Served
from tunekit.runtime.verdict import Candidate, Database, Difference, Verdict
from tunekit.store.cache import CacheRow

Print = Callable[[Explanation], list[str]]

CONFIG = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
PROBLEM = Problem.of("mish_mish", "0" * 12, {"n": 4096}, "float32", "p16,p16,i32x16", "h100")
PROVENANCE = Provenance(
    gpu_name="NVIDIA H100",
    sm_count=132,
    driver="580.1",
    torch="2.11.0",
    triton="3.6.0",
    tunekit="0.1.0",
    protocol="test-1",
    created_at="2026-01-31T00:00:00Z",
)
ROW = CacheRow(
    problem=PROBLEM,
    config=CONFIG,
    time_us=2.5,
    source=Source.MEASURED,
    verified_by=VerifiedBy.DEVICE,
    provenance=PROVENANCE,
    speedup=None,
    copy_us=None,
    default_time_us=None,
    default_config=None,
    binary=None,
    reason="won",
    shape=(4096,),
    winner="0" * 24,
    decided_at=PROVENANCE.created_at,
)
MINE = Database("yours", Path("/home/somebody/with/a/rather/long/name/mine.db"), "by you", 1, "")
GONE = Database("shipped", Path("/gone.db"), "comes with tunekit", 0, "no such file")
TRITON = Difference("Triton", "3.6.0", "3.7.1")
SERVED = Candidate(ROW, MINE, Verdict.SERVED, "won", (), (TRITON,), 1.0, 1)
HIT = Explanation(
    Choice(CONFIG, Served.EXACT, ROW, PROBLEM),
    "measured for this very problem",
    (MINE, GONE),
    (SERVED,),
    ("this machine has no CUDA GPU",),
    "",
    "",
)
MISS = replace(
    HIT,
    choice=Choice(CONFIG, Served.DEFAULT, None, PROBLEM),
    candidates=(),
    advice="to tune this very problem",
    command="tunekit tune mish_mish --shape 4096 --dtype float32",
)


def differing(field: str, n: int = 4096) -> Candidate:
    """A row of another dtype or device, and perhaps size."""
    row = replace(ROW, problem=replace(PROBLEM, dims=(("n", n),)))
    differs = [Difference(field, "another", "this", "of course")]
    if n != 4096:
        differs.append(Difference("dims", f"n={n}", "n=4096"))
    return Candidate(row, MINE, Verdict.DIFFERS, "", tuple(differs), (TRITON,), n / 4096, None)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Print:
    """The lines in a pipe."""

    def show(explained: Explanation) -> list[str]:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        report_explain.print_explained(report.Console(), explained)
        return capsys.readouterr().out.splitlines()

    return show


def test_a_hit(printed: Print) -> None:
    assert printed(HIT) == [
        f"exact: {CONFIG}",
        "  why          measured for this very problem",
        "  note         this machine has no CUDA GPU",
        "",
        "the problem",
        "  kernel       mish_mish",
        "  kernel_hash  000000000000",
        "  dims         n=4096",
        "  dtype        float32",
        "  alignment    p16,p16,i32x16",
        "  device       h100",
        "",
        "databases",
        f"  yours        {MINE.path}: 1 row of mish_mish (by you)",
        "  shipped      /gone.db: no such file (comes with tunekit)",
        "",
        "rows, those most like the problem first",
        "  served       n=4096; measured 2.50 µs; yours; Triton 3.6.0, here 3.7.1; won",
    ]


def test_a_miss_ends_with_what_to_run(printed: Print) -> None:
    lines = printed(MISS)
    assert lines[0] == f"default: {CONFIG}"
    assert lines[-2:] == ["to tune this very problem:", f"  {MISS.command}"]
    assert printed(replace(MISS, command=""))[-1] == "to tune this very problem"


def test_a_row_says_field_by_field_what_differs(printed: Print) -> None:
    *_, head, reason = printed(replace(MISS, candidates=(differing("dtype", 8192),), advice=""))[
        :-1
    ]
    assert head == "  differs      n=8192; 2 × the size; measured 2.50 µs; yours"
    assert reason == "               dtype: row another, call this (of course)"


def test_a_few_rows_are_shown_and_few_alike(printed: Print) -> None:
    candidates = [
        *(differing("dtype", 4096 * n) for n in range(2, 9)),
        *(differing("device", 4096 * n) for n in range(2, 9)),
        *(differing("kernel_hash", 4096 * n) for n in range(2, 9)),
    ]
    lines = printed(replace(HIT, candidates=(SERVED, *candidates)))
    shown = [line.split(":")[0].strip() for line in lines if "row another" in line]
    assert shown == ["dtype"] * 3 + ["device"] * 3 + ["kernel_hash"]
    assert lines[-1] == "  and 14 more; --json lists them all"


@pytest.mark.parametrize("width", [60, 80, 100])
def test_lines_fit_a_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    long = replace(SERVED, why="its configuration is one that violates a constraint here " * 3)
    explained = replace(MISS, candidates=(long,))
    report_explain.print_explained(report.Console(), explained)
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    # A path is not broken, so that it can be copied; nor is the command.
    assert all(len(line) <= width for line in lines if str(MINE.path) not in line)
    assert f"  {MISS.command}" in lines


def test_scripts_get_every_row_and_field() -> None:
    candidates = (SERVED, *(differing("dtype", 4096 * n) for n in range(2, 20)))
    explained = replace(HIT, candidates=candidates)
    data = json.loads(json.dumps(report_json.explanation_to_json(explained)))
    assert {name: data[name] for name in ("kernel", "dims", "dtype", "device", "served")} == {
        "kernel": "mish_mish",
        "dims": {"n": 4096},
        "dtype": "float32",
        "device": "h100",
        "served": "exact",
    }
    assert data["config"] == dict(CONFIG)
    assert data["databases"][1]["trouble"] == "no such file"
    served, *others = data["rows"]
    assert (served["verdict"], served["why"], served["place"]) == ("served", "won", 1)
    assert served["foreign"] == [{"field": "Triton", "row": "3.6.0", "call": "3.7.1", "why": ""}]
    assert (served["database"], served["triton"]) == (str(MINE.path), "3.6.0")
    assert len(others) == 18
    assert [each["field"] for each in others[0]["differs"]] == ["dtype", "dims"]
    assert (others[0]["size_ratio"], others[0]["dims"]) == (2.0, {"n": 8192})
