"""Which times of a problem may be compared with each other.

Those of one version of the kernel, one GPU, the same versions of driver, torch, Triton and tunekit,
and one protocol. Cold and warm caches, and measured and estimated times, are different protocols.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Provenance, Source

_WARM = "graph-warm"
_COLD = "graph-cold"
_RACE = "-race"

Place = tuple[str, str, str, str, tuple[tuple[str, int], ...]]
"""Kernel, device, dtype, alignment class and dims: versions of a kernel share it."""


@dataclass(frozen=True, slots=True)
class Comparable:
    """Verified evaluations of one problem whose times may be compared, one a configuration."""

    place: Place
    rows: Mapping[Config, Evaluation]

    @property
    def newest(self) -> Evaluation:
        """The latest of them; where they come from is the same for all but for the time."""
        return max(self.rows.values(), key=_moment)

    @property
    def source(self) -> Source:
        """Whether the times were measured or estimated."""
        return self.newest.source

    @property
    def warm(self) -> bool:
        """Whether the caches were warm."""
        return self.newest.provenance.protocol.startswith(_WARM)

    @property
    def times_us(self) -> dict[Config, float]:
        """The time of each configuration, in µs."""
        return {config: row.time_us for config, row in self.rows.items() if row.time_us is not None}


def comparable(evaluations: Iterable[Evaluation]) -> list[Comparable]:
    """For each problem the times to use, sorted by kernel, device, dtype, alignment class, dims.

    Measured before estimated, then the version of the kernel evaluated last, then a cold cache
    before any other and a warm one last, then the protocol with most configurations, then a race,
    then the latest.

    Args:
        evaluations: of one database or several, in any order; what is not verified is passed over.
    """
    places: dict[Place, list[Evaluation]] = defaultdict(list)
    for row in {row.uid: row for row in evaluations if row.verified}.values():
        places[_place(row)].append(row)
    return [Comparable(place, _best_of(places[place])) for place in sorted(places)]


def _best_of(rows: Sequence[Evaluation]) -> dict[Config, Evaluation]:
    latest: dict[tuple[str, Source], datetime] = {}
    alike: dict[tuple[str, Source, Provenance], list[Evaluation]] = defaultdict(list)
    for row in rows:
        version = row.problem.kernel_hash, row.source
        latest[version] = max(_moment(row), latest.get(version, _moment(row)))
        alike[*version, replace(row.provenance, created_at="")].append(row)

    def rank(members: list[Evaluation]) -> tuple[Any, ...]:
        row = members[0]
        protocol = row.provenance.protocol
        return (
            row.source is Source.MEASURED,
            latest[row.problem.kernel_hash, row.source],
            row.problem.kernel_hash,
            protocol.startswith(_COLD),
            not protocol.startswith(_WARM),
            len({member.config for member in members}),
            protocol.endswith(_RACE),
            max(map(_moment, members)),
            row.provenance.key,
        )

    best = max(alike.values(), key=rank)
    # What disturbed a measurement is overwritten by what was not disturbed, then old by new.
    best.sort(key=lambda row: (not row.disturbance, *_age(row)))
    return {row.config: row for row in best}


def _place(row: Evaluation) -> Place:
    problem = row.problem
    return problem.kernel, problem.device, problem.dtype, problem.alignment, problem.dims


def _age(row: Evaluation) -> tuple[datetime, str]:
    return _moment(row), row.uid


def _moment(row: Evaluation) -> datetime:
    """When it was made; before everything else where that is not known."""
    created_at = row.provenance.created_at
    return datetime.fromisoformat(created_at) if created_at else datetime.min.replace(tzinfo=UTC)
