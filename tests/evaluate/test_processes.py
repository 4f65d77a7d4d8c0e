from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tunekit.evaluate.processes import descendants, kill_tree

FAMILY = """
import os, subprocess, sys, time

# A child, its child in a session of its own, and that one's child, which is stopped.
script = "import os, subprocess, signal, sys; "
deepest = script + "os.kill(os.getpid(), signal.SIGSTOP)"
deeper = script + f"os.setsid(); subprocess.run([sys.executable, '-c', {deepest!r}])"
deep = script + f"subprocess.run([sys.executable, '-c', {deeper!r}])"
subprocess.run([sys.executable, "-c", deep])
"""


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _await_family(root: int, size: int) -> list[int]:
    until = time.monotonic() + 60
    while len(family := descendants(root)) < size:
        assert time.monotonic() < until
        time.sleep(0.01)
    return family


def test_a_family_is_found_and_killed_to_the_last() -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY]) as root:
        family = _await_family(root.pid, 3)
        assert root.pid not in family
        kill_tree(root.pid)
        assert root.wait() == -9
    until = time.monotonic() + 5
    while not all(map(_ended, family)):  # whoever adopts them notes it
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_root_may_be_spared() -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY]) as root:
        (child, *_) = _await_family(root.pid, 3)
        kill_tree(root.pid, spare=True)
        assert root.wait() == 0  # its child has ended, and so it ends itself
        assert _ended(child)


def test_one_that_forks_as_fast_as_it_can() -> None:
    script = "import os\nwhile True: os.fork() or os._exit(0); os.waitpid(-1, os.WNOHANG)"
    with subprocess.Popen([sys.executable, "-c", script]) as root:
        time.sleep(0.5)
        kill_tree(root.pid)
        assert root.wait() == -9
    assert descendants(root.pid) == []


def test_nobody() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert descendants(ended.pid) == []
    kill_tree(ended.pid)


def test_names_of_programs_may_be_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 ("
    odd.symlink_to(sys.executable)
    with subprocess.Popen([odd, "-c", "import time; time.sleep(600)"]) as root:
        assert root.pid in descendants(os.getpid())
        kill_tree(root.pid)
