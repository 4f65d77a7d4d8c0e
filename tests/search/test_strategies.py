from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.core.problem import Problem
from tunekit.search import strategies
from tunekit.search.landscape import Landscape, Point
from tunekit.search.sampler import Sampler
from tunekit.search.strategies import BATCH, DRAWN, STRATEGIES, Random, Strategy, make_strategy
from tunekit.search.transfer import Transfer

# Few: a Gaussian process takes its time.
CONFIGS = [
    Config(BLOCK=block, num_warps=warps)
    for block, warps in itertools.product((64, 128, 256, 512), (1, 2, 4))
]
PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 2**20}, "float32", "p16", "h100")
FIRST = [CONFIGS[7], CONFIGS[2]]

EVERY = pytest.mark.parametrize("name", STRATEGIES)


def _time_us(config: Config) -> float:
    return 10 + config["BLOCK"] / 64 + abs(config["num_warps"] - 2)


NEIGHBOUR = Landscape(
    replace(PROBLEM, dims=(("n", 2**21),)),
    tuple(Point(config, Status.OK, _time_us(config)) for config in CONFIGS),
)


def _make(name: str, seed: int = 0, first: Sequence[Config] = FIRST) -> Strategy:
    return make_strategy(name, PROBLEM, CONFIGS, first, [NEIGHBOUR], seed)


def _asked(
    strategy: Strategy,
    most: int = 1000,
    time_us: Callable[[Config], float | None] = _time_us,
    batch: int = 4,
) -> list[Config]:
    """What is asked until nothing is left, each told its time."""
    asked: list[Config] = []
    while strategy.open_count and len(asked) < most:
        configs = strategy.ask(min(batch, most - len(asked)))
        assert configs
        for config in configs:
            strategy.tell(config, time_us(config))
        asked += configs
    return asked


@EVERY
def test_the_whole_space_is_asked_once_and_the_first_ones_first(name: str) -> None:
    strategy = _make(name)
    assert strategy.open_count == len(CONFIGS)
    asked = _asked(strategy)
    assert asked[:2] == FIRST
    assert len(asked) == len(CONFIGS)
    assert set(asked) == set(CONFIGS)
    assert (strategy.open_count, strategy.ask(1), strategy.peek(1)) == (0, [], [])


@EVERY
def test_where_all_fail_the_whole_space_is_asked_all_the_same(name: str) -> None:
    asked = _asked(_make(name), time_us=lambda config: None, batch=12)
    assert len(asked) == len(CONFIGS)
    assert set(asked) == set(CONFIGS)


@EVERY
def test_what_is_told_before_it_was_asked_is_not_asked(name: str) -> None:
    strategy = _make(name)
    strategy.tell(FIRST[0], 12.0)
    strategy.tell(CONFIGS[0], None)
    strategy.tell(Config(BLOCK=96, num_warps=1), 1.0)  # in no space
    assert strategy.open_count == len(CONFIGS) - 2
    asked = strategy.ask(1000)
    assert asked[0] == FIRST[1]
    assert set(asked) == set(CONFIGS) - {FIRST[0], CONFIGS[0]}
    assert len(asked) == len(CONFIGS) - 2


@EVERY
def test_what_is_under_way_is_not_asked_again(name: str) -> None:
    strategy = _make(name)
    asked = strategy.ask(5) + strategy.ask(3)
    assert len(set(asked)) == 8
    assert strategy.open_count == len(CONFIGS) - 8


@EVERY
def test_peeking_shows_what_is_open_and_changes_nothing(name: str) -> None:
    peeked, plain = _make(name), _make(name)
    for size in (5, 3):
        ahead = peeked.peek(size)
        assert peeked.peek(size) == ahead
        asked = peeked.ask(size)
        assert asked == plain.ask(size)
        assert ahead in ([], asked)
        for config in asked:
            peeked.tell(config, _time_us(config))
            plain.tell(config, _time_us(config))


@EVERY
def test_the_expected_gain_is_infinite_at_first_and_nothing_in_the_end(name: str) -> None:
    strategy = _make(name)
    assert strategy.expected_gain() == math.inf
    strategy.ask(1000)
    assert strategy.expected_gain() == 0.0


@EVERY
def test_the_same_seed_asks_the_same(name: str) -> None:
    assert _asked(_make(name, 3), 10) == _asked(_make(name, 3), 10)


@EVERY
def test_the_seed_matters_to_those_that_draw_and_to_no_other(name: str) -> None:
    asked = {tuple(_asked(_make(name, seed, first=()))) for seed in range(3)}
    assert (len(asked) > 1) == (name in DRAWN)


def test_those_that_draw_are_strategies() -> None:
    assert set(STRATEGIES) >= DRAWN
    assert len(set(STRATEGIES)) == len(STRATEGIES)


def test_transfer_starts_at_what_serves_the_neighbour() -> None:
    best = min(CONFIGS, key=_time_us)
    assert _make("transfer", first=()).ask(1) == [best]
    assert make_strategy("transfer", PROBLEM, CONFIGS, (), [], 0).ask(1) != [best]


def test_transfer_tpe_begins_as_transfer_does_and_leaves_the_rest_to_tpe() -> None:
    begin = _make("transfer").peek(BATCH)
    strategy = _make("transfer-tpe")
    assert isinstance(strategy, Sampler)
    assert strategy.ask(BATCH) == begin
    assert begin[:2] == FIRST


@pytest.mark.parametrize("name", ["tpe", "gp", "random"])
def test_the_others_know_of_no_neighbour(name: str) -> None:
    alone = make_strategy(name, PROBLEM, CONFIGS, FIRST, [], 5)
    assert _asked(alone, 8) == _asked(_make(name, 5), 8)


@pytest.mark.parametrize("name", ["transfer", "transfer-tpe"])
def test_a_space_too_large_for_covariances_is_left_to_tpe(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "MOST_TRANSFERRED", len(CONFIGS))
    assert isinstance(_make("transfer"), Transfer)
    monkeypatch.setattr(strategies, "MOST_TRANSFERRED", len(CONFIGS) - 1)
    strategy = _make(name, 4)
    assert isinstance(strategy, Sampler)
    assert _asked(strategy) == _asked(_make("tpe", 4))


@pytest.mark.parametrize(("name", "kind"), [("gp", Sampler), ("random", Random)])
def test_of_the_others_a_large_space_is_no_matter(
    name: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "MOST_TRANSFERRED", 1)
    assert isinstance(_make(name), kind)


def test_what_is_transferred_at_most_fits_in_so_much_memory() -> None:
    assert strategies.MOST_TRANSFERRED**2 * 8 <= 32e6


def test_random_orders_are_all_over_the_space() -> None:
    begins = {_make("random", seed, first=()).ask(1)[0] for seed in range(60)}
    assert len(begins) > len(CONFIGS) / 2
