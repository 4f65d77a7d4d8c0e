"""The worker process: jobs in, outcomes out, as JSON lines on its own file descriptors.

Run as `python -m tunekit.evaluate.worker MODE TARGET IN_FD OUT_FD`; kernels may print as they like.
"""

from __future__ import annotations

import faulthandler
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
from tunekit.errors import DeviceMemoryError, TunekitError
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.keeper import keep
from tunekit.evaluate.processes import JOB_MARK, STACKS_SIGNAL, end_if_forked
from tunekit.evaluate.state import put_back
from tunekit.evaluate.text import full_text, one_line

_REFUSALS = (
    "invalid argument",
    "invalid configuration argument",
    "too many resources requested for launch",
)


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
    """Answer requests until the pipe closes, or this process is to be replaced.

    A request is a JSON line with a task and its jobs:

    - `evaluate`: answered by `started` and `done` messages in order and an `end`;
    - `compile`: answered by a `done` for each job as it is known, in any order, and an `end`;
    - `compile_ahead`: not answered; what is wrong shows when the job is compiled or evaluated;
    - `race`, with a number of `rounds`: answered by `samples`.

    `restart`, in place of what would come next, says that the last job has left behind what only
    a new process is rid of.
    """
    fit, served = True, False

    def say(message: Mapping[str, Any]) -> None:
        nonlocal served
        served = served or message["type"] == "done"
        send(message)

    for line in requests:
        request = json.loads(line)
        jobs = [Job.from_json(job) for job in request["jobs"]]
        try:
            match request["task"]:
                case "race":
                    with put_back() as lost:
                        race = evaluator.race(jobs, request["rounds"])
                    fit = fit and not lost
                    say({"type": "samples"} | race.to_json())
                case "compile_ahead":
                    with suppress(TunekitError):
                        fit = _prepare(evaluator, jobs) and fit
                case "compile":
                    with put_back() as lost:
                        for index, outcome in evaluator.compile(jobs):
                            fit = fit and not _needs_a_new_process(outcome)
                            say({"type": "done", "index": index, "outcome": outcome.to_json()})
                    fit = fit and not lost
                    say({"type": "end" if fit else "restart"})
                    if not fit:
                        return
                case _:
                    fit = _prepare(evaluator, jobs) and fit
                    if not _evaluate_all(evaluator, jobs, say, fit):
                        say({"type": "restart"})
                        return
        except DeviceMemoryError as error:
            # Only of a new process it is known that no earlier job holds the memory.
            say({"type": "restart"} if served else _refusal(error))
            if served:
                return
        except TunekitError as error:
            say(_refusal(error))


def _refusal(error: TunekitError) -> dict[str, Any]:
    return {"type": "refused", "error": type(error).__name__, "message": str(error)}


def _needs_a_new_process(outcome: Outcome) -> bool:
    """Whether a job has failed in a way that the next ones may feel."""
    said = outcome.reason
    return outcome.status is Status.ERROR and ("CUDA" in said or "out of memory" in said)


def _evaluate_all(evaluator: Evaluator, jobs: Sequence[Job], send: Any, fit: bool) -> bool:
    """Whether this process is fit for more; what has made it unfit before, the first job bears."""
    for index, job in enumerate(jobs):
        send({"type": "started", "index": index})
        with put_back() as lost:
            outcome, survived = _evaluate(evaluator, job)
        send({"type": "done", "index": index, "outcome": outcome.to_json()})
        if lost or not (survived and fit):
            return False
    send({"type": "end"})
    return True


def _prepare(evaluator: Evaluator, jobs: Sequence[Job]) -> bool:
    """Whether this process is fit for more."""
    lost: list[str] = []
    try:
        with put_back() as lost:
            evaluator.prepare(jobs)
    except TunekitError:
        raise
    except BaseException as error:
        # The job at fault fails again when it is evaluated, and that one alone.
        return _is_fit_after(error)
    return not lost


def _evaluate(evaluator: Evaluator, job: Job) -> tuple[Outcome, bool]:
    """What a job gives, and whether this process is fit for more.

    Whatever code of a kernel raises, SystemExit too, is the job's own failure.
    """
    try:
        return evaluator.evaluate(job), True
    except TunekitError:
        raise
    except BaseException as error:
        outcome = Outcome(Status.ERROR, reason=one_line(error), details=full_text(error))
        return outcome, _is_fit_after(error)


def _is_fit_after(error: BaseException) -> bool:
    """Whether this process is fit for more after a job has failed so.

    Raises:
        BaseException: the error, where the CUDA context is lost.
    """
    if is_out_of_memory(error) or is_refused_launch(error):
        return False
    if is_sticky(error):
        raise error
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the GPU has no memory left; who holds it is not known, a new process does not."""
    said = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or (
        "out of memory" in said and ("cuda" in said or "gpu" in said)
    )


def is_refused_launch(error: BaseException) -> bool:
    """Whether CUDA would not begin a launch, such as of too many programs: nothing is lost."""
    said = str(error)
    return "CUDA" in said and any(each in said for each in _REFUSALS)


def is_sticky(error: BaseException) -> bool:
    """Whether the CUDA context is lost: only a new process helps."""
    said = str(error)
    if type(error).__name__ == "AcceleratorError" or "CUDA error" in said:
        return True
    return "Triton Error [CUDA]" in said  # a fault may show at the next launch, which is Triton's


def main(argv: Sequence[str]) -> int:
    """Serve on the given descriptors."""
    mode, target, in_fd, out_fd = argv
    own = os.getpid()
    with os.fdopen(int(out_fd), "w", buffering=1) as out:

        def send(message: Mapping[str, Any]) -> None:
            end_if_forked(own)
            if message["type"] == "started":
                with suppress(OSError):
                    os.write(2, JOB_MARK)
            out.write(json.dumps(message) + "\n")

        for descriptor in (int(in_fd), int(out_fd)):
            # Or a compiler's tool that outlives this process would keep the pipes open.
            os.set_inheritable(descriptor, False)
        try:
            evaluator, import_s = make_evaluator(mode, target)
        except TunekitError as error:
            send(_refusal(error))
            return 1
        send({"type": "ready", "import_s": import_s, "pid": own})
        with os.fdopen(int(in_fd)) as requests:
            try:
                serve(evaluator, requests, send)
            except BaseException as error:
                _die(error)
    return 0


def _die(error: BaseException) -> NoReturn:
    """End the process with the error as its last words, whatever a lost CUDA context adds."""
    traceback.print_exception(error)
    print(one_line(error), file=sys.stderr, flush=True)
    os._exit(1)


def _run(argv: Sequence[str]) -> NoReturn:
    """Serve in a process that is kept, and end without what a kernel left to be done at exit."""
    keep(int(argv[2]))
    faulthandler.register(STACKS_SIGNAL, all_threads=True)
    status = 1
    try:
        status = main(argv)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _run(sys.argv[1:])
