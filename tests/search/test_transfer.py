from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import CONFIGS, PROBLEM, best_at, landscape_at, time_us_of

from tunekit.core.config import Config
from tunekit.search.landscape import Landscape
from tunekit.search.transfer import Transfer


def _make(*landscapes: Landscape, first: Sequence[Config] = ()) -> Transfer:
    return Transfer(PROBLEM, CONFIGS, landscapes, first)


def _told(
    transfer: Transfer, count: int, time_us: Callable[[Config], float | None] = time_us_of
) -> list[Config]:
    """What was asked one by one, each told its time."""
    asked: list[Config] = []
    while len(asked) < count and transfer.open_count:
        (config,) = transfer.ask(1)
        transfer.tell(config, time_us(config))
        asked.append(config)
    return asked


KNOWLEDGE = pytest.mark.parametrize(
    "landscapes",
    [(), (landscape_at(),), (landscape_at(128), landscape_at(512, n=2**10, dtype="float16"))],
    ids=["strange", "a neighbour", "neighbours"],
)


class TestAsk:
    @settings(max_examples=15)
    @given(
        batches=st.lists(st.integers(1, 20), min_size=1, max_size=6),
        failing=st.sets(st.sampled_from(CONFIGS)),
        known=st.sets(st.sampled_from(CONFIGS), max_size=20),
        answered=st.booleans(),
        neighbours=st.integers(0, 2),
    )
    def test_everything_is_asked_once_in_batches_of_any_size(
        self,
        batches: list[int],
        failing: set[Config],
        known: set[Config],
        answered: bool,
        neighbours: int,
    ) -> None:
        some = landscape_at(512, configs=CONFIGS[10:40])  # says nothing of the others
        transfer = _make(*[some, landscape_at(dtype="float16")][:neighbours])
        for config in known:
            transfer.tell(config, None if config in failing else time_us_of(config))
        asked: list[Config] = []
        for size in itertools.cycle(batches):
            batch = transfer.ask(size)
            asked += batch
            assert transfer.open_count == len(CONFIGS) - len(known) - len(asked)
            if not batch:
                break
            assert len(batch) == size or not transfer.open_count
            if answered:
                for config in batch:
                    transfer.tell(config, None if config in failing else time_us_of(config))
        assert len(asked) == len(set(asked))
        assert set(asked) == set(CONFIGS) - known

    @KNOWLEDGE
    def test_the_first_ones_are_first_in_their_order(self, landscapes: list[Landscape]) -> None:
        first = [CONFIGS[50], CONFIGS[0], CONFIGS[7]]
        transfer = _make(*landscapes, first=first)
        assert transfer.ask(2) == first[:2]
        assert transfer.ask(3)[0] == first[2]

    def test_first_ones_that_are_known_or_no_candidates_are_passed_over(self) -> None:
        stranger = Config(BLOCK=96, VEC=1, num_warps=1)
        transfer = _make(first=[stranger, CONFIGS[3], CONFIGS[5]])
        transfer.tell(CONFIGS[3], 10.0)
        assert transfer.ask(1) == [CONFIGS[5]]

    @KNOWLEDGE
    def test_it_is_the_same_every_time(self, landscapes: list[Landscape]) -> None:
        one, other = _make(*landscapes), _make(*landscapes)
        for size in (6, 4, 4):
            asked = one.ask(size)
            assert asked == other.ask(size)
            for config in asked:
                one.tell(config, time_us_of(config))
                other.tell(config, time_us_of(config))

    def test_the_order_of_the_neighbours_does_not_matter(self) -> None:
        landscapes = [
            landscape_at(128),
            landscape_at(512, n=2**18),
            landscape_at(64, device="h200"),
        ]
        assert _told(_make(*landscapes), 8) == _told(_make(*landscapes[::-1]), 8)

    @KNOWLEDGE
    def test_what_is_under_way_counts_as_if_it_had_come_out_as_expected(
        self, landscapes: list[Landscape]
    ) -> None:
        one, other = _make(*landscapes), _make(*landscapes)
        for transfer in (one, other):
            _told(transfer, 3)
        assert one.ask(3) + one.ask(3) == other.ask(6)

    def test_no_candidates_at_all(self) -> None:
        transfer = Transfer(PROBLEM, [], [landscape_at()])
        assert (transfer.ask(3), transfer.peek(3), transfer.open_count) == ([], [], 0)
        assert transfer.expected_gain() == 0.0

    def test_an_axis_may_have_a_value_of_zero(self) -> None:
        """As may that of another project's space: whole numbers from 0."""
        configs = [Config(SPLIT=split, num_warps=warps) for split in (0, 1) for warps in (2, 4)]
        assert set(Transfer(PROBLEM, configs, []).ask(9)) == set(configs)


