from __future__ import annotations

import math

import pytest

from tunekit.search.stopping import Stopping


@pytest.mark.parametrize("gain", [0.0, 0.001, 0.0029])
def test_it_stops_when_little_is_expected_to_be_gained(gain: float) -> None:
    assert Stopping().reason(8, 5.0, gain) == f"expected gain {gain:.2%}"


@pytest.mark.parametrize("gain", [0.003, 0.5, math.inf])
def test_it_goes_on_while_more_is_expected(gain: float) -> None:
    assert Stopping().reason(100, 5.0, gain) == ""


def test_a_small_gain_is_not_believed_too_early() -> None:
    assert Stopping().reason(7, 5.0, 0.0) == ""
    assert Stopping(fewest=3).reason(3, 5.0, 0.0) != ""


def test_the_least_gain_is_one_s_own_choice() -> None:
    assert Stopping(least_gain=0.1).reason(8, 5.0, 0.09) == "expected gain 9.00%"
    assert Stopping(least_gain=0.0).reason(8, 5.0, 0.0) == ""


@pytest.mark.parametrize(("best_us", "above"), [(10.049, "+0.5%"), (10.0, "+0.0%"), (9.0, "-10")])
def test_it_stops_near_the_floor_however_few_were_measured(best_us: float, above: str) -> None:
    reason = Stopping(floor_us=10.0).reason(1, best_us, math.inf)
    assert reason.startswith("within 0.5% of the identity epilogue (")
    assert above in reason


def test_it_goes_on_above_the_floor() -> None:
    assert Stopping(floor_us=10.0).reason(1, 10.051, math.inf) == ""
    assert Stopping(floor_us=10.0, near_floor=0.02).reason(1, 10.051, math.inf) != ""


def test_above_the_floor_a_small_gain_stops_it_all_the_same() -> None:
    assert Stopping(floor_us=1.0).reason(8, 10.0, 0.0) == "expected gain 0.00%"


def test_an_unknown_floor_stops_nothing() -> None:
    assert Stopping(floor_us=None).reason(1, 1e-9, math.inf) == ""


@pytest.mark.parametrize("floor_us", [None, 10.0])
def test_where_nothing_ran_there_is_no_reason(floor_us: float | None) -> None:
    assert Stopping(floor_us=floor_us).reason(0, None, 0.0) == ""
    assert Stopping(floor_us=floor_us).reason(50, None, 0.0) == ""


@pytest.mark.parametrize(
    ("configs", "unmeasured", "fewest"),
    [(1, 1, 8), (96, 0, 8), (107, 0, 8), (107, 1, 9), (304, 0, 25), (304, 304, 50), (2400, 0, 200)],
)
def test_larger_and_stranger_spaces_are_searched_longer(
    configs: int, unmeasured: int, fewest: int
) -> None:
    stopping = Stopping.of_space(configs, 5.0, unmeasured)
    assert (stopping.fewest, stopping.floor_us) == (fewest, 5.0)
    assert stopping.reason(fewest - 1, 9.0, 0.0) == ""
    assert stopping.reason(fewest, 9.0, 0.0) != ""
