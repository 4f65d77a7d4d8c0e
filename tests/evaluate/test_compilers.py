"""Compiling in processes of its own: what is answered, once, whatever becomes of the processes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Status
from tunekit.errors import KernelError, UnknownKernelError, WorkerError
from tunekit.evaluate import compiler_process
from tunekit.evaluate.compilers import Compilers
from tunekit.evaluate.job import Job
from tunekit.evaluate.processes import descendants

ROOT = Path(__file__).resolve().parents[2]
FLAT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)

# Its plan does as it is told where it is compiled, not where it is asked for.
MORTAL = """
    import gc, os, subprocess, sys, time
    import triton
    from tunekit.kernels.kernel import pointwise

    HERE = os.getpid()

    @triton.jit
    def identity(x):
        return x + 0.0

    def mortal(act):
        kernel = pointwise("mortal", epilogue=identity, reference=lambda x: x)
        plan = kernel.plan

        def deadly(metas, device):
            if os.getpid() != HERE:
                act()
            return plan(metas, device)

        object.__setattr__(kernel, "plan", deadly)
        return kernel

    def refuse():
        from tunekit.errors import KernelError
        raise KernelError("not here")

    def spawn():
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        time.sleep(600)

    def fail():
        raise ValueError("no plan")

    good = mortal(lambda: None)
    killed = mortal(lambda: os.kill(os.getpid(), 9))
    exits = mortal(lambda: os._exit(7))
    hangs = mortal(lambda: time.sleep(600))
    refuses = mortal(refuse)
    leaves = mortal(lambda: sys.exit(3))
    spawns = mortal(spawn)
    broken = mortal(fail)
    collects = mortal(gc.collect)

    unplanned = pointwise("unplanned", epilogue=identity, reference=lambda x: x)
    object.__setattr__(unplanned, "plan", lambda metas, device: fail())
