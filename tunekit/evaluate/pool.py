"""Run jobs in worker processes that may die."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from queue import SimpleQueue
from tempfile import TemporaryFile
from threading import Event, Thread
from types import TracebackType
from typing import IO, Any, Protocol, Self, runtime_checkable

from tunekit import errors
from tunekit.core.evaluation import Status
from tunekit.evaluate.job import Job, Outcome

_START_DEADLINE_S = 120.0
_COMPILE_DEADLINE_S = 30.0
_LAST_WORDS_BYTES = 2000


class Pool(Protocol):
    """Where jobs run; search does not know more."""

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Evaluate jobs; yields (index, outcome) as each is done."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


@runtime_checkable
class MeasuringPool(Pool, Protocol):
    """A pool on a GPU that is present: it can also measure configurations side by side."""

    def race(self, jobs: Sequence[Job], rounds: int) -> list[tuple[float, ...]]:
        """Interleaved samples of several configurations, and of a plain copy last."""
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
    """

    def __init__(self, mode: str, target: str) -> None:
        self._mode, self._target = mode, target
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
                for message in self._request(jobs[first:last]):
                    if message["type"] == "started":
                        started = True
                    elif message["type"] == "done":
                        yield first, Outcome.from_json(message["outcome"])
                        first, started = first + 1, False
            except WorkerDied as death:
                if started or not together:
                    # Known to be this job's doing: it was running, or compiling, alone.
                    yield first, Outcome(death.status, reason=str(death))
                    first += 1
                else:
                    together = False  # it died while compiling ahead: find out on which job
            except (GeneratorExit, KeyboardInterrupt):
                self.close()  # or its answers would be taken for those to the next request
                raise

    def race(self, jobs: Sequence[Job], rounds: int) -> list[tuple[float, ...]]:
        """Interleaved samples of several configurations, and of a plain copy last.

        Raises:
            WorkerError: the worker died.
        """
        deadline_s = sum(job.deadline_s for job in jobs)
        try:
            self._send({"task": "race", "jobs": [job.to_json() for job in jobs], "rounds": rounds})
            message = self._receive(deadline_s)
        except WorkerDied as death:
            raise errors.WorkerError(f"measuring the finalists: {death}") from death
        return [tuple(samples) for samples in message["samples_us"]]

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        os.close(self._requests)
        os.close(self._answers)
        self._process.kill()
        self._process.wait()
        self._process = None
        self._buffer = b""
        if self._stderr is not None:
            self._stderr.close()

    def interrupt(self) -> None:
        """Kill the process, from any thread: the one that waits for it finds it dead."""
        process = self._process
        if process is not None:
            process.kill()

    def _request(self, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        self._send({"task": "evaluate", "jobs": [job.to_json() for job in jobs]})
        compile_s = _COMPILE_DEADLINE_S * len(jobs)
        deadline_s = jobs[0].deadline_s + compile_s
        while True:
            message = self._receive(deadline_s)
            if message["type"] == "end":
                return
            yield message
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
        self._requests, self._answers = our_out, our_in
        try:
            self._receive(_START_DEADLINE_S)
        except WorkerDied as death:
            raise errors.WorkerError(f"the {self._mode} worker does not start: {death}") from death

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process is None:
            self._start()
        data = (json.dumps(message) + "\n").encode()
        try:
            while data:
                data = data[os.write(self._requests, data) :]
        except BrokenPipeError:
            self._raise_death(Status.CRASHED, "ended before the job was sent")

    def _receive(self, deadline_s: float) -> dict[str, Any]:
        """The next message; kills the worker when none comes in time."""
        until = time.monotonic() + deadline_s
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                self._raise_death(Status.TIMEOUT, f"no answer within {deadline_s:g} s: killed")
            data = os.read(self._answers, 2**16)
            if not data:
                self._raise_death(Status.CRASHED, "")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if message["type"] == "refused":
            raise getattr(errors, message["error"], errors.TunekitError)(message["message"])
        return message

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
