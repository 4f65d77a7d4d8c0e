"""The lines of a `.jsonl` file, plain or compressed by gzip, as JSON objects.

Nothing is trusted: neither a line nor what a compressed file expands to can grow without bound.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from tunekit.errors import ImportFormatError
from tunekit.store.fields import shown

MAX_LINE_BYTES = 1_000_000
MAX_EXPANDED_BYTES = 100_000_000
"""What a compressed file may expand to; a plain one is as large as whoever made it let it be."""
MAX_EXPANDED_LINES = 1_000_000

_GZIP = b"\x1f\x8b"  # no UTF-8 text begins like that, so the name of a file decides nothing


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1.

    Raises:
        ImportFormatError: the file cannot be read, is too large, or a line is too long or no
            UTF-8; the message names the file and, where there is one, the line.
    """
    number = size_bytes = 0
    with _opened(path) as (file, compressed):
        while raw := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            size_bytes += len(raw)
            if compressed and (size_bytes > MAX_EXPANDED_BYTES or number > MAX_EXPANDED_LINES):
                raise ImportFormatError(
                    f"{path} line {number}: a compressed file may expand to {MAX_EXPANDED_BYTES} "
                    f"bytes and {MAX_EXPANDED_LINES} lines; split it"
                )
            if line := _decode(raw, f"{path} line {number}").strip():
                yield number, line


def parse_object(line: str) -> dict[str, object]:
    """Read one JSON object.

    Raises:
        ImportFormatError: it is none, holds NaN or an infinity, or a key twice.
    """
    try:
        value = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except ImportFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise ImportFormatError(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise ImportFormatError("expected a JSON object")
    return value


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """The file's text as bytes, and whether it was compressed."""
    try:
        with path.open("rb") as file:
            # A peek, not a seek: the file may be a pipe.
            if file.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
                yield file, False
                return
            with gzip.GzipFile(fileobj=file) as expanded:
                yield cast(BinaryIO, expanded), True
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImportFormatError(f"{path}: the gzip data is damaged: {error}") from None
    except OSError as error:
        raise ImportFormatError(f"{path}: cannot read: {error.strerror or error}") from None


def _decode(raw: bytes, where: str) -> str:
    if len(raw) > MAX_LINE_BYTES:
        raise ImportFormatError(f"{where}: longer than {MAX_LINE_BYTES} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ImportFormatError(f"{where}: not UTF-8 text") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ImportFormatError(f"{name} is no JSON number")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ImportFormatError(f"key {shown(twice)} appears twice")
    return found
