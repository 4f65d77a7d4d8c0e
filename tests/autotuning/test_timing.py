from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from tunekit.autotuning import rotating, timing
from tunekit.autotuning.copies import Arguments
from tunekit.autotuning.live import Decorated
from tunekit.autotuning.rotating import Sets, sets_of
from tunekit.autotuning.timing import BenchTiming, GraphTiming, Racing, StreamedSets, timer_of
from tunekit.core.config import Config
from tunekit.core.device import DEVICES

DEVICE = replace(DEVICES["h100"], l2_bytes=1000)
DECORATED = Decorated("theirs:kernel", None, ("x", "out"), reset_to_zero=("out",))


def of_size(count: int) -> Arguments:
    return Arguments.like((torch.ones(count), torch.ones(count)), {})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of a GPU is free, as much as the tests say."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100_000, 100_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: False)
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *shape, **kind: empty(*shape, **{**kind, "device": "cpu"})
    )


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("count", "sets", "flushed", "launches"),
    [
        (250, 10, False, 250),  # 2000 bytes a set: twenty caches of 1000
        (1, 64, True, 64),  # as many as there may be, and still not twice the cache
        (2500, 1, False, 250),  # one is twenty caches
        (4000, 1, False, 250),
    ],
)
def test_sets_rotate_through_twenty_caches(
    count: int, sets: int, flushed: bool, launches: int
) -> None:
    made = sets_of(DECORATED, of_size(count), (1,), DEVICE, starts_matter=False)
    assert (made.sets, made.flush is not None, made.launches) == (sets, flushed, launches)


@pytest.mark.usefixtures("gpu")
def test_where_a_start_matters_each_set_is_launched_on_once_and_put_right() -> None:
    made = sets_of(DECORATED, of_size(250), (1,), DEVICE, starts_matter=True)
    assert made.launches == made.sets == 10
    for place in range(made.sets):
        made[place].args[0].fill_(7.0)  # which nothing says is written
        made[place].args[1].fill_(7.0)
    made.reset()
    assert all(bool((made[place].args[1] == 0).all()) for place in range(made.sets))
    assert all(bool((made[place].args[0] == 7).all()) for place in range(made.sets))


@pytest.mark.usefixtures("gpu")
def test_sets_take_half_of_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (9_000, 9_000))
    made = sets_of(DECORATED, of_size(250), (1,), DEVICE, starts_matter=False)
    assert made.sets == 1 + 2
    assert rotating._free_bytes() == 9_000


def test_a_benchmark_of_ones_own_gives_milliseconds() -> None:
    launched = []
    sets = cast(Sets, SimpleNamespace(reset=lambda: launched.append("reset")))
    for given in ([2.0, 1.0, 3.0], 2.0):

        def do_bench(call: Callable[[], None], quantiles: object, given: Any = given) -> Any:
            call()
            return given

        found = BenchTiming(do_bench).measured(Config(BLOCK=1), launched.append, sets, None)
        assert found.samples_us == (2000.0,)
    assert launched == ["reset", 0, "reset", 0]
    assert not isinstance(BenchTiming(print), Racing)
    assert isinstance(GraphTiming(0), Racing)


class Stream:
    """A stream's timer: each run takes 60 µs."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run

    def sample_us(self) -> float:
        self._run()
        return 60.0


def test_what_no_graph_can_hold_is_timed_on_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(launch: object, rotation: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(timing, "Timer", refuses)
    monkeypatch.setattr(timing, "StreamTimer", Stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    launched: list[int] = []
    flush = torch.ones(4)
    sets = cast(Sets, SimpleNamespace(sets=3, reset=lambda: None, flush=flush))
    timer = timer_of(launched.append, sets)
    assert isinstance(timer, StreamedSets)
    assert timer.sample_us() == 20.0
    assert launched == [0, 1, 2]
    assert not flush.any()
    assert timer.samples_us(200.0, 2, 25, (20.0,)) == (20.0,) * 4
    timer.release()
    timer.renew()


def test_memory_that_is_not_there_is_no_reason_for_another_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(launch: object, rotation: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(timing, "Timer", full)
    with pytest.raises(torch.OutOfMemoryError):
        timer_of(lambda place: None, cast(Sets, None))


def test_in_a_race_graphs_are_captured_anew_every_eight_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Racer:
        renewed = 0

        def __init__(self, us: float) -> None:
            self.us = us

        def sample_us(self) -> float:
            return self.us

        def release(self) -> None:
            pass

        def renew(self) -> None:
            Racer.renewed += 1

    made: list[float] = []

    def make(launch: Callable[[int], float], sets: object) -> Racer:
        made.append(launch(0))
        return Racer(made[-1])

    monkeypatch.setattr(timing, "timer_of", make)
    here = GraphTiming(0)
    launches = {Config(BLOCK=1): lambda place: 5.0, Config(BLOCK=2): lambda place: 7.0}
    for _ in range(2):
        series, disturbance = here.raced(cast(Any, launches), cast(Sets, None), 16)
        assert series == [(5.0,) * 16, (7.0,) * 16]
        assert disturbance == ""
    assert made == [5.0, 7.0]  # ready when they race again
    assert Racer.renewed == 2 * 2 * 2
