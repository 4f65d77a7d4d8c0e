"""Every launch is counted once, whichever way it goes, and nothing is where nothing records.

Tensors on the CPU pretend to be on an H100, and the kernel is one that launches nothing.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import triton

import tunekit
from tunekit import ops, recorded
from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.evaluation import Provenance, Source, VerifiedBy
from tunekit.errors import UsageError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import mish_mish
from tunekit.kernels.plan import Launch, TensorMeta
from tunekit.recorded import Recorded, Timed
from tunekit.runtime import advice, binaries, call, direct, fast, recording
from tunekit.runtime.lookup import Choice, Served
from tunekit.store.cache import CacheRow

ROOT = Path(__file__).resolve().parent.parent
CONFIG = Config(BLOCK_SIZE=512, VEC=4, num_warps=4, num_stages=1)

launched: list[str] = []
"""How each launch went: by Triton's own call, or directly."""
served: dict[int, Callable[[Kernel, Launch, Device], Iterator[Choice]]] = {}


class Launching:
    """Stands in for a `@triton.jit` function."""

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(**arguments: Any) -> object:
            launched.append("ordinary")
            return object()

        return launch


def default(kernel: Kernel, launch: Launch, device: Device) -> Iterator[Choice]:
    yield Choice(CONFIG, Served.DEFAULT, None, kernel.problem_of(launch, device))


def pretend(patch: pytest.MonkeyPatch) -> Kernel:
    """From here on the CPU is an H100; a kernel that can be called there."""

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        return dataclasses.replace(mish_mish.plan(inputs, device), function=Launching())

    def direct_launch(*arguments: Any) -> direct.Direct | None:
        if arguments[3] is None:  # no binary of an earlier process
            return None
        return lambda stream, pointers, scalars: launched.append("direct")

    def choices(kernel: Kernel, launch: Launch, device: Device) -> Iterator[Choice]:
        return served.get(launch.dims["n"], default)(kernel, launch, device)

    patch.setattr(torch.Tensor, "is_cuda", True)
    patch.setattr(torch.Tensor, "get_device", lambda tensor: 0)
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    patch.setattr(fast, "current_device", lambda: 0)
    patch.setattr(fast, "stream_of", lambda device: 7)
    patch.setattr(call, "device_at", lambda index: DEVICES["h100"])
    patch.setattr(call, "direct_launch", direct_launch)
    patch.setattr(call.lookup, "choices", choices)
    patch.setattr(call.advice, "warn_untuned", lambda *arguments: None)
    patch.setattr(binaries, "load", lambda *arguments: None)
    patch.setattr(binaries, "save", lambda *arguments: None)
    return dataclasses.replace(mish_mish, plan=plan)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    launched.clear()
    served.clear()
    tunekit.reload()
    yield pretend(monkeypatch)
    assert not recording.is_on()
    tunekit.reload()


def counts(problems: Sequence[Recorded]) -> dict[int, int]:
    return {dict(each.problem.dims)["n"]: each.count for each in problems}


def test_what_is_noted(kernel: Kernel) -> None:
    with tunekit.record() as recorded_here:
        for shape in ((8, 16), (128,)):
            ops.call(kernel, torch.ones(shape))
    (one,) = recorded_here.problems
    assert (one.reference, one.shape, one.count) == ("mish_mish", (8, 16), 2)
    assert one.problem.device == "h100"
    assert one.problem == kernel.problem_of(
        kernel.launch_for((128,), "float32", DEVICES["h100"]), DEVICES["h100"]
    )
    assert (one.served, one.config) == ("default", CONFIG)
    assert one.bytes_moved == 2 * 128 * 4
    assert one.timed is Timed.BOUND
    assert one.time_us == pytest.approx(1e6 * 1024 / 3.35e12)
    assert one.tunekit == tunekit.__version__
    assert recorded.from_line(recorded.to_line(one)) == one


