"""An evaluation as a line and in full."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job, Outcome
from tunekit.report import Console
from tunekit.report_evaluation import EventLines, print_outcome
from tunekit.search.events import Began, Evaluated, Ready

MakeHost = Callable[..., Host]

JOB = Job("mish_mish", (64, 66), "float16", {}, Config(BLOCK_SIZE=1024, num_warps=4), "h100")
PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4224}, "float16", "p16", "h100")


def test_lines_count_from_what_is_known() -> None:
    lines = EventLines()
    assert lines.line(Ready("compile", 1.239)) == (
        "the compile worker is ready; its imports took 1.24 s"
    )
    began = Began(PROBLEM, (64, 66), total=60, known=7)
    assert lines.line(began) == "mish_mish 64,66 float16 on h100: up to 60 configurations, 7 known"
    ok = Outcome(Status.OK, time_us=12.345, disturbance="power cap")
    said = lines.line(Evaluated(JOB, ok))
    assert said == "8/60 ok 12.35 µs: BLOCK_SIZE=1024, num_warps=4; power cap"
    wrong = Outcome(Status.WRONG, reason="differs")
    said = lines.line(Evaluated(JOB, wrong))
    assert said == "9/60 wrong: BLOCK_SIZE=1024, num_warps=4; differs"


def test_an_outcome_in_full(gpu_host: MakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(
        Status.OK,
        verified_by=VerifiedBy.DEVICE,
        time_us=12.345,
        samples_us=(12.0, 12.345, 13.0),
        binary=Binary("beef", 32, 8, 1024, 16, 4),
        max_error=0.25,
        disturbance="power cap",
        grid=(5, 1, 1),
    )
    print_outcome(Console(), JOB, outcome, gpu_host(lambda config: 1.0))
    assert capsys.readouterr().out == (
        "mish_mish  64,66  float16  on NVIDIA H100 80GB HBM3, measured\n"
        "  configuration  BLOCK_SIZE=1024, num_warps=4\n"
        "  status         ok\n"
        "  time           12.35 µs, median of 3\n"
        "  error          0.25 × what is allowed\n"
        "  disturbed      power cap\n"
        "  binary         32 registers and 8 bytes of spills a thread, 1024 bytes of shared memory "
        "a block, loads of 16 and stores of 4 bytes\n"
        "  grid           5,1,1\n"
    )


def test_what_was_said_keeps_its_lines_and_steers_no_terminal(
    estimate_host: MakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "at 3:4:\n    x = [bold]y[/bold]\n\x1b[2Jgone"
    outcome = Outcome(Status.COMPILE_ERROR, reason="no such thing", details=said)
    print_outcome(Console(), JOB, outcome, estimate_host(lambda config: 1.0))
    head, _, details = capsys.readouterr().out.partition("\n\n")
    assert head.splitlines()[0].endswith(
        "on NVIDIA H100 80GB HBM3, compiled, interpreted, estimated"
    )
    assert "  reason         no such thing" in head
    assert details == "at 3:4:\n    x = [bold]y[/bold]\n\\x1b[2Jgone\n"
