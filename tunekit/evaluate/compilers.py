"""Processes that compile, so that this one neither waits for a compiler nor dies of one.

Threads would do neither: much of a Triton compile is Python, so threads take turns at it, and a
measurement in the same process would wait for its turn between two events of the GPU.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from tunekit import errors
from tunekit.core.device import Device
from tunekit.core.evaluation import Binary, Status
from tunekit.errors import TunekitError, WorkerError
from tunekit.evaluate.compile import compile_for, compile_launch
from tunekit.evaluate.early import hash_triton
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.limits import unfit_reason
from tunekit.evaluate.text import one_line
from tunekit.kernels.plan import Launch, alignment_class
from tunekit.kernels.registry import find_kernel

_PR_SET_PDEATHSIG = 1
_LONGEST_JOB = 2**16

Key = tuple[Any, ...]


def binary_key(job: Job, launch: Launch) -> Key:
    """Problems of one class, whatever their size, run one binary."""
    return (job.kernel, job.dtype, alignment_class(launch), job.config)


class Compilers:
    """Compiles configurations into Triton's cache, each at most once.

    Jobs are compiled in the order they were submitted. A process is a copy of this one (a fork), so
    that it starts in no time; it never touches the GPU. One that dies costs the job it was at.

    Args:
        device: the GPU to compile for.
        processes: how many jobs to compile at once.
    """

    def __init__(self, device: Device, processes: int) -> None:
        self._device, self._most = device, max(processes, 1)
        self._numbers: dict[Key, int] = {}
        self._answers: dict[int, Outcome | TunekitError] = {}
        self._unsent: list[tuple[int, Job]] = []
        self._compiling: dict[int, int] = {}  # number of a job, by the pipe of who compiles it
        self._idle_deaths = 0
        # One queue for all: whoever is free takes the next job. It keeps messages apart, and what
        # a process that died has not taken is still there.
        self._queue, theirs = (end.detach() for end in _socket_pair())
        self._children = _Children(self._queue, theirs, device)
        weakref.finalize(self, self._children.end)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Start compiling those that are not known yet, and do not wait.

        A job that has no launch is passed over: asking for its outcome says why.

        Raises:
            TunekitError: the caller's mistake, such as a kernel that does not exist.
        """
        for job in jobs:
            try:
                self._number(job)
            except TunekitError:
                raise
            except Exception:
                continue
        self._pump(0.0)

    def outcome(self, job: Job) -> Outcome:
        """What compiling gave: ok with the binary, rejected or compile_error; waits for it alone.

        Raises:
            TunekitError: what the compiling process refused.
        """
        number = self._number(job)
        while number not in self._answers:
            self._pump(None)
        return self._answer(number, job)

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Compile jobs; yields (index, outcome) as each is known."""
        self.submit(jobs)
        waiting: dict[int, int] = {}
        for index, job in enumerate(jobs):
            try:
                waiting[index] = self._number(job)
            except TunekitError:
                raise
            except Exception as error:
                yield index, Outcome(Status.ERROR, reason=one_line(error))
        while waiting:
            for index in [index for index, n in waiting.items() if n in self._answers]:
                yield index, self._answer(waiting.pop(index), jobs[index])
            if waiting and not self._answers.keys() & waiting.values():
                self._pump(None)

    def close(self) -> None:
        """End the processes."""
        self._children.end()
        self._compiling.clear()

    def _number(self, job: Job) -> int:
        """What the job's binary is called here; one that is new is to be compiled."""
        kernel = find_kernel(job.kernel)
        kernel.scalar_values(job.scalars)
        key = binary_key(job, kernel.launch_for(job.shape, job.dtype, self._device))
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._unsent.append((self._numbers[key], job))
        return self._numbers[key]

    def _answer(self, number: int, job: Job) -> Outcome:
        """With the grid and the limits of this very job."""
        answer = self._answers[number]
        if isinstance(answer, TunekitError):
            raise answer
        if answer.binary is None:
            return answer
        launch = find_kernel(job.kernel).launch_for(job.shape, job.dtype, self._device)
        x, y, z = launch.grid(job.config)
        reason = unfit_reason(answer.binary, job.config, self._device)
        status = Status.REJECTED if reason else Status.OK
        return Outcome(status, reason=reason, binary=answer.binary, grid=(x, y, z))

    def _pump(self, timeout_s: float | None) -> None:
        """Hand out what can be handed out, and read answers that are there or come in time."""
        self._hand_out()
        if not self._children.pipes:
            return
        ready, _, _ = select.select(list(self._children.pipes), [], [], timeout_s)
        for pipe in ready:
            for message in self._children.read(pipe):
                if "started" in message:
                    self._compiling[pipe] = message["started"]
                else:
                    del self._compiling[pipe]
                    self._answers[message["number"]] = _read_answer(message)
                    self._idle_deaths = 0
            if pipe not in self._children.pipes:
                self._died(pipe)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._unsent:
            number, job = self._unsent[0]
            data = json.dumps({"number": number, "job": job.to_json()}).encode()
            try:
                os.write(self._queue, data)
            except BlockingIOError:
                break  # the queue is full: later
            except OSError as error:
                said = f"{type(error).__name__}: {error}"
                self._answers[number] = Outcome(Status.COMPILE_ERROR, reason=said)
            self._unsent.pop(0)
        open_jobs = len(self._numbers) - len(self._answers)
        while len(self._children.pipes) < min(self._most, open_jobs):
            self._children.fork()

    def _died(self, pipe: int) -> None:
        how = self._children.causes.pop(pipe)
        if pipe in self._compiling:
            reason = f"the compiler's process ended with {how}"
            self._answers[self._compiling.pop(pipe)] = Outcome(Status.CRASHED, reason=reason)
            return
        self._idle_deaths += 1
        if self._idle_deaths > self._most:
            raise WorkerError(f"processes that are to compile end at once, with {how}")


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


