from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Status
from tunekit.core.problem import Problem
from tunekit.errors import UsageError
from tunekit.paths import shipped_landscapes
from tunekit.search import landscape as recorded
from tunekit.search import replay as replaying
from tunekit.search.knowledge import left_out
from tunekit.search.landscape import Landscape, Point
from tunekit.search.replay import Regret, Replayed, Run, replay, replay_all, searched
from tunekit.search.stopping import Stopping
from tunekit.search.strategies import BATCH, STRATEGIES

PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4096}, "float32", "p16", "h100")


def _config(number: int) -> Config:
    return Config(BLOCK=2**number)


def _landscape(
    times_us: Sequence[float | None], hashes: Sequence[str] | None = None, error: float = 0.0
) -> Landscape:
    """A configuration for each time, None being one that failed; each its own binary."""
    hashes = hashes or [f"h{number}" for number in range(len(times_us))]
    points = [
        Point(
            _config(number),
            Status.WRONG if time_us is None else Status.OK,
            time_us,
            error,
            Binary(digest, 32, 0, 0, 16, 16) if digest else None,
        )
        for number, (time_us, digest) in enumerate(zip(times_us, hashes, strict=True))
    ]
    return Landscape(PROBLEM, tuple(points), "graph-cold-1")


class Scripted:
    """Asks in the order of the landscape, and expects what it was told to expect."""

    def __init__(self, configs: Sequence[Config], gains: Iterable[float] = ()) -> None:
        self.open = list(configs)
        self.gains = iter(gains)
        self.batches: list[int] = []
        self.told: list[tuple[Config, float | None]] = []

    @property
    def open_count(self) -> int:
        return len(self.open)

    def ask(self, count: int) -> list[Config]:
        self.batches.append(count)
        asked, self.open = self.open[:count], self.open[count:]
        return asked

    def peek(self, count: int) -> list[Config]:
        return []

    def tell(self, config: Config, time_us: float | None) -> None:
        self.told.append((config, time_us))

    def expected_gain(self) -> float:
        return next(self.gains, math.inf)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[Scripted]:
    """Strategies that were made, each of them scripted."""
    made: list[Scripted] = []

    def make(
        name: str,
        problem: Problem,
        configs: Sequence[Config],
        first: Sequence[Config],
        known: Iterable[Landscape],
        seed: int,
    ) -> Scripted:
        ordered = [*first, *(config for config in configs if config not in first)]
        made.append(Scripted(ordered, [0.1, 0.001, 0.0005]))
        return made[-1]

    monkeypatch.setattr(replaying, "make_strategy", make)
    return made


