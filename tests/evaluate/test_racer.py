"""Where the graphs and the code of a race's configurations lie."""

from __future__ import annotations

from random import Random
from typing import cast

from tunekit.evaluate.racer import Racer, lay_out_anew
from tunekit.evaluate.timer import Launch, Timer


class FakeTimer:
    """Notes what becomes of its graph."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def release(self) -> None:
        self._log.append("release")

    def renew(self, launch: Launch) -> None:
        launch(0)


def _racers(log: list[str], names: str, copies: int) -> list[Racer]:
    def launch(name: str) -> Launch:
        return lambda index: log.append(name)

    return [
        Racer(cast(Timer, FakeTimer(log)), tuple(launch(f"{name}{copy}") for copy in range(copies)))
        for name in names
    ]


def test_all_memory_is_given_back_before_anyone_takes_some() -> None:
    log: list[str] = []
    lay_out_anew(_racers(log, "abc", 1), Random(0))
    assert log[:3] == ["release"] * 3
    assert sorted(log[3:]) == ["a0", "b0", "c0"]


def test_order_and_copies_are_drawn() -> None:
    log: list[str] = []
    racers, random = _racers(log, "abc", 2), Random(0)
    for _ in range(60):
        lay_out_anew(racers, random)
    renewed = [name for name in log if name != "release"]
    rounds = ["".join(renewed[at : at + 3]) for at in range(0, len(renewed), 3)]
    assert all(sorted(each[::2]) == ["a", "b", "c"] for each in rounds)
    assert len({each[::2] for each in rounds}) == 6
    assert set(renewed) == {"a0", "a1", "b0", "b1", "c0", "c1"}


def test_the_same_seed_draws_the_same() -> None:
    logs: tuple[list[str], list[str]] = ([], [])
    for log in logs:
        lay_out_anew(_racers(log, "abcdef", 3), Random(7))
    assert logs[0] == logs[1]
