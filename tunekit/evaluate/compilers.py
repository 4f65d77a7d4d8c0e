"""Processes that compile, so that this one neither waits for a compiler nor dies of one.

Threads would do neither: much of a Triton compile is Python, so threads take turns at it, and a
measurement in the same process would wait for its turn between two events of the GPU.
"""

from __future__ import annotations

import json
import os
import socket
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from tunekit import errors
from tunekit.core.device import Device
from tunekit.core.evaluation import Binary, Status
from tunekit.errors import TunekitError, WorkerError
from tunekit.evaluate.compiler_children import Children
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.limits import unfit_reason
from tunekit.evaluate.processes import end_if_forked
from tunekit.evaluate.state import put_back
from tunekit.evaluate.text import full_text, one_line
from tunekit.kernels.plan import Launch, alignment_class
from tunekit.kernels.registry import find_kernel

_CHECK_S = 0.5
"""How often to look whether a process has ended whose pipe is not closed."""

Key = tuple[Any, ...]


def binary_key(job: Job, launch: Launch) -> Key:
    """Problems of one class, whatever their size, run one binary."""
    return (job.kernel, job.dtype, alignment_class(launch), job.config)


class Compilers:
    """Compiles configurations into Triton's cache, each at most once.

    Jobs are compiled in the order they were submitted. A process is a copy of this one (a fork), so
    that it starts in no time; it never touches the GPU. One that dies costs the job it was at; one
    that is at a job for longer than the job's `compile_deadline_s` is killed.

    Args:
        device: the GPU to compile for.
        processes: how many jobs to compile at once.
    """

    def __init__(self, device: Device, processes: int) -> None:
        self._device, self._most = device, max(processes, 1)
        self._owner = os.getpid()
        self._numbers: dict[Key, int] = {}
        self._answers: dict[int, Outcome | TunekitError] = {}
        self._unsent: list[tuple[int, Job]] = []
        self._deadlines_s: dict[int, float] = {}
        # The number of a job and until when it may take, by the pipe of who compiles it.
        self._compiling: dict[int, tuple[int, float]] = {}
        self._idle_deaths = 0
        # One queue for all: whoever is free takes the next job. It keeps messages apart, and what
        # a process that died has not taken is still there.
        self._queue, theirs = (end.detach() for end in _socket_pair())
        self._children = Children(self._queue, theirs, device)
        weakref.finalize(self, self._children.end)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Start compiling those that are not known yet, and do not wait.

        A job that has no launch is passed over: asking for its outcome says why.

        Raises:
            TunekitError: the caller's mistake, such as a kernel that does not exist.
        """
        with put_back():  # or processes forked from now on would have it as a plan leaves it
            for job in jobs:
                try:
                    self._number(job)
                except TunekitError:
                    raise
                except BaseException:
                    continue
        self._pump(0.0)

    def outcome(self, job: Job) -> Outcome:
        """What compiling gave: ok with the binary, rejected or compile_error; waits for it alone.

        Raises:
            TunekitError: what the compiling process refused.
        """
        with put_back():
            number = self._number(job)
        while number not in self._answers:
            self._pump(_CHECK_S)
        return self._answer(number, job)

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Compile jobs; yields (index, outcome) as each is known."""
        self.submit(jobs)
        waiting: dict[int, int] = {}
        failed: dict[int, BaseException] = {}
        with put_back():
            for index, job in enumerate(jobs):
                try:
                    waiting[index] = self._number(job)
                except TunekitError:
                    raise
                except BaseException as error:
                    failed[index] = error
        for index, failure in failed.items():
            yield index, _failed(failure)
        while waiting:
            for index in [index for index, n in waiting.items() if n in self._answers]:
                try:
                    outcome = self._answer(waiting.pop(index), jobs[index])
                except TunekitError:
                    raise
                except BaseException as error:
                    outcome = _failed(error)
                yield index, outcome
            if waiting and not self._answers.keys() & waiting.values():
                self._pump(_CHECK_S)

    def close(self) -> None:
        """End the processes."""
        self._children.end()
        self._compiling.clear()

    def _number(self, job: Job) -> int:
        """What the job's binary is called here; one that is new is to be compiled."""
        kernel = find_kernel(job.kernel)
        kernel.scalar_values(job.scalars)
        key = binary_key(job, kernel.launch_for(job.shape, job.dtype, self._device))
        end_if_forked(self._owner)
        if key not in self._numbers:
            number = self._numbers[key] = len(self._numbers)
            self._deadlines_s[number] = job.compile_deadline_s
            self._unsent.append((number, job))
        return self._numbers[key]

    def _answer(self, number: int, job: Job) -> Outcome:
        """With the grid and the limits of this very job."""
        answer = self._answers[number]
        if isinstance(answer, TunekitError):
            raise answer
        if answer.binary is None:
            return answer
        with put_back():
            launch = find_kernel(job.kernel).launch_for(job.shape, job.dtype, self._device)
            x, y, z = launch.grid(job.config)
        end_if_forked(self._owner)
        reason = unfit_reason(answer.binary, job.config, self._device)
        status = Status.REJECTED if reason else Status.OK
        return Outcome(status, reason=reason, binary=answer.binary, grid=(x, y, z))

    def _pump(self, timeout_s: float) -> None:
        """Hand out what can be handed out, and take answers that are there or come in time."""
        end_if_forked(self._owner)
        self._hand_out()
        if not self._children.pipes:
            return
        now = time.monotonic()
        left_s = [until - now for _, until in self._compiling.values()]
        for pipe, message in self._children.listen(max(min(timeout_s, *left_s, _CHECK_S), 0.0)):
            if isinstance(message, str):
                self._died(pipe, message)
            elif "started" in message:
                number = message["started"]
                self._compiling[pipe] = number, message["at"] + self._deadlines_s[number]
            else:
                del self._compiling[pipe]
                self._answers[message["number"]] = _read_answer(message)
                self._idle_deaths = 0
        self._kill_overdue()
        self._hand_out()

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for pipe, (number, until) in list(self._compiling.items()):
            if until < now:
                self._children.kill(pipe)
                reason = f"compiling took longer than {self._deadlines_s[number]:g} s: killed"
                self._answers[number] = Outcome(Status.TIMEOUT, reason=reason)
                del self._compiling[pipe]

    def _hand_out(self) -> None:
        while self._unsent:
            number, job = self._unsent[0]
            data = json.dumps({"number": number, "job": job.to_json()}).encode()
            try:
                os.write(self._queue, data)
            except BlockingIOError:
                break  # the queue is full: later
            except OSError as error:
                said = one_line(error)
                self._answers[number] = Outcome(Status.COMPILE_ERROR, reason=said)
            self._unsent.pop(0)
        open_jobs = len(self._numbers) - len(self._answers)
        while len(self._children.pipes) < min(self._most, open_jobs):
            self._children.fork()

    def _died(self, pipe: int, how: str) -> None:
        if pipe in self._compiling:
            number, _ = self._compiling.pop(pipe)
            reason = f"the compiler's process ended with {how}"
            self._answers[number] = Outcome(Status.CRASHED, reason=reason)
            return
        self._idle_deaths += 1
        if self._idle_deaths > self._most:
            raise WorkerError(f"processes that are to compile end at once, with {how}")


def _failed(error: BaseException) -> Outcome:
    return Outcome(Status.ERROR, reason=one_line(error), details=full_text(error))


def _read_answer(message: dict[str, Any]) -> Outcome | TunekitError:
    if "refused" in message:
        kind: type[TunekitError] = getattr(errors, message["refused"], TunekitError)
        return kind(message["reason"])
    if "binary" in message:
        return Outcome(Status.OK, binary=Binary(**message["binary"]))
    status = Status(message["status"])
    return Outcome(status, reason=message["reason"], details=message["details"])


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs
