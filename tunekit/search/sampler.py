"""Optuna asks for configurations: axes as ordered integers, infeasible points told as such."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import TrialState

from tunekit.core.config import Config


class Sampler:
    """Asks a sampler of Optuna's for configurations that are valid and not yet evaluated.

    Where it proposes one that is not, the nearest that is takes its place: proposing until one
    fits would find no better ones, and late in a small space takes hundreds of proposals.

    Args:
        configs: the valid configurations, all of the same axes.
        sampler: Optuna's.
        first: asked before any other, in this order.
    """

    def __init__(
        self, configs: Sequence[Config], sampler: BaseSampler, first: Sequence[Config] = ()
    ) -> None:
        self._valid = frozenset(configs)
        self._open = dict.fromkeys(configs)
        self._axes = _axes(configs)
        self._distributions: dict[str, BaseDistribution] = {
            axis: IntDistribution(0, len(values) - 1) for axis, values in self._axes.items()
        }
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(sampler=sampler, direction="minimize")
        self._asked: dict[Config, optuna.Trial | None] = {}
        self._infeasible: set[Config] = set()
        self._queue = list(reversed(first))

    @property
    def open_count(self) -> int:
        """Configurations that were neither asked nor told."""
        return len(self._open)

    def ask(self, count: int) -> list[Config]:
        """Up to `count` configurations; fewer when none are left."""
        return [self._next() for _ in range(min(count, len(self._open)))]

    def peek(self, count: int) -> list[Config]:
        """None: what a sampler asks next is not known before it has asked."""
        return []

    def tell(self, config: Config, time_us: float | None) -> None:
        """Teach the sampler: a time, or None for a point that is infeasible."""
        trial = self._asked.pop(config, None)
        self._open.pop(config, None)
        if trial is not None:
            self._finish(trial, time_us)
            return
        if config not in self._valid:
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

    def expected_gain(self) -> float:
        """Infinite: Optuna's samplers do not say."""
        return math.inf if self._open else 0.0

    def _next(self) -> Config:
        while self._queue:
            config = self._queue.pop()
            if config in self._open:
                return self._take(config, None)
        trial = self._study.ask(self._distributions)
        config = self._config(trial.params)
        if config in self._open:
            return self._take(config, trial)
        if config not in self._valid and config not in self._infeasible:
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
        return Config({axis: values[params[axis]] for axis, values in self._axes.items()})

    def _params(self, config: Config) -> dict[str, int]:
        """Each value's place on its axis: for powers of two, its exponent."""
        return {axis: values.index(config[axis]) for axis, values in self._axes.items()}


def tpe(seed: int) -> BaseSampler:
    """Optuna's default: a tree-structured Parzen estimator."""
    return TPESampler(seed=seed)


def gp(seed: int) -> BaseSampler:
    """Optuna's Gaussian process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)


def _axes(configs: Sequence[Config]) -> dict[str, tuple[int, ...]]:
    """Each axis's values, ascending."""
    return {
        axis: tuple(sorted({config[axis] for config in configs}))
        for axis in (configs[0] if configs else ())
    }
