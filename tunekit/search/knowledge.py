"""What is known of problems before a search: recorded landscapes, and the databases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from tunekit import records
from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Source
from tunekit.core.problem import Problem
from tunekit.search import landscape as recorded
from tunekit.search.landscape import Landscape, landscapes_of
from tunekit.search.neighbours import DISTANCES
from tunekit.store.database import Store

FLOOR_KERNEL = "identity"
"""The kernel that shows what its template costs without arithmetic."""

_LEAST_WEIGHT = 1e-3
_MOST_BEFORE = 3
_MOST = 300
"""Landscapes used for one problem: the nearest."""


class Knowledge:
    """Landscapes to learn from, read when first asked for.

    Args:
        folder: of recorded landscapes (`*.csv.gz`), None for none.
        stores: databases whose measured evaluations count as landscapes, too.
        leave_out: what is not used of it, one of `LEFT_OUT`: for judging a search.
    """

    def __init__(
        self, folder: Path | None, stores: Sequence[Store] = (), leave_out: str = "nothing"
    ) -> None:
        self._folder, self._stores, self._leave_out = folder, stores, leave_out

    def near(self, problem: Problem, *, warm: bool = False) -> list[Landscape]:
        """Landscapes of problems near enough to say something, the nearest first.

        Args:
            problem: what is tuned.
            warm: whether it is measured with a warm cache: what was measured with a cold one says
                nothing then, and the other way round.
        """
        weighed = [
            (DISTANCES.weight(problem, each.problem), each)
            for each in (*self._recorded, *self._stored(problem))
            if each.warm == warm and not LEFT_OUT[self._leave_out](problem, each.problem)
        ]
        near = sorted(
            (pair for pair in weighed if pair[0] >= _LEAST_WEIGHT),
            key=lambda pair: -pair[0],
        )
        return [landscape for _, landscape in near[:_MOST]]

    @cached_property
    def _recorded(self) -> list[Landscape]:
        if self._folder is None:
            return []
        files = sorted(self._folder.glob("*.csv.gz"))
        return [landscape for file in files for landscape in recorded.read(file)[1]]

    def floor_us(self, problem: Problem, *, warm: bool = False) -> float | None:
        """What the identity epilogue takes at that size, None where that was never measured."""
        bare = replace(problem, kernel=FLOOR_KERNEL, kernel_hash="")
        found = [each for each in (*self._recorded, *self._stored(bare)) if each.warm == warm]
        return floor_us(problem, left_out(self._leave_out, problem, found))

    def winners_before(self, problem: Problem, source: Source) -> list[Config]:
        """What won this problem earlier, the latest first, three at most: where a search begins.

        With another source of the kernel, under another Triton or driver, by another protocol: it
        is measured anew, for what it took then is no result of today.
        """
        found: list[tuple[str, Config]] = []
        for store in self._stores:
            for other in store.problems():
                if replace(other, kernel_hash=problem.kernel_hash) != problem:
                    continue
                rows = {row.uid: row for row in store.evaluations(other, source=source)}
                found += [
                    (decision.created_at, rows[decision.winner].config)
                    for decision in store.decisions(other, source=source)
                    if decision.winner in rows
                ]
        latest = sorted(found, key=lambda each: each[0], reverse=True)
        return list(dict.fromkeys(config for _, config in latest))[:_MOST_BEFORE]

    def candidates(self, problem: Problem) -> list[Candidate]:
        """What was imported to be measured, also for an earlier source of the kernel."""
        return [
            candidate
            for store in self._stores
            for other in store.problems()
            if replace(other, kernel_hash=problem.kernel_hash) == problem
            for candidate in store.candidates(other)
        ]

    def _stored(self, problem: Problem) -> list[Landscape]:
        """Read anew each time: what was tuned a moment ago counts."""
        found: list[Evaluation] = []
        for store in self._stores:
            for other in store.problems():
                if DISTANCES.weight(problem, other) >= _LEAST_WEIGHT:
                    found += store.evaluations(other, source=Source.MEASURED)
        return landscapes_of(found)


def read_landscapes(path: Path) -> list[Landscape]:
    """What a file of recorded landscapes (.csv.gz), evaluations (.jsonl) or a database holds.

    Raises:
        ImportFormatError: it cannot be read, or is none of these.
        StoreError: the database cannot be read.
    """
    if path.name.endswith(".csv.gz"):
        return recorded.read(path)[1]
    if path.suffix == ".db":
        with Store.open(path, readonly=True) as store:
            return landscapes_of(store.evaluations(source=Source.MEASURED))
    lines = records.read_lines(path)
    return landscapes_of(row for row in lines if isinstance(row, Evaluation))


def floor_us(problem: Problem, landscapes: Iterable[Landscape]) -> float | None:
    """The best time of the identity epilogue at a problem's size among some landscapes."""
    bare = replace(problem, kernel=FLOOR_KERNEL, kernel_hash="")
    times = [
        each.best.time_us
        for each in landscapes
        if replace(each.problem, kernel_hash="") == bare and each.problem.kernel != problem.kernel
    ]
    return min((time_us for time_us in times if time_us is not None), default=None)


def left_out(name: str, problem: Problem, landscapes: Iterable[Landscape]) -> list[Landscape]:
    """What remains to learn from when a problem is judged: see `LEFT_OUT`."""
    return [each for each in landscapes if not LEFT_OUT[name](problem, each.problem)]


LEFT_OUT: dict[str, Callable[[Problem, Problem], bool]] = {
    "nothing": lambda one, other: False,
    "problem": lambda one, other: one == other,
    "size": lambda one, other: one.dims == other.dims,
    "kernel": lambda one, other: one.kernel == other.kernel,
    "kernel-and-size": lambda one, other: one.kernel == other.kernel or one.dims == other.dims,
    "device": lambda one, other: one.device == other.device,
    "everything": lambda one, other: True,
}
"""What is left out of the knowledge a search is given when it is judged on recorded problems:
every landscape for which the rule holds, on whatever GPU."""
