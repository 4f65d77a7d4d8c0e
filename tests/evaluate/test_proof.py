"""Timers that are made up: what of a measurement is believed. tests/adversarial has real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch

from tunekit.evaluate.guards import FINITE, holds_poison
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.proof import least_us, prove
from tunekit.evaluate.rotation import Rotation
from tunekit.evaluate.timer import Timer
from tunekit.evaluate.trial import Checked
from tunekit.evaluate.verify import TOLERANCES

EXPECTED = torch.linspace(-2, 2, 300)


class FakeTimer:
    """Takes these times, one a round, and does what a kernel does to the buffers it launches on."""

    def __init__(self, times_us: list[float], kernel: Callable[[], None], touched: int) -> None:
        self._times = iter(times_us)
        self._kernel = kernel
        self.sets_touched = touched

    def first_touch_us(self, before: Callable[[], None]) -> float:
        before()
        self._kernel()
        return next(self._times)


def _prove(
    times_us: list[float],
    kernel: Callable[[tuple[torch.Tensor, ...]], Any],
    *,
    sets: int = 1,
    touched: int = 1,
    time_us: float = 20.0,
    keep: bool = True,
) -> Checked:
    outputs = tuple(torch.empty(300) for _ in range(sets))
    judge = Judge([EXPECTED], [TOLERANCES["float32"]], [True], keep=keep)
    timer = cast(Timer, FakeTimer(times_us, lambda: kernel(outputs), touched))
    return prove(
        timer, Rotation(((),) * sets, tuple((output,) for output in outputs), None), judge, time_us
    )


def _writes(outputs: tuple[torch.Tensor, ...]) -> None:
    for output in outputs:
        output.copy_(EXPECTED)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("sets", [1, 3, 40])
def test_who_writes_every_output_in_the_time_measured_is_believed(sets: int, keep: bool) -> None:
    assert _prove([20.0], _writes, sets=sets, touched=sets, keep=keep) == Checked(0.0)


def test_outputs_hold_something_else_before() -> None:
    seen: list[bool] = []

    def looks(outputs: tuple[torch.Tensor, ...]) -> None:
        seen.extend(bool(holds_poison(output, FINITE).all()) for output in outputs)
        _writes(outputs)

    _prove([20.0], looks, sets=5, touched=5)
    assert seen == [True] * 5


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("lazy", [0, 4, 35])
def test_who_leaves_an_output_as_it_was_is_wrong(lazy: int, keep: bool) -> None:
    """Sets that are compared: of forty, each fifth."""

    def leaves_one(outputs: tuple[torch.Tensor, ...]) -> None:
        _writes(outputs[:lazy] + outputs[lazy + 1 :])

    checked = _prove([20.0], leaves_one, sets=40, touched=40, keep=keep)
    caught = lazy % 5 == 0
    assert bool(checked.fault) is caught
    if caught:
        assert checked.error > 1.0
        assert checked.fault.startswith("differs from the reference when it was timed, its output")
        assert "(300 of 300 elements are not written)" in checked.fault


def test_sets_that_no_launch_touches_are_not_asked_for() -> None:
    assert _prove([20.0], lambda outputs: _writes(outputs[:2]), sets=5, touched=2) == Checked(0.0)


def test_who_takes_longer_where_its_output_is_not_there_skips_work() -> None:
    checked = _prove([95.0, 96.0, 97.25], _writes)
    assert checked.error > 1.0
    assert checked.fault == (
        "skips work: takes 97.25 µs where its output is not there yet and 20 µs where it is"
    )


def test_a_round_that_was_disturbed_is_repeated() -> None:
    assert _prove([95.0, 20.5], _writes) == Checked(0.0)


@pytest.mark.parametrize(("first_us", "believed"), [(49.9, True), (50.1, False)])
def test_twice_the_time_and_the_start_of_a_graph_are_allowed(
    first_us: float, believed: bool
) -> None:
    assert bool(_prove([first_us] * 3, _writes).fault) is not believed


def test_the_start_of_a_graph_is_shared_by_its_launches() -> None:
    assert _prove([49.0] * 3, _writes, sets=10, touched=10).fault
    assert not _prove([40.9] * 3, _writes, sets=10, touched=10).fault


def test_the_least_time_is_what_the_memory_needs_for_what_the_cache_cannot_hold() -> None:
    assert least_us(3_000_000_000, 0, 3e12) == pytest.approx(1000.0)
    assert least_us(150_000_000, 50_000_000, 1e12) == pytest.approx(100.0)
    assert least_us(40_000_000, 50_000_000, 1e12) == 0.0
