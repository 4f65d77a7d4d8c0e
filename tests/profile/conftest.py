from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tunekit.store.database import Store

# Tests import what they share as Python lets scripts: from their own folder.
sys.path.insert(0, str(Path(__file__).parent))

from tuned_problem import LAUNCHED, decision_of, evaluations, launched_json

DATA = Path(__file__).parent / "data"
"""What Nsight Compute 2025.3.1 wrote on an H100, driver 580.159.04."""

_FAKE = """#!{python}
import json, os, sys, time
from pathlib import Path

said = json.loads(Path(__file__).with_suffix(".json").read_text())
if sys.argv[1:] == ["--version"]:
    time.sleep(said["version_s"])
    print(said["version"])
    sys.exit(said["version_status"])
with open(Path(__file__).with_suffix(".asked"), "a") as file:
    environment = {{name: os.environ.get(name) for name in ("LC_ALL", "TRITON_INTERPRET")}}
    file.write(json.dumps([sys.argv[1:], environment]) + "\\n")
print(said["says"], flush=True)
log, folder = Path(sys.argv[sys.argv.index("--log-file") + 1]), Path(sys.argv[-2])
if said["runs_program"]:
    import subprocess
    said["status"] = subprocess.run(sys.argv[-5:]).returncode
jobs = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
if said["launched"] is not None:
    (folder / "launched.json").write_text(json.dumps(said["launched"]))
if said["log"] is not None:
    log.write_bytes(bytes.fromhex(said["log"]))
time.sleep(said["sleep_s"])
sys.exit(said["status"])
"""

VERSION = """NVIDIA (R) Nsight Compute Command Line Profiler
Copyright (c) 2018-2025 NVIDIA Corporation
Version 2025.3.1.0 (build 36398880) (public-release)"""


class FakeNcu:
    """A program that answers as Nsight Compute did, or says it could not."""

    def __init__(self, path: Path, said: Mapping[str, Any]) -> None:
        self.path = path
        path.write_text(_FAKE.format(python=sys.executable))
        path.chmod(0o755)
        path.with_suffix(".json").write_text(json.dumps(said))

    @property
    def asked(self) -> list[tuple[list[str], dict[str, str | None]]]:
        """The arguments and the environment of each run."""
        path = self.path.with_suffix(".asked")
        lines = path.read_text().splitlines() if path.exists() else []
        return [(arguments, environment) for arguments, environment in map(json.loads, lines)]


MakeNcu = Callable[..., FakeNcu]


@pytest.fixture
def make_ncu(tmp_path: Path) -> MakeNcu:
    """Makes such a program; by default it tells of the winner and the default of `tuned`."""

    def make(
        log: str | bytes | None = (DATA / "two-launches.csv").read_bytes(),
        launched: Any = None,
        *,
        name: str = "ncu",
        status: int = 0,
        says: str = "",
        sleep_s: float = 0.0,
        version: str = VERSION,
        version_status: int = 0,
        version_s: float = 0.0,
        runs_program: bool = False,
    ) -> FakeNcu:
        if launched is None and not runs_program:
            launched = launched_json(LAUNCHED.values())
        content = log.encode() if isinstance(log, str) else log
        folder = tmp_path / "fake"
        folder.mkdir(exist_ok=True)
        return FakeNcu(
            folder / name,
            {
                "log": None if content is None else content.hex(),
                "launched": launched,
                "status": status,
                "says": says,
                "sleep_s": sleep_s,
                "version": version,
                "version_status": version_status,
                "version_s": version_s,
                "runs_program": runs_program,
            },
        )

    return make


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A database in which that problem is tuned."""
    path = tmp_path / "mine.db"
    winner, default = evaluations()
    with Store.open(path) as store:
        store.add([winner, default])
        store.decide(decision_of(winner, default))
    return path