class TestReplay:
    def test_times_are_told_in_batches_until_so_many_are_measured(
        self, scripted: list[Scripted]
    ) -> None:
        times = [20.0 - number for number in range(20)]
        run = replay(_landscape(times), "any", [], 0, most=12)
        (strategy,) = scripted
        assert strategy.batches == [BATCH, BATCH, BATCH]
        assert strategy.told == [(_config(n), times[n]) for n in range(sum(strategy.batches))]
        assert run.measured == tuple(map(_config, range(12)))
        assert (run.stopped, run.saved) == (None, 0)

    def test_it_ends_where_the_space_does(self, scripted: list[Scripted]) -> None:
        run = replay(_landscape([3.0, 2.0, 1.0]), "any", [], 0, most=40)
        assert len(run.measured) == 3
        assert run.regret(40) == 0.0

    def test_what_failed_is_told_and_not_counted(self, scripted: list[Scripted]) -> None:
        run = replay(_landscape([3.0, None, None, 2.0, None, 1.0]), "any", [], 0, most=3)
        assert run.measured == (_config(0), _config(3), _config(5))
        assert [time_us for _, time_us in scripted[0].told] == [3.0, None, None, 2.0, None, 1.0]
        assert [run.regret(count) for count in (1, 2, 3)] == [2.0, 1.0, 0.0]

    def test_the_same_binary_is_measured_once_and_counted_as_saved(
        self, scripted: list[Scripted]
    ) -> None:
        """It was recorded twice, with noise: all are told what the first one took."""
        landscape = _landscape([3.0, 2.9, 2.0, 3.1, 1.0], ["a", "a", "b", "a", "c"])
        run = replay(landscape, "any", [], 0)
        assert run.measured == (_config(0), _config(2), _config(4))
        assert run.saved == 2
        assert [time_us for _, time_us in scripted[0].told] == [3.0, 3.0, 2.0, 3.0, 1.0]
        assert [run.regret(count) for count in (1, 2, 3)] == [2.0, 1.0, 0.0]

    def test_a_binary_that_failed_is_not_tried_again(self, scripted: list[Scripted]) -> None:
        run = replay(_landscape([None, None, 2.0], ["a", "a", "b"]), "any", [], 0)
        assert run.measured == (_config(2),)
        assert run.saved == 1
        assert [time_us for _, time_us in scripted[0].told] == [None, None, 2.0]

    def test_a_binary_that_failed_once_and_ran_another_time_is_measured_once(
        self, scripted: list[Scripted]
    ) -> None:
        run = replay(_landscape([None, 3.0, 3.5, None], ["a"] * 4), "any", [], 0)
        assert run.measured == (_config(1),)
        assert run.saved == 2

    def test_of_unknown_binaries_each_is_measured(self, scripted: list[Scripted]) -> None:
        run = replay(_landscape([3.0, 2.0, None, 1.0], [""] * 4), "any", [], 0)
        assert run.measured == (_config(0), _config(1), _config(3))
        assert run.saved == 0

    def test_so_they_are_where_another_tool_left_the_hash_out(
        self, scripted: list[Scripted]
    ) -> None:
        points = [
            Point(_config(n), Status.OK, 3.0 - n, 0.0, Binary("", 32, 0, 0, 16, 16)) for n in (0, 1)
        ]
        run = replay(Landscape(PROBLEM, tuple(points)), "any", [], 0)
        assert (len(run.measured), run.saved) == (2, 0)

    def test_where_tuning_would_stop_is_recorded_and_it_goes_on(
        self, scripted: list[Scripted]
    ) -> None:
        """The expected gain is 0.1, then 0.001 and below."""
        landscape = _landscape([20.0 - number for number in range(20)])
        run = replay(landscape, "any", [], 0, most=20, stopping=Stopping(fewest=1))
        assert run.stopped == 2 * BATCH
        assert len(run.measured) == 20

    def test_where_it_would_stop_counts_measured_ones_alone(self, scripted: list[Scripted]) -> None:
        times = [20.0 - n if n % 2 else None for n in range(20)]
        run = replay(_landscape(times), "any", [], 0, stopping=Stopping(fewest=1))
        assert run.stopped == BATCH

    @pytest.mark.parametrize(("floor_us", "stopped"), [(None, None), (0.5, None), (16.9, BATCH)])
    def test_the_floor_stops_it_too(
        self, floor_us: float | None, stopped: int | None, scripted: list[Scripted]
    ) -> None:
        """The best of the first four takes 17 µs."""
        stopping = Stopping(least_gain=0.0, floor_us=floor_us, near_floor=0.01)
        landscape = _landscape([20.0 - number for number in range(20)])
        assert replay(landscape, "any", [], 0, stopping=stopping).stopped == stopped

    def test_without_a_rule_nothing_stops_it(self, scripted: list[Scripted]) -> None:
        assert replay(_landscape([2.0, 1.0]), "any", [], 0).stopped is None

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_every_strategy_can_be_replayed_and_is_the_same_again(self, name: str) -> None:
        landscape = _landscape([None, 9.0, 8.0, 7.0, None, 5.0, 4.0, 5.0, 6.0])
        run = replay(landscape, name, [], 1)
        assert set(run.measured) == set(landscape.times_us)
        assert len(run.measured) == len(landscape.times_us)
        assert replay(landscape, name, [], 1) == run


