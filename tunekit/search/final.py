"""Who wins a problem: of what was measured by a race, of what was estimated by the estimate."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Status
from tunekit.errors import NothingTunedError
from tunekit.evaluate.job import Outcome
from tunekit.search import race
from tunekit.search.decide import Finalist, decide, rank_estimates
from tunekit.search.events import Raced
from tunekit.search.landscape import Landscape
from tunekit.search.neighbours import preference

if TYPE_CHECKING:
    from tunekit.search.session import Session

_ESTIMATED_FINALISTS = 6
_RECORDED_MARGIN = 0.1
_RECORDED_ROUNDS = 12
"""Of a complete landscape all within this share of the best are measured side by side, so often:
what tells near equals apart, and a noise floor for replays."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended.

    Attributes:
        default: the evaluation of the space's default, None if that failed.
        rows: what it rests on.
        copy_us: of `out.copy_(x)`, None if not measured.
    """

    winner: Evaluation
    default: Evaluation | None
    rows: Sequence[Evaluation]
    reason: str
    copy_us: float | None = None


def lowest_estimate(session: Session, verified: Sequence[Evaluation]) -> Ending:
    """The winner of what was estimated.

    Args:
        session: of the problem.
        verified: the evaluations that may win, at least one.
    """
    default = session.default()
    rows = {row.config: row for row in verified}
    times = {row.config: row.time_us for row in verified if row.time_us is not None}
    ranked = [rows[config] for config in rank_estimates(times, default)]
    winner, default_row = ranked[0], rows.get(default)
    if winner is default_row:
        reason = f"the default: none of {len(ranked)} is estimated clearly faster"
    else:
        reason = f"lowest estimate of {len(ranked)}"
    return Ending(winner, default_row, ranked[:_ESTIMATED_FINALISTS], reason)


class Final:
    """The race of those that may win and the default, and the decision on it.

    Args:
        session: of the problem.
        verified: the evaluations that may win, at least one, the fastest first.
    """

    def __init__(self, session: Session, verified: Sequence[Evaluation]) -> None:
        self._session = session
        self._rows = {row.config: row for row in verified}
        self._candidates = [Finalist(row.config, row.samples_us, row.binary) for row in verified]
        self._disturbances: list[str] = []
        self._faults: dict[Config, str] = {}

    def run(self, landscapes: Sequence[Landscape], *, complete: bool) -> Ending:
        """Race, store what that measured, and name the winner.

        Args:
            landscapes: of neighbouring problems: where the race cannot tell, what serves them wins.
            complete: whether the whole space was evaluated: more take part, to be recorded.

        Raises:
            NothingTunedError: all that raced turned out to be wrong.
        """
        session, default = self._session, self._session.default()
        liked = preference(session.problem, list(self._rows), landscapes)
        entrants, blocks = self._entrants(default, liked, complete)
        run = race.run(entrants, default, self._sampler(entrants), liked, blocks)
        finalists = [each for each in run.finalists if each.config not in self._faults]
        session.store.add(self._found_wrong())
        if not finalists:
            raise NothingTunedError(
                f"{session.problem.kernel}: every configuration of the race is wrong, nothing is "
                f"cached; {next(iter(self._faults.values()))}"
            )
        raced = [self._raced(finalist) for finalist in finalists]
        session.store.add(raced)
        verdict = decide(finalists, default, liked)
        return Ending(
            winner=raced[verdict.winner],
            default=None if verdict.default is None else raced[verdict.default],
            rows=raced,
            reason=f"{verdict.reason}; {run.stopped}",
            copy_us=statistics.median(run.others[0]) if run.others else None,
        )

    def _entrants(
        self, default: Config, liked: Mapping[Config, float], complete: bool
    ) -> tuple[list[Finalist], Sequence[int]]:
        """Who takes part, and the rounds between two looks."""
        if not complete:
            return race.entrants(self._candidates, default, liked), race.BLOCKS
        limit_us = (1 + _RECORDED_MARGIN) * self._candidates[0].median_us
        close = [
            each
            for each in self._candidates
            if each.median_us <= limit_us or each.config == default
        ]
        return close, (_RECORDED_ROUNDS,)

    def _sampler(self, entrants: Sequence[Finalist]) -> race.Sample:
        """Asks the GPU for rounds: a series for each entrant, and last one for a plain copy.

        There is none where the result is not as large as what would be copied.
        """
        session, configs = self._session, [each.config for each in entrants]
        jobs = session.jobs(configs)

        def sample(rounds: int) -> list[tuple[float, ...]]:
            found = session.host.race(jobs, rounds)
            session.tell(Raced(configs, found))
            if found.disturbance:
                self._disturbances.append(found.disturbance)
            named = zip(configs, found.faults, strict=False)  # none where nothing was looked at
            self._faults.update((config, fault) for config, fault in named if fault)
            return [*found.samples_us, *([found.copy_us] if found.copy_us else [])]

        return sample

    def _found_wrong(self) -> list[Evaluation]:
        """Evaluations of what was right when the search tried it and wrong when it was raced."""
        return [
            replace(
                self._session.evaluation(
                    config, Outcome(Status.WRONG, reason=f"in the race: {fault}")
                ),
                binary=self._rows[config].binary,
            )
            for config, fault in self._faults.items()
        ]

    def _raced(self, finalist: Finalist) -> Evaluation:
        """The finalist's evaluation again, with the samples of the race."""
        provenance = self._session.provenance
        return replace(
            self._rows[finalist.config],
            provenance=replace(provenance, protocol=f"{provenance.protocol}-race"),
            time_us=finalist.median_us,
            samples_us=finalist.samples_us,
            disturbance="; ".join(dict.fromkeys(self._disturbances)),
        )
