from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from tunekit.core.config import Config
from tunekit.search import race
from tunekit.search.decide import TIE_BAND, Finalist, decide

DEFAULT = Config(BLOCK_SIZE=1024, num_warps=4)
FIRST, SECOND, THIRD = (Config(BLOCK_SIZE=128 << i, num_warps=1) for i in range(3))
"""In order of simplicity, hence of preference when nothing else is known."""


class Samples:
    """Noisy rounds of fixed times; counts what was asked for."""

    def __init__(self, times_us: Sequence[float], noise: float = 0.0, seed: int = 0) -> None:
        self._times_us, self._noise = times_us, noise
        self._random = random.Random(seed)
        self.asked: list[int] = []

    def __call__(self, rounds: int) -> list[list[float]]:
        self.asked.append(rounds)
        return [
            [time * (1.0 + self._noise * self._random.gauss(0, 1)) for _ in range(rounds)]
            for time in self._times_us
        ]


def _field(*configs: Config) -> list[Finalist]:
    return [Finalist(config, ()) for config in configs]


def _steady(config: Config, time_us: float, wobble: float = 0.0, rounds: int = 12) -> Finalist:
    """Samples that are above and below by the wobble in turn: 1.4826 wobbles of deviation."""
    return Finalist(config, tuple(time_us * (1 + wobble * (-1) ** i) for i in range(rounds)))


class TestSettled:
    def test_the_default_clearly_inside_the_band(self) -> None:
        assert race.settled([_steady(DEFAULT, 100.0, 1e-4), _steady(FIRST, 100.0)], DEFAULT)

    def test_the_default_at_the_edge_of_the_band(self) -> None:
        edge = 100.0 * (1 + TIE_BAND)
        assert not race.settled([_steady(DEFAULT, edge, 1e-3), _steady(FIRST, 100.0)], DEFAULT)

    @pytest.mark.parametrize("side", [-1, 1])
    def test_it_takes_three_standard_errors(self, side: int) -> None:
        wobble = 1e-3
        error = 1.2533 * 1.4826 * wobble / 12**0.5
        for distance, clear in ((2.9, False), (3.1, True)):
            default = _steady(DEFAULT, 100.0 * (1 + TIE_BAND + side * distance * error), wobble)
            assert race.settled([default, _steady(FIRST, 100.0)], DEFAULT) is clear

    def test_what_comes_after_the_winner_need_not_be_told_apart(self) -> None:
        edge = _steady(SECOND, 100.0 * (1 + TIE_BAND), 1e-3)
        finalists = [_steady(DEFAULT, 110.0), edge, _steady(FIRST, 100.0)]
        assert race.settled(finalists, DEFAULT)
        assert not race.settled(finalists, DEFAULT, {SECOND: 1.0})

    def test_the_winner_has_to_beat_the_default_clearly(self) -> None:
        """Inside the band clearly, next to a default outside it clearly, but not beating it."""
        rounds = 100
        mark = _steady(SECOND, 100.0, rounds=rounds)
        default = _steady(DEFAULT, 100.0 * (1 + TIE_BAND + 0.001), 1e-3, rounds)
        near = _steady(FIRST, 100.0 * (1 + TIE_BAND - 0.001), -1e-3, rounds)
        assert not race.settled([default, near, mark], DEFAULT)
        assert race.settled([default, mark], DEFAULT)
        assert race.settled([near, mark], DEFAULT)

    def test_without_the_default(self) -> None:
        assert race.settled([_steady(FIRST, 100.0), _steady(SECOND, 90.0)], DEFAULT)


