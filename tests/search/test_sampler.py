from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest
from optuna.trial import TrialState

from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Provenance, Source, Status
from tunekit.core.problem import Problem
from tunekit.core.space import Space
from tunekit.errors import SpaceError
from tunekit.search.sampler import Sampler

SPACE = """
[axes]
BLOCK = { from = 128, to = 4096 }
VEC = [1, 2, 4]
num_warps = { from = 1, to = 8 }

[default]
BLOCK = "1024"
VEC = "n // 512"
num_warps = "4"

[constraints]
every_thread_has_work = "BLOCK >= 32 * num_warps * VEC"
"""
CONTEXT = {"n": 1024}
PROBLEM = Problem.of("kernel", "hash", CONTEXT, "float32", "p16", "h100")
PROVENANCE = Provenance("gpu", 132, "", "", "", "", "", "")
DEFAULT = Config(BLOCK=1024, VEC=2, num_warps=4)


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.parse(SPACE, "test", "test")


@pytest.fixture
def make(space: Space) -> Callable[..., Sampler]:
    return lambda seed=0: Sampler(space, CONTEXT, seed)


def _evaluation(config: Config, time_us: float | None) -> Evaluation:
    status = Status.WRONG if time_us is None else Status.OK
    return Evaluation(
        PROBLEM, (1024,), config, status, Source.MEASURED, PROVENANCE, time_us=time_us
    )


def _time_us(config: Config) -> float:
    """Fastest at one corner, smooth along every axis."""
    return 1.0 + (config["BLOCK"] - 256) ** 2 / 1e5 + config["VEC"] + abs(config["num_warps"] - 2)


def _run(sampler: Sampler, count: int, batch: int = 4) -> list[Config]:
    """The configurations asked for, each told its time."""
    asked: list[Config] = []
    while len(asked) < count and sampler.open_count:
        configs = sampler.ask(min(batch, count - len(asked)))
        for config in configs:
            sampler.tell(_evaluation(config, _time_us(config)))
        asked += configs
    return asked


class TestAsk:
    def test_the_default_is_first(self, make: Callable[..., Sampler]) -> None:
        assert make().ask(3)[0] == DEFAULT

    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize("batch", [1, 5, 16])
    def test_the_whole_space_is_asked_and_nothing_twice(
        self, batch: int, seed: int, make: Callable[..., Sampler], space: Space
    ) -> None:
        asked = _run(make(seed), 1000, batch)
        valid = space.configs(CONTEXT)
        assert len(valid) < space.size  # some are infeasible
        assert len(asked) == len(set(asked))
        assert set(asked) == set(valid)

    def test_nothing_is_asked_twice_while_answers_are_out(
        self, make: Callable[..., Sampler]
    ) -> None:
        sampler = make()
        asked = [config for _ in range(5) for config in sampler.ask(8)]
        assert len(set(asked)) == 40

    def test_no_more_than_are_left(self, make: Callable[..., Sampler], space: Space) -> None:
        sampler = make()
        total = len(space.configs(CONTEXT))
        assert len(sampler.ask(total + 7)) == total
        assert sampler.open_count == 0
        assert sampler.ask(3) == []

    def test_asking_costs_few_proposals(self, make: Callable[..., Sampler], space: Space) -> None:
        """One each, a misfit being replaced by what is near: late proposals mostly misfit."""
        sampler = make()
        asked = _run(sampler, 1000, batch=8)
        assert len(sampler._study.get_trials(deepcopy=False)) <= 2 * len(asked)

    @pytest.mark.parametrize("seed", [3, 4])
    def test_a_seed_gives_the_same_run(self, seed: int, make: Callable[..., Sampler]) -> None:
        assert _run(make(seed), 30) == _run(make(seed), 30)

    def test_another_seed_gives_another(self, make: Callable[..., Sampler]) -> None:
        assert _run(make(3), 30) != _run(make(4), 30)

    @pytest.mark.parametrize("seed", range(3))
    def test_it_learns(self, seed: int, make: Callable[..., Sampler], space: Space) -> None:
        """What it asks after 24 is far better than what there was left to ask."""
        sampler = make(seed)
        left = set(space.configs(CONTEXT)) - set(_run(sampler, 24))
        assert _mean(_run(sampler, 8)) < 0.5 * _mean(left)