class TestSearched:
    def test_what_is_left_is_what_was_measured_until_it_stopped(
        self, scripted: list[Scripted]
    ) -> None:
        """The expected gain is small after the second batch, and eight are the fewest."""
        times = [20.0 - number if number != 3 else None for number in range(20)]
        left = searched(_landscape(times), most=16)
        assert (left.problem, left.protocol) == (PROBLEM, "graph-cold-1")
        assert [point.config for point in left.points] == [
            _config(number) for number in range(12) if number != 3
        ]

    def test_what_nothing_stops_ends_after_so_many(self, scripted: list[Scripted]) -> None:
        left = searched(_landscape([20.0 - number for number in range(20)]), most=6)
        assert list(left.times_us) == [_config(number) for number in range(6)]

    def test_it_begins_with_the_default(self, scripted: list[Scripted]) -> None:
        landscape = _landscape([20.0 - number for number in range(20)])
        left = searched(landscape, {PROBLEM: _config(17)}, most=3)
        assert list(left.times_us) == [_config(0), _config(1), _config(17)]
        assert left.best == landscape.points[17]

    def test_a_recorded_search_leaves_a_part_that_holds_what_it_found(self) -> None:
        landscape = next(each for each in _shipped() if len(each.points) > 60)
        left = searched(landscape)
        assert set(left.points) < set(landscape.points)
        assert landscape.regrets[left.best.config] < 0.05


class TestRegretAfter:
    def test_it_is_the_fastest_s_of_the_first_so_many(self) -> None:
        landscape = _landscape([3.0, 4.0, 2.0, 1.0])
        run = Run(landscape, tuple(map(_config, range(4))), None)
        assert [run.regret(count) for count in range(1, 6)] == [2.0, 2.0, 1.0, 0.0, 0.0]

    def test_tied_with_the_best_is_the_best(self) -> None:
        """Errors of 1 % each: what is within 2.8 % cannot be told from the best."""
        landscape = _landscape([1.1, 1.02, 1.0], error=0.01)
        run = Run(landscape, (_config(0), _config(1)), None)
        assert run.regret(1) == pytest.approx(0.1)
        assert run.regret(2) == 0.0
        assert run.regret(2, tied=False) == pytest.approx(0.02)


class TestRegretsOfRuns:
    def test_figures(self) -> None:
        found = Regret.of([0.0] * 18 + [0.5, 0.1])
        assert (found.mean, found.p95, found.worst) == (pytest.approx(0.03), 0.1, 0.5)

    def test_of_few_the_95th_percentile_is_the_worst(self) -> None:
        assert Regret.of([0.3, 0.1]) == Regret(pytest.approx(0.2), 0.3, 0.3)

    def test_one_of_a_hundred_is_above_the_95th_percentile(self) -> None:
        found = Regret.of([*(number / 100 for number in range(100))])
        assert (found.p95, found.worst) == (0.94, 0.99)


