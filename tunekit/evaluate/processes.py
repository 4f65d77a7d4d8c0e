"""Other processes, as Linux shows them in /proc: whose children they are, and their end."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections import defaultdict
from contextlib import suppress

STACKS_SIGNAL = signal.SIGUSR1
"""On which a worker writes the stacks of its threads to its standard error."""

JOB_MARK = b"\x1e\n"
"""What a worker writes there before each job, to tell what was said of which."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_S = 5.0
"""So long a process that is killed is waited for: a driver may hold it a while."""


def descendants(root: int) -> list[int]:
    """Processes that `root` started, and those that they started, parents first; no zombies."""
    children: dict[int, list[int]] = defaultdict(list)
    ended = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := _parent_and_state(int(name))):
            parent, state = found
            children[parent].append(int(name))
            if state in "ZX":
                ended.add(int(name))
    family = [root]
    for pid in family:
        family += children[pid]
    return [pid for pid in family[1:] if pid not in ended]


def kill_tree(root: int, *, spare: bool = False) -> None:
    """SIGKILL a process and all its descendants, also those that have a session of their own.

    They are stopped before they are killed: none starts another meanwhile, or is orphaned, which
    would hide it. It takes up to 5 s where one does not die.

    Args:
        root: its number; nobody must have waited for it, or it may be another's by now.
        spare: kill the descendants only.
    """
    if not spare:
        _signal(root, signal.SIGSTOP)
    until = time.monotonic() + _KILL_S
    stopped: set[int] = set()
    while (family := descendants(root)) and time.monotonic() < until:
        if not stopped.issuperset(family):
            for pid in family:
                _signal(pid, signal.SIGSTOP)
            stopped |= set(family)
            continue
        for pid in reversed(family):
            _signal(pid, signal.SIGKILL)
        time.sleep(0.001)
    if not spare:
        _signal(root, signal.SIGKILL)


def die_with_parent(parent: int) -> None:
    """Have this process killed when the thread that forked it ends; at once if it has."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_if_forked(owner: int) -> None:
    """End this process if it is a fork of `owner`: a kernel's code forked it and did not end it."""
    if os.getpid() != owner:
        os._exit(0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; not inherited by a fork."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _parent_and_state(pid: int) -> tuple[int, str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Behind the program's name, which may be anything, brackets included.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None  # ended meanwhile
    return int(fields[1]), fields[0].decode()
