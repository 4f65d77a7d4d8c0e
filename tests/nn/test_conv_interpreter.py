from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_fused_convolutions_in_tritons_interpreter(pass_interpreted: Callable[..., None]) -> None:
    files = ["nn/test_conv.py", "nn/conv_interpreted.py", "test_runtime_channels.py"]
    pass_interpreted(*(TESTS / file for file in files))
