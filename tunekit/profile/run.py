"""Have Nsight Compute watch launches, and read what it counted."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunekit.errors import ProfileError, UsageError
from tunekit.evaluate.job import Job
from tunekit.profile.counters import KNOWN
from tunekit.profile.find import Ncu
from tunekit.profile.folder import Folder, Launched
from tunekit.profile.parse import MAX_BYTES, Profiled, errors_in, launches_in
from tunekit.profile.program import Ended, run_program
from tunekit.profile.refusals import quoted, remedy

DEADLINE_S = 300.0

_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_]*__[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_MOST_METRICS = 200
_LONGEST_METRIC = 200


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of a job's launch, and the hash of the machine code that was launched."""

    launch: Profiled
    binary: str


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Full names of counters to read besides those tunekit asks for, each once.

    Raises:
        UsageError: one is no such name, or there are too many.
    """
    for name in names:
        if len(name) > _LONGEST_METRIC or not _METRIC.fullmatch(name):
            raise UsageError(
                f"--set {name!r:.100}: expected the full name of a counter, such as "
                "sm__inst_executed.sum; `ncu --query-metrics` lists their beginnings"
            )
    if len(names) > _MOST_METRICS:
        raise UsageError(f"--set: expected at most {_MOST_METRICS} counters")
    return tuple(dict.fromkeys(names))


def count(
    ncu: Ncu,
    jobs: Sequence[Job],
    index: int,
    more: Sequence[str] = (),
    deadline_s: float = DEADLINE_S,
) -> list[Counted]:
    """Launch jobs of one problem on CUDA GPU `index` under Nsight Compute, each with a cold L2.

    Args:
        ncu: the profiler.
        jobs: in the order launched.
        index: number of the GPU.
        more: full names of counters besides `counters.KNOWN`.
        deadline_s: seconds until it is killed with all it started.

    Raises:
        ProfileError: it reads no counters, and why not.
    """
    wanted = (*(each.name for each in KNOWN), *more)
    with tempfile.TemporaryDirectory(prefix="tunekit-profile-") as path:
        folder = Folder(Path(path))
        folder.write_jobs(jobs)
        try:
            ended = run_program(
                command_line(ncu, folder, index, wanted), deadline_s, _environment()
            )
        except OSError as error:
            raise ProfileError(f"{ncu.path}: cannot be run: {error.strerror}") from None
        if ended.status is None:
            raise ProfileError(
                f"{ncu.path} did not end within {deadline_s:g} s and was killed: give it more by "
                "--timeout"
            )
        log = _read(folder.log)
        _check(log, ended, folder.error())
        return _matched(folder.read_launched(), log, ended, wanted)


def command_line(ncu: Ncu, folder: Folder, index: int, wanted: Sequence[str]) -> list[str]:
    """What is run: the clocks are left alone, caches emptied before each of its passes."""
    return [
        str(ncu.path),
        "--csv", "--page", "raw", "--print-units", "base",
        "--log-file", str(folder.log),
        "--target-processes", "all",
        "--profile-from-start", "off",
        "--replay-mode", "kernel",
        "--cache-control", "all",
        "--clock-control", "none",
        "--metrics", ",".join(wanted),
        sys.executable, "-m", "tunekit.profile.child", str(folder.path), str(index),
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """This process's; numbers as English writes them, and no interpreter instead of the GPU."""
    environment = dict(os.environ, LC_ALL="C", PYTHONUTF8="1")
    environment.pop("TRITON_INTERPRET", None)
    return environment


def _check(log: str, ended: Ended, failure: str) -> None:
    """Refuse what did not go well.

    What the profiler refuses makes the program fail too, and the profiler says of every program
    that fails that it did: so what has a remedy first, then what the program says.

    Raises:
        ProfileError: something did not, and what to do.
    """
    errors = errors_in(log) or (errors_in(ended.said) if ended.status else [])
    if advice := remedy(errors):
        raise ProfileError(advice)
    if failure:
        raise ProfileError(f"nothing was profiled: {failure}")
    if errors:
        raise ProfileError(f"Nsight Compute says {quoted(errors[0])}")


def _matched(
    launched: Sequence[Launched], log: str, ended: Ended, wanted: Sequence[str]
) -> list[Counted]:
    """Each launch with its line of the log.

    Raises:
        ProfileError: they do not fit together, or no counters were read.
    """
    if not launched:
        raise ProfileError(f"nothing was profiled: Nsight Compute ended {_how(ended)}")
    profiled = launches_in(log, wanted)
    if len(profiled) != len(launched):
        what = "no launch" if not profiled else f"{len(profiled)} launches"
        raise ProfileError(
            f"Nsight Compute tells of {what} where {len(launched)} ran: it is too old, or another "
            "profiler is active"
        )
    for one, said in zip(profiled, launched, strict=True):
        if one.grid != said.grid:
            raise ProfileError(
                f"Nsight Compute tells of a launch of {one.grid} programs where one of {said.grid} "
                "ran"
            )
        if not one.counters:
            raise ProfileError("Nsight Compute read none of the counters asked for on this GPU")
    return [Counted(one, said.binary) for one, said in zip(profiled, launched, strict=True)]


def _how(ended: Ended) -> str:
    how = f"with exit status {ended.status}"
    if ended.status is not None and ended.status < 0:
        how = f"with signal {-ended.status}"
    lines = [line.strip() for line in ended.said.splitlines() if line.strip()]
    return f"{how} after saying {lines[-1]!r:.200}" if lines else how


def _read(log: Path) -> str:
    """The log, empty if there is none; what is too large is left to be refused."""
    try:
        with log.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode(errors="replace")
    except OSError:
        return ""
