"""Run jobs in a worker process that may die, and go on with the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.errors import WorkerError
from tunekit.evaluate.job import Job, Outcome, Race
from tunekit.evaluate.process import Process, WorkerDied

_MOST_DEATHS = 4
"""In a row, until it is asked whether the configurations are to blame."""
_HARMLESS = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)

OnReady = Callable[[str, float], None]


class Pool(Protocol):
    """Where jobs run; search does not know more."""

    on_ready: OnReady
    """Told a worker's mode, and how many seconds its imports took, whenever one has started."""

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


class Worker:
    """One child process in one mode, started anew when it dies.

    Args:
        mode: `device:INDEX`, `compile` or `interpret` (see `worker.make_evaluator`).
        target: slug of the GPU model that jobs are for.

    Attributes:
        import_s: seconds the process took to import PyTorch and Triton, 0.0 until it is ready.
        on_ready: told the mode and those seconds whenever a process has started.
    """

    def __init__(self, mode: str, target: str) -> None:
        self._mode, self._target = mode, target
        self.import_s = 0.0
        self.on_ready: OnReady = lambda mode, import_s: None
        self._process: Process | None = None
        self._noted: Process | None = None
        self._ahead_s = 0.0
        self._deaths = 0

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
            TunekitError: what the worker refused, or WorkerError when it does not start, or dies
                whatever it is given.
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
                        yield first, self._outcome(message)
                        first, started = first + 1, False
            except WorkerDied as death:
                if given_up and given_up.is_set():
                    return
                self._count(death)
                if started or not together:
                    # Known to be this job's doing: it was running, or being prepared, alone.
                    yield first, _outcome_of(death)
                    first += 1
                else:
                    together = False  # it died while preparing: find out on which job
            except (GeneratorExit, KeyboardInterrupt):
                self.close()  # or its answers would be taken for those to the next request
                raise

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        """Compile jobs; yields (index, outcome) as each is known, in any order.

        Raises:
            TunekitError: what the worker refused, or WorkerError when it does not start, or dies
                whatever it is given.
        """
        left, together = list(range(len(jobs))), True
        while left:
            batch = list(left) if together else left[:1]
            try:
                for message in self._request("compile", [jobs[index] for index in batch]):
                    index = batch[message["index"]]
                    left.remove(index)
                    yield index, self._outcome(message)
            except WorkerDied as death:
                self._count(death)
                if together:
                    together = False
                else:
                    yield left.pop(0), _outcome_of(death)
            except (GeneratorExit, KeyboardInterrupt):
                self.close()
                raise

    def compile_ahead(self, jobs: Sequence[Job]) -> None:
        """Begin to compile jobs and do not wait; a worker that is busy begins when it is through.

        Nothing is said of failures: they show when the job is compiled or evaluated.
        """
        if jobs:
            self._ahead_s = sum(job.compile_deadline_s for job in jobs)
            # A worker that has died starts again with the next request that is answered.
            with suppress(WorkerDied):
                self._send("compile_ahead", jobs)

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        """Interleaved samples of several configurations of a problem, and of a plain copy.

        All were measured before, so that a worker that dies of it is given a second chance.

        Raises:
            TunekitError: what the worker refused, or WorkerError when it dies again.
        """
        try:
            return self._race(jobs, rounds)
        except WorkerDied as death:
            self._count(death)
        try:
            return self._race(jobs, rounds)
        except WorkerDied as death:
            self._count(death)
            raise WorkerError(f"measuring the finalists: {death}") from death

    def close(self) -> None:
        """End the process, and those it started."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def interrupt(self) -> None:
        """Kill the process, from any thread: the one that waits for it finds it dead."""
        process = self._process
        if process is not None:
            process.interrupt()

    def start(self) -> None:
        """Start the process, if there is none, and do not wait for it."""
        self._running()

    def _request(self, task: str, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
        """The answers to a request but for its end."""
        self._send(task, jobs)
        compile_s = sum(job.compile_deadline_s for job in jobs) + self._ahead_s
        deadline_s = jobs[0].deadline_s + compile_s
        while True:
            message = self._receive(deadline_s)
            match message["type"]:
                case "end":
                    break
                case "restart":
                    self.close()
                    break
                case "started":
                    deadline_s = jobs[message["index"]].deadline_s
            yield message
        self._ahead_s = 0.0

    def _race(self, jobs: Sequence[Job], rounds: int) -> Race:
        self._send("race", jobs, rounds=rounds)
        message = self._receive(sum(job.deadline_s for job in jobs))
        if message["type"] == "restart":
            self.close()
            raise WorkerDied(Status.ERROR, "the GPU's memory is held by earlier jobs", "")
        race = Race.from_json(message)
        self._deaths = 0
        return race

    def _send(self, task: str, jobs: Sequence[Job], **more: Any) -> None:
        message = {"task": task, "jobs": [job.to_json() for job in jobs]} | more
        try:
            self._running().send(message)
        except WorkerDied:
            self._running().send(message)  # it may have died since the last answer: nobody's doing

    def _receive(self, deadline_s: float) -> dict[str, Any]:
        process = self._running()
        if process.import_s is None:
            process.await_ready()
        if self._noted is not process:
            self._noted, self.import_s = process, process.import_s or 0.0
            self.on_ready(self._mode, self.import_s)
        return process.receive(deadline_s)

    def _running(self) -> Process:
        if self._process is None or self._process.closed:
            self._process = Process(self._mode, self._target)
        return self._process

    def _outcome(self, message: dict[str, Any]) -> Outcome:
        self._deaths = 0
        outcome = Outcome.from_json(message["outcome"])
        if outcome.status in (Status.CRASHED, Status.TIMEOUT) and not outcome.details:
            return replace(outcome, details=self._running().said())  # by a compiler
        return outcome

    def _count(self, death: WorkerDied) -> None:
        """After some deaths in a row, find out whether the configurations are to blame.

        Raises:
            WorkerError: they are not: a harmless one fails too.
        """
        self._deaths += 1
        if self._deaths < _MOST_DEATHS:
            return
        self._deaths = 0
        probe = Job("identity", (4096,), "float32", {}, _HARMLESS, self._target)
        said = ""
        try:
            for message in self._request("evaluate", [probe]):
                if message["type"] == "done":
                    outcome = Outcome.from_json(message["outcome"])
                    said = "" if outcome.status is Status.OK else outcome.reason
        except WorkerDied as another:
            said = str(another)
        if said:
            raise WorkerError(
                f"the {self._mode} worker died {_MOST_DEATHS} times in a row ({death}), and then "
                f"failed at the plain kernel `identity` too ({said}): no configuration is to "
                "blame; `tunekit doctor` looks at the GPU and the installation"
            ) from death


def _outcome_of(death: WorkerDied) -> Outcome:
    return Outcome(death.status, reason=str(death), details=death.details)
