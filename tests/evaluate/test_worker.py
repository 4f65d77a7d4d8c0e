"""The protocol, spoken in this process to an evaluator that is none."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from triton.runtime import driver

from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.errors import KernelError, UnknownDeviceError
from tunekit.evaluate import worker
from tunekit.evaluate.job import Job, Outcome, Race


def _job(kernel: str) -> Job:
    return Job(kernel, (8,), "float32", {}, Config(BLOCK_SIZE=128), "rtx4090")


def _request(*kernels: str, **fields: object) -> str:
    jobs = [_job(kernel).to_json() for kernel in kernels]
    return json.dumps({"task": "evaluate", "jobs": jobs} | fields) + "\n"


class Evaluator:
    """Does to a job what `on` says of its kernel, and to the jobs together what it says of ''."""

    def __init__(self, **on: Exception) -> None:
        self._on = on
        self.prepared: list[list[str]] = []

    def prepare(self, jobs: Sequence[Job]) -> None:
        self.prepared.append([job.kernel for job in jobs])
        if "prepare" in self._on:
            raise self._on["prepare"]

    def evaluate(self, job: Job) -> Outcome:
        if job.kernel in self._on:
            raise self._on[job.kernel]
        return Outcome(Status.OK, time_us=float(len(job.kernel)))

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        for index, job in reversed(list(enumerate(jobs))):
            if job.kernel in self._on:
                raise self._on[job.kernel]
            yield index, Outcome(Status.OK, grid=(len(job.kernel), 1, 1))

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        if "race" in self._on:
            raise self._on["race"]
        return Race([(float(len(job.kernel)),) * rounds for job in jobs], (0.5,) * rounds, "fog")


def _serve(evaluator: Evaluator, *requests: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    worker.serve(evaluator, io.StringIO("".join(requests)), sent.append)
    return json.loads(json.dumps(sent))  # what is sent must be JSON


def _statuses(sent: list[dict[str, Any]]) -> list[str]:
    return [message["outcome"]["status"] for message in sent if message["type"] == "done"]


def test_each_job_is_started_and_done_in_order_and_then_it_ends() -> None:
    evaluator = Evaluator()
    sent = _serve(evaluator, _request("a", "bb"))
    assert [(m["type"], m.get("index")) for m in sent] == [
        ("started", 0),
        ("done", 0),
        ("started", 1),
        ("done", 1),
        ("end", None),
    ]
    assert [m["outcome"]["time_us"] for m in sent if m["type"] == "done"] == [1.0, 2.0]
    assert evaluator.prepared == [["a", "bb"]]


def test_requests_are_answered_until_there_are_none() -> None:
    sent = _serve(Evaluator(), _request("a"), _request("b"), _request())
    assert [message["type"] for message in sent].count("end") == 3


def test_a_race_is_answered_with_samples() -> None:
    (answer,) = _serve(Evaluator(), _request("a", "bb", task="race", rounds=3))
    assert answer == {
        "type": "samples",
        "samples_us": [[1.0] * 3, [2.0] * 3],
        "copy_us": [0.5] * 3,
        "disturbance": "fog",
        "faults": [],
    }


def test_what_is_compiled_is_answered_as_it_is_known() -> None:
    sent = _serve(Evaluator(), _request("a", "bb", task="compile"))
    assert [(m["type"], m.get("index")) for m in sent] == [("done", 1), ("done", 0), ("end", None)]
    assert [m["outcome"]["grid"][0] for m in sent[:2]] == [2, 1]


def test_compiling_ahead_is_not_answered_whatever_becomes_of_it() -> None:
    evaluator = Evaluator()
    assert _serve(evaluator, _request("a", "bb", task="compile_ahead")) == []
    assert evaluator.prepared == [["a", "bb"]]
    for failure in (ValueError("bad plan"), KernelError("no such scalar")):
        ahead, compiled = _request("a", task="compile_ahead"), _request(task="compile")
        sent = _serve(Evaluator(prepare=failure), ahead, compiled)
        assert [message["type"] for message in sent] == ["end"]


def test_a_job_that_fails_is_an_error_and_the_next_goes_on() -> None:
    sent = _serve(Evaluator(a=ValueError("odd\nlines")), _request("a", "b"))
    assert _statuses(sent) == ["error", "ok"]
    assert sent[1]["outcome"]["reason"] == "ValueError: odd"


def test_failing_to_prepare_is_left_to_the_job_that_fails() -> None:
    failure = ValueError("bad plan")
    sent = _serve(Evaluator(prepare=failure, a=failure), _request("a", "b"))
    assert _statuses(sent) == ["error", "ok"]
    assert sent[-1]["type"] == "end"


@pytest.mark.parametrize("where", ["a", "prepare"])
def test_what_the_caller_got_wrong_is_refused_and_the_worker_lives_on(where: str) -> None:
    evaluator = Evaluator(**{where: KernelError("no such scalar")})
    sent = _serve(evaluator, _request("a"), _request("b") if where == "a" else "")
    refused = [message for message in sent if message["type"] == "refused"]
    assert refused == [{"type": "refused", "error": "KernelError", "message": "no such scalar"}]
    if where == "a":
        assert _statuses(sent) == ["ok"]


def test_a_race_that_is_refused() -> None:
    evaluator = Evaluator(race=KernelError("no"))
    (answer,) = _serve(evaluator, _request("a", task="race", rounds=1))
    assert answer["type"] == "refused"


class AcceleratorError(RuntimeError):
    """What torch raises when the CUDA context is lost."""


STICKY = [
    AcceleratorError("gone"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
]


@pytest.mark.parametrize("error", STICKY)
@pytest.mark.parametrize("where", ["a", "prepare"])
def test_a_lost_cuda_context_ends_the_process(where: str, error: Exception) -> None:
    assert worker.is_sticky(error)
    with pytest.raises(type(error)):
        _serve(Evaluator(**{where: error}), _request("a"))


def test_other_errors_do_not() -> None:
    assert not worker.is_sticky(ValueError("CUDA is fine"))
    assert not worker.is_sticky(MemoryError("out of memory"))


def _run_main(target: str, mode: str = "compile") -> tuple[int, list[dict[str, Any]]]:
    """The worker's main on real descriptors, with no requests."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    os.close(in_write)
    status = worker.main([mode, target, str(in_read), str(out_write)])
    with os.fdopen(out_read) as answers:
        if status:
            os.close(in_read)
        return status, [json.loads(line) for line in answers]