def test_each_call_counts_once_on_the_fast_and_on_the_ordinary_way(kernel: Kernel) -> None:
    x, shifted = torch.ones(64), torch.ones(65)[1:]
    ops.call(kernel, x)
    launched.clear()
    with tunekit.record() as here:
        for _ in range(5):
            ops.call(kernel, x)
            ops.call(kernel, shifted)
        ops.call(kernel, x, inplace=True)
        ops.call(kernel, x, out=torch.empty(64))
    # How to launch directly was known before, and is still; what begins elsewhere never is direct.
    assert launched.count("direct") == 5 + 1 + 1
    assert launched.count("ordinary") == 5
    alignments = {each.problem.alignment: each.count for each in here.problems}
    assert {"p1" in alignment.split(","): n for alignment, n in alignments.items()} == {
        False: 7,
        True: 5,
    }


def test_a_launch_hook_sees_what_is_recorded(kernel: Kernel) -> None:
    x, chain = torch.ones(64), triton.knobs.runtime.launch_enter_hook
    ops.call(kernel, x)
    launched.clear()

    def hook(metadata: object) -> None:
        pass

    chain.add(hook)
    try:
        with tunekit.record() as here:
            for _ in range(3):
                ops.call(kernel, x)
    finally:
        chain.remove(hook)
    assert launched == ["ordinary"] * 3
    assert counts(here.problems) == {64: 3}


def test_where_nothing_records_the_fast_way_is_what_it_was(kernel: Kernel) -> None:
    x = torch.ones(64)

    def known() -> direct.Direct:
        ops.call(kernel, x)
        return next(iter(fast.fast_of(kernel)._kinds.values()))

    before = known()
    with tunekit.record() as here:
        assert known() is not before
    assert not fast.fast_of(kernel)._kinds
    assert known() is before
    ops.call(kernel, x)
    assert counts(here.problems) == {64: 1}


