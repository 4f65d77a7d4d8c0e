"""Where Nsight Compute is, and which version."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunekit.errors import ProfileError, UsageError
from tunekit.profile.parse import errors_in
from tunekit.profile.program import run_program
from tunekit.profile.refusals import quoted, remedy

_PLACES = (
    "/usr/local/cuda/bin",
    "/usr/local/cuda*/bin",
    "/opt/nvidia/nsight-compute/*",
    "/usr/local/NVIDIA-Nsight-Compute*",
)
_VERSION = re.compile(r"\bVersion ([0-9]+(?:\.[0-9]+){1,3})\b")
_VERSION_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Ncu:
    """Nsight Compute's command-line program."""

    path: Path
    version: str

    @property
    def tool(self) -> str:
        """What counters read by it say of their origin."""
        return f"Nsight Compute {self.version}"


def find_ncu(given: Path | None = None) -> Ncu:
    """The one a person names, or else the first there is.

    Looked for in the folders of PATH, beside the Python that runs, in `$CUDA_HOME` and
    `$CUDA_PATH`, then where CUDA and Nsight Compute are installed, the newest version first.

    Raises:
        UsageError: what is named is no program.
        ProfileError: there is none, or it does not say its version.
    """
    if given is not None:
        if not _is_program(given):
            raise UsageError(f"--ncu {given}: no such program")
        return _asked(given.resolve())
    found = next(filter(_is_program, _candidates()), None)
    if found is None:
        raise ProfileError(
            "Nsight Compute (ncu) is not found in PATH, $CUDA_HOME/bin, /usr/local/cuda*/bin or "
            "/opt/nvidia/nsight-compute/*: install it, it comes with the CUDA toolkit, or name it "
            "by --ncu PATH"
        )
    return _asked(found)


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("ncu"):
        yield Path(on_path).absolute()
    yield Path(sys.prefix, "bin", "ncu")
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(variable):
            yield Path(home, "bin", "ncu")
    for pattern in _PLACES:
        for folder in sorted(glob.glob(pattern), key=_version_in, reverse=True):
            yield Path(folder, "ncu")


def _version_in(folder: str) -> tuple[int, ...]:
    """Orders `cuda-9.2` before `cuda-13.0`."""
    return tuple(map(int, re.findall(r"[0-9]+", folder)))


def _is_program(path: Path) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _asked(path: Path) -> Ncu:
    try:
        ended = run_program([str(path), "--version"], _VERSION_DEADLINE_S)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be run: {error.strerror}") from None
    version = _VERSION.search(ended.said)
    if ended.status == 0 and version is not None:
        return Ncu(path, version[1])
    if errors := errors_in(ended.said):
        raise ProfileError(f"{path}: {remedy(errors) or quoted(errors[0])}")
    if ended.status is None:
        raise ProfileError(f"{path}: tells no version within {_VERSION_DEADLINE_S:g} s")
    raise ProfileError(f"{path}: is not Nsight Compute, or does not work: it tells no version")
