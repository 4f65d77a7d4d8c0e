"""The folders that tunekit and Triton write to."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tunekit.doctor.check import Check, note, ok, problem, size_text
from tunekit.paths import cache_folder, log_folder

_FULL_BYTES = 50e6
_NEARLY_FULL_BYTES = 1e9
_LOOK_S = 3.0
"""A folder's files are counted for so long at most."""


def check_folders(database: Path) -> Iterator[Check]:
    """Each folder: whether it can be written, what it holds, and what is left on its disk.

    Args:
        database: the person's.
    """
    yield from _folder("data folder", database.parent, "TUNEKIT_DB or --db")
    yield from _folder("cache folder", cache_folder(), "TUNEKIT_CACHE")
    yield from _folder("Triton's cache", _triton_cache(), "TRITON_CACHE_DIR")
    logs = log_folder()
    if logs is None:
        yield ok("log folder", "no logs are written: TUNEKIT_LOG is /dev/null")
    else:
        yield from _folder("log folder", logs, "TUNEKIT_LOG")


def _triton_cache() -> Path:
    """As Triton finds it."""
    named = os.environ.get("TRITON_CACHE_DIR")
    home = os.environ.get("TRITON_HOME") or Path.home()
    return Path(named) if named else Path(home) / ".triton" / "cache"


def _folder(name: str, folder: Path, variable: str) -> Iterator[Check]:
    there = _nearest_that_exists(folder)
    elsewhere = f"mend that, or name another folder with {variable}"
    if not there.is_dir():
        yield problem(name, f"{folder}: {there} is no folder", elsewhere)
        return
    trouble = _why_not_writable(there)
    if trouble:
        yield problem(name, f"{folder}: cannot be written: {trouble}", elsewhere)
        return
    free = shutil.disk_usage(there).free
    holds = _size(folder) if there == folder else "not there yet, made when first needed"
    says = f"{folder}: {holds}, {size_text(free)} free"
    if free < _FULL_BYTES:
        yield problem(name, f"{says}: the disk is full", f"free some space, or use {variable}")
    elif free < _NEARLY_FULL_BYTES:
        yield note(name, f"{says}: the disk is nearly full", "free some space before a long tuning")
    else:
        yield ok(name, says)


def _nearest_that_exists(folder: Path) -> Path:
    path = Path(os.path.abspath(folder))
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path if path != Path(os.path.abspath(folder)) else folder


def _why_not_writable(folder: Path) -> str:
    """Empty if a file can be written there: rights alone do not tell of a read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"tunekit")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _size(folder: Path) -> str:
    until, size_bytes, files = time.monotonic() + _LOOK_S, 0, 0
    for where, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                size_bytes += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue  # gone meanwhile
            files += 1
        if time.monotonic() > until:
            return f"more than {size_text(size_bytes)} in {files} files"
    return f"{size_text(size_bytes)} in {files} files"
