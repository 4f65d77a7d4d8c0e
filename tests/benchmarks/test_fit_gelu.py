from __future__ import annotations

import ast
import inspect
import textwrap

import fit_gelu
import numpy as np
import pytest
from numpy.polynomial import Polynomial

from tunekit.kernels import epilogues

STATED_BOUND = 5e-8
ROUNDING = 1e-6
"""Relative: coefficients so close are worth the same, the float32 they are kept in has 6e-8."""


@pytest.fixture(scope="module")
def fitted() -> tuple[np.ndarray, float]:
    return fit_gelu.fit()


@pytest.fixture(scope="module")
def shipped() -> np.ndarray:
    """The polynomial in the epilogue: its assignments to p, run on a polynomial for z."""
    source = inspect.getsource(epilogues.gelu_nonpositive.fn)
    scope = {"z": Polynomial([0.0, 1.0])}
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "p":
            exec(ast.unparse(node), scope)
    return scope["p"].coef


def test_the_epilogue_has_the_coefficients_that_the_script_prints(
    fitted: tuple[np.ndarray, float], shipped: np.ndarray
) -> None:
    coefficients, _ = fitted
    assert len(shipped) == fit_gelu.DEGREE + 1
    assert np.abs(coefficients.astype(np.float32) / shipped - 1.0).max() < ROUNDING


def test_the_epilogue_keeps_the_bound_it_states(shipped: np.ndarray) -> None:
    assert f"{STATED_BOUND:.0e}".replace("e-0", "e-") in epilogues.gelu_nonpositive.fn.__doc__
    reached = fit_gelu.accuracy(shipped)
    assert reached.absolute < STATED_BOUND
    assert reached.relative < 5e-6


def test_no_polynomial_found_on_the_way_is_much_better(fitted: tuple[np.ndarray, float]) -> None:
    # Equal largest errors all along the interval are what makes a minimax fit.
    coefficients, largest = fitted
    z = np.linspace(0.0, fit_gelu.LARGEST, 20_001)
    error = (Polynomial(coefficients)(z) - np.log2(fit_gelu.tail(z))) * fit_gelu.weights(z)
    turns = np.flatnonzero(np.diff(np.sign(error)))
    peaks = [np.abs(part).max() for part in np.split(error, turns + 1)]
    assert len(peaks) >= fit_gelu.DEGREE + 2
    assert min(peaks) > 0.95 * largest


def test_the_tail_falls_off_beyond_the_fit(shipped: np.ndarray) -> None:
    x = np.array([-9.5, -12.0, -30.0, -1e4], dtype=np.float32)
    with np.errstate(over="ignore"):
        assert np.abs(fit_gelu.gelu_nonpositive(x, shipped)).max() < 1e-18


def test_main_prints_every_coefficient(capsys: pytest.CaptureFixture[str]) -> None:
    fit_gelu.main()
    printed = capsys.readouterr().out
    assert all(f"z^{power}" in printed for power in range(fit_gelu.DEGREE + 1))
