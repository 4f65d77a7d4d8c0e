from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch

import tunekit
from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.errors import KernelError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import Input, Launch, Output, TensorMeta
from tunekit.runtime import call, fast, outputs
from tunekit.runtime.outputs import allocator, launched_as_before, outputs_of, results_of

FLOATS = TensorMeta.contiguous((3, 5), "float32")
COUNTS = TensorMeta.contiguous((7,), "int32")
TURNED = TensorMeta((3, 5), (1, 3), "float16")


def launch_of(
    *metas: TensorMeta, starts: tuple[Any, ...] = (), inputs: tuple[TensorMeta, ...] = (FLOATS,)
) -> Launch:
    return Launch(None, {}, inputs, metas, {}, lambda config: (1, 1, 1), starts=starts)


class TestAllocator:
    def test_each_output_is_as_the_plan_says(self) -> None:
        x = torch.zeros(3, 5)
        made = allocator(launch_of(FLOATS, COUNTS, TURNED))([x])
        assert [TensorMeta.of(each) for each in made] == [FLOATS, COUNTS, TURNED]
        assert len({each.data_ptr() for each in (x, *made)}) == 4

    def test_each_call_gets_its_own(self) -> None:
        allocate = allocator(launch_of(FLOATS))
        x = torch.zeros(3, 5)
        (one,), (other,) = allocate([x]), allocate([x])
        assert one.data_ptr() != other.data_ptr()

    def test_what_is_zeroed_is_0(self) -> None:
        x = torch.ones(3, 5)
        for _ in range(3):
            one, two = allocator(launch_of(COUNTS, TURNED, starts=(0, 0)))([x])
            assert not one.any()
            assert not two.any()
            one.fill_(5)
            two.fill_(5)

    def test_in_place_is_the_input(self) -> None:
        x, w = torch.ones(3, 5), torch.ones(3, 5)
        made = allocator(launch_of(FLOATS, FLOATS, starts=(Input(1), None), inputs=(FLOATS,) * 2))
        one, two = made([x, w])
        assert one is w
        assert two is not x
        assert two is not w

    def test_a_result_like_an_input_is_of_its_dtype(self) -> None:
        halves = dataclasses.replace(FLOATS, dtype="float16")
        (made,) = allocator(launch_of(halves, inputs=(FLOATS, halves)))(
            [torch.zeros(3, 5), torch.zeros(3, 5, dtype=torch.float16)]
        )
        assert TensorMeta.of(made) == halves


class Watched:
    """A kernel that adds 1 to what its outputs hold, launched where nothing compiles."""

    def __init__(self) -> None:
        self.launches: list[dict[str, Any]] = []
        self.plans = 0
        self.adds = True
        self.starts: tuple[Any, ...] = ()
        self.result_count: int | None = None
        self.kernel = dataclasses.replace(KERNELS["identity"], plan=self.plan, elementwise=False)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def run(**arguments: Any) -> None:
            self.launches.append(arguments)
            for name in ("y", "z") if self.adds else ():
                arguments[name].add_(1)

        return run

    def plan(self, inputs: Sequence[TensorMeta], device: Device) -> Launch:
        self.plans += 1
        if len(inputs[0].shape) > 2:
            raise KernelError("watched: two dims at most")
        launch = KERNELS["identity"].plan([TensorMeta.contiguous((15,), "float32")], device)
        return dataclasses.replace(
            launch,
            function=self,
            arguments={"x": Input(0), "y": Output(0), "z": Output(1)},
            inputs=tuple(inputs),
            outputs=(inputs[0], COUNTS),
            starts=self.starts,
            result_count=self.result_count,
        )


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(call, "can_launch", lambda tensor: True)
    yield Watched()
    tunekit.reload()


class TestLaunching:
    def test_all_outputs_are_results_unless_fewer_are_said(self, watched: Watched) -> None:
        watched.starts = (Input(0), 0)
        x = torch.zeros(3, 5)
        y, z = outputs_of(watched.kernel, [x], {})
        assert y is x
        assert torch.equal(z, torch.ones(7, dtype=torch.int32))
        tunekit.reload()
        watched.result_count = 1
        (only,) = outputs_of(watched.kernel, [x], {})
        assert only is x
        assert (x == 2).all()

    def test_zeroed_outputs_are_zeroed_for_every_launch(self, watched: Watched) -> None:
        watched.starts = (Input(0), 0)
        for _ in range(3):
            _, z = outputs_of(watched.kernel, [torch.zeros(3, 5)], {})
            assert (z == 1).all()
        assert len(watched.launches) == 3

    def test_in_place_the_version_changes_that_autograd_looks_at(self, watched: Watched) -> None:
        watched.starts = (Input(0), 0)
        x = torch.zeros(3, 5)
        watched.adds = False  # what a kernel writes PyTorch does not see
        version = x._version
        outputs_of(watched.kernel, [x], {})
        assert x._version == version + 1

    def test_tensors_are_planned_once_for_a_kind(self, watched: Watched) -> None:
        watched.starts = (Input(0), 0)
        for _ in range(3):
            outputs_of(watched.kernel, [torch.zeros(3, 5)], {})
        assert watched.plans == 1
        outputs_of(watched.kernel, [torch.zeros(5, 3).t()], {})
        outputs_of(watched.kernel, [torch.zeros(16)[1:].view(3, 5)], {})
        outputs_of(watched.kernel, [torch.zeros(3, 5, dtype=torch.float16)], {})
        assert watched.plans == 4

    def test_what_the_plan_refuses_is_refused_each_time(self, watched: Watched) -> None:
        for _ in range(2):
            with pytest.raises(KernelError, match="two dims at most"):
                results_of(watched.kernel, [torch.zeros(1, 3, 5)], {})
        assert watched.launches == []

    def test_tensors_without_elements_are_not_launched(self, watched: Watched) -> None:
        y, z = outputs_of(watched.kernel, [torch.zeros(0, 5)], {})
        assert (y.shape, z.shape) == ((0, 5), (7,))
        assert watched.launches == []

    def test_nothing_is_launched_as_before_on_the_cpu(self, watched: Watched) -> None:
        watched.starts = (Input(0), 0)
        x = torch.zeros(3, 5)
        outputs_of(watched.kernel, [x], {})
        assert launched_as_before(watched.kernel, [x], ()) is None


