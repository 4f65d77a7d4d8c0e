"""Kernels that do their worst on the GPU, each between two good ones in a real worker."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Status
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.pool import Worker
from tunekit.evaluate.processes import descendants
from tunekit.gpu import select_gpu

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]
MISDEEDS = ROOT / "tests" / "faults"
SMALL, MID = 1000, 2**22
FLAT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
SHORT_S = 8.0

KERNELS = """
    import dataclasses

    import misdeeds
    import torch
    import triton
    import triton.language as tl
    from tunekit.kernels.kernel import pointwise

    HOARD = []

    @triton.jit
    def identity(x):
        return x + 0.0

    @triton.jit
    def far_read(inputs, output, scalars, n, epilogue: tl.constexpr, WIDE: tl.constexpr,
                 BLOCK_SIZE: tl.constexpr, VEC: tl.constexpr, num_stages: tl.constexpr):
        offsets = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        x = tl.load(inputs[0] + offsets + (1 << 40))
        tl.store(output + offsets, x, mask=offsets < n)

    @triton.jit
    def trapping(inputs, output, scalars, n, epilogue: tl.constexpr, WIDE: tl.constexpr,
                 BLOCK_SIZE: tl.constexpr, VEC: tl.constexpr, num_stages: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        x = tl.load(inputs[0] + offsets, mask=offsets < n)
        x = tl.inline_asm_elementwise(
            "trap; mov.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=False, pack=1
        )
        tl.store(output + offsets, x, mask=offsets < n)

    @triton.jit
    def spinning(inputs, output, scalars, n, epilogue: tl.constexpr, WIDE: tl.constexpr,
                 BLOCK_SIZE: tl.constexpr, VEC: tl.constexpr, num_stages: tl.constexpr):
        count = n
        while count > 0:
            tl.atomic_add(output, 1.0)

    @triton.jit
    def crowded(inputs, output, scalars, n, epilogue: tl.constexpr, WIDE: tl.constexpr,
                BLOCK_SIZE: tl.constexpr, VEC: tl.constexpr, num_stages: tl.constexpr):
        block = tl.program_id(0) % tl.cdiv(n, BLOCK_SIZE)
        offsets = block * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        x = tl.load(inputs[0] + offsets, mask=offsets < n)
        tl.store(output + offsets, x, mask=offsets < n)

    @triton.jit
    def talking(inputs, output, scalars, n, epilogue: tl.constexpr, WIDE: tl.constexpr,
                BLOCK_SIZE: tl.constexpr, VEC: tl.constexpr, num_stages: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        x = tl.load(inputs[0] + offsets, mask=offsets < n)
        tl.device_print("a value of this very kernel", x)
        tl.store(output + offsets, x, mask=offsets < n)

    def kernel(name, function=None, grid=None, act=None, reference=torch.clone):
        made = pointwise(name, epilogue=identity, reference=reference)
        plan = made.plan

        def altered(metas, device):
            launch = plan(metas, device)

            def own_grid(config):
                if act is not None and torch.cuda.is_initialized():  # not where it is compiled
                    act()
                return grid or launch.grid(config)

            changes = {"grid": own_grid}
            if function is not None:
                changes["function"] = function
            return dataclasses.replace(launch, **changes)

        object.__setattr__(made, "plan", altered)
        return made

    def hoard():
        while True:
            HOARD.append(torch.empty(2**30, dtype=torch.uint8, device="cuda"))

    def greedy(x):
        return torch.empty(2**44, dtype=torch.uint8, device="cuda")

    def change_gpu_state():
        misdeeds.change_state()
        torch.set_default_device("cuda")
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.cuda.set_stream(torch.cuda.Stream())
        torch.cuda.set_per_process_memory_fraction(0.5)

    far_reading = kernel("far_reading", far_read)
    trap = kernel("trap", trapping)
    endless = kernel("endless", spinning)
    billions = kernel("billions", crowded, grid=(2**31 - 1, 1, 1))
    past_the_limit = kernel("past_the_limit", crowded, grid=(1, 2**16, 1))
    talkative = kernel("talkative", talking)
    hoarding = kernel("hoarding", act=hoard)
    greedy_reference = kernel("greedy_reference", reference=greedy)
    changing = kernel("changing", act=change_gpu_state)
    looking = kernel("looking", act=misdeeds.look_around)

    for name, act in list(vars(misdeeds).items()):
        if callable(act) and act.__module__ == "misdeeds":
            globals()[name] = kernel(name, act=act)
"""

STICKY = "the worker process ended with exit status 1: .*CUDA.*"
NO_ANSWER = f"no answer within {SHORT_S:g} s: killed"


def _died(how: str) -> str:
    return f"the worker process ended with {how}.*"


# Name of the kernel, what the job changes, status, reason.
FAULTS: dict[str, tuple[dict[str, object], str, str]] = {
    "far_reading": ({}, "crashed", STICKY),
    "trap": ({}, "crashed", STICKY),
    "endless": ({"deadline_s": SHORT_S}, "timeout", NO_ANSWER),
    "billions": ({"deadline_s": SHORT_S}, "timeout", NO_ANSWER),
    "past_the_limit": ({}, "error", ".*invalid.*"),
    "talkative": ({}, "ok", ""),
    "hoarding": ({}, "error", ".*out of memory.*"),
    "greedy_reference": ({}, "error", ".*out of memory.*"),
    # On another stream it may come too late to be right: it is judged by what it does.
    "changing": ({}, "ok|wrong|error", ".*"),
    "looking": ({}, "ok", ""),
    "system_exit": ({}, "error", "SystemExit: 3"),
    "keyboard_interrupt": ({}, "error", "KeyboardInterrupt: "),
    "print_megabytes": ({}, "ok", ""),
    "fork_a_sleeper": ({}, "ok", ""),
    "fork_a_daemon": ({}, "ok", ""),
    "fork_and_go_on": ({}, "ok", ""),
    "spawn_in_a_session": ({}, "ok", ""),
    "ignore_sigterm": ({}, "ok", ""),
    "abort": ({}, "crashed", _died("signal 6")),
    "exit_at_once": ({}, "crashed", _died("exit status 7")),
    "fork_and_exit": ({}, "crashed", _died("exit status 8")),
    "hang_in_c": ({"deadline_s": SHORT_S}, "timeout", NO_ANSWER),
    "hang_deaf": ({"deadline_s": SHORT_S}, "timeout", NO_ANSWER),
}

TOO_MUCH: dict[str, tuple[Config, dict[str, object], str, str]] = {
    "too much shared memory": (
        Config(BLOCK_SIZE=16384, VEC=4, num_warps=16, num_stages=6),
        {},
        "rejected",
        "shared memory: a block needs .*",
    ),
    "too many threads": (
        Config(BLOCK_SIZE=2048, VEC=4, num_warps=64, num_stages=1),
        {},
        "rejected",
        "threads: a block has 2048 and .*",
    ),
    "far too many registers": (
        Config(BLOCK_SIZE=2**17, VEC=4, num_warps=4, num_stages=1),
        {"compile_deadline_s": 3.0},
        "timeout",
        "compiling took longer than 3 s: killed",
    ),
}


@pytest.fixture(scope="module")
def gpu() -> Device:
    return select_gpu(0).device


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("kernel") / "faulty_on_gpu.py"
    path.write_text(textwrap.dedent(KERNELS))
    return str(path)


@pytest.fixture(scope="module")
def worker(gpu: Device) -> Iterator[Worker]:
    """One for all: what a fault leaves behind, the tests after it would see."""
    path = os.pathsep.join([str(MISDEEDS), str(ROOT), os.environ.get("PYTHONPATH", "")])
    before = set(descendants(os.getpid()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        with Worker("device:0", gpu.slug) as one:
            yield one
    assert set(descendants(os.getpid())) <= before


@pytest.fixture
def job(gpu: Device) -> Callable[..., Job]:
    def make(kernel: str = "identity", n: int = SMALL, config: Config = FLAT, **more: object):  # type: ignore[no-untyped-def]
        return replace(Job(kernel, (n,), "float32", {}, config, gpu.slug), **more)  # type: ignore[arg-type]

    return make


def _assert_good(outcome: Outcome) -> None:
    assert outcome.status is Status.OK, outcome
    assert outcome.time_us is not None
    assert outcome.time_us > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_costs_its_own_job(
    name: str,
    worker: Worker,
    job: Callable[..., Job],
    kernels: str,
    tally: Callable[[str, str, int], None],
) -> None:
    changes, status, reason = FAULTS[name]
    jobs = [job(), job(f"{kernels}:{name}", **changes), job(n=MID), job(config=Config(FLAT, VEC=1))]
    outcomes = [outcome for _, outcome in worker.evaluate(jobs)]
    before, fault, *after = outcomes
    assert re.fullmatch(status, fault.status), fault
    assert re.fullmatch(reason, fault.reason), fault
    for good in (before, *after):
        _assert_good(good)
    if fault.status is Status.ERROR or "CUDA" in fault.reason:
        assert fault.details
    tally("Faults", name, 1)


def test_faults_that_show_when_compiling(
    worker: Worker, job: Callable[..., Job], kernels: str, tally: Callable[[str, str, int], None]
) -> None:
    """As a search asks: compile all, evaluate those that compiled."""
    names = ("hoarding", "greedy_reference", "system_exit", "fork_and_go_on", "changing")
    jobs = [job(), *(job(f"{kernels}:{name}") for name in names), job(config=Config(FLAT, VEC=1))]
    compiled = dict(worker.compile(jobs))
    assert sorted(compiled) == list(range(len(jobs)))
    for index in (0, len(jobs) - 1):
        assert compiled[index].status is Status.OK
    assert (compiled[1].status, compiled[3].status) == (Status.ERROR, Status.ERROR)
    assert "out of memory" in compiled[1].reason
    good = [jobs[0], jobs[-1]]
    for _, outcome in worker.evaluate(good):
        _assert_good(outcome)
    tally("Faults", "out of memory while compiling", 1)


@pytest.mark.parametrize("name", list(TOO_MUCH))
def test_more_than_the_gpu_has(
    name: str, worker: Worker, job: Callable[..., Job], tally: Callable[[str, str, int], None]
) -> None:
    config, changes, status, reason = TOO_MUCH[name]
    jobs = [job(n=MID), job("mish_mish", MID, config, **changes), job(n=MID + 4)]
    before, fault, after = [outcome for _, outcome in worker.evaluate(jobs)]
    assert fault.status == status, fault
    assert re.fullmatch(reason, fault.reason), fault
    _assert_good(before)
    _assert_good(after)
    tally("Faults", name, 1)
