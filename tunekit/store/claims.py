"""Claims: which process works on what in a database, so that no two do the same.

A claim is a lock on one byte of a file beside the database, which the kernel gives back whenever
the process ends, however it ends. It is advice: nothing depends on it but work done twice.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from tunekit.errors import ClaimedError

_LOCK = "hhqqi"
"""`struct flock`: type, whence, start, length, process (0: of an open file description)."""
_OFFSET_BITS = 62
_open: set[int] = set()
"""Descriptors of this process; a fork forgets them."""


@contextmanager
def claim(database: Path, work: str, told: str) -> Iterator[None]:
    """Hold a claim on `work`, while the context lasts, against threads and processes.

    Where the file cannot be written or locked, as on some network file systems, there is no claim
    and work goes on.

    Args:
        database: the file that takes the results; links to one file are that file.
        work: anything; what differs in it may go on side by side.
        told: what is worked on, for the message.

    Raises:
        ClaimedError: another process or thread has it.
    """
    refusal = (
        f"{told} is being tuned by another process into {database}; run again when that is "
        "through, and what it found is not measured again"
    )
    with _held(database, _place(work), 1, refusal):
        yield


@contextmanager
def claim_everything(database: Path) -> Iterator[None]:
    """Hold every claim on a database, while the context lasts: nobody works on anything.

    Raises:
        ClaimedError: somebody does.
    """
    refusal = f"{database}: another process is tuning into it; run again when that is through"
    with _held(database, 0, 0, refusal):
        yield


@contextmanager
def _held(database: Path, place: int, length: int, refusal: str) -> Iterator[None]:
    path = Path(os.path.realpath(database))
    descriptor = _descriptor(path.with_name(f"{path.name}-claims"))
    if descriptor is None:
        yield
        return
    _open.add(descriptor)
    try:
        try:
            _lock(descriptor, fcntl.F_WRLCK, place, length)
        except (BlockingIOError, PermissionError):
            raise ClaimedError(refusal) from None
        except OSError:
            pass  # this file system has no such locks
        try:
            yield
        finally:
            # A child that was started without Python's help may have the file open, too.
            with suppress(OSError):
                if descriptor in _open:
                    _lock(descriptor, fcntl.F_UNLCK, place, length)
    finally:
        if descriptor in _open:
            _open.remove(descriptor)
            os.close(descriptor)


def _descriptor(path: Path) -> int | None:
    """The file of claims, made when absent and never removed: a lock is on a file, not a name."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def _lock(descriptor: int, kind: int, place: int, length: int) -> None:
    """A lock of the open file, not of the process: threads exclude each other, too.

    A length of 0 is all there can be from that place on.
    """
    asked = struct.pack(_LOCK, kind, os.SEEK_SET, place, length, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)


def _place(work: str) -> int:
    """A byte for each piece of work; the file stays empty, as what is locked need not exist."""
    digest = sha256(work.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _OFFSET_BITS)


def _forget() -> None:
    """A fork has no claims: it might live on when the process that has them is gone."""
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_forget)
