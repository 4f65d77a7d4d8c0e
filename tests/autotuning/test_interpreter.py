from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def test_the_decorator_in_tritons_interpreter(pass_interpreted: Callable[..., None]) -> None:
    pass_interpreted(*sorted(Path(__file__).parent.glob("interpreted_*.py")))