class TestAskAll:
    def test_everything_the_default_first_then_in_the_order_of_the_space(
        self, make: Callable[..., Sampler], space: Space
    ) -> None:
        sampler = make()
        configs = sampler.ask_all()
        assert configs[0] == DEFAULT
        assert configs[1:] == [c for c in space.configs(CONTEXT) if c != DEFAULT]
        assert sampler.open_count == 0
        assert sampler.ask(1) == sampler.ask_all() == []

    def test_what_was_asked_or_told_is_left_out(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        asked = sampler.ask(3)
        known = Config(BLOCK=128, VEC=1, num_warps=1)
        sampler.tell(_evaluation(known, 3.0))
        rest = sampler.ask_all()
        assert not {*asked, known} & set(rest)


class TestTell:
    def test_a_time_is_a_complete_trial(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        asked = sampler.ask(4)
        for config in asked:
            sampler.tell(_evaluation(config, _time_us(config)))
        trials = _trials_of(sampler, asked)
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert {trial.constraints["feasible"] for trial in trials} == {0.0}
        assert [trial.value for trial in trials] == [_time_us(config) for config in asked]

    def test_what_fails_is_pruned_and_infeasible(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        asked = sampler.ask(4)
        for config in asked:
            sampler.tell(_evaluation(config, None))
        trials = _trials_of(sampler, asked)
        assert {trial.state for trial in trials} == {TrialState.PRUNED}
        assert all(trial.constraints["feasible"] > 0 for trial in trials)

    def test_a_time_that_is_not_ok_teaches_no_time(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        (config,) = sampler.ask(1)
        timeout = Evaluation(
            *(PROBLEM, (1024,), config, Status.TIMEOUT, Source.MEASURED, PROVENANCE), time_us=9.0
        )
        sampler.tell(timeout)
        (trial,) = _finished(sampler)
        assert trial.state is TrialState.PRUNED

    def test_points_that_violate_a_constraint_are_told_once_as_infeasible(
        self, make: Callable[..., Sampler], space: Space
    ) -> None:
        sampler = make()
        asked = set(_run(sampler, 1000))
        pruned = [
            sampler._config(trial.params)
            for trial in sampler._study.get_trials(states=(TrialState.PRUNED,))
        ]
        assert pruned
        assert len(pruned) == len(set(pruned))
        assert not asked & set(pruned)
        assert all(space.violated(config, CONTEXT) == "every_thread_has_work" for config in pruned)

    def test_nothing_stays_under_way(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        _run(sampler, 40)
        assert sampler._study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)) == []

    def test_axes_are_ordered_steps_and_not_categories(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        sampler.tell(_evaluation(Config(BLOCK=512, VEC=4, num_warps=8), 1.0))
        (trial,) = _finished(sampler)
        assert trial.params == {"BLOCK": 2, "VEC": 2, "num_warps": 3}


class TestKnown:
    def test_an_earlier_run_is_not_asked_again_and_is_learned_from(
        self, make: Callable[..., Sampler], space: Space
    ) -> None:
        known = [
            _evaluation(config, None if config["VEC"] == 4 else _time_us(config))
            for config in itertools.islice(space.configs(CONTEXT), 20)
        ]
        sampler = make()
        total = sampler.open_count
        sampler.known(known)
        assert sampler.open_count == total - 20
        states = [trial.state for trial in _finished(sampler)]
        failed = sum(evaluation.time_us is None for evaluation in known)
        assert states.count(TrialState.PRUNED) == failed
        assert states.count(TrialState.COMPLETE) == 20 - failed
        assert not {evaluation.config for evaluation in known} & set(_run(sampler, 1000))

    def test_a_known_default_is_not_asked(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        sampler.known([_evaluation(DEFAULT, 5.0)])
        assert DEFAULT not in sampler.ask(10)

    def test_one_evaluation_of_a_configuration_counts(self, make: Callable[..., Sampler]) -> None:
        sampler = make()
        sampler.known([_evaluation(DEFAULT, 5.0), _evaluation(DEFAULT, 6.0)])
        assert len(_finished(sampler)) == 1

    @pytest.mark.parametrize(
        "config",
        [
            Config(BLOCK=128, VEC=4, num_warps=8),  # violates the constraint
            Config(BLOCK=192, VEC=1, num_warps=1),  # a value no longer in the space
            Config(BLOCK=128, num_warps=1),  # an axis less
        ],
    )
    def test_what_is_no_longer_in_the_space_is_passed_over(
        self, config: Config, make: Callable[..., Sampler]
    ) -> None:
        sampler = make()
        total = sampler.open_count
        sampler.known([_evaluation(config, 1.0)])
        assert sampler.open_count == total
        assert _finished(sampler) == []

    def test_a_resumed_run_is_as_good_as_one_run(self, make: Callable[..., Sampler]) -> None:
        """What was learned before the interrupt steers what is asked after it."""
        first = make(1)
        told = [_evaluation(config, _time_us(config)) for config in _run(first, 25)]
        resumed = make(2)
        resumed.known(told)
        after = _run(resumed, 8)
        fresh = _run(make(2), 8)
        assert _mean(after) < _mean(fresh)


def test_a_space_with_nothing_left_says_so() -> None:
    impossible = Space.parse(SPACE + 'never = "BLOCK < 0"\n', "test", "test")
    with pytest.raises(SpaceError, match="constraints leave no configuration"):
        Sampler(impossible, CONTEXT, 0)


def _finished(sampler: Sampler) -> list:  # type: ignore[type-arg]
    return sampler._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _trials_of(sampler: Sampler, configs: Iterable[Config]) -> list:  # type: ignore[type-arg]
    """The one finished trial of each configuration."""
    trials = [(sampler._config(trial.params), trial) for trial in _finished(sampler)]
    found = [[trial for own, trial in trials if own == config] for config in configs]
    assert {len(own) for own in found} == {1}
    return [trial for (trial,) in found]


def _mean(configs: Iterable[Config]) -> float:
    times = [_time_us(config) for config in configs]
    return sum(times) / len(times)