class TestLearning:
    @pytest.mark.parametrize("slow", [64, 1024])
    def test_where_it_is_slow_it_does_not_look_again(self, slow: int) -> None:
        transfer = _make()
        for config in CONFIGS:
            if config["VEC"] == 2 and config["num_warps"] in (1, 4):
                transfer.tell(config, 14.0 if config["BLOCK"] == slow else 10.0)
        assert not any(config["BLOCK"] == slow for config in transfer.ask(12))

    @pytest.mark.parametrize("best", [64, 256, 1024])
    def test_without_neighbours_it_finds_the_best_before_half_is_measured(self, best: int) -> None:
        asked = _told(_make(), 25, lambda config: time_us_of(config, best))
        assert min(time_us_of(config, best) for config in asked) == time_us_of(best_at(best), best)

    def test_what_neighbours_say_together_is_corrected_by_measurements(self) -> None:
        """Every neighbour says 128 or 512; the first measurements tell which."""
        landscapes = [
            landscape_at(best, n=2**power) for best in (128, 512) for power in (18, 19, 21, 22)
        ]
        for best in (128, 512):
            transfer = _make(*landscapes)
            for probe in (128, 512):
                config = Config(BLOCK=probe, VEC=2, num_warps=2)
                transfer.tell(config, time_us_of(config, best))
            assert transfer.ask(1) == [best_at(best)]

    def test_the_level_of_a_problem_is_its_own(self) -> None:
        """A problem a thousand times as large has other times and the same order."""
        landscapes = [landscape_at(128), landscape_at(512, n=2**19)]
        one, large = _make(*landscapes), _make(*landscapes)
        assert _told(one, 12) == _told(large, 12, lambda config: 1000 * time_us_of(config))
        assert large.expected_gain() == pytest.approx(one.expected_gain(), abs=1e-9)

    def test_what_is_expected_follows_what_was_measured(self) -> None:
        transfer = _make(landscape_at(128))
        for config in CONFIGS:
            transfer.tell(config, time_us_of(config, 512))
        expected = transfer.expected()
        assert min(expected, key=expected.__getitem__) == best_at(512)
        assert expected[best_at(512)] == 0.0
        for config in CONFIGS:
            true = math.log(time_us_of(config, 512) / time_us_of(best_at(512), 512))
            assert expected[config] == pytest.approx(min(true, 0.3), abs=0.1) or true > 0.3

    def test_the_time_told_last_counts(self) -> None:
        one, other = _make(), _make()
        one.tell(CONFIGS[0], 99.0)
        for transfer in (one, other):
            transfer.tell(CONFIGS[0], 10.0)
        assert one.expected() == other.expected()


