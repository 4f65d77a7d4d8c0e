"""Counts are exact on a real GPU, whichever way a call goes; recording leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import triton

import tunekit
from tunekit import ops, recorded
from tunekit.gpu import device_at
from tunekit.kernels import library
from tunekit.kernels.kernel import pointwise
from tunekit.recorded import Recorded
from tunekit.runtime import fast, recording

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::tunekit.TunekitWarning"),
]


@triton.jit
def recorded_sum(x, y):
    return x + y


SUM = pointwise(
    "gpu_test_recorded_sum",
    epilogue=recorded_sum,
    reference=lambda x, y: x + y,
    input_count=2,
)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    tunekit.reload()
    yield
    assert not recording.is_on()
    tunekit.reload()


def counts(here: recording.Recording) -> dict[tuple[str, int, bool], int]:
    """By kernel, elements and whether all tensors start at a multiple of 16 bytes."""
    return {_key(each): each.count for each in here.problems}


def _key(each: Recorded) -> tuple[str, int, bool]:
    problem = each.problem
    return problem.kernel, dict(problem.dims)["n"], "p1" not in problem.alignment.split(",")


def tensor(*shape: int) -> torch.Tensor:
    return torch.linspace(-8, 8, torch.Size(shape).numel(), device="cuda").view(shape)


def test_every_way_counts_once() -> None:
    x, shifted = tensor(4096), tensor(4097)[1:]
    with tunekit.record() as here:
        for _ in range(10):
            ops.mish_mish(x)  # fast
            ops.mish_mish(shifted)  # ordinary
            ops.mish_mish(x.clone(), inplace=True)
            ops.mish_mish(x.view(64, 64), out=torch.empty(64, 64, device="cuda"))
            ops.call(SUM, x, x)
        ops.mish_mish(tensor(64, 80).t()[::2])  # copied to a dense tensor first
        ops.mish_mish(tensor(3, 0))  # nothing to launch
        ops.mish_mish(x.cpu())  # the reference
    name = "mish_mish"
    assert counts(here) == {
        (name, 4096, True): 30,
        (name, 4096, False): 10,
        ("gpu_test_recorded_sum", 4096, True): 10,
        (name, 2560, True): 1,
    }


def test_what_is_noted() -> None:
    x = tensor(64, 64).half()
    with tunekit.record() as here:
        ops.add_min_gelu_mul(x)
    (one,) = here.problems
    device = device_at(0)
    launch = library.add_min_gelu_mul.launch_for((64, 64), "float16", device)
    assert one.problem == library.add_min_gelu_mul.problem_of(launch, device)
    assert (one.reference, one.shape) == ("add_min_gelu_mul", (64, 64))
    choice = tunekit.lookup("add_min_gelu_mul", (64, 64), "float16")
    assert (one.served, one.config) == (choice.served, choice.config)
    assert one.bytes_moved == 2 * 2 * 4096
    assert recorded.from_line(recorded.to_line(one)) == one


def test_autograd_inference_mode_and_functional_transforms() -> None:
    x = tensor(512)
    with tunekit.record() as here:
        for _ in range(3):
            y = ops.mish_mish(x.clone().requires_grad_())
            torch.autograd.grad(y.sum(), y)
        with torch.inference_mode():
            ops.mish_mish(x)
        torch.func.vmap(ops.mish_mish)(x.view(8, 64))
    assert counts(here) == {("mish_mish", 512, True): 5}


def test_threads() -> None:
    sizes = [1024 + 16 * (index % 4) for index in range(8)]

    def work(size: int) -> None:
        x = tensor(size)
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(500):
                ops.mish_mish(x)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    with tunekit.record() as here:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.cuda.synchronize()
    assert counts(here) == {("mish_mish", size, True): 1000 for size in set(sizes)}


def test_a_captured_launch_counts_once_and_replays_do_not() -> None:
    x = tensor(8192)
    ops.mish_mish(x)
    graph = torch.cuda.CUDAGraph()
    with tunekit.record() as here:
        ops.mish_mish(x)  # known again, outside of the capture
        with torch.cuda.graph(graph):
            ops.mish_mish(x)
            ops.mish_mish(x)
        for _ in range(10):
            graph.replay()
        torch.cuda.synchronize()
    assert counts(here) == {("mish_mish", 8192, True): 3}


def test_the_first_call_while_recording_may_be_captured() -> None:
    x = tensor(8208)
    ops.mish_mish(x)
    graph = torch.cuda.CUDAGraph()
    with tunekit.record() as here, torch.cuda.graph(graph):
        y = ops.mish_mish(x)
    graph.replay()
    torch.testing.assert_close(y, library.mish_mish.reference(x))
    assert counts(here) == {("mish_mish", 8208, True): 1}


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_counts() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return ops.mish_mish(x * 2) + 1

    x = tensor(4000)
    compiled = torch.compile(model, fullgraph=True)
    compiled(x)
    with tunekit.record() as here:
        for _ in range(6):
            compiled(x)
    assert counts(here) == {("mish_mish", 4000, True): 6}
    compiled(x)
    assert counts(here) == {("mish_mish", 4000, True): 6}


def test_off_again_the_fast_way_is_as_before() -> None:
    x = tensor(4096)
    kinds = fast.fast_of(library.mish_mish)._kinds

    def learned() -> object:
        for _ in range(2):
            ops.mish_mish(x)
        (direct,) = kinds.values()
        return direct

    before = learned()
    with tunekit.record() as here:
        assert learned() is not before
    assert not kinds
    assert learned() is before
    assert counts(here) == {("mish_mish", 4096, True): 2}


def test_spawned_ranks_write_to_one_file(tmp_path: Path) -> None:
    path, script = tmp_path / "calls.jsonl", tmp_path / "ranks.py"
    script.write_text(
        "import torch, torch.multiprocessing\n"
        "from tunekit import ops\n"
        "def rank(index):\n"
        "    x = torch.ones(4096, device='cuda')\n"
        "    for _ in range(10 + index):\n"
        "        ops.mish_mish(x)\n"
        "    torch.cuda.synchronize()\n"
        "if __name__ == '__main__':\n"
        "    torch.multiprocessing.spawn(rank, nprocs=2)\n"
        "    rank(5)\n"
    )
    subprocess.run(
        [sys.executable, script],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "TUNEKIT_RECORD": str(path),
        },
        check=True,
    )
    lines = path.read_text().splitlines()
    assert sorted(recorded.from_line(line).count for line in lines) == [10, 11, 15]
    (one,) = recorded.read(path)
    assert one.count == 36