def test_a_kind_learned_while_another_thread_switches_is_forgotten(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, learn = tunekit.record(), fast.Fast.learn

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(fast.Fast, "learn", learn)
        here.__enter__()
        learn(*arguments)

    monkeypatch.setattr(fast.Fast, "learn", late)
    x = torch.ones(64)
    ops.call(kernel, x)
    for _ in range(3):
        ops.call(kernel, x)
    here.end()
    assert counts(here.problems) == {64: 3}


def test_problems_while_it_is_on_and_after(kernel: Kernel) -> None:
    with tunekit.record() as here:
        assert here.problems == []
        ops.call(kernel, torch.ones(32))
        assert counts(here.problems) == {32: 1}
        for _ in range(2):
            ops.call(kernel, torch.ones(64))
        assert list(counts(here.problems).items()) == [(64, 2), (32, 1)]
    ops.call(kernel, torch.ones(32))
    assert counts(here.problems) == {64: 2, 32: 1}
    with pytest.raises(dataclasses.FrozenInstanceError):
        here.problems[0].count = 3  # type: ignore[misc]


def test_recordings_overlap(kernel: Kernel) -> None:
    x = torch.ones(64)
    with tunekit.record() as outer:
        ops.call(kernel, x)
        with tunekit.record() as inner:
            ops.call(kernel, x)
        ops.call(kernel, x)
    assert (counts(outer.problems), counts(inner.problems)) == ({64: 3}, {64: 1})


def test_one_recording_twice(kernel: Kernel) -> None:
    x, here = torch.ones(64), tunekit.record()
    for _ in range(2):
        with here:
            ops.call(kernel, x)
            with pytest.raises(UsageError, match="makes another one"), here:
                pass
        assert counts(here.problems) == {64: 1}


def test_reload_loses_no_count(kernel: Kernel) -> None:
    with tunekit.record() as here:
        for _ in range(3):
            ops.call(kernel, torch.ones(64))
            tunekit.reload()
    assert counts(here.problems) == {64: 3}


def test_threads_count_together(kernel: Kernel) -> None:
    def work() -> None:
        for _ in range(300):
            ops.call(kernel, torch.ones(64))
            ops.call(kernel, torch.ones(65)[1:])

    threads = [threading.Thread(target=work) for _ in range(6)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with tunekit.record() as here:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert [each.count for each in here.problems] == [1800, 1800]


def row_at(kernel: Kernel, n: int, source: Source = Source.MEASURED) -> CacheRow:
    launch = kernel.launch_for((n,), "float32", DEVICES["h100"])
    return CacheRow(
        problem=kernel.problem_of(launch, DEVICES["h100"]), config=CONFIG, time_us=3.0,
        source=source, verified_by=VerifiedBy.DEVICE, provenance=Provenance(
            gpu_name="H100", sm_count=132, driver="1", torch="2", triton="3", tunekit="0",
            protocol="graph-cold-3", created_at="2026-01-01T00:00:00Z",
        ), speedup=None, copy_us=None, default_time_us=None, default_config=None, binary=None,
        reason="", shape=(n,), winner="", decided_at="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "n", "source", "timed", "time_us"),
    [
        (Served.EXACT, 4096, Source.MEASURED, Timed.MEASURED, 3.0),
        (Served.NEAREST, 1024, Source.MEASURED, Timed.SCALED, 12.0),
        (Served.ESTIMATED, 4096, Source.ESTIMATED, Timed.BOUND, 1e6 * 32768 / 3.35e12),
    ],
)
def test_times_are_of_the_row_that_serves(
    kernel: Kernel, how: Served, n: int, source: Source, timed: Timed, time_us: float
) -> None:
    def choices(kernel: Kernel, launch: Launch, device: Device) -> Iterator[Choice]:
        problem = kernel.problem_of(launch, device)
        yield Choice(CONFIG, how, row_at(kernel, n, source), problem)

    served[4096] = choices
    with tunekit.record() as here:
        ops.call(kernel, torch.ones(4096))
    (one,) = here.problems
    assert (one.served, one.timed) == (how, timed)
    assert one.time_us == pytest.approx(time_us)


def test_a_gpu_whose_bandwidth_is_unknown(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = dataclasses.replace(DEVICES["h100"], slug="new", dram_bytes_per_s=0.0)
    monkeypatch.setattr(call, "device_at", lambda index: unknown)
    with tunekit.record() as here:
        ops.call(kernel, torch.ones(48))
    (one,) = here.problems
    assert (one.problem.device, one.time_us, one.timed) == ("new", None, Timed.UNKNOWN)


def test_a_tensor_without_axes(kernel: Kernel) -> None:
    with tunekit.record() as here:
        ops.call(kernel, torch.tensor(1.0))
    assert here.problems[0].shape == (1,)


def test_the_reference_on_the_cpu_is_no_launch() -> None:
    with tunekit.record() as here:
        ops.mish_mish(torch.ones(64))
    assert here.problems == []


def test_problems_without_end(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_tallies", {})
    monkeypatch.setattr(recording, "_MOST_PROBLEMS", 3)
    with tunekit.record() as here:
        for n in (16, 32, 48):
            ops.call(kernel, torch.ones(n))
        with pytest.warns(tunekit.TunekitWarning, match="more than 3 problems; those beyond"):
            ops.call(kernel, torch.ones(64))
        ops.call(kernel, torch.ones(16))
    assert counts(here.problems) == {16: 2, 32: 1, 48: 1}


def test_a_kernel_is_named_as_for_the_command_line(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[advice.__name__], "MINE", kernel, raising=False)
    with tunekit.record() as here:
        ops.call(kernel, torch.ones(64))
    assert here.problems[0].reference == "tunekit.runtime.advice:MINE"


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_a_kernel_of_the_script_is_named_by_its_file(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In a process that multiprocessing spawned the script has both names."""
    script = ModuleType(name)
    script.__file__, script.MINE = "/some/train.py", kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, script)
    with tunekit.record() as here:
        ops.call(kernel, torch.ones(64))
    assert here.problems[0].reference == "/some/train.py:MINE"


def test_a_file_takes_what_each_recording_saw(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with tunekit.record(path):
        pass
    assert path.read_text() == ""
    for calls in (2, 3):
        with tunekit.record(str(path)):
            for _ in range(calls):
                ops.call(kernel, torch.ones(64))
    assert len(path.read_text().splitlines()) == 2
    assert counts(recorded.read(path)) == {64: 5}
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_the_path_is_that_of_the_beginning(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with tunekit.record("calls.jsonl"):
        ops.call(kernel, torch.ones(64))
        monkeypatch.chdir(elsewhere)
    assert counts(recorded.read(tmp_path / "calls.jsonl")) == {64: 1}
    assert not list(elsewhere.iterdir())


def test_an_error_in_the_block_loses_nothing(kernel: Kernel, tmp_path: Path) -> None:
    def fail() -> None:
        with tunekit.record(tmp_path / "calls.jsonl"):
            ops.call(kernel, torch.ones(64))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert counts(recorded.read(tmp_path / "calls.jsonl")) == {64: 1}


def test_half_a_line_of_another_process_is_that_line_alone(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"record": "ca')
    with tunekit.record(path):
        ops.call(kernel, torch.ones(64))
    first, second = path.read_text().splitlines()
    assert first == '{"record": "ca'
    assert recorded.from_line(second).count == 1


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("none/calls.jsonl", "No such file or directory"),
        (".", "Is a directory"),
        ("a-file/calls.jsonl", "Not a directory"),
        ("a" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_warning(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    with (
        pytest.warns(tunekit.TunekitWarning, match=f"cannot write .*: {why}; what is") as said,
        tunekit.record(path) as here,
    ):
        ops.call(kernel, torch.ones(64))
    assert len(said) == 1
    assert counts(here.problems) == {64: 1}


def test_a_disk_that_is_full(kernel: Kernel) -> None:
    with (
        pytest.warns(tunekit.TunekitWarning, match="/dev/full: No space left") as said,
        tunekit.record("/dev/full") as here,
    ):
        ops.call(kernel, torch.ones(64))
    assert len(said) == 1
    assert counts(here.problems) == {64: 1}


def test_a_disk_that_takes_half(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, here = os.write, tunekit.record(tmp_path / "calls.jsonl")
    with here:
        ops.call(kernel, torch.ones(64))
        monkeypatch.setattr(os, "write", lambda file, text: write(file, text[:20]))
        with pytest.warns(tunekit.TunekitWarning, match="no space is left for all of it"):
            here.end()


def test_a_forked_child_writes_what_is_its_own(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"

    def child() -> None:
        for _ in range(3):
            ops.call(kernel, torch.ones(64))

    with tunekit.record(path):
        for _ in range(5):
            ops.call(kernel, torch.ones(64))
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        ops.call(kernel, torch.ones(64))
    found = [recorded.from_line(line).count for line in path.read_text().splitlines()]
    assert sorted(found) == [3, 6]


Run = Callable[[str, Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> Run:
    """Runs a program under TUNEKIT_RECORD that can call `kernel` on an H100 that is none."""
    begin = f"""
import os, runpy, sys
import pytest
kernel = runpy.run_path({__file__!r})["pretend"](pytest.MonkeyPatch())
import torch
from tunekit import ops
"""
    return lambda script, path: run_python("-c", begin + script, TUNEKIT_RECORD=str(path))


def test_the_environment_records_until_the_program_ends(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "calls.jsonl"
    script = """
for _ in range(4):
    ops.call(kernel, torch.ones(64))
if os.fork() == 0:
    ops.call(kernel, torch.ones(64))
    sys.exit()
os.wait()
sys.exit(3)
"""
    done = run(script, path)
    assert (done.returncode, done.stderr) == (3, "")
    counted = [json.loads(line)["count"] for line in path.read_text().splitlines()]
    assert counted == [1, 4]
    assert run("ops.call(kernel, torch.ones(64))", path).returncode == 0
    assert counts(recorded.read(path)) == {64: 6}


def test_an_environment_that_cannot_be_written_leaves_the_program_alone(
    tmp_path: Path, run: Run
) -> None:
    script = "ops.call(kernel, torch.ones(64)); print('done')"
    done = run(script, tmp_path / "none" / "calls.jsonl")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("TunekitWarning: recording: cannot write") == 1
    assert "Traceback" not in done.stderr
