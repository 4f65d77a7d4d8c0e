"""A random mixture of misdeeds between good jobs: every job has the outcome that is its own.

The workers are real but for an evaluator that imports neither torch nor Triton.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.pool import Worker

EVALUATOR = """
import sys, types

class Evaluator:
    def __init__(self, device):
        # Before there is state to put back.
        import misdeeds

    def act(self, job, when):
        import misdeeds
        name, _, place = job.kernel.partition("@")
        if place == when:
            getattr(misdeeds, name)()

    def prepare(self, jobs):
        for job in jobs:
            self.act(job, "prepare")

    def evaluate(self, job):
        import misdeeds
        from tunekit.core.evaluation import Status
        from tunekit.evaluate.job import Outcome
        misdeeds.look_around()
        self.act(job, "evaluate")
        return Outcome(Status.OK, time_us=float(job.seed))

module = types.ModuleType("tunekit.evaluate.compile_only")
module.CompileOnlyEvaluator = Evaluator
sys.modules[module.__name__] = module
"""


def _died(how: str) -> tuple[str, str]:
    return "crashed", f"the worker process ended with {how}.*"


NO_ANSWER = ("timeout", "no answer within 0.7 s: killed")
EXPECTED = {
    **dict.fromkeys(
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
        ),
        ("ok", ""),
    ),
    "system_exit": ("error", "SystemExit: 3"),
    "keyboard_interrupt": ("error", "KeyboardInterrupt: "),
    "recurse": ("error", "RecursionError: .*"),
    "run_out_of_memory": ("error", "MemoryError: "),
    "exit_at_once": _died("exit status 7"),
    "fork_and_exit": _died("exit status 8"),
    "abort": _died("signal 6"),
    "segmentation_fault": _died("signal 11"),
    "kill_itself": _died("signal 9"),
    "kill_its_group": _died("signal 9"),
    "close_everything": ("crashed", "the worker process .*"),
    "stop_itself": NO_ANSWER,
    "hang": NO_ANSWER,
    "hang_in_c": NO_ANSWER,
    "hang_deaf": NO_ANSWER,
    "print_for_ever": NO_ANSWER,
}
DEADLY = [name for name, (status, _) in EXPECTED.items() if status in ("crashed", "timeout")]


def _job(seed: int, kernel: str) -> Job:
    job = Job(kernel, (8,), "float32", {}, Config(BLOCK_SIZE=128), "rtx4090", seed)
    if EXPECTED.get(kernel.partition("@")[0], ("", ""))[0] == "timeout":
        return replace(job, deadline_s=0.7)
    return job


def _batches(random: Random, faults: int) -> list[list[Job]]:
    """As many faults, each kind in turn, among good jobs in batches of up to twelve."""
    names = list(EXPECTED)
    kernels = []
    for number in range(faults):
        name = names[number % len(names)]
        # While preparing, what is raised or changed is no outcome of the job, and a hang is waited
        # for as long as all jobs together may take.
        crashes = EXPECTED[name][0] == "crashed"
        place = "prepare" if crashes and random.random() < 0.25 else "evaluate"
        kernels += [f"{name}@{place}"] + ["good"] * random.choice((0, 1, 1, 2))
    random.shuffle(kernels)
    batches = []
    while kernels:
        size = random.randint(1, 12)
        batches.append([_job(seed, kernel) for seed, kernel in enumerate(kernels[:size])])
        kernels = kernels[size:]
    return batches


def _is_right(job: Job, outcome: Outcome) -> bool:
    if job.kernel == "good":
        return (outcome.status, outcome.time_us) == (Status.OK, job.seed)
    status, reason = EXPECTED[job.kernel.partition("@")[0]]
    return outcome.status == status and bool(re.fullmatch(reason, outcome.reason))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "faults", [27, pytest.param(270, marks=pytest.mark.soak)], ids=["fast", "soak"]
)
def test_a_mixture(
    faults: int,
    tmp_path: Path,
    remaining: Callable[[], list[str]],
    tally: Callable[[str, str, int], None],
) -> None:
    (tmp_path / "sitecustomize.py").write_text(EVALUATOR)
    counted: Counter[str] = Counter()
    with Worker("compile", "rtx4090") as worker:
        for batch in _batches(Random(faults), faults):
            outcomes = [outcome for _, outcome in worker.evaluate(batch)]
            wrong = [
                (job.kernel, outcome)
                for job, outcome in zip(batch, outcomes, strict=True)
                if not _is_right(job, outcome)
            ]
            assert not wrong
            for job in batch:
                name = job.kernel.partition("@")[0]
                counted["workers killed or dead, and replaced"] += name in DEADLY
                counted["good jobs between faults"] += name == "good"
                counted["faults"] += name != "good"
    assert counted["faults"] == faults
    assert not remaining()
    for what, count in counted.items():
        tally("Faults", f"random mixture: {what}", count)
