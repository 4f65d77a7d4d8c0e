"""Evaluate for a GPU that is not present: a compiler and an interpreter, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Thread

from tunekit.core.evaluation import Status
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.pool import OnReady, Worker


class EstimatePool:
    """For a GPU that is not present: a compiler and an interpreter, side by side."""

    def __init__(self, target: str) -> None:
        self._compiler = Worker("compile", target)
        self._interpreter = Worker("interpret", target)

    @property
    def on_ready(self) -> OnReady:
        """Told whenever one of the two has started, from the thread that waited for it."""
        return self._compiler.on_ready

    @on_ready.setter
    def on_ready(self, told: OnReady) -> None:
        self._compiler.on_ready = self._interpreter.on_ready = told

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
