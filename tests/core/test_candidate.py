"""Which candidates are the same."""

from __future__ import annotations

from dataclasses import replace

from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.problem import Problem

PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4096}, "float32", "p16", "h100")
ONE = Candidate(PROBLEM, Config(BLOCK=64, num_warps=4), "a.py line 1", "2026-01-31T12:00:00Z")


def test_the_same_configuration_of_a_problem_is_the_same_candidate() -> None:
    assert ONE.uid == "0e4ca73009ae776c52d7efdf"  # what databases hold
    other_order = replace(ONE, config=Config(num_warps=4, BLOCK=64))
    elsewhere = replace(ONE, origin="b.json entry 2", created_at="2026-02-01T12:00:00Z")
    assert ONE.uid == other_order.uid == elsewhere.uid


def test_another_configuration_or_problem_is_another() -> None:
    others = [
        replace(ONE, config=Config(BLOCK=32, num_warps=4)),
        replace(ONE, config=Config(BLOCK=64)),
        replace(ONE, problem=replace(PROBLEM, device="h200")),
        replace(ONE, problem=replace(PROBLEM, kernel_hash="ff")),
    ]
    assert len({ONE.uid, *(other.uid for other in others)}) == 5
