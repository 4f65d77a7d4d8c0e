"""Calls of kernels of plans in Triton's interpreter; run by `test_planned.py` in a process."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import tunekit
from tunekit.core.config import Config
from tunekit.errors import KernelError
from tunekit.planned import PlannedKernel
from tunekit.runtime import call

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def _load() -> ModuleType:
    path = Path(__file__).with_name("planned_kernels.py")
    spec = importlib.util.spec_from_file_location("planned_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KERNELS = _load()


def of(name: str) -> PlannedKernel:
    kernel = getattr(KERNELS, name)
    assert isinstance(kernel, PlannedKernel)
    return kernel


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Config]]:
    """Configuration of every launch."""
    launches: list[Config] = []
    start = call.Planned.start

    def counting(self: call.Planned, *arguments: Any) -> Any:
        launches.append(self.config)
        return start(self, *arguments)

    monkeypatch.setattr(call.Planned, "start", counting)
    yield launches
    tunekit.reload()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (8, 16), (4, 33)])
def test_several_results(
    shape: tuple[int, int], dtype: torch.dtype, launched: list[Config]
) -> None:
    x = torch.randn(shape).to(dtype)
    y, place = of("scale_and_place")(x)
    assert torch.equal(y, x * 2)
    assert torch.equal(place, x.argmax(1))
    assert (y.dtype, place.dtype) == (dtype, torch.int64)
    assert launched == [Config(BLOCK=4, num_warps=4)]


def test_scalars_of_the_call(launched: list[Config]) -> None:
    x = torch.randn(3, 5)
    for factor in (0.5, -1, 0.0):
        assert torch.equal(of("scale_and_place")(x, factor=factor)[0], x * factor)
    assert torch.equal(of("scale_and_place")(x)[0], x * 2)
    assert len(launched) == 4


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, :5],
        lambda x: x[1:],
        lambda x: x[::2, 1:4],
        lambda x: x[:1].expand(6, 8),
        lambda x: x.view(-1)[3:43].view(5, 8),
    ],
)
def test_strided_and_misaligned_tensors(view: Any) -> None:
    x = view(torch.randn(7, 8))
    y, place = of("scale_and_place")(x)
    assert torch.equal(y, x * 2)
    assert torch.equal(place, x.argmax(1))
    assert y.is_contiguous()


def test_what_the_plan_refuses_is_refused(launched: list[Config]) -> None:
    with pytest.raises(KernelError, match="have to lie side by side"):
        of("scale_and_place")(torch.randn(3, 5).t())
    with pytest.raises(KernelError, match=r"x has shape \(3,\), expected \(rows, columns\)"):
        of("scale_and_place")(torch.randn(3))
    assert launched == []


def test_in_place(launched: list[Config]) -> None:
    x, w = torch.randn(100), torch.randn(100)
    expected, version = x + w, x._version
    assert of("add_in_place")(x, w) is x
    assert torch.equal(x, expected)
    assert x._version == version + 1
    of("add_in_place")(x[3:50], w[2:49])
    assert torch.equal(x[3:50], expected[3:50] + w[2:49])
    assert torch.equal(x[50:], expected[50:])
    of("add_in_place")(x, x)
    assert torch.equal(x[50:], 2 * expected[50:])
    assert len(launched) == 3


def test_atomics_begin_at_0_each_time() -> None:
    index = torch.randint(0, 100, (77,))
    expected = torch.bincount(index, minlength=100).int()
    for _ in range(3):
        assert torch.equal(of("counts")(index), expected)


def test_each_call_has_results_of_its_own() -> None:
    x = torch.randn(3, 5)
    one, _ = of("scale_and_place")(x)
    other, _ = of("scale_and_place")(x + 1)
    assert one.data_ptr() != other.data_ptr()
    assert torch.equal(one, x * 2)


def test_without_a_reference_the_kernel_runs(launched: list[Config]) -> None:
    x = torch.randn(3, 5)
    assert torch.equal(of("without_reference")(x)[0], x * 2)
    assert len(launched) == 1


def test_tensors_without_elements(launched: list[Config]) -> None:
    y, place = of("scale_and_place")(torch.zeros(0, 5))
    assert (y.shape, place.shape) == ((0, 5), (0,))
    assert of("add_in_place")(torch.zeros(0), torch.zeros(0)).shape == (0,)
    assert launched == []
    counts = of("counts")(torch.zeros(0, dtype=torch.int64))
    assert torch.equal(counts, torch.zeros(100, dtype=torch.int32))


def test_a_tensor_that_requires_grad_is_refused_outside_no_grad() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    with pytest.raises(KernelError, match="has no backward"):
        of("scale_and_place")(x)
    with torch.no_grad():
        assert torch.equal(of("scale_and_place")(x)[0], x * 2)


def test_inside_a_function_of_autograd() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = of("scale_and_place")(x)[0]
            return result

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0] * 2

    x = torch.randn(3, 5, requires_grad=True)
    Doubled.apply(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full((3, 5), 2.0))


def test_plans_are_made_once_for_a_kind_of_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sequence[object]] = []
    chosen = call._chosen

    def counting(*arguments: Any) -> call.Planned:
        made.append(arguments)
        return chosen(*arguments)

    monkeypatch.setattr(call, "_chosen", counting)
    for _ in range(3):
        of("scale_and_place")(torch.randn(6, 9))
    of("scale_and_place")(torch.randn(6, 9)[:, :8])
    of("scale_and_place")(torch.randn(6, 9), factor=3.0)
    assert len(made) == 2
