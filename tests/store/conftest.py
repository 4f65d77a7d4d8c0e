from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.counter import Counter
from tunekit.core.evaluation import (
    Binary,
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.store.database import Store

MakeEvaluation = Callable[..., Evaluation]
MakeDecision = Callable[..., Decision]
MakeCandidate = Callable[..., Candidate]
MakeCounter = Callable[..., Counter]


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    def make(n: int = 4096, **changes: str) -> Problem:
        fields = {
            "kernel": "mish_mish",
            "kernel_hash": "0a1b2c",
            "dtype": "float32",
            "alignment": "p16",
            "device": "h100",
        }
        return Problem.of(dims={"n": n}, **(fields | changes))

    return make


@pytest.fixture
def make_evaluation(make_problem: Callable[..., Problem]) -> MakeEvaluation:
    """A verified measurement unless told otherwise."""

    def make(
        time_us: float | None = 1.5, block: int = 1024, at: str = "00:00:00", **changes: Any
    ) -> Evaluation:
        source = changes.get("source", Source.MEASURED)
        measured = source is Source.MEASURED
        fields: dict[str, Any] = {
            "problem": make_problem(),
            "shape": (64, 64),
            "config": Config(BLOCK_SIZE=block, num_warps=4),
            "status": Status.OK,
            "source": source,
            "provenance": Provenance(
                "NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-1",
                f"2026-01-31T{at}Z",
            ),
            "verified_by": VerifiedBy.DEVICE if measured else VerifiedBy.INTERPRETER,
            "time_us": time_us,
            "samples_us": (time_us, 0.1 + 0.2) if measured and time_us else (),
            "binary": Binary("beef", 32, 0, 0, 16, 16),
            "max_error": 0.25,
        }  # fmt: skip
        return Evaluation(**(fields | changes))

    return make


@pytest.fixture
def make_decision() -> MakeDecision:
    """A decision for `winner`, at the time `at` of one day."""

    def make(winner: Evaluation, /, at: str = "12:00:00", **changes: Any) -> Decision:
        fields: dict[str, Any] = {
            "problem": winner.problem,
            "source": winner.source,
            "winner": winner.uid,
            "default": "",
            "reason": "beat the default",
            "created_at": f"2026-01-31T{at}Z",
            "rows": (winner.uid,),
        }
        return Decision(**(fields | changes))

    return make


@pytest.fixture
def make_candidate(make_problem: Callable[..., Problem]) -> MakeCandidate:
    """A configuration from elsewhere."""

    def make(block: int = 512, **changes: Any) -> Candidate:
        fields: dict[str, Any] = {
            "problem": make_problem(),
            "config": Config(BLOCK_SIZE=block, num_warps=8),
            "origin": "configs.py line 12",
            "created_at": "2026-01-31T12:00:00Z",
        }
        return Candidate(**(fields | changes))

    return make


@pytest.fixture
def make_counter() -> MakeCounter:
    """A counter of an evaluation, read at the time `at` of one day."""

    def make(of: Evaluation, /, value: float = 61.5, at: str = "12:00:00", **more: Any) -> Counter:
        fields: dict[str, Any] = {
            "evaluation": of.uid,
            "name": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
            "value": value,
            "unit": "%",
            "tool": "Nsight Compute 2025.3.1",
            "created_at": f"2026-01-31T{at}Z",
        }
        return Counter(**(fields | more))

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        yield store
