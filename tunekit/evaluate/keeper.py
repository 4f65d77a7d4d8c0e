"""A process that does nothing but see to the end of a worker, and of all that the worker started.

The tuner starts it, it forks the worker. So it outlives the tuner and the worker both, whatever
either is doing: hanging in a kernel, in a compiler, or dying of one.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from contextlib import suppress
from typing import NoReturn

from tunekit.evaluate.processes import adopt_orphans, die_with_parent, kill_tree

_GRACE_S = 1.0
"""How long a worker whose tuner is gone has to notice it itself."""


def keep(requests: int) -> None:
    """Fork: the new process returns and is the worker, this one keeps it.

    When the other end of the pipe is closed, because the tuner has ended in whatever way, the
    worker is killed after a moment. When the worker has ended, everything it has left behind is
    killed, and this process ends as the worker did. If it is killed itself, so is the worker.

    Args:
        requests: descriptor of the pipe on which the tuner asks; here it is never read.
    """
    adopt_orphans()
    keeper = os.getpid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    before = signal.signal(signal.SIGCHLD, _do_nothing)
    worker = os.fork()
    if not worker:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, before)
        os.close(woken)
        os.close(wake)
        os.setsid()  # who kills its own group does not kill its keeper
        die_with_parent(keeper)
        return
    try:
        _close_all_but(requests, woken, wake)
        status = _await_end(worker, requests, woken)
        _kill_what_is_left()
        _end_likewise(status)
    finally:
        os._exit(1)


def _do_nothing(number: int, frame: object) -> None:
    """A signal needs a handler to be told of at all."""


def _close_all_but(*kept: int) -> None:
    """The worker's answers must end when the worker does, and its last words too."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in kept:
            with suppress(OSError):
                os.close(descriptor)


def _await_end(worker: int, requests: int, woken: int) -> int:
    """The worker's wait status; it is killed when nobody asks it any more."""
    poll = select.poll()
    poll.register(requests, 0)  # reports a hang-up, whatever is asked for
    poll.register(woken, select.POLLIN)
    timeout_ms = None
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(timeout_ms)}
        if woken in ready:
            os.read(woken, 4096)
        status = _reap(worker)
        if status is not None:
            return status
        if timeout_ms is not None and not ready:
            kill_tree(os.getpid(), spare=True)
        if requests in ready:
            poll.unregister(requests)
            timeout_ms = _GRACE_S * 1e3


def _reap(worker: int) -> int | None:
    """Take note of children that have ended, adopted ones too; the worker's status if it has."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == worker:
                found = status
    return found


def _kill_what_is_left() -> None:
    kill_tree(os.getpid(), spare=True)
    _reap(0)


def _end_likewise(status: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
