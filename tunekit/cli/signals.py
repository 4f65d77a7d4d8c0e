"""Ctrl-C and the signals of schedulers and terminals: an orderly end, or the second time none."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED = (
    "tunekit: interrupted; every finished evaluation is stored, and the same command goes on "
    "from there"
)
_SHOW_CURSOR = b"\x1b[?25h"


class Signals:
    """What became of signals.

    The first one is raised as KeyboardInterrupt, so that workers are ended and the terminal is put
    right. Whoever sends a second does not want to wait for that: the process ends there and then.
    Nothing is lost, for what is finished is in the database, and workers end without it.

    Attributes:
        first: the signal that came first, 0 while none has.
        before: how each that is caught was handled before.
    """

    def __init__(self) -> None:
        self.first = 0
        self.before: dict[int, signal._HANDLER] = {}

    @property
    def exit_status(self) -> int:
        """As a shell says it: 130 for Ctrl-C, and where it was interrupted without a signal."""
        return 128 + (self.first or signal.SIGINT)

    def ignore(self) -> None:
        """From here on nothing interrupts: the process is ending."""
        for number in self.before:
            signal.signal(number, signal.SIG_IGN)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """What Python calls between two instructions of the main thread."""
        if self.first:
            end_now(self.exit_status)
        self.first = number
        raise KeyboardInterrupt


def end_now(status: int) -> None:
    """End with the one line; nothing of Python's is flushed or torn down, which may take long."""
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR)  # a progress bar hides it
        os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(status)


@contextmanager
def caught() -> Iterator[Signals]:
    """SIGINT, SIGTERM and SIGHUP are interrupts while the context lasts.

    One that is ignored, as under nohup, stays so, and outside the main thread none is caught.
    """
    signals = Signals()
    # ValueError: not the main thread.
    with suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                signals.before[number] = handler
                signal.signal(number, signals.handle)
    try:
        yield signals
    finally:
        if not signals.first:
            for caught_one, handler in signals.before.items():
                signal.signal(caught_one, handler)