class TestReplayAll:
    KNOWN = (
        replace(_landscape([3.0, 2.0, 1.0]), problem=replace(PROBLEM, dims=(("n", 8192),))),
        replace(_landscape([1.0, 2.0, 3.0]), problem=replace(PROBLEM, device="h200")),
    )

    def test_a_strategy_that_draws_is_run_from_every_seed_and_others_once(self) -> None:
        landscapes = [_landscape([3.0, 2.0, 1.0]), _landscape([1.0, 2.0, 3.0])]
        found = replay_all(landscapes, [], ["random", "transfer"], "size", 4)
        assert [(each.strategy, len(each.runs)) for each in found] == [
            ("random", 8),
            ("transfer", 2),
        ]

    def test_what_is_left_out_is_not_known(self) -> None:
        """Of two neighbours one is of the same size: only the other may say what to start at."""
        judged = [_landscape([1.5, 2.0, 1.0])]
        begins = {
            name: replay_all(judged, [*self.KNOWN, *judged], ["transfer"], name, 1)[0].runs[0]
            for name in ("size", "device")
        }
        assert begins["size"].measured[0] == _config(2)
        assert begins["device"].measured[0] == _config(0)

    def test_cold_and_warm_say_nothing_of_each_other(self) -> None:
        judged = [_landscape([2.0, 2.0, 2.0])]
        warm = [replace(each, protocol="graph-warm-1") for each in self.KNOWN]
        (with_warm,) = replay_all(judged, warm, ["transfer"], "problem", 1)
        (alone,) = replay_all(judged, [], ["transfer"], "problem", 1)
        assert with_warm == alone

    def test_the_identity_at_that_size_is_the_floor(self, scripted: list[Scripted]) -> None:
        """Without one the expected gain ends it, after the second batch."""
        judged = [_landscape([5.0 + number for number in range(20)])]
        bare = replace(_landscape([4.99]), problem=replace(PROBLEM, kernel="identity"))
        other = replace(bare, problem=replace(bare.problem, dims=(("n", 8192),)))
        for known, stopped in (([bare], BATCH), ([other], 2 * BATCH), ([], 2 * BATCH)):
            (found,) = replay_all(judged, known, ["transfer"], "problem", 1)
            assert found.runs[0].stopped == stopped

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_the_default_is_measured_first_where_it_is_known_and_recorded(self, name: str) -> None:
        landscape = _landscape([3.0, 4.0, 2.0, 1.0, 5.0, 6.0])
        other = replace(landscape, problem=replace(PROBLEM, dtype="float16"))
        for number in (2, 5):
            defaults = {PROBLEM: _config(number), other.problem: _config(30)}
            (found,) = replay_all([landscape, other], [], [name], "size", 1, defaults=defaults)
            (bare,) = replay_all([other], [], [name], "size", 1)
            assert found.runs[0].measured[0] == _config(number)
            assert len(found.runs[0].measured) == len(landscape.points)
            assert found.runs[1] == bare.runs[0]

    @pytest.mark.parametrize(("sizes", "stopped"), [([], 12), ([8192], 8), ([2**30], 12)])
    def test_what_no_near_problem_measured_makes_it_stop_later(
        self, sizes: list[int], stopped: int, scripted: list[Scripted]
    ) -> None:
        """After a twelfth of twice 72 configurations; else after eight, which are the fewest."""
        judged = _landscape([200.0 - number for number in range(72)])
        known = [replace(judged, problem=replace(PROBLEM, dims=(("n", size),))) for size in sizes]
        (found,) = replay_all([judged], known, ["transfer"], "problem", 1)
        assert found.runs[0].stopped == stopped

    def test_an_unknown_strategy_is_refused_before_anything_runs(
        self, scripted: list[Scripted]
    ) -> None:
        with pytest.raises(UsageError, match="expected one of transfer, "):
            replay_all([_landscape([1.0])], [], ["random", "psychic"], "size", 1)
        assert scripted == []

    def test_where_it_stops_is_the_mean_and_what_never_stops_counts_whole(self) -> None:
        landscape = _landscape([4.0, 3.0, 2.0, 1.0])
        measured = tuple(map(_config, range(4)))
        runs = (Run(landscape, measured, 2, 3), Run(landscape, measured, None, 1))
        found = Replayed("any", "size", runs)
        assert found.stopped() == (3.0, Regret.of([2.0, 0.0]))
        assert found.saved == 4
        assert found.regret(3) == Regret.of([1.0, 1.0])


@cache
def _shipped() -> list[Landscape]:
    """Of element-wise kernels, measured with a cold cache."""
    files = sorted(shipped_landscapes().glob("*.csv.gz"))
    return [
        landscape
        for file in files
        for landscape in recorded.read(file)[1]
        if not landscape.warm and list(dict(landscape.problem.dims)) == ["n"]
    ]


def _judged() -> list[Landscape]:
    """Some of all kernels, dtypes, sizes and GPUs."""
    ordered = sorted(_shipped(), key=lambda each: (each.protocol, each.problem.key))
    return ordered[:: max(1, len(ordered) // 20)]


@cache
def _mean_regret(name: str, seeds: int) -> float:
    return Regret.of(
        replay(each, name, left_out("size", each.problem, _shipped()), seed, most=10).regret(10)
        for each in _judged()
        for seed in range(seeds)
    ).mean


class TestShipped:
    """Of recorded problems whole sizes are left out, on every GPU."""

    def test_after_ten_little_is_left_to_gain(self) -> None:
        assert _mean_regret("transfer", 1) < 0.005

    @pytest.mark.parametrize("name", ["tpe", "random"])
    def test_and_far_less_than_a_blind_search_leaves(self, name: str) -> None:
        assert _mean_regret("transfer", 1) < 0.7 * _mean_regret(name, 2)
