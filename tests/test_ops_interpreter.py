from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def test_the_ops_in_tritons_interpreter(pass_interpreted: Callable[..., None]) -> None:
    pass_interpreted(TESTS / "test_ops.py", TESTS / "ops_interpreted.py")
