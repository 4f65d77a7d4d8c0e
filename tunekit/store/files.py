"""Writing a text file so that nobody ever reads half of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tunekit.errors import TunekitError


def write_text(path: str | Path, chunks: Iterable[str]) -> None:
    """Write UTF-8 text to a temporary file beside `path` and rename it into place.

    What is no regular file (`/dev/stdout`, a pipe) is written directly.

    Raises:
        TunekitError: the file cannot be written.
    """
    target = Path(path)
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            _fill(target, chunks)
        else:
            # A link keeps pointing at its file: the file is what is replaced.
            _replace(Path(os.path.realpath(target)), chunks)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TunekitError(f"{path}: cannot write: {why}; choose another file") from None


def _replace(target: Path, chunks: Iterable[str]) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        _fill(temporary, chunks)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _fill(path: Path, chunks: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(chunks)
        file.flush()
        if path.is_file():
            os.fsync(file.fileno())
