"""The folder by which who profiles and the program that is profiled speak: plain data only."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunekit.errors import ProfileError
from tunekit.evaluate.job import Job
from tunekit.evaluate.job_file import read_job
from tunekit.printable import one_line

_MAX_BYTES = 1_000_000
_MAX_HASH = 200


@dataclass(frozen=True, slots=True)
class Launched:
    """What the program says of a launch.

    Attributes:
        binary: hash of the machine code.
        grid: programs on axes 0, 1, 2.
    """

    binary: str
    grid: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Folder:
    """The files: jobs that are to be launched, what became of them, what the profiler wrote."""

    path: Path

    @property
    def log(self) -> Path:
        """What the profiler writes."""
        return self.path / "ncu.log"

    def write_jobs(self, jobs: Sequence[Job]) -> None:
        """Say what to launch."""
        lines = (json.dumps(job.to_json()) for job in jobs)
        self._jobs.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def read_jobs(self) -> list[Job]:
        """What to launch.

        Raises:
            ImportFormatError: there is nothing of the kind.
        """
        with self._jobs.open("rb") as file:
            count = sum(1 for _ in file)
        return [read_job(f"{self._jobs}:{number}") for number in range(1, count + 1)]

    def write_launched(self, launched: Sequence[Launched]) -> None:
        """Say that all were launched."""
        found = [{"binary": each.binary, "grid": list(each.grid)} for each in launched]
        self._launched.write_text(json.dumps({"launched": found}), encoding="utf-8")

    def write_error(self, error: str) -> None:
        """Say why not, in one line."""
        self._launched.write_text(json.dumps({"error": one_line(error)}), encoding="utf-8")

    def error(self) -> str:
        """Why there was no launch; empty if the program does not say."""
        said = self._read().get("error", "")
        return one_line(said) if isinstance(said, str) else ""

    def read_launched(self) -> list[Launched]:
        """What was launched, in order; empty if the program does not say.

        Raises:
            ProfileError: what it says is something else.
        """
        found = self._read().get("launched", [])
        try:
            return [
                Launched(str(each["binary"])[:_MAX_HASH], _grid(each["grid"])) for each in found
            ]
        except (KeyError, TypeError, ValueError):
            raise ProfileError(
                "the program that was profiled left a report that cannot be read"
            ) from None

    @property
    def _jobs(self) -> Path:
        return self.path / "jobs.jsonl"

    @property
    def _launched(self) -> Path:
        return self.path / "launched.json"

    def _read(self) -> dict[str, Any]:
        try:
            if os.path.getsize(self._launched) > _MAX_BYTES:
                return {}
            read = json.loads(self._launched.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return read if isinstance(read, dict) else {}


def _grid(sizes: Any) -> tuple[int, int, int]:
    first, second, third = map(int, sizes)
    return first, second, third
