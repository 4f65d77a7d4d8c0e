"""A worker process and the pipes to it: asked, read with deadlines, killed with all it started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from tunekit import errors
from tunekit.core.evaluation import Status
from tunekit.evaluate.processes import JOB_MARK, STACKS_SIGNAL, kill_tree
from tunekit.evaluate.text import shortened

_START_DEADLINE_S = 120.0
_SEND_DEADLINE_S = 120.0
_END_DEADLINE_S = 10.0
_STACKS_S = 0.5
_CHECK_S = 0.5
_SAID_BYTES = 2**16
"""So much of what a worker writes to its standard error is kept, its end."""


class WorkerDied(Exception):  # noqa: N818 - an event the pool handles
    """The worker process ended or was killed: why, and what it wrote to its standard error."""

    def __init__(self, status: Status, reason: str, details: str) -> None:
        super().__init__(reason)
        self.status, self.details = status, details


class Process:
    """One worker process, started at once; a new one is made when it has died.

    Args:
        mode: `device:INDEX`, `compile` or `interpret` (see `worker.make_evaluator`).
        target: slug of the GPU model that jobs are for.

    Attributes:
        import_s: seconds it took to import PyTorch and Triton, None until it is ready.
    """

    def __init__(self, mode: str, target: str) -> None:
        self._mode = mode
        self.import_s: float | None = None
        self._worker_pid = 0
        self._buffer = b""
        self._said = bytearray()
        their_in, self._requests = os.pipe()
        self._answers, their_out = os.pipe()
        self._stderr, their_err = os.pipe()
        environment = dict(os.environ)
        environment.pop("TRITON_INTERPRET", None)
        if mode == "interpret":
            environment["TRITON_INTERPRET"] = "1"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunekit.evaluate.worker",
                 mode, target, str(their_in), str(their_out)],
                pass_fds=(their_in, their_out),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=their_err,
                env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )  # fmt: skip
        finally:
            for descriptor in (their_in, their_out, their_err):
                os.close(descriptor)
        for descriptor in (self._requests, self._answers, self._stderr):
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        """Of the keeper, whose only child is the worker."""
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._requests == -1

    @property
    def returncode(self) -> int | None:
        """How it ended, as subprocess has it; None while it runs."""
        return self._process.returncode

    def send(self, message: Mapping[str, Any]) -> None:
        """Write a request; one that is starting or busy finds it later.

        Raises:
            WorkerDied: it has ended, or takes no request.
            TunekitError: it does not start, or refuses to.
        """
        data = (json.dumps(message) + "\n").encode()
        until = time.monotonic() + _SEND_DEADLINE_S
        while data:
            try:
                data = data[os.write(self._requests, data) :]
            except BlockingIOError:
                self.await_ready()
                readable, writable = self._wait(until, to_write=True)
                if readable:
                    self._read()  # or both ends might wait for the other to read
                elif not writable:
                    self._kill(f"took no request within {_SEND_DEADLINE_S:g} s: killed")
            except BrokenPipeError:
                self.await_ready()
                self._bury("ended before the job was sent")

    def receive(self, deadline_s: float) -> dict[str, Any]:
        """The next message; kills the process when none comes in time.

        Raises:
            WorkerDied: it has ended, or was killed.
            TunekitError: what it refused, or it does not start.
        """
        self.await_ready()
        return self._next(deadline_s)

    def await_ready(self) -> None:
        """Wait until it has started.

        Raises:
            WorkerError: it does not.
            TunekitError: what it refused.
        """
        if self.import_s is not None:
            return
        try:
            ready = self._next(_START_DEADLINE_S)
        except WorkerDied as death:
            raise errors.WorkerError(f"the {self._mode} worker does not start: {death}") from death
        except errors.TunekitError:
            self.close()  # it ends after that
            raise
        self._worker_pid, self.import_s = ready["pid"], ready["import_s"]

    def said(self) -> str:
        """The end of what it wrote to its standard error since its last job began."""
        self._catch_up()
        said = self._said.rpartition(JOB_MARK)[2]
        return shortened(said.decode(errors="replace").strip())

    def interrupt(self) -> None:
        """Kill it, from any thread: the one that waits for it finds it dead."""
        if self._process.poll() is None:
            self._kill_all()

    def close(self) -> None:
        """End it and all it started; may be repeated."""
        if self.closed:
            return
        alive = self._process.poll() is None
        if alive:
            self._kill_all()
        # What still has its session, where nobody has adopted orphans: the keeper was killed.
        if self._worker_pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._worker_pid, signal.SIGKILL)
        if alive:
            with suppress(subprocess.TimeoutExpired):  # a driver may not let go of it
                self._process.wait(_END_DEADLINE_S)
        for descriptor in (self._requests, self._answers, self._stderr):
            if descriptor != -1:
                os.close(descriptor)
        self._requests = self._answers = self._stderr = -1

    def _kill_all(self) -> None:
        """The keeper last, and never stopped: should this process end here, it ends the others."""
        kill_tree(self.pid, spare=True)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _next(self, deadline_s: float) -> dict[str, Any]:
        until = time.monotonic() + deadline_s
        while b"\n" not in self._buffer:
            if not self._wait(until)[0]:
                self._kill(f"no answer within {deadline_s:g} s: killed")
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if message["type"] == "refused":
            raise getattr(errors, message["error"], errors.TunekitError)(message["message"])
        return message

    def _wait(self, until: float, to_write: bool = False) -> tuple[bool, bool]:
        """Whether answers can be read, and a request written; neither when the time is over.

        What is written to standard error is read meanwhile, or its writer would wait.
        """
        while True:
            poll = select.poll()
            poll.register(self._answers, select.POLLIN)
            if self._stderr != -1:
                poll.register(self._stderr, select.POLLIN)
            if to_write:
                poll.register(self._requests, select.POLLOUT)
            left = until - time.monotonic()
            wait_s = max(min(left, _CHECK_S), 0.0)
            ready = {descriptor for descriptor, _ in poll.poll(wait_s * 1e3)}
            if self._stderr in ready:
                self._listen()
            # Not only when the pipe is closed: what a kernel has forked may keep it open.
            readable = self._answers in ready or self._process.poll() is not None
            if left <= 0 or readable or self._requests in ready:
                return readable, self._requests in ready

    def _read(self) -> None:
        data = b""
        with suppress(BlockingIOError):
            data = os.read(self._answers, 2**16)
        if not data:
            self._bury("")
        self._buffer += data

    def _listen(self) -> bool:
        """Read what is there of standard error; False if there was nothing."""
        if self._stderr == -1:
            return False
        try:
            data = os.read(self._stderr, 2**16)
        except BlockingIOError:
            return False
        if not data:
            os.close(self._stderr)
            self._stderr = -1
            return False
        self._said += data
        del self._said[:-_SAID_BYTES]
        return True

    def _catch_up(self) -> None:
        for _ in range(64):  # whoever writes may go on and on
            if not self._listen():
                return

    def _kill(self, reason: str) -> NoReturn:
        """It does not answer; where each of its threads is, it tells if it can."""
        if self._worker_pid:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._worker_pid, STACKS_SIGNAL)
            self._wait(time.monotonic() + _STACKS_S)
        said = self.said()
        self.close()
        raise WorkerDied(Status.TIMEOUT, reason, said)

    def _bury(self, reason: str) -> NoReturn:
        """Its pipe is closed, so it has ended, or is about to."""
        until = time.monotonic() + _END_DEADLINE_S
        while self._process.poll() is None and time.monotonic() < until:
            self._listen()
            time.sleep(0.002)
        code = self._process.poll()
        if code is None:
            how = "closed its pipe and was killed"
        else:
            how = f"ended with signal {-code}" if code < 0 else f"ended with exit status {code}"
        said = self.said()
        lines = said.splitlines()
        last = f": {lines[-1].strip()[:200]}" if lines else ""
        self.close()
        raise WorkerDied(Status.CRASHED, reason or f"the worker process {how}{last}", said)
