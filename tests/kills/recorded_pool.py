"""A host whose pool answers from a recorded landscape: tuning as on a GPU, without one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Source, Status, VerifiedBy
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job, Outcome, Race
from tunekit.evaluate.pool import MeasuringPool
from tunekit.kernels.library import KERNELS
from tunekit.search.knowledge import read_landscapes
from tunekit.search.landscape import Landscape
from tunekit.search.task import Task

_HERE = Path(__file__).resolve().parent
_LANDSCAPES = _HERE.parents[1] / "benchmarks" / "landscapes"
_SPACE = _HERE / "few.toml"


@cache
def library_landscapes() -> list[Landscape]:
    """What was recorded of tunekit's own kernels on an H100."""
    found = read_landscapes(_LANDSCAPES / "h100.csv.gz")
    return [each for each in found if each.problem.kernel in KERNELS]


def task_of(landscape: Landscape, trials: int | None) -> Task:
    """Tunes the problem again, in a part of the space."""
    problem = landscape.problem
    kernel = replace(KERNELS[problem.kernel], space=str(_SPACE), _spaces=[])
    shape = (dict(problem.dims)["n"],)
    return Task(kernel, problem.kernel, shape, problem.dtype, {}, trials)


def host_of(
    landscape: Landscape, pause_s: float, told: Callable[[str], None] = lambda phase: None
) -> Host:
    """A GPU that answers as it did then, each time after a pause."""
    pool = RecordedPool(landscape, pause_s, told)
    return Host(DEVICES["h100"], pool, Source.MEASURED, "graph-1", "580.1")


class RecordedPool(MeasuringPool):
    """Looks configurations up; the same one takes the same time, whenever it is asked for."""

    def __init__(self, landscape: Landscape, pause_s: float, told: Callable[[str], None]) -> None:
        self._points = {point.config: point for point in landscape.points}
        self._pause_s, self._told = pause_s, told
        self.on_ready = lambda mode, import_s: None

    def compile(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        for index, job in enumerate(jobs):
            point = self._points[job.config]
            yield index, Outcome(Status.OK, binary=point.binary, grid=(1, 1, 1))

    def compile_ahead(self, jobs: Sequence[Job]) -> None:
        pass

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome]]:
        for index, job in enumerate(jobs):
            time.sleep(self._pause_s)
            point = self._points[job.config]
            if point.time_us is None:
                yield index, Outcome(point.status, reason="as recorded", binary=point.binary)
            else:
                samples = self._series(job, 5)
                yield (
                    index,
                    Outcome(
                        Status.OK, "", VerifiedBy.DEVICE, point.time_us, samples, point.binary, 0.25
                    ),
                )

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        self._told("race")
        time.sleep(self._pause_s * rounds)
        return Race([self._series(job, rounds) for job in jobs], (5.0,) * rounds)

    def close(self) -> None:
        pass

    def _series(self, job: Job, count: int) -> tuple[float, ...]:
        time_us = self._points[job.config].time_us
        assert time_us is not None
        return tuple(time_us * (1.0 + math.sin(round_) / 1000) for round_ in range(count))