"""


@pytest.fixture
def compilers() -> Iterator[Compilers]:
    one = Compilers(DEVICES["h100"], processes=2)
    yield one
    one.close()


@pytest.fixture
def mortal(write_module: Callable[..., Path]) -> Callable[[str], Job]:
    path = write_module(MORTAL, "mortal.py")

    def job(name: str) -> Job:
        return _job(kernel=f"{path}:{name}")

    return job


def _job(config: Config = FLAT, **changes: object) -> Job:
    job = Job("identity", (2**20,), "float32", {}, config, "h100")
    return replace(job, **changes)  # type: ignore[arg-type]


def test_each_job_is_answered_with_its_binary_and_its_grid(compilers: Compilers) -> None:
    jobs = [_job(Config(FLAT, BLOCK_SIZE=block)) for block in (512, 1024, 2048)]
    jobs.append(_job(shape=(2**21,)))  # the same binary on another grid
    found = dict(compilers.outcomes(jobs))
    assert [found[index].status for index in range(4)] == [Status.OK] * 4
    assert [found[index].grid for index in range(4)] == [
        (2048, 1, 1),
        (1024, 1, 1),
        (512, 1, 1),
        (2048, 1, 1),
    ]
    assert found[3].binary == found[1].binary
    assert len({outcome.binary.hash for outcome in found.values() if outcome.binary}) == 3
    assert compilers.outcome(jobs[0]) == found[0]


class Doomed:
    """Garbage, which leaves a line behind when it is collected."""

    def __init__(self, path: Path) -> None:
        self.path, self.own = path, self

    def __del__(self) -> None:
        with self.path.open("a") as file:
            file.write(f"{os.getpid()}\n")


def test_the_garbage_of_the_parent_is_collected_by_the_parent(
    compilers: Compilers, mortal: Callable[[str], Job], tmp_path: Path
) -> None:
    """Garbage of its own may lie on a GPU, which a fork cannot reach."""
    path = tmp_path / "collected"
    job = mortal("collects")
    gc.disable()
    try:
        Doomed(path)
        assert compilers.outcome(job).status is Status.OK
        assert not path.exists()
    finally:
        gc.enable()
    gc.collect()
    assert path.read_text() == f"{os.getpid()}\n"


def test_nothing_is_compiled_twice(compilers: Compilers) -> None:
    compilers.submit([_job(), _job()])
    compilers.submit([_job(shape=(2**24,), seed=7)])
    assert len(compilers._numbers) == 1


def test_what_was_submitted_is_compiled_while_nobody_waits(
    compilers: Compilers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    jobs = [_job(Config(FLAT, num_warps=warps)) for warps in (1, 2, 4, 8)]
    compilers.submit(jobs)
    until = time.monotonic() + 60
    while len(list((tmp_path / "cache").rglob("*.cubin"))) < len(jobs):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert compilers.outcome(jobs[3]).status is Status.OK


def test_one_waits_for_its_own_job_alone(
    compilers: Compilers, mortal: Callable[[str], Job]
) -> None:
    compilers.submit([mortal("hangs")])
    began = time.monotonic()
    assert compilers.outcome(_job()).status is Status.OK
    assert time.monotonic() - began < 60


def test_a_compiler_that_dies_costs_its_job_alone(
    compilers: Compilers, mortal: Callable[[str], Job]
) -> None:
    names = ["good", "killed", "exits", "broken", "unplanned", "good", "killed"]
    found = dict(compilers.outcomes([mortal(name) for name in names]))
    assert [str(found[index].status) for index in range(len(names))] == [
        "ok",
        "crashed",
        "crashed",
        "compile_error",
        "error",
        "ok",
        "crashed",
    ]
    assert found[1].reason == "the compiler's process ended with signal 9"
    assert found[2].reason == "the compiler's process ended with exit status 7"
    assert found[3].reason == found[4].reason == "ValueError: no plan"
    assert found[3].details.endswith("ValueError: no plan")
    assert compilers.outcome(_job(Config(FLAT, VEC=1))).status is Status.OK


def test_one_that_takes_too_long_is_killed_with_all_it_started(
    compilers: Compilers, mortal: Callable[[str], Job]
) -> None:
    late = [replace(mortal(name), compile_deadline_s=0.5) for name in ("hangs", "spawns")]
    found = dict(compilers.outcomes([late[0], mortal("good"), late[1], mortal("leaves")]))
    for index in (0, 2):
        assert found[index].status is Status.TIMEOUT
        assert found[index].reason == "compiling took longer than 0.5 s: killed"
    assert found[1].status is Status.OK
    assert (found[3].status, found[3].reason) == (Status.ERROR, "SystemExit: 3")
    assert compilers.outcome(late[0]).status is Status.TIMEOUT
    commands = [_command(pid) for pid in descendants(os.getpid())]
    assert "sleep" not in commands


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_more_jobs_than_the_queue_holds(compilers: Compilers, mortal: Callable[[str], Job]) -> None:
    jobs = [replace(mortal("broken"), config=Config(FLAT, VEC=vec)) for vec in range(1000)]
    compilers._most = 0  # nobody takes any yet
    compilers.submit(jobs)
    assert 0 < len(compilers._unsent) < len(jobs)
    compilers._most = 2
    assert len(dict(compilers.outcomes(jobs))) == 1000


def test_what_the_caller_got_wrong_is_raised(
    compilers: Compilers, mortal: Callable[[str], Job]
) -> None:
    with pytest.raises(UnknownKernelError):
        compilers.submit([_job(kernel="identiti")])
    with pytest.raises(KernelError, match="no scalar"):
        list(compilers.outcomes([_job(scalars={"scale": 1.0})]))
    for _ in range(2):
        with pytest.raises(KernelError, match=r"^not here$"):
            compilers.outcome(mortal("refuses"))


def test_what_the_device_cannot_hold_is_rejected_for_this_size_too() -> None:
    tight = replace(DEVICES["h100"], max_registers_per_thread=8)
    compilers = Compilers(tight, processes=1)
    outcome = compilers.outcome(_job())
    compilers.close()
    assert outcome.status is Status.REJECTED
    assert outcome.reason.startswith("registers: ")
    assert outcome.binary is not None


def test_processes_that_cannot_work_are_not_started_for_ever(
    compilers: Compilers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler_process, "compile_for", lambda device: os._exit(3))
    with pytest.raises(WorkerError, match="end at once, with exit status 3"):
        compilers.outcome(_job())


def _children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def test_close_ends_the_processes(compilers: Compilers, mortal: Callable[[str], Job]) -> None:
    before = _children()
    compilers.submit([mortal("hangs"), _job()])
    assert len(_children() - before) == 2
    compilers.close()
    compilers.close()
    assert not _children() - before


def test_so_does_letting_go_of_them(mortal: Callable[[str], Job]) -> None:
    before = _children()
    compilers = Compilers(DEVICES["h100"], processes=1)
    compilers.submit([mortal("hangs")])
    assert _children() - before
    del compilers
    assert not _children() - before


def test_they_do_not_outlive_a_process_that_is_killed(mortal: Callable[[str], Job]) -> None:
    script = f"""
import os, signal
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.evaluate.compilers import Compilers
from tunekit.evaluate.job import Job
config = Config({dict(FLAT)!r})
compilers = Compilers(DEVICES["h100"], processes=2)
compilers.submit([Job({mortal("hangs").kernel!r}, (64,), "float32", {{}}, config, "h100")])
print(*compilers._children.pipes.values(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    (pid,) = map(int, done.stdout.split())
    until = time.monotonic() + 20
    with suppress(FileNotFoundError):
        # Whoever adopts it may leave it a zombie for a while.
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            assert time.monotonic() < until
            time.sleep(0.05)
