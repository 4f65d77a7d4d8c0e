from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary
from tunekit.search.decide import (
    TIE_BAND,
    Finalist,
    beats,
    decide,
    fastest_of,
    gap,
    in_order,
    paired_gain,
    rank_estimates,
    resources,
    simplicity,
)

DEFAULT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
FLAT = Config(BLOCK_SIZE=512, VEC=4, num_warps=2, num_stages=1)
WIDER = Config(BLOCK_SIZE=2048, VEC=4, num_warps=8, num_stages=1)
LOOP = Config(BLOCK_SIZE=256, VEC=4, num_warps=1, num_stages=2)


def _finalist(config: Config, time_us: float, noise: float = 0.0, seed: int = 0) -> Finalist:
    """21 samples of a time, with relative noise."""
    generator = random.Random(f"{config}{seed}")
    return Finalist(config, tuple(time_us * (1 + noise * generator.gauss(0, 1)) for _ in range(21)))


class TestPairedGain:
    def test_a_constant_ratio_has_no_error(self) -> None:
        gain, error = paired_gain([3.0, 6.0, 9.0], [2.0, 4.0, 6.0])
        assert gain == pytest.approx(0.5)
        assert error == pytest.approx(0.0)

    def test_figures(self) -> None:
        """Ratios 1.0 to 1.4: median 1.2, deviations 0.2 0.1 0 0.1 0.2, their median 0.1."""
        gain, error = paired_gain([10.0, 11.0, 12.0, 13.0, 14.0], [10.0] * 5)
        assert gain == pytest.approx(0.2)
        assert error == pytest.approx(1.2533 * 1.4826 * 0.1 / 5**0.5)

    def test_a_loss_is_negative(self) -> None:
        assert paired_gain([1.0] * 3, [2.0] * 3)[0] == pytest.approx(-0.5)

    def test_one_outlier_moves_neither(self) -> None:
        calm = paired_gain([1.1] * 21, [1.0] * 21)
        assert paired_gain([1.1] * 20 + [50.0], [1.0] * 21) == pytest.approx(calm)

    def test_drift_common_to_both_cancels(self) -> None:
        drift = [1.0 + 0.1 * i for i in range(21)]
        gain, error = paired_gain([1.01 * x for x in drift], drift)
        assert gain == pytest.approx(0.01)
        assert error == pytest.approx(0.0, abs=1e-12)

    def test_rounds_must_pair_up(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            paired_gain([1.0, 1.0], [1.0])


class TestBeats:
    @pytest.mark.parametrize(("gain", "wins"), [(0.001, False), (0.0021, True), (0.5, True)])
    def test_without_noise_it_takes_a_fifth_of_a_percent(self, gain: float, wins: bool) -> None:
        assert beats([1.0 + gain] * 21, [1.0] * 21) is wins

    def test_it_takes_three_standard_errors(self) -> None:
        ratios = [1.00, 1.02, 1.04]
        _, error = paired_gain(ratios, [1.0] * 3)
        shift = 3 * error - 0.02  # the median is 1.02
        assert not beats([ratio + shift - 1e-6 for ratio in ratios], [1.0] * 3)
        assert beats([ratio + shift + 1e-6 for ratio in ratios], [1.0] * 3)

    def test_equals_seldom_beat_each_other(self) -> None:
        wins = sum(
            beats(
                _finalist(FLAT, 100.0, 0.01, seed).samples_us,
                _finalist(WIDER, 100.0, 0.01, seed).samples_us,
            )
            for seed in range(500)
        )
        assert wins < 10

    def test_two_percent_are_seen_through_one_percent_of_noise(self) -> None:
        wins = sum(
            beats(
                _finalist(FLAT, 102.0, 0.01, seed).samples_us,
                _finalist(WIDER, 100.0, 0.01, seed).samples_us,
            )
            for seed in range(100)
        )
        assert wins > 90


class TestDecide:
    def test_a_clear_winner(self) -> None:
        finalists = [
            _finalist(DEFAULT, 100.0, 0.002),
            _finalist(FLAT, 95.0, 0.002),
            _finalist(WIDER, 90.0, 0.002),
        ]
        verdict = decide(finalists, DEFAULT)
        assert (verdict.winner, verdict.default) == (2, 0)
        assert verdict.speedup == pytest.approx(100 / 90, rel=0.005)
        assert verdict.reason.startswith("beat the default by 11.")
        assert "tied" not in verdict.reason

    @pytest.mark.parametrize("gain", [0.0, 0.001, -0.05, TIE_BAND - 1e-4])
    def test_the_default_unless_it_is_beaten(self, gain: float) -> None:
        finalists = [_finalist(FLAT, 100.0 * (1 - gain)), _finalist(DEFAULT, 100.0)]
        verdict = decide(finalists, DEFAULT)
        assert (verdict.winner, verdict.default, verdict.speedup) == (1, 1, 1.0)
        limit = "0.8%" if gain > 0.002 else "the noise"
        assert verdict.reason == f"the default: none beat it by more than {limit}"

    def test_a_gain_just_beyond_the_band_wins(self) -> None:
        default = Finalist(DEFAULT, (100.0 * (1 + TIE_BAND + 1e-4),) * 21)
        verdict = decide([default, _finalist(FLAT, 100.0)], DEFAULT)
        assert verdict.winner == 1
        assert verdict.speedup == pytest.approx(1 + TIE_BAND + 1e-4)

    def test_the_default_wins_however_much_others_are_preferred(self) -> None:
        finalists = [_finalist(FLAT, 100.0), _finalist(DEFAULT, 100.5)]
        verdict = decide(finalists, DEFAULT, {FLAT: 9.0})
        assert verdict.winner == 1
        assert verdict.tied == (1, 0)

    def test_the_default_where_the_noise_is_larger_than_the_gain(self) -> None:
        finalists = [_finalist(DEFAULT, 100.0, 0.05), _finalist(FLAT, 99.0, 0.05)]
        assert decide(finalists, DEFAULT).winner == 0

    def test_a_tie_goes_to_the_simpler(self) -> None:
        finalists = [
            _finalist(DEFAULT, 120.0),
            _finalist(LOOP, 99.95),
            _finalist(WIDER, 100.0),
            _finalist(FLAT, 100.05),
        ]
        verdict = decide(finalists, DEFAULT)
        assert finalists[verdict.winner].config == FLAT
        assert verdict.reason.endswith(", chosen among 3 tied")

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    def test_the_order_of_the_finalists_does_not_matter(self, order: tuple[int, ...]) -> None:
        finalists = [_finalist(config, 100.0) for config in (LOOP, WIDER, FLAT)]
        finalists.append(_finalist(DEFAULT, 130.0))
        shuffled = [finalists[place] for place in order]
        verdict = decide(shuffled, DEFAULT)
        assert shuffled[verdict.winner].config == FLAT
        assert verdict.default == order.index(3)

    def test_without_the_default_the_fastest_wins(self) -> None:
        verdict = decide([_finalist(WIDER, 100.0), _finalist(FLAT, 90.0)], DEFAULT)
        assert (verdict.winner, verdict.default, verdict.speedup) == (1, None, None)
        assert verdict.reason == "fastest; the default did not run"

    def test_the_default_alone(self) -> None:
        verdict = decide([_finalist(DEFAULT, 100.0)], DEFAULT)
        assert (verdict.winner, verdict.default, verdict.speedup) == (0, 0, 1.0)

    def test_who_ties_with_the_fastest_must_beat_the_default_too(self) -> None:
        """A noisy, simpler one is as fast as the fastest but does not beat the default clearly."""
        noisy = tuple(99.5 + 30.0 * ((i % 3) - 1) for i in range(21))
        finalists = [
            Finalist(FLAT, noisy),
            _finalist(WIDER, 99.0),
            _finalist(DEFAULT, 101.0),
        ]
        assert gap(finalists[0], finalists[1])[0] < TIE_BAND < gap(finalists[2], finalists[1])[0]
        assert not beats(finalists[2].samples_us, noisy)
        assert simplicity(FLAT) < simplicity(WIDER)
        verdict = decide(finalists, DEFAULT)
        assert finalists[verdict.winner].config == WIDER
        assert verdict.tied == (1,)
        assert "tied" not in verdict.reason

    def test_the_band_is_measured_from_the_fastest(self) -> None:
        finalists = [
            _finalist(DEFAULT, 110.0),
            _finalist(WIDER, 100.0),
            Finalist(FLAT, (100.0 * (1 + TIE_BAND) - 1e-6,) * 21),
            Finalist(LOOP, (100.0 * (1 + TIE_BAND) + 1e-3,) * 21),
        ]
        verdict = decide(finalists, DEFAULT, {LOOP: 9.0})
        assert verdict.tied == (2, 1)

    def test_among_the_tied_the_preferred_wins(self) -> None:
        finalists = [_finalist(DEFAULT, 110.0), _finalist(FLAT, 100.0), _finalist(WIDER, 100.5)]
        assert decide(finalists, DEFAULT).winner == 1
        assert decide(finalists, DEFAULT, {WIDER: 1.0}).winner == 2
        assert decide(finalists, DEFAULT, {WIDER: 1.0, FLAT: 1.0}).winner == 1

    def test_preference_breaks_ties_only(self) -> None:
        finalists = [_finalist(DEFAULT, 110.0), _finalist(FLAT, 100.0), _finalist(WIDER, 101.0)]
        assert decide(finalists, DEFAULT, {WIDER: 1.0}).winner == 1

    def test_drift_between_rounds_does_not_count(self) -> None:
        """The rounds double in time; the medians alone would be a matter of luck."""
        drift = [1.0 + i / 20 for i in range(21)]
        finalists = [
            Finalist(DEFAULT, tuple(102.0 * d for d in drift)),
            Finalist(FLAT, tuple(100.0 * d for d in drift)),
        ]
        verdict = decide(finalists, DEFAULT)
        assert verdict.winner == 1
        assert verdict.reason == "beat the default by 2.0% ± 0.0%"

    @given(st.lists(st.floats(90.0, 110.0), min_size=15, max_size=15))
    def test_a_winner_other_than_the_default_beat_it(self, times: list[float]) -> None:
        finalists = [
            Finalist(config, tuple(times[5 * i : 5 * i + 5]))
            for i, config in enumerate((DEFAULT, FLAT, WIDER))
        ]
        verdict = decide(finalists, DEFAULT)
        assert verdict.tied[0] == verdict.winner
        winner = finalists[verdict.winner]
        if verdict.winner != 0:
            assert beats(finalists[0].samples_us, winner.samples_us)
            assert verdict.speedup is not None
            assert verdict.speedup > 1.002
            assert gap(winner, fastest_of(finalists))[0] <= TIE_BAND


def _binary(registers: int, spill_bytes: int = 0, shared_bytes: int = 0) -> Binary:
    return Binary("0" * 16, registers, spill_bytes, shared_bytes, 16, 16)


class TestOrder:
    def test_default_preference_resources_simplicity(self) -> None:
        simple = Config(BLOCK_SIZE=128, VEC=4, num_warps=1, num_stages=1)
        ordered = [
            Finalist(DEFAULT, (), _binary(255)),
            Finalist(LOOP, (), _binary(64, shared_bytes=4096)),
            Finalist(FLAT, (), _binary(32)),
            Finalist(WIDER, (), _binary(32)),
            Finalist(simple, (), _binary(16, shared_bytes=1024)),
        ]
        for order in itertools.permutations(range(5)):
            shuffled = [ordered[place] for place in order]
            places = in_order(shuffled, DEFAULT, {LOOP: 1.0})
            assert [shuffled[place] for place in places] == ordered

    def test_what_was_measured_does_not_count(self) -> None:
        slow = [_finalist(FLAT, 9.0), _finalist(WIDER, 1.0)]
        fast = [_finalist(FLAT, 1.0), _finalist(WIDER, 9.0)]
        assert in_order(slow, DEFAULT) == in_order(fast, DEFAULT) == [0, 1]

    def test_an_unnamed_configuration_is_preferred_least(self) -> None:
        assert in_order([Finalist(FLAT, ()), Finalist(WIDER, ())], DEFAULT, {WIDER: -1.0}) == [1, 0]


class TestResources:
    def test_spills_then_shared_memory_then_registers_of_a_block(self) -> None:
        ordered = [
            resources(FLAT, _binary(64)),
            resources(WIDER, _binary(24)),
            resources(FLAT, _binary(16, shared_bytes=1)),
            resources(FLAT, _binary(16, spill_bytes=1)),
            resources(FLAT, None),
        ]
        assert sorted(ordered) == ordered
        assert ordered[0] == (0, 0, 64 * 2 * 32)

    def test_registers_are_handed_out_in_eights(self) -> None:
        assert resources(FLAT, _binary(25)) == resources(FLAT, _binary(32))
        assert resources(FLAT, _binary(33)) > resources(FLAT, _binary(32))


class TestRankEstimates:
    def test_by_time_then_simplicity(self) -> None:
        times = {LOOP: 3.0, WIDER: 2.0, FLAT: 2.0}
        assert rank_estimates(times, DEFAULT) == [FLAT, WIDER, LOOP]

    def test_the_default_is_first_where_none_is_clearly_faster(self) -> None:
        assert rank_estimates({FLAT: 99.9, DEFAULT: 100.0}, DEFAULT) == [DEFAULT, FLAT]

    def test_a_clearly_faster_one_comes_before_the_default(self) -> None:
        assert rank_estimates({FLAT: 50.0, DEFAULT: 100.0, LOOP: 70.0}, DEFAULT) == [
            FLAT,
            LOOP,
            DEFAULT,
        ]


class TestSimplicity:
    def test_stages_then_warps_then_size_then_width(self) -> None:
        ordered = [
            Config(BLOCK_SIZE=8192, VEC=1, num_warps=1, num_stages=1),
            Config(BLOCK_SIZE=256, VEC=8, num_warps=2, num_stages=1),
            Config(BLOCK_SIZE=256, VEC=1, num_warps=2, num_stages=1),
            Config(BLOCK_SIZE=512, VEC=8, num_warps=2, num_stages=1),
            Config(BLOCK_SIZE=128, VEC=8, num_warps=1, num_stages=2),
        ]
        shuffled = ordered[2:] + ordered[:2]
        assert sorted(shuffled, key=simplicity) == ordered

    def test_the_order_of_the_axes_does_not_matter(self) -> None:
        assert simplicity(Config(B=2, A=1, VEC=4)) == simplicity(Config(VEC=4, A=1, B=2))

    def test_no_two_configurations_of_a_space_are_equally_simple(self) -> None:
        values = [
            simplicity(Config(BLOCK_SIZE=block, VEC=vec, num_warps=warps, num_stages=stages))
            for block in (128, 256)
            for vec in (1, 2)
            for warps in (1, 2)
            for stages in (1, 2)
        ]
        assert len(set(values)) == len(values)


def test_a_finalists_time_is_its_median() -> None:
    assert Finalist(DEFAULT, (1.0, 100.0, 2.0)).median_us == 2.0
