"""Which evaluations of a problem are profiled: the winner of its decision, and the default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tunekit.core.evaluation import Decision, Evaluation, Source, Status
from tunekit.core.problem import Problem
from tunekit.store.cache import CacheRow
from tunekit.store.database import Store


class Role(StrEnum):
    """What an evaluation is to its problem."""

    WINNER = "winner"
    DEFAULT = "default"
    BOTH = "winner, the default"


@dataclass(frozen=True, slots=True)
class Subject:
    """An evaluation, and what it is to its problem."""

    role: Role
    evaluation: Evaluation


def measured_row(problem: Problem, rows: Iterable[CacheRow]) -> CacheRow | None:
    """The measured row of that very problem, if there is one."""
    return next(
        (row for row in rows if row.problem == problem and row.source is Source.MEASURED), None
    )


def subjects_of(row: CacheRow, stores: Sequence[Store]) -> list[Subject]:
    """The winner of a row, then the default if it ran and is another configuration.

    Args:
        row: of the cache.
        stores: the databases it may come from.
    """
    problem, source = row.problem, row.source
    known = {
        each.uid: each for store in stores for each in store.evaluations(problem, source=source)
    }
    if row.winner not in known:
        return []
    winner = known[row.winner]
    decisions = [each for store in stores for each in store.decisions(problem, source=source)]
    default = known.get(default_of(row, decisions))
    if default is None or default.status is not Status.OK:
        return [Subject(Role.WINNER, winner)]
    if default.config == winner.config:
        return [Subject(Role.BOTH, winner)]
    return [Subject(Role.WINNER, winner), Subject(Role.DEFAULT, default)]


def default_of(row: CacheRow, decisions: Iterable[Decision]) -> str:
    """The uid of the default's evaluation in the decision that a row shows; empty without one."""
    made = [
        each
        for each in decisions
        if (each.problem, each.winner, each.created_at) == (row.problem, row.winner, row.decided_at)
    ]
    return made[-1].default if made else ""
