"""Run jobs in worker processes that may die."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from tempfile import TemporaryFile
from threading import Event, Thread
from types import TracebackType
from typing import IO, Any, Protocol, Self, runtime_checkable

from tunekit import errors
from tunekit.core.evaluation import Status
from tunekit.evaluate.job import Job, Outcome, Race

_START_DEADLINE_S = 120.0
_SEND_DEADLINE_S = 120.0
_COMPILE_DEADLINE_S = 30.0
_LAST_WORDS_BYTES = 2000


class Pool(Protocol):
    """Where jobs run; search does not know more."""

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Evaluate jobs; yields (index, outcome) as each is done."""
        ...

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Only compile jobs; yields (index, outcome) as each is known, in any order.

        An outcome that is ok has a binary and a grid and no time.
        """
        ...

    def compile_ahead(self, jobs: Sequence[Job]) -> None:
        """Begin to compile jobs, after those asked for before, and do not wait.

        A worker that evaluates takes this up when it is through: ask first.
        """
        ...

    def close(self) -> None:
        """End the workers."""
        ...


@runtime_checkable
class MeasuringPool(Pool, Protocol):
    """A pool on a GPU that is present: it can also measure configurations side by side."""

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        """Interleaved samples of several configurations of a problem, and of a plain copy.

        Asked again for the same jobs, it goes on at once.
        """
        ...


class WorkerDied(Exception):  # noqa: N818 - an event the pool handles
    """The worker process ended or was killed; carries why."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Worker:
    """One child process in one mode, respawned when it dies.

    Args:
        mode: `device:INDEX`, `compile` or `interpret` (see `worker.make_evaluator`).
        target: slug of the GPU model that jobs are for.

    Attributes:
        import_s: seconds the process took to import PyTorch and Triton, 0.0 until it is ready.
    """

    def __init__(self, mode: str, target: str) -> None:
        self._mode, self._target = mode, target
        self.import_s = 0.0
        self._ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = -1
        self._answers = -1
        self._buffer = b""
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def evaluate(
        self, jobs: Sequence[Job], given_up: Event | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        """Evaluate jobs in order; one that kills the worker costs itself alone.

        Args:
            jobs: what to evaluate.
            given_up: once it is set, no further job is sent.

        Raises:
            TunekitError: what the worker refused, or WorkerError when it does not start.
        """
        first, together = 0, True
        while first < len(jobs) and not (given_up and given_up.is_set()):
            last = len(jobs) if together else first + 1
            started = False
            try:
                for message in self._request("evaluate", jobs[first:last]):
                    if message["type"] == "started":
                        started = True
                    elif message["type"] == "done":
                        yield first, Outcome.from_json(message["outcome"])
                        first, started = first + 1, False
            except WorkerDied as death:
                if started or not together:
                    # Known to be this job's doing: it was running, or being prepared, alone.
                    yield first, Outcome(death.status, reason=str(death))
                    first += 1
                else:
                    together = False  # it died while preparing: find out on which job
            except (GeneratorExit, KeyboardInterrupt):
                self.close()  # or its answers would be taken for those to the next request
                raise

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Compile jobs; yields (index, outcome) as each is known, in any order.

        Raises:
            TunekitError: what the worker refused, or WorkerError when it does not start.
        """
        left, together = list(range(len(jobs))), True
        while left:
            batch = list(left) if together else left[:1]
            try:
                for message in self._request("compile", [jobs[index] for index in batch]):
                    index = batch[message["index"]]
                    left.remove(index)
                    yield index, Outcome.from_json(message["outcome"])
            except WorkerDied as death:
                if together:
                    together = False
                else:
                    yield left.pop(0), Outcome(death.status, reason=str(death))
            except (GeneratorExit, KeyboardInterrupt):
                self.close()
                raise

    def compile_ahead(self, jobs: Sequence[Job]) -> None:
        """Begin to compile jobs and do not wait; a worker that is busy begins when it is through.

        Nothing is said of failures: they show when the job is compiled or evaluated.
        """
        if jobs:
            # A worker that has died starts again with the next request that is answered.
            with suppress(WorkerDied):
                self._send({"task": "compile_ahead", "jobs": [job.to_json() for job in jobs]})

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        """Interleaved samples of several configurations of a problem, and of a plain copy.

        Raises:
            WorkerError: the worker died.
        """
        deadline_s = sum(job.deadline_s for job in jobs)
        try:
            self._send({"task": "race", "jobs": [job.to_json() for job in jobs], "rounds": rounds})
            message = self._receive(deadline_s)
        except WorkerDied as death:
            raise errors.WorkerError(f"measuring the finalists: {death}") from death
        return Race.from_json(message)

    def close(self) -> None:
        """End the process, and those it started."""
        if self._process is None:
            return
        os.close(self._requests)
        os.close(self._answers)
        # Before it is waited for: until then nobody else has its number.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        self._ready = False
        self._buffer = b""
        if self._stderr is not None:
            self._stderr.close()

    def interrupt(self) -> None:
        """Kill the process, from any thread: the one that waits for it finds it dead."""
        process = self._process
        if process is not None:
            process.kill()

    def start(self) -> None:
        """Start the process, if there is none, and do not wait for it."""
        if self._process is None:
            self._start()

    def _request(self, task: str, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        self._send({"task": task, "jobs": [job.to_json() for job in jobs]})
        compile_s = _COMPILE_DEADLINE_S * len(jobs)
        deadline_s = jobs[0].deadline_s + compile_s
        while True:
            message = self._receive(deadline_s)
            if message["type"] == "end":
                return
            yield message
            if task == "evaluate":
                deadline_s = max(job.deadline_s for job in jobs)

    def _start(self) -> None:
        self._stderr = TemporaryFile()  # noqa: SIM115 - as long as the process; close() ends both
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        environment = dict(os.environ)
        environment.pop("TRITON_INTERPRET", None)
        if self._mode == "interpret":
            environment["TRITON_INTERPRET"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tunekit.evaluate.worker",
             self._mode, self._target, str(their_in), str(their_out)],
            pass_fds=(their_in, their_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )  # fmt: skip
        os.close(their_in)
        os.close(their_out)
        os.set_blocking(our_out, False)
        self._requests, self._answers = our_out, our_in

    def _send(self, message: Mapping[str, Any]) -> None:
        """Write a request; a worker that is starting or busy finds it later."""
        self.start()
        data = (json.dumps(message) + "\n").encode()
        until = time.monotonic() + _SEND_DEADLINE_S
        while data:
            try:
                data = data[os.write(self._requests, data) :]
            except BlockingIOError:
                self._await_ready()
                readable, writable = self._wait(until, [self._requests])
                if readable:
                    self._read()  # or both ends might wait for the other to read
                elif not writable:
                    reason = f"took no request within {_SEND_DEADLINE_S:g} s: killed"
                    self._raise_death(Status.TIMEOUT, reason)
            except BrokenPipeError:
                self._await_ready()
                self._raise_death(Status.CRASHED, "ended before the job was sent")

    def _receive(self, deadline_s: float) -> dict[str, Any]:
        """The next message; kills the worker when none comes in time."""
        self._await_ready()
        return self._next(deadline_s)

    def _await_ready(self) -> None:
        if self._ready:
            return
        try:
            self.import_s = float(self._next(_START_DEADLINE_S)["import_s"])
        except WorkerDied as death:
            raise errors.WorkerError(f"the {self._mode} worker does not start: {death}") from death
        except errors.TunekitError:
            self.close()  # it ends after that
            raise
        self._ready = True

    def _next(self, deadline_s: float) -> dict[str, Any]:
        until = time.monotonic() + deadline_s
        while b"\n" not in self._buffer:
            if not self._wait(until, [])[0]:
                self._raise_death(Status.TIMEOUT, f"no answer within {deadline_s:g} s: killed")
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if message["type"] == "refused":
            raise getattr(errors, message["error"], errors.TunekitError)(message["message"])
        return message

    def _wait(self, until: float, to_write: list[int]) -> tuple[list[int], list[int]]:
        """Which of the pipes can be read, and written; none when the time is over."""
        left = max(until - time.monotonic(), 0.0)
        readable, writable, _ = select.select([self._answers], to_write, [], left)
        return readable, writable

    def _read(self) -> None:
        data = os.read(self._answers, 2**16)
        if not data:
            self._raise_death(Status.CRASHED, "")
        self._buffer += data

    def _last_words(self) -> str:
        """The last line of what the worker wrote to its standard error."""
        assert self._stderr is not None
        size = os.fstat(self._stderr.fileno()).st_size
        start = max(size - _LAST_WORDS_BYTES, 0)
        said = os.pread(self._stderr.fileno(), _LAST_WORDS_BYTES, start)
        lines = said.decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""

    def _raise_death(self, status: Status, reason: str) -> None:
        assert self._process is not None
        process = self._process
        if status is Status.CRASHED:
            code = process.wait()
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            said = self._last_words()
            reason = reason or f"the worker process ended with {how}{said}"
        self.close()
        raise WorkerDied(status, reason)


class EstimatePool:
    """For a GPU that is not present: a compiler and an interpreter, side by side."""

    def __init__(self, target: str) -> None:
        self._compiler = Worker("compile", target)
        self._interpreter = Worker("interpret", target)

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """What compiling each job gives, as it is known."""
        return self._compiler.compile(jobs)

    def compile_ahead(self, jobs: Sequence[Job]) -> None:
        """Begin to compile jobs and do not wait."""
        self._compiler.compile_ahead(jobs)

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """The estimate of each job, verified by the interpreter."""
        checked: SimpleQueue[Outcome | Exception] = SimpleQueue()
        given_up = Event()
        thread = Thread(target=self._check, args=(jobs, checked, given_up), daemon=True)
        thread.start()
        try:
            for index, estimated in self._compiler.evaluate(jobs):
                verified = checked.get()
                if isinstance(verified, Exception):
                    raise verified
                yield index, _joined(estimated, verified)
        except BaseException:
            given_up.set()
            self._interpreter.interrupt()
            raise
        finally:
            thread.join()

    def _check(
        self, jobs: Sequence[Job], checked: SimpleQueue[Outcome | Exception], given_up: Event
    ) -> None:
        try:
            for _, outcome in self._interpreter.evaluate(jobs, given_up):
                checked.put(outcome)
        except Exception as error:
            checked.put(error)  # raised where the results are awaited

    def close(self) -> None:
        """End both workers."""
        self._compiler.close()
        self._interpreter.close()


def _joined(estimated: Outcome, verified: Outcome) -> Outcome:
    if estimated.status is not Status.OK:
        return estimated
    if verified.status is not Status.OK:
        return replace(verified, binary=estimated.binary)
    return replace(estimated, verified_by=verified.verified_by, max_error=verified.max_error)
