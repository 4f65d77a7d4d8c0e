from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_fused_convolutions_in_tritons_interpreter() -> None:
    """A process of its own: a kernel is interpreted, or not, from its definition on."""
    files = ["nn/test_conv.py", "nn/conv_interpreted.py", "test_runtime_channels.py"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(TESTS / file for file in files),
        ],
        cwd=TESTS.parent,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
