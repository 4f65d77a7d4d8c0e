from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.doctor.check import Check, State
from tunekit.here import Here
from tunekit.store.database import Store

HERE = Here("3.7.1", {"h100": "590.1"})

Tune = Callable[..., Evaluation]


@pytest.fixture
def here() -> Here:
    """A machine with an H100."""
    return HERE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def tuned(path: Path) -> Tune:
    """Evaluates and decides a problem, under the versions of `here` unless told otherwise."""

    def tune(
        kernel: str = "mish_mish",
        kernel_hash: str = "0a1b2c",
        triton: str = HERE.triton,
        driver: str = "590.1",
        device: str = "h100",
        source: Source = Source.MEASURED,
        others: int = 0,
    ) -> Evaluation:
        problem = Problem.of(kernel, kernel_hash, {"n": 4096}, "float32", "p16", device)
        measured = source is Source.MEASURED
        rows = [
            Evaluation(
                problem,
                (4096,),
                Config(BLOCK_SIZE=64 << number, num_warps=4),
                Status.OK,
                source,
                Provenance(
                    "NVIDIA H100", 132, driver, "2.13.0", triton, "0.1.0", "test-1",
                    "2026-01-31T00:00:00Z",
                ),
                verified_by=VerifiedBy.DEVICE if measured else VerifiedBy.INTERPRETER,
                time_us=2.0 + number,
                samples_us=(2.0 + number,) * 100 if measured else (),
            )
            for number in range(others + 1)
        ]  # fmt: skip
        with Store.open(path) as store:
            store.add(rows)
            store.decide(Decision(problem, source, rows[0].uid, "", "", "2026-01-31T12:00:00Z"))
        return rows[0]

    return tune


Found = Callable[..., list[Check]]


@pytest.fixture
def bad() -> Callable[[list[Check]], list[Check]]:
    """Those that are no `ok`, each with something to do where it is a problem."""

    def of(checks: list[Check]) -> list[Check]:
        for check in checks:
            assert "\n" not in check.says + check.do
            assert check.do or check.state is not State.PROBLEM, check
        return [check for check in checks if check.state is not State.OK]

    return of
