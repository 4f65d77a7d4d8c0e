"""A process that compiles: take a job from the queue, compile it, answer."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any, NoReturn

from tunekit.core.device import Device
from tunekit.core.evaluation import Binary, Status
from tunekit.errors import TunekitError
from tunekit.evaluate.compile import compile_for, compile_launch
from tunekit.evaluate.job import Job
from tunekit.evaluate.processes import die_with_parent, end_if_forked
from tunekit.evaluate.state import put_back
from tunekit.evaluate.text import full_text, one_line
from tunekit.kernels.registry import find_kernel

_LONGEST_JOB = 2**16


def compile_forever(queue: int, tasks: int, answers: int, device: Device, parent: int) -> NoReturn:
    """What a process does from its fork to its end.

    Args:
        queue: the other end of the queue, which only the parent needs.
        tasks: a socket, of which each message is a job and its number.
        answers: a pipe, for lines of JSON.
        device: the GPU to compile for.
        parent: with which this process ends.
    """
    own = os.getpid()
    # The parent's garbage is the parent's: destroying here what lies on a GPU would abort.
    gc.freeze()
    try:
        die_with_parent(parent)
        os.close(queue)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is in its buffer is not ours
        compile_for(device)
        lost: list[str] = []
        while not lost and os.getppid() == parent and (data := os.read(tasks, _LONGEST_JOB)):
            task = json.loads(data)
            number = task["number"]
            _say(answers, {"started": number, "at": time.monotonic()})
            with put_back() as lost:
                answer = _compile(Job.from_json(task["job"]), device)
            end_if_forked(own)
            _say(answers, {"number": number} | answer)
    finally:
        os._exit(0)  # nothing of the process this is a copy of may be flushed or torn down twice


def _say(answers: int, message: dict[str, Any]) -> None:
    data = (json.dumps(message) + "\n").encode()
    while data:
        data = data[os.write(answers, data) :]


def _compile(job: Job, device: Device) -> dict[str, Any]:
    try:
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, device)
        binary = compile_launch(launch, job.config, kernel.scalar_values(job.scalars)).binary
    except TunekitError as error:
        return {"refused": type(error).__name__, "reason": str(error)}
    except Exception as error:
        return _failure(Status.COMPILE_ERROR, error)
    except BaseException as error:  # SystemExit and the like, of a kernel's own code
        return _failure(Status.ERROR, error)
    return {"binary": {name: getattr(binary, name) for name in Binary.__slots__}}


def _failure(status: Status, error: BaseException) -> dict[str, Any]:
    return {"status": str(status), "reason": one_line(error), "details": full_text(error)}
