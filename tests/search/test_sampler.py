from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tunekit.core.config import Config
from tunekit.search.sampler import Sampler, gp, tpe

BOTH = pytest.mark.parametrize("optunas", [tpe, gp])
Optunas = Callable[[int], BaseSampler]


def _has_work(config: Config) -> bool:
    return config["BLOCK"] >= 32 * config["num_warps"] * config["VEC"]


CORNERS = [
    Config(BLOCK=block, VEC=vec, num_warps=warps)
    for block, vec, warps in itertools.product(
        (128, 256, 512, 1024, 2048, 4096), (1, 2, 4), (1, 2, 4, 8)
    )
]
VALID = [config for config in CORNERS if _has_work(config)]
FEW = VALID[:13]  # a Gaussian process is asked after ten drawn at random, and takes its time
DEFAULT = Config(BLOCK=1024, VEC=2, num_warps=4)


def _make(seed: int = 0, optunas: Optunas = tpe, first: Iterable[Config] = (DEFAULT,)) -> Sampler:
    return Sampler(VALID, optunas(seed), list(first))


def _time_us(config: Config) -> float:
    """Fastest at one corner, smooth along every axis."""
    return 1.0 + (config["BLOCK"] - 256) ** 2 / 1e5 + config["VEC"] + abs(config["num_warps"] - 2)


def _run(sampler: Sampler, count: int, batch: int = 4) -> list[Config]:
    """The configurations asked for, each told its time."""
    asked: list[Config] = []
    while len(asked) < count and sampler.open_count:
        configs = sampler.ask(min(batch, count - len(asked)))
        for config in configs:
            sampler.tell(config, _time_us(config))
        asked += configs
    return asked


class TestAsk:
    @BOTH
    def test_the_first_ones_are_first_in_their_order(self, optunas: Optunas) -> None:
        first = [DEFAULT, VALID[0], VALID[-1]]
        sampler = _make(optunas=optunas, first=first)
        assert sampler.ask(2) + sampler.ask(2)[:1] == first

    def test_a_first_one_that_is_not_valid_is_passed_over(self) -> None:
        invalid = Config(BLOCK=128, VEC=4, num_warps=8)
        assert _make(first=[invalid, DEFAULT]).ask(1) == [DEFAULT]

    def test_without_first_ones_it_is_the_sampler_that_begins(self) -> None:
        begins = {_make(seed, first=()).ask(1)[0] for seed in range(8)}
        assert len(begins) > 1

    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize("batch", [1, 5, 16])
    def test_the_whole_space_is_asked_and_nothing_twice(self, batch: int, seed: int) -> None:
        asked = _run(_make(seed), 1000, batch)
        assert len(VALID) < len(CORNERS)  # some are infeasible
        assert len(asked) == len(set(asked))
        assert set(asked) == set(VALID)

    def test_a_gaussian_process_asks_the_whole_space_and_nothing_twice(self) -> None:
        asked = _run(Sampler(FEW, gp(0), FEW[3:4]), 1000)
        assert asked[0] == FEW[3]
        assert len(asked) == len(FEW)
        assert set(asked) == set(FEW)

    def test_nothing_is_asked_twice_while_answers_are_out(self) -> None:
        sampler = _make()
        asked = [config for _ in range(5) for config in sampler.ask(8)]
        assert len(set(asked)) == 40

    def test_no_more_than_are_left(self) -> None:
        sampler = _make()
        assert len(sampler.ask(len(VALID) + 7)) == len(VALID)
        assert sampler.open_count == 0
        assert sampler.ask(3) == []

    def test_what_is_open_is_counted(self) -> None:
        sampler = _make()
        assert sampler.open_count == len(VALID)
        asked = sampler.ask(3)
        assert sampler.open_count == len(VALID) - 3
        sampler.tell(asked[0], 1.0)
        assert sampler.open_count == len(VALID) - 3
        sampler.tell(next(config for config in VALID if config not in asked), 1.0)
        assert sampler.open_count == len(VALID) - 4

    def test_asking_costs_few_proposals(self) -> None:
        """One each, a misfit being replaced by what is near: late proposals mostly misfit."""
        sampler = _make()
        asked = _run(sampler, 1000, batch=8)
        assert len(sampler._study.get_trials(deepcopy=False)) <= 2 * len(asked)

    @BOTH
    def test_a_seed_gives_the_same_run(self, optunas: Optunas) -> None:
        assert _run(_make(3, optunas), 12) == _run(_make(3, optunas), 12)

    @BOTH
    def test_another_seed_gives_another(self, optunas: Optunas) -> None:
        assert _run(_make(3, optunas), 8) != _run(_make(4, optunas), 8)

    @pytest.mark.parametrize("seed", range(3))
    def test_it_learns(self, seed: int) -> None:
        """What it asks after 24 is far better than what there was left to ask."""
        sampler = _make(seed)
        left = set(VALID) - set(_run(sampler, 24))
        assert _mean(_run(sampler, 8)) < 0.5 * _mean(left)

    def test_a_space_of_one_configuration(self) -> None:
        sampler = Sampler([DEFAULT], tpe(0))
        assert sampler.ask(2) == [DEFAULT]

    def test_no_configurations_at_all(self) -> None:
        sampler = Sampler([], tpe(0))
        assert (sampler.open_count, sampler.ask(2)) == (0, [])