class TestLaunchedAsBefore:
    """What a kind that was seen needs to be launched directly."""

    @pytest.fixture
    def launched(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
        launches: list[tuple[Any, ...]] = []
        monkeypatch.setattr(fast, "current_device", lambda: -1)
        monkeypatch.setattr(fast, "must_be_seen", lambda: False)
        monkeypatch.setattr(fast, "stream_of", lambda index: 77)

        def direct(stream: int, pointers: tuple[int, ...], scalars: tuple[float, ...]) -> None:
            launches.append((stream, pointers, scalars))

        x = torch.zeros(3, 5)
        kind = outputs._Kind(
            KERNELS["identity"], direct, allocator(launch_of(FLOATS, COUNTS)), 1, ()
        )
        monkeypatch.setitem(outputs._kinds, (id(KERNELS["identity"]), fast.kind_of([x])), kind)
        yield launches
        outputs.forget()

    def test_it_fills_in_pointers_scalars_and_the_stream(
        self, launched: list[tuple[Any, ...]]
    ) -> None:
        x = torch.zeros(3, 5)
        found = launched_as_before(KERNELS["identity"], [x], (2.0,))
        assert found is not None
        ((stream, pointers, scalars),) = launched
        assert (stream, scalars) == (77, (2.0,))
        assert pointers[:2] == (x.data_ptr(), found[0].data_ptr())
        assert len(pointers) == 3
        assert [TensorMeta.of(each) for each in found] == [FLOATS]

    @pytest.mark.parametrize(
        "make",
        [
            lambda: torch.zeros(3, 6),
            lambda: torch.zeros(5, 3).t(),
            lambda: torch.zeros(3, 5, dtype=torch.int32),
            lambda: torch.zeros(16)[1:].view(3, 5),
            lambda: torch.zeros(3, 5, requires_grad=True),
            lambda: torch.zeros(3, 5, dtype=torch.complex64).conj().imag,
            lambda: torch.nn.Parameter(torch.zeros(3, 5)),
            lambda: 3.0,
            lambda: None,
        ],
    )
    def test_another_kind_goes_the_long_way(
        self, make: Any, launched: list[tuple[Any, ...]]
    ) -> None:
        assert launched_as_before(KERNELS["identity"], [make()], ()) is None
        assert launched == []

    def test_another_kernel_does(self, launched: list[tuple[Any, ...]]) -> None:
        assert launched_as_before(KERNELS["mish_mish"], [torch.zeros(3, 5)], ()) is None
        assert launched == []

    def test_without_autograd_one_that_requires_grad_does_not(
        self, launched: list[tuple[Any, ...]]
    ) -> None:
        with torch.no_grad():
            x = torch.zeros(3, 5, requires_grad=True)
            assert launched_as_before(KERNELS["identity"], [x], ()) is not None
        assert len(launched) == 1

    def test_what_has_to_see_the_call_does(
        self, launched: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fast, "must_be_seen", lambda: True)
        assert launched_as_before(KERNELS["identity"], [torch.zeros(3, 5)], ()) is None
        assert launched == []

    def test_reloading_forgets_it(self, launched: list[tuple[Any, ...]]) -> None:
        tunekit.reload()
        assert launched_as_before(KERNELS["identity"], [torch.zeros(3, 5)], ()) is None


class TestOnTheCpu:
    def test_results_are_as_the_plan_says(self) -> None:
        def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
            launch = KERNELS["identity"].plan(inputs, device)
            halves = tuple(dataclasses.replace(each, dtype="float16") for each in launch.outputs)
            return dataclasses.replace(launch, outputs=halves)

        kernel = dataclasses.replace(KERNELS["identity"], plan=plan)
        (y,) = results_of(kernel, [torch.ones(3)], {})
        assert y.dtype == torch.float16

    def test_the_plan_refuses_before_the_reference_is_asked(self) -> None:
        def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
            raise KernelError("not these")

        def reference(x: torch.Tensor, **scalars: Mapping[str, float]) -> torch.Tensor:
            raise AssertionError

        kernel: Kernel = dataclasses.replace(KERNELS["identity"], plan=plan, reference=reference)
        with pytest.raises(KernelError, match="not these"):
            results_of(kernel, [torch.ones(3)], {})


def test_the_default_is_launched_where_nothing_is_tuned(watched: Watched) -> None:
    watched.starts = (Input(0), 0)
    x = torch.zeros(3, 5)
    outputs_of(watched.kernel, [x], {})
    (arguments,) = watched.launches
    launch = watched.kernel.plan([TensorMeta.of(x)], DEVICES["rtx4090"])
    default = watched.kernel.default(launch, call._INTERPRETED_AS)
    assert Config({axis: arguments[axis] for axis in default}) == default
    assert arguments["x"] is x
