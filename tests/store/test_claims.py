from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tunekit.errors import ClaimedError
from tunekit.store import claims
from tunekit.store.claims import claim

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from tunekit.store.claims import claim
with claim(Path(sys.argv[1]), sys.argv[2], "it"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(path: Path, work: str) -> Iterator[subprocess.Popen[str]]:
    """Another process has the claim."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(path), work]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def is_free(path: Path, work: str) -> bool:
    try:
        with claim(path, work, "it"):
            return True
    except ClaimedError:
        return False


def test_what_another_process_has_is_refused_in_one_line(path: Path) -> None:
    with held_elsewhere(path, "a"):
        with (
            pytest.raises(ClaimedError, match=r"mish at 64 is being tuned by .*studies\.db; run "),
            claim(path, "a", "mish at 64"),
        ):
            pass
        assert is_free(path, "b")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_however_it_ends_gives_it_back(path: Path, how: int) -> None:
    with held_elsewhere(path, "a") as process:
        process.send_signal(how)
        process.wait()
        assert is_free(path, "a")


def test_it_is_given_back_in_the_end_and_after_an_error(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="it"), claim(path, "a", "it"):
            raise ValueError("it")
    assert is_free(path, "a")


def test_threads_exclude_each_other_too(path: Path) -> None:
    with claim(path, "a", "it"), ThreadPoolExecutor(1) as other:
        assert not other.submit(is_free, path, "a").result()
        assert other.submit(is_free, path, "b").result()
    assert is_free(path, "a")


def test_one_process_may_have_several(path: Path) -> None:
    with ExitStack() as stack:
        for work in ("a", "b", "c"):
            stack.enter_context(claim(path, work, "it"))
        # Giving one back leaves the others.
        with claim(path, "d", "it"):
            pass
        assert not is_free(path, "a")


def test_another_database_is_other_work(path: Path) -> None:
    with claim(path, "a", "it"):
        assert is_free(path.with_name("other.db"), "a")


def test_a_link_is_the_file_it_points_to(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "folder" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with claim(path, "a", "it"):
        assert not is_free(link, "a")


def test_a_fork_does_not_keep_it(path: Path) -> None:
    ours, theirs = os.pipe()
    with claim(path, "a", "it"):
        child = os.fork()
        if not child:
            os.close(theirs)
            os.read(ours, 1)  # lives until the test is over
            os._exit(0)
    try:
        assert is_free(path, "a")
    finally:
        os.close(ours)
        os.close(theirs)
        os.waitpid(child, 0)


def test_a_fork_of_a_process_that_is_killed_does_not_keep_it(path: Path) -> None:
    script = HOLD.replace(
        "    print", "    import os\n    if not os.fork(): time.sleep(9)\n    print"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(path), "a"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        assert not is_free(path, "a")
        process.kill()
        process.wait()
        until = time.monotonic() + 5.0  # the fork may not have run yet
        while not is_free(path, "a"):
            assert time.monotonic() < until
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_a_program_that_is_started_does_not_inherit_it(path: Path) -> None:
    with claim(path, "a", "it"):
        started = subprocess.Popen(["sleep", "9"], close_fds=False)
    try:
        assert is_free(path, "a")
    finally:
        started.kill()
        started.wait()


def test_the_file_stays_empty_and_is_not_removed(path: Path) -> None:
    with claim(path, "a", "it"):
        pass
    assert [each.name for each in path.parent.iterdir()] == ["studies.db-claims"]
    assert path.with_name("studies.db-claims").stat().st_size == 0


def test_a_folder_that_takes_no_file_is_no_obstacle(tmp_path: Path) -> None:
    with claim(tmp_path / "not-there" / "studies.db", "a", "it"):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_obstacle(
    code: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(claims.fcntl, "fcntl", refuse)
    assert is_free(path, "a")


def test_no_descriptor_is_left_open(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with claim(path, "a", "it"):
        assert not is_free(path, "a")
    assert os.listdir("/proc/self/fd") == before
