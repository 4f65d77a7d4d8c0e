"""Code that does its worst in real workers: it costs its own configuration, and nothing stays."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.pool import Worker

FAULTY = Path(__file__).parent / "faulty.py"

Expected = dict[str, tuple[str, str]]
"""Status and reason, by misdeed."""

HARMLESS: Expected = dict.fromkeys(
    (
        "ignore_sigterm",
        "print_megabytes",
        "close_standard_streams",
        "fork_and_go_on",
        "fork_a_sleeper",
        "fork_a_daemon",
        "spawn_in_a_session",
        "leave_a_thread",
        "leave_something_for_the_end",
        "change_state",
        "look_around",
    ),
    ("ok", ""),
)
RAISING: Expected = {
    "system_exit": ("error", "SystemExit: 3"),
    "keyboard_interrupt": ("error", "KeyboardInterrupt: "),
}
FAILING: Expected = {
    "recurse": ("error", "RecursionError: maximum recursion depth exceeded.*"),
    "run_out_of_memory": ("error", "MemoryError: "),
}


def _died(how: str) -> tuple[str, str]:
    return "crashed", f"the worker process ended with {how}.*"


NO_ANSWER = ("timeout", "no answer within 2 s: killed")
DEADLY: Expected = {
    "exit_at_once": _died("exit status 7"),
    "hang_in_c": NO_ANSWER,
    "fork_and_exit": _died("exit status 8"),
}
DEADLY_TOO: Expected = {
    "abort": _died("signal 6"),
    "segmentation_fault": _died("signal 11"),
    "kill_itself": _died("signal 9"),
    "kill_its_group": _died("signal 9"),
    "kill_its_parent": _died("signal 9"),
    "set_an_alarm": _died("signal 14"),
    "stop_itself": NO_ANSWER,
    "hang": NO_ANSWER,
    "hang_deaf": NO_ANSWER,
    "print_for_ever": NO_ANSWER,
    "close_everything": ("crashed", "the worker process .*"),
}


def _compiler(how: str) -> tuple[str, str]:
    return "crashed", f"the compiler's process ended with {how}"


TOO_LONG = ("timeout", "compiling took longer than 2 s: killed")
COMPILING: Expected = {
    **HARMLESS,
    **RAISING,
    "recurse": ("compile_error", "RecursionError: maximum recursion depth exceeded.*"),
    "run_out_of_memory": ("compile_error", "MemoryError: "),
    "exit_at_once": _compiler("exit status 7"),
    "hang_in_c": TOO_LONG,
    "fork_and_exit": _compiler("exit status 8"),
    "abort": _compiler("signal 6"),
    "segmentation_fault": _compiler("signal 11"),
    "kill_itself": _compiler("signal 9"),
    "stop_itself": TOO_LONG,
    "hang": TOO_LONG,
    "hang_deaf": TOO_LONG,
    "print_for_ever": TOO_LONG,
    "close_everything": _compiler("(signal 9|exit status 0)"),
}


def _job(name: str, block: int) -> Job:
    config = Config(BLOCK_SIZE=block, VEC=1, num_warps=4, num_stages=1)
    return Job(f"{FAULTY}:{name}", (5000,), "float32", {}, config, "rtx4090")


def _jobs(expected: Expected) -> list[Job]:
    """Each fault between two good configurations of the same kernel."""
    jobs = [_job(name, block) for name in expected for block in (1024, 512, 2048)]
    for place, (status, _) in enumerate(expected.values()):
        if status == "timeout":
            bad = replace(jobs[3 * place + 1], deadline_s=2.0, compile_deadline_s=2.0)
            jobs[3 * place + 1] = bad
    return jobs


def _check(expected: Expected, outcomes: list[Outcome]) -> None:
    for place, (name, (status, reason)) in enumerate(expected.items()):
        before, fault, after = outcomes[3 * place : 3 * place + 3]
        assert (before.status, after.status) == ("ok", "ok"), (name, before, after)
        assert fault.status == status, (name, fault)
        assert re.fullmatch(reason, fault.reason), (name, fault)
        assert before.max_error == after.max_error
        if status == "error":
            assert "misdeeds.py" in fault.details


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(HARMLESS | RAISING | FAILING | DEADLY, id="most"),
        pytest.param(
            HARMLESS | RAISING | FAILING | DEADLY | DEADLY_TOO, marks=pytest.mark.soak, id="all"
        ),
    ],
)
def test_in_the_interpreter(
    expected: Expected,
    remaining: Callable[[], list[str]],
    tally: Callable[[str, str, int], None],
) -> None:
    with Worker("interpret", "rtx4090") as worker:
        list(worker.evaluate([_job("look_around", 1024)]))  # it has started
        outcomes = [outcome for _, outcome in worker.evaluate(_jobs(expected))]
    _check(expected, outcomes)
    assert not remaining()
    for name in expected:
        tally("Faults", name, 1)


def test_in_the_compiler(
    remaining: Callable[[], list[str]], tally: Callable[[str, str, int], None]
) -> None:
    """A compiler that crashes or hangs costs its configuration: the worker is not replaced."""
    with Worker("compile", "rtx4090") as worker:
        list(worker.compile([_job("look_around", 1024)]))
        process = worker._process
        jobs = _jobs(COMPILING)
        began = time.monotonic()
        outcomes = dict(worker.compile(jobs))
        elapsed_s = time.monotonic() - began
        _check(COMPILING, [outcomes[index] for index in range(len(jobs))])
        assert worker._process is process
        again = dict(worker.compile(jobs))
        assert [again[index].status for index in again] == [outcomes[i].status for i in again]
    assert elapsed_s < 60
    assert not remaining()
    for name in COMPILING:
        tally("Faults", f"{name}, compiling", 1)
