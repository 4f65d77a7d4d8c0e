"""What of measuring needs no GPU; tests/gpu has the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from tunekit.evaluate import measure as module
from tunekit.evaluate.measure import (
    PROTOCOL,
    Measurement,
    interleaved,
    interleaved_us,
    measure,
    median_us,
    protocol_name,
)
from tunekit.evaluate.noise import OTHER_PROCESS, Reading, Watch
from tunekit.evaluate.timer import Timer


def test_each_protocol_has_a_name_of_its_own() -> None:
    assert protocol_name(warm=False) == PROTOCOL == "graph-cold-3"
    assert protocol_name(warm=True) == "graph-warm-3"


class Scripted(Timer):
    """A timer that gives samples from a list, and notes when it is asked."""

    def __init__(
        self,
        samples: Iterable[float],
        launches: int = 100,
        log: list[str] | None = None,
        name: str = "a",
    ) -> None:
        self.launches = launches
        self._samples = iter(samples)
        self._log, self._name = [] if log is None else log, name

    @property
    def asked(self) -> int:
        return len(self._log)

    def sample_us(self) -> float:
        self._log.append(self._name)
        return next(self._samples)


class ScriptedWatch(Watch):
    """A watch that gives readings from a list, and good ones after it."""

    def __init__(self, readings: Iterable[Reading] = ()) -> None:
        self.unable = self.lasting = ""
        self._readings = itertools.chain(readings, itertools.repeat(WELL))

    def read(self) -> Reading:
        return next(self._readings)


WELL = Reading(sm_clock_mhz=1980, sm_clock_max_mhz=1980)
HOT = Reading(sm_clock_mhz=1500, sm_clock_max_mhz=1980, reasons=0x40, temperature_c=90)
BUSY = Reading(sm_clock_mhz=1980, sm_clock_max_mhz=1980, others=frozenset({7}))
THROTTLED = "clocks throttled: temperature 90 °C"


def wild(center: float, spread: float = 0.2) -> list[float]:
    """25 samples that spread by so much of their median."""
    return [center * (1 + spread * (side / 2)) for side in (-1, 0, 1, -1, 1)] * 5


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


class TestSamples:
    @pytest.mark.parametrize(
        ("sample", "count"),
        [(1000.0, 5), (1.0, 15), (100.0, 10), (95.0, 11)],
        ids=["at least", "at most", "budget used", "just not used"],
    )
    def test_the_budget_lies_between_fewest_and_most(self, sample: float, count: int) -> None:
        timer = Scripted([sample] * 100, launches=10)
        assert timer.samples_us(10_000.0, fewest=5, most=15) == (sample,) * count

    def test_what_was_sampled_already_counts(self) -> None:
        timer = Scripted([1.0] * 100, launches=10)
        assert timer.samples_us(40.0, fewest=2, most=15, first=(2.0,)) == (2.0, 1.0, 1.0)
        assert timer.asked == 2

    def test_a_race_goes_round(self) -> None:
        log: list[str] = []
        timers = [Scripted(range(100), 1, log, name) for name in "abc"]
        assert interleaved_us(timers, 3) == [(0, 1, 2)] * 3
        assert "".join(log) == "abcabcabc"

    def test_a_race_of_no_rounds(self) -> None:
        assert interleaved_us([Scripted([])], 0) == [()]

    def test_one_outlier_does_not_move_the_figure(self) -> None:
        assert median_us([3.0, 1.0, 2.0]) == 2.0
        assert median_us([2.0, 2.0, 900.0]) == 2.0
        assert median_us([1.0, 2.0]) == 1.5


@pytest.mark.usefixtures("pauses")
class TestMeasure:
    @pytest.mark.parametrize(("sample", "count"), [(1.0, 25), (5.0, 24), (10.0, 12), (1000.0, 5)])
    def test_12_ms_but_at_least_5_and_at_most_25(self, sample: float, count: int) -> None:
        found = measure(Scripted([sample] * 100), ScriptedWatch())
        assert found == Measurement((sample,) * count, "")

    @pytest.mark.parametrize(
        ("hopeless_us", "count"), [(9.99, 1), (10.0, 12), (11.0, 12), (None, 12)]
    )
    def test_the_hopeless_are_sampled_once(self, hopeless_us: float | None, count: int) -> None:
        timer = Scripted([10.0] * 100)
        assert measure(timer, ScriptedWatch(), hopeless_us) == Measurement((10.0,) * count)
        assert timer.asked == count

    def test_the_first_sample_alone_decides_who_is_hopeless(self) -> None:
        found = measure(Scripted([9.0] + [9.9] * 100), ScriptedWatch(), hopeless_us=9.5)
        assert len(found.samples_us) > 1

    def test_a_hopeless_one_says_what_disturbed_it(self) -> None:
        found = measure(Scripted([10.0]), ScriptedWatch([WELL, HOT]), hopeless_us=5.0)
        assert found == Measurement((10.0,), THROTTLED)

    @pytest.mark.parametrize("readings", [(HOT,), (WELL, HOT), (BUSY,)])
    def test_a_disturbed_set_is_measured_again_and_left_out(
        self, readings: tuple[Reading, ...], pauses: list[float]
    ) -> None:
        timer = Scripted([12.0] * 10 + [10.0] * 100)
        assert measure(timer, ScriptedWatch(readings)) == Measurement((10.0,) * 12, "")
        assert len(pauses) == 1

    def test_a_wide_spread_is_measured_again_and_left_out(self, pauses: list[float]) -> None:
        timer = Scripted(wild(4.0) + wild(4.0) + [4.0] * 100)
        assert measure(timer, ScriptedWatch()) == Measurement((4.0,) * 25, "")
        assert len(pauses) == 2

    def test_three_disturbed_sets_are_enough_and_the_calmest_is_given(self) -> None:
        timer = Scripted(wild(4.0, 0.3) + wild(4.0, 0.1) + wild(4.0, 0.2) + [4.0] * 100)
        found = measure(timer, ScriptedWatch())
        assert found.samples_us == tuple(wild(4.0, 0.1))
        assert found.disturbance == "samples spread by 10% of their median, 6% is normal"
        assert timer.asked == 75

    def test_what_the_driver_says_weighs_more_than_the_spread(self) -> None:
        timer = Scripted([4.0] * 25 + wild(5.0) + [4.0] * 25)
        found = measure(timer, ScriptedWatch([HOT, HOT, WELL, WELL, HOT, HOT]))
        assert found.samples_us == tuple(wild(5.0))
        assert found.disturbance.startswith("samples spread")

    def test_what_remains_says_so(self) -> None:
        found = measure(Scripted([10.0] * 100), ScriptedWatch([HOT] * 99))
        assert found == Measurement((10.0,) * 12, THROTTLED)

    def test_what_outlasted_retries_is_said_again_but_not_waited_for(
        self, pauses: list[float]
    ) -> None:
        watch = ScriptedWatch([BUSY] * 8)
        for expected in (2, 2):
            found = measure(Scripted([10.0] * 100), watch)
            assert found.disturbance == OTHER_PROCESS
            assert len(pauses) == expected
        # Gone, and come again: it is waited for again.
        assert measure(Scripted([10.0] * 100), watch).disturbance == ""
        watch._readings = iter([BUSY] * 99)
        assert measure(Scripted([10.0] * 100), watch).disturbance == OTHER_PROCESS
        assert len(pauses) == 4

    def test_a_spread_beside_what_lasts_is_still_retried(self, pauses: list[float]) -> None:
        watch = ScriptedWatch([BUSY] * 99)
        watch.lasting = OTHER_PROCESS
        found = measure(Scripted(wild(4.0) + [4.0] * 100), watch)
        assert found == Measurement((4.0,) * 25, OTHER_PROCESS)
        assert len(pauses) == 1

    def test_each_set_begins_settled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log: list[str] = []
        monkeypatch.setattr(module, "settle", lambda: log.append("settle"))
        measure(Scripted([1.0] * 100, 6000, log, "s"), ScriptedWatch([HOT]))
        assert "".join(log) == "settle" + "s" * 5 + "settle" + "s" * 5


@pytest.mark.usefixtures("pauses")
class TestInterleaved:
    def test_it_goes_round(self) -> None:
        log: list[str] = []
        timers = [Scripted([1.0, 2.0, 3.0], 1, log, name) for name in "abc"]
        assert interleaved(timers, 3, ScriptedWatch()) == ([(1.0, 2.0, 3.0)] * 3, "")
        assert "".join(log) == "abcabcabc"

    def test_a_sample_is_the_mean_of_replays_that_go_round_as_well(self) -> None:
        log: list[str] = []
        timers = [Scripted([1.0, 3.0, 5.0, 9.0], 1, log, name) for name in "ab"]
        found = interleaved(
            timers, 2, ScriptedWatch(), before_round=lambda: log.append("|"), replays=2
        )
        assert found == ([(2.0, 7.0)] * 2, "")
        assert "".join(log) == "|abab|abab"

    def test_a_repeated_round_is_laid_out_again(self) -> None:
        rounds: list[int] = []
        watch = ScriptedWatch([WELL, HOT])
        interleaved([Scripted([1.0] * 9)], 1, watch, before_round=lambda: rounds.append(1))
        assert len(rounds) == 2

    def test_a_disturbed_round_is_repeated_for_all(self, pauses: list[float]) -> None:
        timers = [Scripted([1.0, 9.0, 1.0, 1.0]), Scripted([2.0, 8.0, 2.0, 2.0])]
        watch = ScriptedWatch([WELL, WELL, WELL, HOT])
        assert interleaved(timers, 3, watch) == ([(1.0,) * 3, (2.0,) * 3], "")
        assert len(pauses) == 1

    def test_repetitions_end_and_what_remains_is_said(self, pauses: list[float]) -> None:
        timer = Scripted([1.0] * 99)
        watch = ScriptedWatch([HOT] * 999)
        assert interleaved([timer], 4, watch) == ([(1.0,) * 4], THROTTLED)
        assert timer.asked == 8
        assert interleaved([timer], 4, watch) == ([(1.0,) * 4], THROTTLED)
        assert timer.asked == 12
        assert len(pauses) == 4

    def test_a_wide_spread_repeats_all_rounds_once(self) -> None:
        calm, other = Scripted([1.0] * 99), Scripted(wild(2.0, 0.3) + [2.0] * 99)
        assert interleaved([calm, other], 25, ScriptedWatch()) == (
            [(1.0,) * 25, (2.0,) * 25],
            "",
        )

    def test_a_drift_that_all_share_is_no_spread(self) -> None:
        drift = [1.0 + round_number / 50 for round_number in range(25)]
        timers = [Scripted([time_us * each for each in drift]) for time_us in (2.0, 3.0)]
        series, said = interleaved(timers, 25, ScriptedWatch())
        assert said == ""
        assert series[0] == tuple(2.0 * each for each in drift)

    def test_the_calmer_rounds_count_and_say_so(self) -> None:
        timer = Scripted(wild(2.0, 0.1) + wild(2.0, 0.3))
        series, said = interleaved([timer], 25, ScriptedWatch())
        assert series == [tuple(wild(2.0, 0.1))]
        assert said == "samples spread by 10% of their median, 6% is normal"

    def test_no_rounds_and_no_timers(self) -> None:
        assert interleaved([Scripted([])], 0, ScriptedWatch()) == ([()], "")
        assert interleaved([], 2, ScriptedWatch()) == ([], "")
