from __future__ import annotations

from pathlib import Path
from typing import Any

import autotune
import pytest
import torch


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of a first call by decorator; a call of Triton's takes the host 20 µs."""
    seconds = {"triton": 10.0, "tunekit": 4.0}

    def first_calls(decorator: str, name: str, folder: Path) -> list[dict[str, Any]]:
        later = {"s": 0.5, "config": "BM: 64", "us": 12.0}
        return [{**later, "s": seconds[decorator]}, later]

    monkeypatch.setattr(autotune, "first_calls", first_calls)
    monkeypatch.setattr(
        autotune, "host_us", lambda calls: {"triton": 20.0, "tunekit": 15.0, "bare": 12.0}
    )
    monkeypatch.setattr(torch, "randn", lambda *shape, **kind: torch.empty(shape, device="meta"))
    return seconds


def test_the_report_puts_both_side_by_side(told: dict[str, float], tmp_path: Path) -> None:
    lines = autotune.report(tmp_path)
    assert "| matmul | triton | 10.00 | 0.50 | BM: 64 | 12.0 |" in lines
    assert "| matmul | tunekit | 4.00 | 0.50 | BM: 64 | 12.0 |" in lines
    assert "| softmax | 20.00 | 15.00 | 12.00 |" in lines
    assert "PASS  softmax: tuning, over Triton's: 0.4 (at most 1)" in lines
    assert "PASS  matmul: a call, over Triton's: 0.75 (at most 1)" in lines


def test_a_missed_goal_is_told(told: dict[str, float], tmp_path: Path) -> None:
    told["tunekit"] = 11.0
    assert "FAIL  matmul: tuning, over Triton's: 1.1 (at most 1)" in autotune.report(tmp_path)
