"""Calls in processes of their own: forked after the import, and under Triton's profiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.gpu

FORKED = """
import os, torch, tunekit
from tunekit import ops

def check():
    x = torch.linspace(-8, 8, 4096, device="cuda")
    for _ in range(3):
        y = ops.mish_mish(x)
    want = tunekit.kernels.library.mish_mish.reference(x)
    torch.testing.assert_close(y, want, rtol=2e-6, atol=2e-9)

children = []
for _ in range(2):
    child = os.fork()
    if not child:
        check()
        os._exit(0)
    children.append(child)
check()
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("right")
"""

PROFILED = """
import sys, torch, tunekit
import triton.profiler as proton
from tunekit import ops

x = torch.linspace(-8, 8, 4096, device="cuda")
for _ in range(3):
    ops.mish_mish(x)
proton.start(sys.argv[1], hook="triton")
for _ in range(5):
    ops.mish_mish(x)
torch.cuda.synchronize()
proton.finalize()
"""


def _run(program: str, *arguments: str) -> str:
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fork_after_import() -> None:
    assert _run(FORKED).split() == ["right"]


def test_proton_sees_the_kernels(tmp_path: Path) -> None:
    _run(PROFILED, str(tmp_path / "profile"))
    profile = json.loads((tmp_path / "profile.hatchet").read_text())
    seen = {frame["name"]: metrics for frame, metrics in _frames(profile)}
    (kernel,) = (name for name in seen if "pointwise_kernel" in name)
    assert seen[kernel]["count"] == 5


def _frames(nodes: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for node in nodes:
        if "frame" in node:
            yield node["frame"], node.get("metrics", {})
            yield from _frames(node.get("children", []))
