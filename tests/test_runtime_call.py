from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from triton.runtime.errors import OutOfResources, PTXASError

import tunekit
from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.problem import Problem
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import mish_add_hardtanh_scale
from tunekit.kernels.plan import Launch, TensorMeta
from tunekit.runtime import call
from tunekit.runtime.lookup import Choice, Served

SCALARS = {"add_value": 0.5, "scale": 2.0}


class Recorder:
    """Stands in for a `@triton.jit` function: keeps grids and arguments."""

    def __init__(self) -> None:
        self.launches: list[tuple[tuple[int, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda **arguments: self.launches.append((grid, arguments))


@dataclasses.dataclass
class Watched:
    """A kernel that launches nothing, and how often it was planned."""

    kernel: Kernel
    function: Recorder
    planned: list[Sequence[TensorMeta]]


@pytest.fixture
def watched() -> Iterator[Watched]:
    function, planned = Recorder(), []

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        planned.append(inputs)
        launch = mish_add_hardtanh_scale.plan(inputs, device)
        return dataclasses.replace(launch, function=function)

    kernel = dataclasses.replace(mish_add_hardtanh_scale, plan=plan)
    yield Watched(kernel, function, planned)
    tunekit.reload()


def run(
    watched: Watched, x: torch.Tensor, out: torch.Tensor | None = None, **scalars: float
) -> None:
    out = torch.empty_like(x) if out is None else out
    call.run(watched.kernel, (x,), out, SCALARS | scalars)


def test_every_argument_is_passed(watched: Watched) -> None:
    x, out = torch.ones(5000), torch.empty(5000)
    run(watched, x, out, scale=3)
    ((grid, arguments),) = watched.function.launches
    assert grid == (5, 1, 1)
    assert arguments["inputs"][0] is x
    assert arguments["output"] is out
    assert arguments["scalars"] == (0.5, 3.0)
    assert [type(value) for value in arguments["scalars"]] == [float, float]
    assert {name: arguments[name] for name in ("n", "BLOCK_SIZE", "VEC", "num_warps")} == {
        "n": 5000,
        "BLOCK_SIZE": 1024,
        "VEC": 4,
        "num_warps": 4,
    }


def test_a_plan_is_made_once_for_each_kind_of_tensors(watched: Watched) -> None:
    memory = torch.ones(4096)
    same = [memory[:64], memory[64:128].view(8, 8), memory[128:192].view(8, 8).t()]
    for x in same:
        run(watched, x)
        run(watched, x, scale=7.0)
    assert len(watched.planned) == 1
    assert watched.planned[0] == [TensorMeta((64,), (1,), "float32")]
    others = [memory[:65], memory[1:65], torch.ones(64).bfloat16()]
    for count, x in enumerate(others, start=2):
        run(watched, x)
        assert len(watched.planned) == count
    run(watched, memory[:64], torch.empty(65)[1:])
    assert len(watched.planned) == len(others) + 2
    assert watched.planned[2][0].misalignment == 4
    assert len(watched.function.launches) == 2 * len(same) + len(others) + 1


def test_the_output_that_is_there_is_what_is_planned_for(watched: Watched) -> None:
    x = torch.ones(64)
    planned = call._plan(watched.kernel, (x,), torch.empty(65)[1:])
    assert planned.launch.outputs == (TensorMeta((64,), (1,), "float32", misalignment=4),)


def test_nothing_is_launched_for_nothing(watched: Watched) -> None:
    run(watched, torch.ones(3, 0))
    assert not watched.planned


def test_shapes_that_never_repeat_do_not_fill_the_memory(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "_MOST_PLANS", 8)
    memory = torch.ones(100)
    for n in range(1, 60):
        run(watched, memory[:n])
        assert len(call._plans) <= 8
    planned = len(watched.planned)
    run(watched, memory[:59])
    assert len(watched.planned) == planned
    run(watched, memory[:1])
    assert len(watched.planned) == planned + 1


def test_reload_forgets_plans(watched: Watched) -> None:
    run(watched, torch.ones(64))
    tunekit.reload()
    run(watched, torch.ones(64))
    assert len(watched.planned) == 2


def test_a_kernel_that_is_gone_leaves_its_plans_to_nobody(watched: Watched) -> None:
    """`id` of a new kernel may be that of an old one; plans keep theirs alive."""
    for scale in range(20):
        kernel = dataclasses.replace(watched.kernel, name=f"kernel{scale}")
        call.run(kernel, (torch.ones(64),), torch.empty(64), SCALARS)
        del kernel
    assert len(watched.planned) == 20


def test_a_kernel_that_is_not_elementwise_is_planned_by_shape_and_strides(
    watched: Watched,
) -> None:
    kernel = dataclasses.replace(watched.kernel, elementwise=False)
    for x in (torch.ones(8, 8), torch.ones(8, 8).t(), torch.ones(64), torch.ones(8, 8)):
        call.run(kernel, (x,), torch.empty_like(x), SCALARS)
    assert watched.planned == [
        [TensorMeta((8, 8), (8, 1), "float32")],
        [TensorMeta((8, 8), (1, 8), "float32")],
        [TensorMeta((64,), (1,), "float32")],
    ]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tensors pretend to be on cuda:1, an H100, while cuda:0 is current; contexts entered."""
    entered: list[int] = []

    @contextmanager
    def device(index: int) -> Iterator[None]:
        entered.append(index)
        yield

    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch.Tensor, "get_device", lambda tensor: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(call, "device_at", lambda index: DEVICES[("rtx3090", "h100")[index]])
    return entered


def test_on_a_gpu_the_configuration_is_looked_up(
    watched: Watched, pretended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def choices(kernel: Kernel, launch: Launch, device: Device) -> Iterator[Choice]:
        asked.append((dict(launch.dims), device.slug))
        problem = kernel.problem_of(launch, device)
        config = Config(BLOCK_SIZE=128, VEC=1, num_warps=2, num_stages=1)
        yield Choice(config, Served.EXACT, None, problem)

    monkeypatch.setattr(call.lookup, "choices", choices)
    for _ in range(3):
        run(watched, torch.ones(1000))
    assert asked == [({"n": 1000}, "h100")]
    assert [grid for grid, _ in watched.function.launches] == [(8, 1, 1)] * 3
    assert watched.function.launches[0][1]["num_warps"] == 2
    assert pretended == [1, 1, 1]


def test_on_a_gpu_with_nothing_tuned_the_command_is_named(
    watched: Watched, pretended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A GPU that ships no rows.
    monkeypatch.setattr(call, "device_at", lambda index: DEVICES["b200"])
    with pytest.warns(tunekit.TunekitWarning, match="--shape 10,100 --dtype float16`"):
        run(watched, torch.ones(10, 100).half())
    run(watched, torch.ones(10, 100).half())
    assert len(watched.function.launches) == 2


class Picky:
    """A function that launches with small blocks alone."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.launched: list[int] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(**arguments: Any) -> None:
            self.launched.append(arguments["BLOCK_SIZE"])
            if arguments["BLOCK_SIZE"] > 256:
                raise self.error

        return launch


def _choices(problem: Problem, *sizes: int) -> Iterator[Choice]:
    for size in sizes:
        config = Config(BLOCK_SIZE=size, VEC=4, num_warps=4, num_stages=1)
        yield Choice(config, Served.NEAREST, None, problem)


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a kernel whose larger blocks fail so, and which is served blocks of these sizes."""

    def make(error: Exception, *sizes: int) -> tuple[Kernel, Picky]:
        function = Picky(error)

        def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
            launch = mish_add_hardtanh_scale.plan(inputs, device)
            return dataclasses.replace(launch, function=function)

        def planned(kernel: Kernel, inputs: Any, output: torch.Tensor) -> call.Planned:
            launch = kernel.launch_for(output.shape, "float32", DEVICES["h100"])
            others = _choices(kernel.problem_of(launch, DEVICES["h100"]), *sizes)
            choice = next(others)
            made = call._planned(kernel, launch, choice.config)
            return dataclasses.replace(made, choice=choice, others=others)

        monkeypatch.setattr(call, "_plan", planned)
        return dataclasses.replace(mish_add_hardtanh_scale, plan=plan), function

    yield make
    tunekit.reload()


@pytest.mark.parametrize(
    "error",
    [
        OutOfResources(300_000, 232_448, "shared memory"),
        PTXASError("too many registers"),
        RuntimeError("PassManager::run failed"),
    ],
    ids=["resources", "ptxas", "passes"],
)
def test_what_cannot_be_launched_is_told_once_and_the_next_serves(
    picky: Any, error: Exception
) -> None:
    kernel, function = picky(error, 1024, 512, 256, 128)
    x = torch.ones(5000)
    with pytest.warns(tunekit.TunekitWarning) as said:
        call.run(kernel, (x,), torch.empty_like(x), SCALARS)
    first, second = (str(each.message) for each in said)
    assert first.startswith("mish_add_hardtanh_scale at n = 5000: BLOCK_SIZE=1024")
    assert str(error).splitlines()[0] in first
    assert "BLOCK_SIZE=512" in first.split("; ")[-1]
    assert "BLOCK_SIZE=256" in second.split("; ")[-1]
    assert function.launched == [1024, 512, 256]
    call.run(kernel, (x,), torch.empty_like(x), SCALARS)
    assert function.launched == [1024, 512, 256, 256]


def test_when_none_can_be_launched_the_error_is_the_last_ones(picky: Any) -> None:
    kernel, function = picky(OutOfResources(3, 2, "shared memory"), 1024, 512)
    x = torch.ones(5000)
    with pytest.warns(tunekit.TunekitWarning), pytest.raises(OutOfResources):
        call.run(kernel, (x,), torch.empty_like(x), SCALARS)
    assert function.launched == [1024, 512]


def test_an_error_of_the_gpu_is_nobodys_configuration(picky: Any) -> None:
    kernel, function = picky(RuntimeError("Triton Error [CUDA]: an illegal access"), 1024, 128)
    x = torch.ones(5000)
    with pytest.raises(RuntimeError, match="illegal access"):
        call.run(kernel, (x,), torch.empty_like(x), SCALARS)
    assert function.launched == [1024]
