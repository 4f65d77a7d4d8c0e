from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tunekit import report_json
from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.recorded import Recorded, Served, Timed
from tunekit.report import Console
from tunekit.report_recorded import print_recorded
from tunekit.search.worth import EXPECTED_GAIN, Tuned, Weighed, weigh

ONE = Recorded(
    reference="mish_mish",
    problem=Problem.of("mish_mish", "abc", {"n": 4096}, "float16", "p16,p16,i32x16", "h100"),
    shape=(64, 64),
    served=Served.NEAREST,
    config=Config(BLOCK_SIZE=1024, num_warps=4),
    count=100,
    bytes_moved=16384,
    time_us=2.5,
    timed=Timed.SCALED,
    tunekit="0.1.0",
)


def printed(weighed: list[Weighed], capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_recorded(Console(), weighed, Path("calls.jsonl"))
    return capsys.readouterr().out.splitlines()


def test_a_line_a_problem_and_what_the_marks_mean(capsys: pytest.CaptureFixture[str]) -> None:
    at_least = replace(
        ONE, problem=replace(ONE.problem, dtype="float32"), time_us=10.0, timed=Timed.BOUND
    )
    lines = printed(weigh([ONE, at_least], Tuned([])), capsys)
    gain = EXPECTED_GAIN[Served.NEAREST]
    assert " ".join(lines[0].split()) == (
        "kernel shape dtype device served calls a call, µs all, ms share expected gain"
    )
    assert lines[2].split() == (
        f"mish_mish 64,64 float32 h100 nearest 100 ≥ 10.00 1.00 80.0% {gain:.1%}".split()
    )
    assert lines[3].split() == (
        f"mish_mish 64,64 float16 h100 nearest 100 ≈ 2.50 0.25 20.0% {gain:.1%}".split()
    )
    assert lines[4:] == [
        f"2 problems, 200 calls, 1.25 ms; tuning is expected to gain {1.25 * gain:.2f} ms",
        "≈: scaled from the size whose configuration served",
        "≥: at least, by its bytes and the bandwidth of DRAM",
        "`tunekit tune --recorded calls.jsonl` tunes them in this order",
    ]


def test_what_has_nothing_to_gain(capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = weigh([ONE], Tuned([]))
    tuned = replace(one, served=Served.EXACT, timed=Timed.MEASURED, gain=0.0)
    lines = printed([tuned], capsys)
    assert "nearest, now exact" in lines[2]
    assert lines[2].split()[-5:] == ["100", "2.50", "0.25", "100.0%", "0.0%"]
    assert lines[3:] == ["1 problem, 100 calls, 0.25 ms; tuning is expected to gain 0.00 ms"]


def test_what_cannot_be_tuned_and_times_that_are_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    moved = replace(ONE.problem, alignment="p1,p1,i32x16")
    calls = [replace(ONE, problem=moved, time_us=None, timed=Timed.UNKNOWN)]
    lines = printed(weigh(calls, Tuned([])), capsys)
    assert lines[2].split()[-2:] == ["100", "unaligned"]
    assert lines[4].startswith("unaligned: a tensor starts at no multiple of 16 bytes")
    assert len(lines) == 5


def test_as_data() -> None:
    (one,) = weigh([ONE], Tuned([]))
    data = report_json.weighed_to_json(one)
    assert data["reference"] == data["kernel"] == "mish_mish"
    assert (data["served"], data["served_now"], data["timed"]) == ("nearest", "nearest", "scaled")
    assert (data["dims"], data["shape"], data["count"]) == ({"n": 4096}, [64, 64], 100)
    assert (data["time_us"], data["total_us"], data["share"]) == (2.5, 250.0, 1.0)
    assert data["expected_gain"] == EXPECTED_GAIN[Served.NEAREST]
    assert data["can_be_tuned"] is True
