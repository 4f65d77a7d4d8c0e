"""The worker process: jobs in, outcomes out, as JSON lines on its own file descriptors.

Run as `python -m tunekit.evaluate.worker MODE TARGET IN_FD OUT_FD`; kernels may print as they like.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol, TextIO

from tunekit.core.device import device_named
from tunekit.core.evaluation import Status
from tunekit.errors import TunekitError
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.text import one_line


class Evaluator(Protocol):
    """What a mode is: it evaluates jobs one at a time."""

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Do ahead what is cheaper for many jobs together."""

    def evaluate(self, job: Job) -> Outcome:
        """Evaluate one job."""


def make_evaluator(mode: str, target: str) -> Evaluator:
    """The evaluator of a mode: `device:INDEX`, `compile` or `interpret`."""
    if mode.startswith("device"):
        from tunekit.evaluate.on_device import DeviceEvaluator
        from tunekit.gpu import select_gpu

        return DeviceEvaluator(select_gpu(int(mode.partition(":")[2] or 0)).device)
    if mode == "compile":
        from tunekit.evaluate.compile_only import CompileOnlyEvaluator

        return CompileOnlyEvaluator(device_named(target))
    from tunekit.evaluate.interpreter import InterpreterEvaluator

    return InterpreterEvaluator(device_named(target))


def serve(evaluator: Any, requests: TextIO, send: Any) -> None:
    """Answer requests until the pipe closes.

    A request is `{"task": "evaluate", "jobs": [...]}`, answered by `started` and `done` messages in
    order and an `end`; or `{"task": "race", "jobs": [...], "rounds": N}`, answered by `samples`.
    """
    for line in requests:
        request = json.loads(line)
        jobs = [Job.from_json(job) for job in request["jobs"]]
        try:
            if request["task"] == "race":
                samples = evaluator.race(jobs, request["rounds"])
                send({"type": "samples", "samples_us": samples})
            else:
                _evaluate_all(evaluator, jobs, send)
        except TunekitError as error:
            send({"type": "refused", "error": type(error).__name__, "message": str(error)})


def _evaluate_all(evaluator: Evaluator, jobs: Sequence[Job], send: Any) -> None:
    try:
        evaluator.prepare(jobs)
    except TunekitError:
        raise
    except Exception as error:
        if is_sticky(error):
            raise
        # The job at fault fails again below, and that one alone.
    for index, job in enumerate(jobs):
        send({"type": "started", "index": index})
        send({"type": "done", "index": index, "outcome": _evaluate(evaluator, job).to_json()})
    send({"type": "end"})


def _evaluate(evaluator: Evaluator, job: Job) -> Outcome:
    try:
        return evaluator.evaluate(job)
    except TunekitError:
        raise
    except Exception as error:
        if is_sticky(error):
            raise
        return Outcome(Status.ERROR, reason=one_line(error))


def is_sticky(error: BaseException) -> bool:
    """Whether the CUDA context is lost: only a new process helps."""
    said = str(error)
    if type(error).__name__ == "AcceleratorError" or "CUDA error" in said:
        return True
    return "Triton Error [CUDA]" in said  # a fault may show at the next launch, which is Triton's


def main(argv: Sequence[str]) -> int:
    """Serve on the given descriptors."""
    mode, target, in_fd, out_fd = argv
    with os.fdopen(int(out_fd), "w", buffering=1) as out:

        def send(message: Mapping[str, Any]) -> None:
            out.write(json.dumps(message) + "\n")

        try:
            evaluator = make_evaluator(mode, target)
        except TunekitError as error:
            send({"type": "refused", "error": type(error).__name__, "message": str(error)})
            return 1
        send({"type": "ready"})
        with os.fdopen(int(in_fd)) as requests:
            try:
                serve(evaluator, requests, send)
            except Exception as error:
                _die(error)
    return 0


def _die(error: Exception) -> NoReturn:
    """End the process with the error as its last words, whatever a lost CUDA context adds."""
    traceback.print_exception(error)
    print(one_line(error), file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
