"""Many tuners and many readers at one database: nobody is refused, and no row is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize(
    ("tuners", "readers", "seconds", "held_s"),
    [
        (2, 3, 3, 0.5),
        pytest.param(8, 32, 60, 2.0, marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
def test_tuners_and_readers_do_not_hinder_each_other(
    tuners: int,
    readers: int,
    seconds: float,
    held_s: float,
    tmp_path: Path,
    tally: Callable[[str, str, int], None],
) -> None:
    """What any of the processes was refused, `database is locked` first of all, fails it."""
    done = subprocess.run(
        [
            sys.executable,
            HERE / "crowd.py",
            *map(str, (tuners, readers, seconds, held_s, tmp_path)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    counted = json.loads(done.stdout)
    assert counted["evaluated"] > 0
    # On one problem one of them works, and the others say so.
    assert counted["left to another"] > 0
    # Each reader got answers while the lock for writing was never given back: it waits for no one.
    assert counted["fewest reads while the lock was held"] > 0
    for what in ("rows", "reads", "reads while the lock was held"):
        tally("Concurrency", what, counted[what])
    tally("Concurrency", "tuning processes at once", tuners)
    tally("Concurrency", "reading processes at once", readers)
    tally("Concurrency", "problems tuned", counted["tuned"])
    tally("Concurrency", "problems left to the process that had them", counted["left to another"])
