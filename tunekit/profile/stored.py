"""Counters that are in the databases, beside the rows they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tunekit.core.config import Config
from tunekit.core.counter import Counter
from tunekit.core.evaluation import Decision
from tunekit.core.problem import Problem
from tunekit.profile.subjects import Role, default_of
from tunekit.store.cache import CacheRow
from tunekit.store.counters import latest
from tunekit.store.database import Store


@dataclass(frozen=True, slots=True)
class Counted:
    """A configuration of a row that counters are stored of.

    Attributes:
        time_us: as measured when it was tuned, µs.
        counters: the latest of each name.
    """

    row: CacheRow
    role: Role
    config: Config
    time_us: float
    counters: Mapping[str, Counter] = field(default_factory=dict)


def counted(rows: Iterable[CacheRow], stores: Sequence[Store]) -> list[Counted]:
    """The winner and the default of each row, where there are counters of them, in that order."""
    of_evaluation: dict[str, list[Counter]] = defaultdict(list)
    decisions: dict[Problem, list[Decision]] = defaultdict(list)
    for store in stores:
        for counter in store.all_counters():
            of_evaluation[counter.evaluation].append(counter)
    if not of_evaluation:
        return []
    for store in stores:
        for decision in store.decisions():
            decisions[decision.problem].append(decision)
    return [each for row in rows for each in _of_row(row, decisions[row.problem], of_evaluation)]


def _of_row(
    row: CacheRow, decisions: Sequence[Decision], of_evaluation: Mapping[str, Sequence[Counter]]
) -> list[Counted]:
    is_default = row.default_config == row.config
    found = []
    if of_winner := of_evaluation.get(row.winner):
        role = Role.BOTH if is_default else Role.WINNER
        found.append(Counted(row, role, row.config, row.time_us, latest(of_winner)))
    of_default = of_evaluation.get(default_of(row, decisions))
    if of_default and row.default_config and row.default_time_us and not is_default:
        time_us = row.default_time_us
        found.append(Counted(row, Role.DEFAULT, row.default_config, time_us, latest(of_default)))
    return found
