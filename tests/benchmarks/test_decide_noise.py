from __future__ import annotations

import decide_noise
import numpy as np
import pytest

from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.search.decide import TIE_BAND

A, B, DEFAULT = (Config(BLOCK_SIZE=128 << i, num_warps=1) for i in range(3))


def case_of(times_us: dict[Config, float], size: int = 4096) -> decide_noise.Case:
    problem = Problem.of("mish_mish", "0" * 12, {"n": size}, "float32", "p16,p16,i32x16", "h100")
    return decide_noise.Case(problem, DEFAULT, times_us, dict.fromkeys(times_us))


def test_every_recorded_problem_has_noise_of_its_size() -> None:
    for device in decide_noise.DEVICES:
        cases = decide_noise.recorded_cases(device)
        assert len(cases) == {"h100": 174, "h200": 141}[device]
        for case in cases:
            assert case.default in case.times_us
            races = decide_noise.recorded_noise()[device, case.elements]
            assert all(len(race) in (21, 24) for race in races)


@pytest.mark.parametrize("added", decide_noise.NOISES, ids=lambda added: added.name)
@pytest.mark.parametrize("device", decide_noise.DEVICES)
def test_never_slower_and_seldom_missed(device: str, added: decide_noise.Disturbed) -> None:
    false, missed, rounds = decide_noise.false_and_missed(device, added, repeats=4)
    assert false <= decide_noise.FALSE_GOAL
    assert missed <= decide_noise.MISSED_GOAL
    assert rounds < 40


@pytest.mark.parametrize("device", decide_noise.DEVICES)
def test_tunings_agree_and_lose_little(device: str) -> None:
    scenario = decide_noise.Scenario("sparse", every=14)
    found = decide_noise.repeated(device, scenario, tunings=10)
    assert len(found) > 9
    assert np.mean([each.same for each in found]) >= 0.85
    assert np.mean([each.slower for each in found]) <= decide_noise.FALSE_GOAL
    losses = [loss for each in found for loss in each.losses]
    assert np.mean(losses) <= TIE_BAND / 2
    assert np.mean([loss > decide_noise.LOSS_GOAL for loss in losses]) <= 0.03


def test_knowing_neighbours_makes_tunings_agree() -> None:
    known, unknown = (
        decide_noise.repeated(
            "h100", decide_noise.Scenario("", every=14, preferred=preferred), tunings=10
        )
        for preferred in (True, False)
    )
    assert sum(each.same for each in known) > sum(each.same for each in unknown)


def test_the_same_seeds_give_the_same_answer() -> None:
    scenario = decide_noise.Scenario("sparse", every=40, searched=12)
    one, other = (decide_noise.repeated("h200", scenario, tunings=3) for _ in range(2))
    assert [each.runs for each in one] == [each.runs for each in other]


def test_drawn_noise_pairs_what_a_race_had_in_common() -> None:
    common = np.linspace(-0.1, 0.1, 21)[:, None] * np.ones((1, 3))
    draw = decide_noise.drawer(
        np.random.default_rng(0), [common], columns=3, added=decide_noise.RECORDED
    )
    noise = draw(50)
    assert noise.shape == (50, 3)
    assert np.ptp(noise[:, 0]) > 0.1
    assert np.all(noise == noise[:, :1])


def test_equals_are_equal_in_the_drawn_noise() -> None:
    """Skewed noise of one column must not make it slower than another's median."""
    skewed = np.column_stack([np.zeros(21), np.repeat([-0.001, 0.05, 0.1], [11, 5, 5])])
    draw = decide_noise.drawer(
        np.random.default_rng(0), [skewed], columns=2, added=decide_noise.RECORDED
    )
    drawn = draw(20000)
    assert abs(np.mean((drawn[:, 0] - drawn[:, 1]) > 0) - 0.5) < 0.02


def test_what_is_added_is_added() -> None:
    quiet = [np.zeros((21, 2))]
    added = decide_noise.Disturbed("", drift=0.01, common=0.5)
    noise = decide_noise.drawer(np.random.default_rng(0), quiet, 2, added)(100)
    assert np.ptp(noise.mean(axis=1)) > 0.5
    assert 0.01 < np.abs(noise[-1, 0] - noise[-1, 1]) < 1.0
    tails = decide_noise.Disturbed("", tail=0.5, tail_mean=0.1)
    slowed = decide_noise.drawer(np.random.default_rng(0), quiet, 2, tails)(1000)
    assert slowed.min() == 0.0
    assert 0.04 < slowed.mean() < 0.06


def test_how_tunings_of_a_problem_are_summed_up() -> None:
    case = case_of({A: 100.0, B: 101.5, DEFAULT: 101.2})
    runs = [decide_noise.Tuned(config, 3, 12, True) for config in (A, A, B, DEFAULT)]
    found = decide_noise.Repeated(case, tuple(runs))
    assert found.same == 0.5
    assert found.losses == pytest.approx([0.0, 0.0, 0.015, 0.012])
    assert found.apart == pytest.approx(0.015)
    assert found.slower == 0.25
    cells = decide_noise.row("name", [found]).split(" | ")
    assert cells[1:5] == ["1", "0%", "50.0%", "0.67%"]


def test_preference_counts_neighbours_in_which_a_configuration_is_tied() -> None:
    times = {A: 100.0, B: 100.0 * (1 + TIE_BAND / 2), DEFAULT: 110.0}
    near = case_of({**times, B: 120.0}, 8192)
    far = case_of(times, 2**24)
    mine = case_of(times)
    assert decide_noise.preference_of(mine, [mine, near, far]) == {A: 1.0, B: 0.0, DEFAULT: 0.0}


def test_a_closer_case_keeps_its_best() -> None:
    case = decide_noise.closer(case_of({A: 100.0, B: 121.0, DEFAULT: 144.0}), 0.5)
    assert case.times_us == pytest.approx({A: 100.0, B: 110.0, DEFAULT: 120.0})


def test_a_goal_that_is_missed_says_so() -> None:
    assert decide_noise.verdict_line("x", 0.01, 0.01) == "PASS  x: 1.00% (at most 1%)"
    assert decide_noise.verdict_line("x", 0.0101, 0.01).startswith("FAIL")