class _Children:
    """The processes, by the pipes they answer on.

    Attributes:
        causes: how those that died ended, by pipe.
    """

    def __init__(self, queue: int, theirs: int, device: Device) -> None:
        self._queue, self._theirs, self._device = queue, theirs, device
        self._owner = os.getpid()
        self._buffers: dict[int, bytes] = {}
        self._ended = False
        self.pipes: dict[int, int] = {}
        self.causes: dict[int, str] = {}

    def fork(self) -> None:
        """Start one more."""
        hash_triton()
        ours, answers = os.pipe()
        with warnings.catch_warnings():
            # Threads of this process do not exist in the new one, which needs none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            _compile_forever(self._queue, self._theirs, answers, self._device, self._owner)
        os.close(answers)
        self.pipes[ours], self._buffers[ours] = pid, b""

    def read(self, pipe: int) -> Iterator[dict[str, Any]]:
        """Messages that are there; a process that has ended is taken out."""
        data = os.read(pipe, 2**16)
        *lines, self._buffers[pipe] = (self._buffers[pipe] + data).split(b"\n")
        yield from map(json.loads, lines)
        if not data:
            self.causes[pipe] = self._bury(pipe)

    def end(self) -> None:
        """Kill them all; in a fork of the process that made them, nothing is done."""
        if self._ended or os.getpid() != self._owner:
            return
        self._ended = True
        os.close(self._queue)
        os.close(self._theirs)
        for pid in self.pipes.values():
            os.kill(pid, signal.SIGKILL)
        for pipe in list(self.pipes):
            self._bury(pipe)

    def _bury(self, pipe: int) -> str:
        os.close(pipe)
        del self._buffers[pipe]
        _, status = os.waitpid(self.pipes.pop(pipe), 0)
        code = os.waitstatus_to_exitcode(status)
        return f"signal {-code}" if code < 0 else f"exit status {code}"


def _read_answer(message: dict[str, Any]) -> Outcome | TunekitError:
    if "refused" in message:
        kind: type[TunekitError] = getattr(errors, message["refused"], TunekitError)
        return kind(message["reason"])
    if "binary" in message:
        return Outcome(Status.OK, binary=Binary(**message["binary"]))
    return Outcome(Status.COMPILE_ERROR, reason=message["reason"])


def _compile_forever(queue: int, tasks: int, answers: int, device: Device, parent: int) -> NoReturn:
    """What a process does: take a job, compile it, answer; until the other end is gone."""
    try:
        # At the latest when whoever measures is gone, also while a compiler hangs.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(queue)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is in its buffer is not ours
        compile_for(device)
        while os.getppid() == parent and (data := os.read(tasks, _LONGEST_JOB)):
            task = json.loads(data)
            number = task["number"]
            _say(answers, {"started": number})
            _say(answers, {"number": number} | _compile(Job.from_json(task["job"]), device))
    finally:
        os._exit(0)  # nothing of the process this is a copy of may be flushed or torn down twice


def _say(answers: int, message: dict[str, Any]) -> None:
    os.write(answers, (json.dumps(message) + "\n").encode())


def _compile(job: Job, device: Device) -> dict[str, Any]:
    try:
        kernel = find_kernel(job.kernel)
        launch = kernel.launch_for(job.shape, job.dtype, device)
        binary = compile_launch(launch, job.config, kernel.scalar_values(job.scalars)).binary
    except TunekitError as error:
        return {"refused": type(error).__name__, "reason": str(error)}
    except Exception as error:
        return {"reason": one_line(error)}
    return {"binary": {name: getattr(binary, name) for name in Binary.__slots__}}