class TestTell:
    @BOTH
    def test_a_time_is_a_complete_trial(self, optunas: Optunas) -> None:
        sampler = _make(optunas=optunas)
        asked = sampler.ask(4)
        for config in asked:
            sampler.tell(config, _time_us(config))
        trials = _trials_of(sampler, asked)
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert {trial.constraints["feasible"] for trial in trials} == {0.0}
        assert [trial.value for trial in trials] == [_time_us(config) for config in asked]

    @BOTH
    def test_what_fails_is_pruned_and_infeasible(self, optunas: Optunas) -> None:
        sampler = _make(optunas=optunas)
        asked = sampler.ask(4)
        for config in asked:
            sampler.tell(config, None)
        trials = _trials_of(sampler, asked)
        assert {trial.state for trial in trials} == {TrialState.PRUNED}
        assert all(trial.constraints["feasible"] > 0 for trial in trials)
        assert not set(asked) & set(sampler.ask(1000))

    def test_points_that_are_not_valid_are_told_once_as_infeasible(self) -> None:
        sampler = _make()
        asked = set(_run(sampler, 1000))
        pruned = [
            sampler._config(trial.params)
            for trial in sampler._study.get_trials(states=(TrialState.PRUNED,))
        ]
        assert pruned
        assert len(pruned) == len(set(pruned))
        assert not asked & set(pruned)
        assert not any(map(_has_work, pruned))

    def test_nothing_stays_under_way(self) -> None:
        sampler = _make()
        _run(sampler, 40)
        assert sampler._study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)) == []

    def test_axes_are_ordered_steps_and_not_categories(self) -> None:
        sampler = _make()
        sampler.tell(Config(BLOCK=1024, VEC=4, num_warps=8), 1.0)
        (trial,) = _finished(sampler)
        assert trial.params == {"BLOCK": 3, "VEC": 2, "num_warps": 3}

    def test_what_was_not_asked_is_not_asked_again_and_is_learned_from(self) -> None:
        sampler = _make()
        known = VALID[:20]
        failed = [config for config in known if config["VEC"] == 4]
        for config in known:
            sampler.tell(config, None if config in failed else _time_us(config))
        assert sampler.open_count == len(VALID) - 20
        states = [trial.state for trial in _finished(sampler)]
        assert states.count(TrialState.PRUNED) == len(failed)
        assert states.count(TrialState.COMPLETE) == 20 - len(failed)
        assert not set(known) & set(_run(sampler, 1000))

    def test_a_first_one_that_is_known_is_not_asked(self) -> None:
        sampler = _make()
        sampler.tell(DEFAULT, 5.0)
        assert DEFAULT not in sampler.ask(10)

    @pytest.mark.parametrize(
        "config",
        [
            Config(BLOCK=128, VEC=4, num_warps=8),  # violates the constraint
            Config(BLOCK=192, VEC=1, num_warps=1),  # a value that is not in the space
            Config(BLOCK=128, num_warps=1),  # an axis less
        ],
    )
    def test_what_is_not_in_the_space_is_passed_over(self, config: Config) -> None:
        sampler = _make()
        sampler.tell(config, 1.0)
        assert sampler.open_count == len(VALID)
        assert _finished(sampler) == []

    @BOTH
    def test_what_was_told_steers_what_is_asked(self, optunas: Optunas) -> None:
        """As when a run goes on after an interrupt."""
        sampler = _make(2, optunas, first=())
        told = VALID[::3]
        for config in told:
            sampler.tell(config, _time_us(config))
        assert _mean(sampler.ask(4)) < 0.5 * _mean(set(VALID) - set(told))


@BOTH
def test_peeking_tells_nothing_and_changes_nothing(optunas: Optunas) -> None:
    peeked, plain = _make(5, optunas), _make(5, optunas)
    asked = []
    for _ in range(3):
        assert peeked.peek(8) == []
        asked += _run(peeked, 4)
    assert asked == _run(plain, 12)


def test_the_expected_gain_is_unknown_until_nothing_is_left() -> None:
    sampler = _make()
    assert sampler.expected_gain() == math.inf
    _run(sampler, 30)
    assert sampler.expected_gain() == math.inf
    _run(sampler, 1000)
    assert sampler.expected_gain() == 0.0


@BOTH
def test_it_is_silent(optunas: Optunas, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    try:
        _run(_make(0, optunas), 12)
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


def _finished(sampler: Sampler) -> list[FrozenTrial]:
    return sampler._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _trials_of(sampler: Sampler, configs: Iterable[Config]) -> list[FrozenTrial]:
    """The one finished trial of each configuration."""
    trials = [(sampler._config(trial.params), trial) for trial in _finished(sampler)]
    found = [[trial for own, trial in trials if own == config] for config in configs]
    assert {len(own) for own in found} == {1}
    return [trial for (trial,) in found]


def _mean(configs: Iterable[Config]) -> float:
    times = [_time_us(config) for config in configs]
    return sum(times) / len(times)
