"""Optuna asks for configurations: axes as ordered integers, infeasible points told as such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState

from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Status
from tunekit.core.space import Axis, Space


class Sampler:
    """Asks Optuna's TPE for configurations that are valid and not yet evaluated.

    Where the TPE proposes one that is not, the nearest that is takes its place: proposing until
    one fits would find no better ones, and late in a small space takes hundreds of proposals.

    Args:
        space: the axes.
        context: what the space's constraints see (`core.space.context`).
        seed: of the sampler.
    """

    def __init__(self, space: Space, context: Mapping[str, int], seed: int) -> None:
        self._space, self._context = space, context
        self._open = dict.fromkeys(space.configs(context))
        self._distributions: dict[str, BaseDistribution] = {
            axis.name: IntDistribution(0, len(axis.values) - 1) for axis in space.axes
        }
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed), direction="minimize"
        )
        self._asked: dict[Config, optuna.Trial | None] = {}
        self._infeasible: set[Config] = set()
        self._queue = [space.default(context)]

    @property
    def open_count(self) -> int:
        """Valid configurations that were neither asked nor told."""
        return len(self._open)

    def known(self, evaluations: Iterable[Evaluation]) -> None:
        """Refill from an earlier run."""
        for evaluation in evaluations:
            if evaluation.config in self._open:
                self.tell(evaluation)

    def ask(self, count: int) -> list[Config]:
        """Up to `count` configurations, the default first; fewer when none are left."""
        return [self._next() for _ in range(min(count, len(self._open)))]

    def ask_all(self) -> list[Config]:
        """Every configuration left, the default first, the rest in the space's order."""
        default = self._space.default(self._context)
        configs = sorted(self._open, key=lambda config: config != default)
        for config in configs:
            self._take(config, None)
        return configs

    def tell(self, evaluation: Evaluation) -> None:
        """Teach the sampler: a time, or that the point is infeasible."""
        config = evaluation.config
        trial = self._asked.pop(config, None)
        self._open.pop(config, None)
        time_us = evaluation.time_us if evaluation.status is Status.OK else None
        if trial is not None:
            self._finish(trial, time_us)
            return
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED if time_us is None else TrialState.COMPLETE,
                value=time_us,
                params=self._params(config),
                distributions=self._distributions,
                constraints={"feasible": 1.0 if time_us is None else 0.0},
            )
        )

    def _next(self) -> Config:
        while self._queue:
            config = self._queue.pop()
            if config in self._open:
                return self._take(config, None)
        trial = self._study.ask(self._distributions)
        config = self._config(trial.params)
        if config in self._open:
            return self._take(config, trial)
        if self._space.violated(config, self._context) and config not in self._infeasible:
            self._infeasible.add(config)
            self._finish(trial, None)
        else:
            self._study.tell(trial, state=TrialState.FAIL)  # known or under way: nothing to learn
        return self._take(self._nearest(config), None)

    def _nearest(self, config: Config) -> Config:
        """The open configuration the fewest steps along the axes away."""
        place = self._params(config)

        def steps(other: Config) -> int:
            return sum(abs(place[axis] - step) for axis, step in self._params(other).items())

        return min(self._open, key=steps)

    def _take(self, config: Config, trial: optuna.Trial | None) -> Config:
        del self._open[config]
        self._asked[config] = trial
        return config

    def _finish(self, trial: optuna.Trial, time_us: float | None) -> None:
        trial.set_constraint("feasible", 1.0 if time_us is None else 0.0)
        if time_us is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, time_us)

    def _config(self, params: Mapping[str, int]) -> Config:
        return Config({axis.name: axis.values[params[axis.name]] for axis in self._space.axes})

    def _params(self, config: Config) -> dict[str, int]:
        return {axis.name: _position(axis, config[axis.name]) for axis in self._space.axes}


def _position(axis: Axis, value: int) -> int:
    """Place of a value among the axis's ascending values: for powers of two, its exponent."""
    return axis.values.index(value)
