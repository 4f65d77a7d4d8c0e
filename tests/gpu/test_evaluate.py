"""A fault on a GPU, repeated from the log of the run in which it happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.gpu

TRAPPED = """
import triton
import triton.language as tl
import tunekit

@triton.jit
def double(x):
    size: tl.constexpr = x.numel
    if size == 2048:
        x = tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.eq.b32 p, $1, $1; mov.b32 $0, $1; @p trap; }", "=r,r", [x],
            dtype=tl.float32, is_pure=False, pack=1,
        )
    tl.static_assert(size != 4096, "no block of 4096 is to be compiled")
    return 2.0 * x

DOUBLE = tunekit.pointwise("doubled", epilogue=double, reference=lambda x: 2.0 * x)
"""


def test_a_fault_shows_what_cuda_said_of_it(tmp_path: Path) -> None:
    (tmp_path / "trapped.py").write_text(TRAPPED)

    def tunekit(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunekit", *arguments],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
            | {"TUNEKIT_LOG": str(tmp_path / "logs"), "TUNEKIT_DB": str(tmp_path / "mine.db")},
            capture_output=True,
            text=True,
            check=False,
        )

    done = tunekit("tune", "trapped.py:DOUBLE", "--shape", str(2**20), "--exhaustive")
    assert done.returncode == 0, done.stderr
    assert "configurations failed" in done.stdout.splitlines()[-1]
    (log,) = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    failed = {
        line["outcome"]["status"]: (number, line)
        for number, line in enumerate(lines, start=1)
        if line["event"] == "evaluated"
        and line["outcome"]["status"] in ("crashed", "compile_error")
    }
    for status, said in (("crashed", "CUDA"), ("compile_error", "no block of 4096")):
        number, line = failed[status]
        again = tunekit("evaluate", f"{log}:{number}")
        reason = line["outcome"]["reason"]
        assert (again.returncode, again.stderr) == (1, f"tunekit: {status}: {reason}\n")
        head, _, details = again.stdout.partition("\n\n")
        assert "measured" in head.splitlines()[0]
        assert said in details
    number = next(n for n, line in enumerate(lines, start=1)
                  if line.get("outcome", {}).get("status") == "ok" and "job" in line)  # fmt: skip
    again = tunekit("evaluate", f"{log}:{number}", "--verbose")
    assert again.returncode == 0, again.stderr
    assert "µs, median of" in again.stdout
    assert "the device:0 worker is ready" in again.stderr