class TestNeighbours:
    @pytest.mark.parametrize("best", [64, 256, 1024])
    def test_it_starts_at_what_serves_a_neighbour(self, best: int) -> None:
        transfer = _make(landscape_at(best))
        assert transfer.neighbours == 1
        assert transfer.ask(1) == [best_at(best)]
        assert all(time_us_of(config, best) < 14 for config in transfer.ask(2))

    @pytest.mark.parametrize(
        ("near", "far"),
        [
            ({"n": 2**21}, {"n": 2**27}),
            ({"n": 2**19}, {"n": 2**25}),
            ({"n": 2**24}, {"n": 2**24, "kernel": "relu"}),
            ({"n": 2**20, "dtype": "bfloat16"}, {"n": 2**21, "dtype": "bfloat16"}),
            ({"n": 2**20, "kernel": "relu"}, {"n": 2**20, "dtype": "float16"}),
            ({"n": 2**21}, {"n": 2**21, "alignment": "p4"}),
            ({"n": 2**21}, {"n": 2**21, "device": "h200"}),
        ],
    )
    @pytest.mark.parametrize("reverse", [False, True])
    def test_the_nearer_one_weighs_more(
        self, near: dict[str, int | str], far: dict[str, int | str], reverse: bool
    ) -> None:
        nearer = landscape_at(128, **near)  # type: ignore[arg-type]
        farther = landscape_at(1024, **far)  # type: ignore[arg-type]
        landscapes = [farther, nearer] if reverse else [nearer, farther]
        assert _make(*landscapes).ask(1) == [best_at(128)]

    def test_this_problem_from_before_weighs_most(self) -> None:
        before, other = landscape_at(512, n=2**20), landscape_at(64, n=2**21)
        assert _make(other, before).ask(1) == [best_at(512)]

    def test_many_outweigh_one_that_is_little_nearer(self) -> None:
        many = [landscape_at(512, n=2**22 + i) for i in range(5)]
        assert _make(landscape_at(128, n=2**21), *many).ask(1) == [best_at(512)]

    @pytest.mark.parametrize("dims", [(("m", 2**20),), (("k", 2), ("n", 2**20)), ()])
    def test_sizes_of_other_names_do_not_count(self, dims: tuple[tuple[str, int], ...]) -> None:
        one = landscape_at(1024)
        transfer = _make(replace(one, problem=replace(one.problem, dims=dims)))
        assert transfer.neighbours == 0
        assert transfer.ask(8) == _make().ask(8)

    def test_what_is_too_far_does_not_count(self) -> None:
        assert _make(landscape_at(n=2**62, alignment="p4")).neighbours == 0

    def test_configurations_that_are_no_candidates_do_not_count(self) -> None:
        others = [Config(BLOCK=96, VEC=1, num_warps=1), Config(best_at(256), SPLIT=1)]
        assert _make(landscape_at(configs=others)).neighbours == 0
        assert _make(landscape_at(configs=[*others, *CONFIGS])).neighbours == 1

    def test_configurations_that_failed_at_a_neighbour_disturb_nothing(self) -> None:
        known = CONFIGS[::2]
        short = landscape_at(512, configs=known)
        failed = landscape_at(512, failed=[config for config in CONFIGS if config not in known])
        assert _make(failed).ask(10) == _make(short).ask(10)

    def test_what_no_neighbour_knows_is_neither_best_nor_worst(self) -> None:
        known = [config for config in CONFIGS if config["num_warps"] != 8]
        expected = _make(landscape_at(configs=known)).expected()
        unknown = [expected[config] for config in CONFIGS if config not in known]
        assert min(expected.values()) < min(unknown)
        assert max(unknown) < max(expected.values())

    def test_what_is_known_of_half_the_space_is_used(self) -> None:
        transfer = _make(landscape_at(512, configs=[c for c in CONFIGS if c["VEC"] == 4]))
        assert transfer.ask(1) == [best_at(512)]


class TestFailures:
    @KNOWLEDGE
    def test_they_are_not_asked_again_and_disturb_nothing(
        self, landscapes: list[Landscape]
    ) -> None:
        failing, calm = _make(*landscapes), _make(*landscapes)
        for transfer in (failing, calm):
            for config in CONFIGS[::9]:
                transfer.tell(config, time_us_of(config))
        broken = calm.peek(20)[::3]
        for config in broken:
            failing.tell(config, None)
        assert failing.expected() == calm.expected()
        assert not set(broken) & set(failing.ask(1000))

    def test_one_that_was_asked_leaves_no_trace(self) -> None:
        one, other = _make(landscape_at()), _make(landscape_at())
        (config,) = one.ask(1)
        one.tell(config, None)
        other.tell(config, None)
        assert one.ask(6) == other.ask(6)

    def test_where_all_fail_all_are_asked(self) -> None:
        transfer = _make(landscape_at())
        assert set(_told(transfer, 1000, lambda config: None)) == set(CONFIGS)
        assert transfer.expected_gain() == 0.0

    def test_what_is_no_candidate_teaches_nothing(self) -> None:
        transfer = _make(landscape_at())
        transfer.tell(Config(BLOCK=96, VEC=1, num_warps=1), 0.001)
        assert transfer.open_count == len(CONFIGS)
        assert transfer.expected() == _make(landscape_at()).expected()


