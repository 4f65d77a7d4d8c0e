"""Another program, run with a deadline, and the end of what it says."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tunekit.evaluate.processes import kill_tree

_SAID_BYTES = 2**16
"""So much of what it says is kept, its end."""
_CHECK_S = 0.1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    Attributes:
        status: its exit status, negative for a signal; None if it was killed at its deadline.
        said: the end of its standard output and error.
    """

    status: int | None
    said: str


def run_program(
    command: Sequence[str], deadline_s: float, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run it; whatever it started is ended with it when the deadline or this function is over.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # Ctrl-C is the parent's to handle
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            return _watched(process, process.stdout.fileno(), time.monotonic() + deadline_s)
    finally:
        if process.returncode is None:
            kill_tree(process.pid)
            process.wait()


def _watched(process: subprocess.Popen[bytes], output: int, until: float) -> Ended:
    os.set_blocking(output, False)
    said = bytearray()
    is_open = True
    while (left := until - time.monotonic()) > 0:
        ended = process.poll() is not None
        if is_open:
            wait_s = 0.0 if ended else min(left, _CHECK_S)
            if select.select([output], [], [], wait_s)[0]:
                is_open = _append(output, said)
                continue
        elif not ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(left)
            continue
        if ended:  # what it left behind may hold the pipe open
            return Ended(process.returncode, said.decode(errors="replace"))
    return Ended(None, said.decode(errors="replace"))


def _append(output: int, said: bytearray) -> bool:
    """Read what is there; False at the end."""
    data = os.read(output, _SAID_BYTES)
    said += data
    del said[:-_SAID_BYTES]
    return bool(data)