def test_main_says_when_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(mode: str, target: str) -> tuple[Evaluator, float]:
        made.append((mode, target))
        return Evaluator(), 1.5

    monkeypatch.setattr(worker, "make_evaluator", make)
    assert _run_main("rtx4090") == (0, [{"type": "ready", "import_s": 1.5, "pid": os.getpid()}])
    assert made == [("compile", "rtx4090")]


def test_main_refuses_what_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(mode: str, target: str) -> tuple[Evaluator, float]:
        raise UnknownDeviceError(f"no GPU named {target!r}")

    monkeypatch.setattr(worker, "make_evaluator", make)
    status, sent = _run_main("rtx9999")
    assert status == 1
    assert sent == [
        {"type": "refused", "error": "UnknownDeviceError", "message": "no GPU named 'rtx9999'"}
    ]


@pytest.mark.parametrize("mode", ["compile", "interpret"])
def test_a_gpu_that_is_not_in_the_table(mode: str) -> None:
    with pytest.raises(UnknownDeviceError, match="rtx9999"):
        worker.make_evaluator(mode, "rtx9999")


def test_a_gpu_that_is_not_in_this_machine() -> None:
    with pytest.raises(UnknownDeviceError, match="cuda:77"):
        worker.make_evaluator("device:77", "rtx4090")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("compile", "CompileOnlyEvaluator"), ("interpret", "InterpreterEvaluator")],
)
def test_the_evaluator_of_a_mode(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_active", None)  # what the compiler's sets is undone
    evaluator, import_s = worker.make_evaluator(mode, "RTX 4090")
    assert type(evaluator).__name__ == kind
    assert import_s >= 0