class TestExpectedGain:
    def test_surprise_widens_what_may_be(self) -> None:
        """Of two problems with the same neighbours, the one that is unlike them is not done."""
        landscapes = [landscape_at(128, n=2**power) for power in (19, 21, 22)]
        like, unlike = _make(*landscapes), _make(*landscapes)
        probes = [Config(BLOCK=128, VEC=vec, num_warps=warps) for vec in (2, 4) for warps in (2, 4)]
        for probe in probes:
            like.tell(probe, time_us_of(probe, 128))
            unlike.tell(probe, 10 / time_us_of(probe, 128))
        assert like.expected_gain() < 0.003 < unlike.expected_gain()

    @KNOWLEDGE
    def test_infinite_before_and_zero_after(self, landscapes: list[Landscape]) -> None:
        transfer = _make(*landscapes)
        assert transfer.expected_gain() == math.inf
        transfer.tell(CONFIGS[0], None)
        assert transfer.expected_gain() == math.inf
        for config in CONFIGS[1:]:
            assert 0.0 <= transfer.expected_gain() < math.inf or config is CONFIGS[1]
            transfer.tell(config, time_us_of(config))
        assert transfer.expected_gain() == 0.0

    @KNOWLEDGE
    def test_it_falls_as_measurements_come(self, landscapes: list[Landscape]) -> None:
        transfer = _make(*landscapes)
        gains = []
        for _ in range(5):
            _told(transfer, 8)
            gains.append(transfer.expected_gain())
        assert gains[-1] < 0.2 * gains[0]
        assert gains[-1] < 0.003

    def test_a_neighbour_makes_it_smaller(self) -> None:
        """What is known of others leaves less to hope for once the best of them is measured."""
        with_one, without = _make(landscape_at()), _make()
        for transfer in (with_one, without):
            for config in (best_at(256), best_at(1024), CONFIGS[0]):
                transfer.tell(config, time_us_of(config))
        assert with_one.expected_gain() < 0.1 * without.expected_gain()

    def test_what_is_under_way_is_not_counted_as_left(self) -> None:
        transfer = _make()
        transfer.tell(CONFIGS[0], 10.0)
        transfer.ask(len(CONFIGS))
        assert transfer.expected_gain() == 0.0


class TestPeek:
    @KNOWLEDGE
    def test_it_is_what_ask_would_answer_and_changes_nothing(
        self, landscapes: list[Landscape]
    ) -> None:
        peeked, plain = (_make(*landscapes, first=[CONFIGS[9]]) for _ in range(2))
        for size in (6, 4, 4, 100):
            ahead = peeked.peek(size)
            assert peeked.peek(size) == ahead
            assert peeked.open_count == plain.open_count
            assert peeked.ask(size) == plain.ask(size) == ahead
            for config in ahead[1:]:  # one stays under way
                peeked.tell(config, time_us_of(config))
                plain.tell(config, time_us_of(config))
        assert peeked.peek(3) == []

    def test_the_first_of_many_is_the_one_asked_alone(self) -> None:
        transfer = _make(landscape_at(128))
        _told(transfer, 3)
        assert transfer.peek(8)[:3] == transfer.peek(3)


class TestFinite:
    @settings(max_examples=25)
    @given(
        times=st.lists(st.floats(1e-9, 1e15), min_size=1, max_size=12),
        neighbours=st.integers(0, 1),
    )
    def test_no_time_breaks_the_numbers(self, times: list[float], neighbours: int) -> None:
        transfer = _make(*[landscape_at(128)][:neighbours])
        for time_us in times:
            (config,) = transfer.ask(1)
            transfer.tell(config, time_us)
            assert all(map(math.isfinite, transfer.expected().values()))
            assert math.isfinite(transfer.expected_gain())
            assert transfer.expected_gain() >= 0.0
        assert len(set(transfer.ask(1000))) == len(CONFIGS) - len(times)

    @pytest.mark.filterwarnings("error")
    def test_a_neighbour_with_huge_times_breaks_nothing(self) -> None:
        one = landscape_at(512)
        points = tuple(replace(point, time_us=1e15) for point in one.points[:30])
        transfer = _make(replace(one, points=points + one.points[30:]))
        assert all(map(math.isfinite, transfer.expected().values()))
        assert transfer.ask(1) == [best_at(512)]

    @KNOWLEDGE
    def test_equal_times_break_nothing(self, landscapes: list[Landscape]) -> None:
        transfer = _make(*landscapes)
        assert set(_told(transfer, 1000, lambda config: 5.0)) == set(CONFIGS)
        assert all(map(math.isfinite, transfer.expected().values()))
