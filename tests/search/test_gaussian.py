from __future__ import annotations

import math

import numpy as np
import pytest

from tunekit.core.config import Config
from tunekit.search.gaussian import NOISE, condition, likeness, octaves

CONFIGS = [Config(BLOCK=64 << step, num_warps=4) for step in range(5)]


def test_steps_are_doublings() -> None:
    alike = likeness(CONFIGS, 2.0)
    assert alike.diagonal().tolist() == [1.0] * 5
    assert alike[0, 3] == pytest.approx(math.exp(-((3 / 2) ** 2) / 2))
    assert np.array_equal(alike, alike.T)


def test_an_axis_may_have_a_value_of_zero() -> None:
    assert (octaves(0), octaves(1), octaves(8)) == (-1.0, 0.0, 3.0)


def test_what_was_measured_is_expected_and_what_is_unlike_it_is_not() -> None:
    found = condition(0.01 * np.eye(3), [1], np.array([0.2]))
    kept = 0.01 / (0.01 + NOISE**2)
    assert found.shift == pytest.approx([0.0, 0.2 * kept, 0.0])
    assert found.variance == pytest.approx([0.01, 0.01 * (1 - kept), 0.01])


def test_two_that_rise_together() -> None:
    """Of two normal values of correlation r the other is expected r times as high."""
    found = condition(np.array([[1.0, 0.8], [0.8, 1.0]]), [0], np.array([2.0]))
    assert found.shift[1] == pytest.approx(1.6, rel=1e-4)
    assert found.variance[1] == pytest.approx(1 - 0.8**2, rel=1e-4)


def test_surprise_is_one_on_average() -> None:
    covariance = 0.02**2 * likeness(CONFIGS, 1.6)
    draws = np.random.default_rng(0).multivariate_normal(
        np.zeros(5), covariance + NOISE**2 * np.eye(5), size=2000
    )
    surprises = [condition(covariance, range(5), draw).surprise for draw in draws]
    assert np.mean(surprises) == pytest.approx(1.0, abs=0.05)
    assert condition(covariance, range(5), 3 * draws[0]).surprise == pytest.approx(
        9 * condition(covariance, range(5), draws[0]).surprise
    )


def test_what_is_supposed_where_it_is_expected_changes_nothing() -> None:
    """Neither what is expected of the others, nor, but for its count, the surprise."""
    covariance = 0.1 * likeness(CONFIGS, 1.6)
    one = condition(covariance, [0, 2], np.array([0.1, -0.2]))
    supposed = condition(covariance, [0, 2, 4], np.array([0.1, -0.2, one.shift[4]]))
    assert supposed.shift == pytest.approx(one.shift)
    assert 3 * supposed.surprise == pytest.approx(2 * one.surprise)
