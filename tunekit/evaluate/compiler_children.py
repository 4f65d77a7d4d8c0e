"""The forks of a process that compile for it: started, listened to, killed."""

from __future__ import annotations

import json
import os
import select
import signal
import warnings
from collections.abc import Iterator
from typing import Any

from tunekit.core.device import Device
from tunekit.evaluate.compiler_process import compile_forever
from tunekit.evaluate.early import hash_triton
from tunekit.evaluate.processes import kill_tree


class Children:
    """The processes, by the pipes they answer on."""

    def __init__(self, queue: int, theirs: int, device: Device) -> None:
        self._queue, self._theirs, self._device = queue, theirs, device
        self._owner = os.getpid()
        self._buffers: dict[int, bytes] = {}
        self._ended = False
        self.pipes: dict[int, int] = {}

    def fork(self) -> None:
        """Start one more."""
        hash_triton()
        ours, answers = os.pipe()
        with warnings.catch_warnings():
            # Threads of this process do not exist in the new one, which needs none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            compile_forever(self._queue, self._theirs, answers, self._device, self._owner)
        os.close(answers)
        os.set_blocking(ours, False)
        self.pipes[ours], self._buffers[ours] = pid, b""

    def listen(self, timeout_s: float) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """Messages that are there or come in time, each with its pipe.

        Of a process that has ended the last is no message but how it ended.
        """
        # Not only those whose pipe is closed: what they have forked may keep it open.
        ended = {pipe: how for pipe in self.pipes if (how := self._reap(pipe, os.WNOHANG))}
        ready, _, _ = select.select(list(self.pipes), [], [], 0.0 if ended else timeout_s)
        for pipe in {*ready, *ended}:
            while data := self._read(pipe):
                *lines, self._buffers[pipe] = (self._buffers[pipe] + data).split(b"\n")
                yield from ((pipe, json.loads(line)) for line in lines)
            if data is not None and pipe not in ended:
                os.kill(self.pipes[pipe], signal.SIGKILL)  # unless it is ending
                ended[pipe] = self._reap(pipe, 0)
        for pipe, how in ended.items():
            self._forget(pipe)
            yield pipe, how

    def kill(self, pipe: int) -> None:
        """Kill one, with all that it started."""
        kill_tree(self.pipes[pipe])
        self._reap(pipe, 0)
        self._forget(pipe)

    def end(self) -> None:
        """Kill them all; in a fork of the process that made them, nothing is done."""
        if self._ended or os.getpid() != self._owner:
            return
        self._ended = True
        os.close(self._queue)
        os.close(self._theirs)
        for pipe in list(self.pipes):
            self.kill(pipe)

    def _read(self, pipe: int) -> bytes | None:
        """What is there, b"" at its end; None where nothing is."""
        try:
            return os.read(pipe, 2**16)
        except BlockingIOError:
            return None

    def _reap(self, pipe: int, options: int) -> str:
        """How its process ended; empty if it has not."""
        try:
            pid, status = os.waitpid(self.pipes[pipe], options)
        except ChildProcessError:  # a kernel's code has waited for it, or ignored SIGCHLD
            return "a status that was lost"
        if not pid:
            return ""
        code = os.waitstatus_to_exitcode(status)
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def _forget(self, pipe: int) -> None:
        os.close(pipe)
        del self.pipes[pipe], self._buffers[pipe]