class TestRun:
    def test_a_clear_race_ends_after_the_first_block(self) -> None:
        sample = Samples([100.0, 90.0, 95.0, 50.0], noise=0.001)
        ran = race.run(_field(DEFAULT, FIRST, SECOND), DEFAULT, sample)
        assert (ran.rounds, ran.settled) == (race.BLOCKS[0], True)
        assert ran.stopped == "settled after 8 rounds"
        assert [len(each.samples_us) for each in ran.finalists] == [race.BLOCKS[0]] * 3
        assert [len(each) for each in ran.others] == [race.BLOCKS[0]]

    def test_it_goes_on_until_it_is_settled(self) -> None:
        """0.4 % from the edge; three errors are 0.53 % after 16 rounds and 0.37 % after 32."""
        asked = []

        def sample(rounds: int) -> list[list[float]]:
            asked.append(rounds)
            return [list(_steady(DEFAULT, 1.004, 0.0038, rounds).samples_us), [1.0] * rounds]

        ran = race.run(_field(DEFAULT, FIRST), DEFAULT, sample)
        assert asked == list(race.BLOCKS[:3])
        assert ran.stopped == "settled after 32 rounds"

    def test_a_gap_at_the_edge_is_called_tied_in_the_end(self) -> None:
        sample = Samples([100.0 * (1 + TIE_BAND), 100.0, 80.0], noise=0.01)
        ran = race.run(_field(DEFAULT, FIRST), DEFAULT, sample)
        assert sample.asked == list(race.BLOCKS)
        assert ran.stopped == f"tied after {sum(race.BLOCKS)} rounds"
        assert {len(each.samples_us) for each in ran.finalists} == {sum(race.BLOCKS)}
        assert [len(each) for each in ran.others] == [sum(race.BLOCKS)]

    def test_rounds_stay_paired_from_block_to_block(self) -> None:
        clock = iter(range(1000))

        def sample(rounds: int) -> list[list[float]]:
            drift = [1.0 + next(clock) for _ in range(rounds)]
            return [[1.0079 * d for d in drift], drift]

        ran = race.run(_field(DEFAULT, FIRST), DEFAULT, sample, blocks=(2, 3))
        assert ran.rounds == 2  # without noise there is nothing to wait for
        slower, faster = (each.samples_us for each in ran.finalists)
        assert [a / b for a, b in zip(slower, faster, strict=True)] == pytest.approx([1.0079] * 2)

    def test_earlier_samples_do_not_count(self) -> None:
        field = [Finalist(DEFAULT, (1.0,)), Finalist(FIRST, (1000.0,) * 5)]
        ran = race.run(field, DEFAULT, Samples([100.0, 50.0]))
        assert {len(each.samples_us) for each in ran.finalists} == {race.BLOCKS[0]}
        assert [each.config for each in ran.finalists] == [DEFAULT, FIRST]

    def test_preference_decides_what_has_to_be_settled(self) -> None:
        times = [120.0, 100.0, 100.0 * (1 + TIE_BAND)]
        field = _field(DEFAULT, FIRST, SECOND)
        assert race.run(field, DEFAULT, Samples(times, 0.003)).rounds == race.BLOCKS[0]
        liked = {SECOND: 1.0}
        assert not race.run(field, DEFAULT, Samples(times, 0.003), liked).settled

    @pytest.mark.parametrize(
        "sample",
        [lambda n: [[1.0] * n, [1.0] * (n - 1)], lambda n: [[1.0] * n]],
        ids=["a sample short", "an entrant short"],
    )
    def test_incomplete_rounds_are_refused(
        self, sample: Callable[[int], Sequence[Sequence[float]]]
    ) -> None:
        with pytest.raises(ValueError, match=r"incomplete|zip"):
            race.run(_field(DEFAULT, FIRST), DEFAULT, sample)

    @pytest.mark.parametrize("gap", [0.003, 0.013])
    def test_looking_again_and_again_seldom_ends_on_the_wrong_side(self, gap: float) -> None:
        """A default 0.5 % from the edge, half a per cent of noise a sample, 300 races."""
        wrong = 0
        for seed in range(300):
            ran = race.run(_field(DEFAULT, FIRST), DEFAULT, Samples([1.0 + gap, 1.0], 0.005, seed))
            verdict = decide(ran.finalists, DEFAULT)
            wrong += (verdict.winner == 0) is not (gap < TIE_BAND)
        assert wrong <= 3


class TestEntrants:
    def _measured(self, *times: tuple[Config, float]) -> list[Finalist]:
        return [Finalist(config, (time,)) for config, time in times]

    def _grid(self, times: Sequence[float]) -> list[Finalist]:
        """Of equal preference, the later the less simple."""
        return [
            Finalist(Config(BLOCK_SIZE=128 + i, num_warps=1), (time,))
            for i, time in enumerate(times)
        ]

    def test_the_fastest_and_the_preferred_and_the_default(self) -> None:
        measured = self._grid([102.0 - 0.1 * i for i in range(20)])
        default = Finalist(DEFAULT, (500.0,))
        chosen = race.entrants([default, *measured], DEFAULT)
        fastest = measured[: -race.FASTEST - 1 : -1]
        assert chosen == [*fastest, *measured[: race.PREFERRED], default]

    def test_nobody_enters_twice(self) -> None:
        measured = self._measured((FIRST, 100.0), (SECOND, 100.5), (DEFAULT, 101.0))
        chosen = race.entrants(measured, DEFAULT)
        assert sorted(map(measured.index, chosen)) == [0, 1, 2]

    def test_what_is_beyond_the_margin_stays_out(self) -> None:
        far = 100.0 * (1 + race.MARGIN)
        measured = self._measured((FIRST, far + 0.01), (SECOND, 100.0), (THIRD, far))
        chosen = race.entrants(measured, DEFAULT, {FIRST: 1.0})
        assert [each.config for each in chosen] == [SECOND, THIRD]

    def test_the_preferred_enters_whatever_the_noise_of_the_search(self) -> None:
        for seed in range(50):
            generator = random.Random(seed)
            times = [100.0 * (1 + generator.gauss(0, 0.004)) for _ in range(40)]
            measured = self._grid(times)
            liked = {measured[30].config: 1.0}
            assert measured[30] in race.entrants(measured, DEFAULT, liked)

    def test_a_default_that_failed_is_missing(self) -> None:
        assert [each.config for each in race.entrants(self._measured((FIRST, 1.0)), DEFAULT)] == [
            FIRST
        ]
