"""The worker process: jobs in, outcomes out, as JSON lines on its own file descriptors.

Run as `python -m tunekit.evaluate.worker MODE TARGET IN_FD OUT_FD`; kernels may print as they like.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Protocol, TextIO

from tunekit.core.device import device_named
from tunekit.core.evaluation import Status
from tunekit.errors import TunekitError
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.text import one_line


class Evaluator(Protocol):
    """What a mode is: it evaluates jobs one at a time."""

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Begin, without waiting, what can be done ahead: compiling, where there is any."""

    def evaluate(self, job: Job) -> Outcome:
        """Evaluate one job."""


def make_evaluator(mode: str, target: str) -> tuple[Evaluator, float]:
    """The evaluator of a mode, `device:INDEX`, `compile` or `interpret`.

    Returns:
        It, and how many seconds importing PyTorch and Triton, and what needs them, took.
    """
    if mode.startswith("device"):
        return _device_evaluator(int(mode.partition(":")[2] or 0))
    began = time.perf_counter()
    kind: Any
    if mode == "compile":
        from tunekit.evaluate import compile_only

        kind = compile_only.CompileOnlyEvaluator
    else:
        from tunekit.evaluate import interpreter

        kind = interpreter.InterpreterEvaluator
    import_s = time.perf_counter() - began
    return kind(device_named(target)), import_s


def _device_evaluator(index: int) -> tuple[Evaluator, float]:
    began = time.perf_counter()
    from tunekit.evaluate import early

    threads = early.begin(index)
    from tunekit.evaluate.on_device import DeviceEvaluator
    from tunekit.gpu import select_gpu

    import_s = time.perf_counter() - began
    for thread in threads:
        thread.join()
    return DeviceEvaluator(select_gpu(index).device, index), import_s


def serve(evaluator: Any, requests: TextIO, send: Any) -> None:
    """Answer requests until the pipe closes.

    A request is a JSON line with a task and its jobs:

    - `evaluate`: answered by `started` and `done` messages in order and an `end`;
    - `compile`: answered by a `done` for each job as it is known, in any order, and an `end`;
    - `compile_ahead`: not answered; what is wrong shows when the job is compiled or evaluated;
    - `race`, with a number of `rounds`: answered by `samples`.
    """
    for line in requests:
        request = json.loads(line)
        jobs = [Job.from_json(job) for job in request["jobs"]]
        try:
            match request["task"]:
                case "race":
                    race = evaluator.race(jobs, request["rounds"])
                    send({"type": "samples"} | race.to_json())
                case "compile_ahead":
                    with suppress(TunekitError):
                        _prepare(evaluator, jobs)
                case "compile":
                    for index, outcome in evaluator.compile(jobs):
                        send({"type": "done", "index": index, "outcome": outcome.to_json()})
                    send({"type": "end"})
                case _:
                    _evaluate_all(evaluator, jobs, send)
        except TunekitError as error:
            send({"type": "refused", "error": type(error).__name__, "message": str(error)})


def _evaluate_all(evaluator: Evaluator, jobs: Sequence[Job], send: Any) -> None:
    _prepare(evaluator, jobs)
    for index, job in enumerate(jobs):
        send({"type": "started", "index": index})
        send({"type": "done", "index": index, "outcome": _evaluate(evaluator, job).to_json()})
    send({"type": "end"})


def _prepare(evaluator: Evaluator, jobs: Sequence[Job]) -> None:
    try:
        evaluator.prepare(jobs)
    except TunekitError:
        raise
    except Exception as error:
        if is_sticky(error):
            raise
        # The job at fault fails again when it is evaluated, and that one alone.


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

        for descriptor in (int(in_fd), int(out_fd)):
            # Or a compiler's tool that outlives this process would keep the pipes open.
            os.set_inheritable(descriptor, False)
        try:
            evaluator, import_s = make_evaluator(mode, target)
        except TunekitError as error:
            send({"type": "refused", "error": type(error).__name__, "message": str(error)})
            return 1
        send({"type": "ready", "import_s": import_s})
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
