from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

import tunekit
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.errors import KernelError
from tunekit.kernels.draft import Draft, launch, resolve
from tunekit.kernels.plan import (
    Constant,
    Descriptor,
    Group,
    Input,
    Integer,
    Launch,
    Output,
    Real,
    Scalar,
    TensorMeta,
)
from tunekit.kernels.stand_ins import stand_in


@triton.jit
def two(y, x, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + place, tl.load(x + place, mask=place < n), mask=place < n)


@triton.jit
def with_default(y, x, n, flag: tl.constexpr = None, BLOCK: tl.constexpr = 16):
    tl.store(y, tl.load(x))


@triton.jit
def device_function(x):
    return x


DEVICE = DEVICES["rtx4090"]
CONFIG = Config(BLOCK=64, num_warps=4)


def grid(config: Config) -> tuple[int]:
    return (config["BLOCK"],)


def resolved(
    plan: Callable[..., Draft], *metas: TensorMeta, dims: dict[str, int] | None = None
) -> Launch:
    metas = metas or (TensorMeta.contiguous((5, 7), "float32"),)
    stand_ins = [stand_in(meta) for meta in metas]
    return resolve(plan(*stand_ins), "mine", stand_ins, metas, {"n": 35} if dims is None else dims)


class TestLaunch:
    def test_arguments_are_given_in_order_and_by_name(self) -> None:
        x, y = torch.empty(3), torch.empty(3)
        draft = launch(two, y, x, n=3, grid=grid, outputs=y)
        assert list(draft.arguments) == ["y", "x", "n"]
        assert draft.function is two
        assert (draft.outputs, draft.zeroed, draft.buffers) == ((y,), (), ())

    @pytest.mark.parametrize("function", [two.fn, None, torch.add, "two", 3])
    def test_what_is_launched_is_a_jit_function(self, function: object) -> None:
        with pytest.raises(KernelError, match=r"^launch: expected a @triton.jit function, got "):
            launch(function, grid=grid, outputs=torch.empty(1))

    def test_too_many_arguments(self) -> None:
        y = torch.empty(3)
        with pytest.raises(KernelError, match=r"^two takes 4 arguments, got 5$"):
            launch(two, y, y, 1, 2, 3, grid=grid, outputs=y)

    def test_an_argument_twice(self) -> None:
        y = torch.empty(3)
        with pytest.raises(KernelError, match=r"^two: x is given twice$"):
            launch(two, y, y, x=y, grid=grid, outputs=y)

    def test_an_argument_that_is_none(self) -> None:
        y = torch.empty(3)
        with pytest.raises(KernelError, match=r"^two: m is none of its arguments$"):
            launch(two, y, m=3, grid=grid, outputs=y)

    def test_decorators_of_tritons_lie_around_it(self) -> None:
        heuristic = triton.heuristics({"BLOCK": lambda arguments: 2 * arguments["n"]})(two)
        tuned = triton.autotune([triton.Config({"BLOCK": 8})], key=["n"])(heuristic)
        y = torch.empty(3)
        draft = launch(tuned, y, y, 3, grid=grid, outputs=y)
        assert draft.function is two
        assert draft.heuristics["BLOCK"]({"n": 4}) == 8


class TestSlots:
    def test_inputs_outputs_and_numbers(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x, x.shape[1], grid=grid, outputs=y)

        made = resolved(plan)
        assert made.arguments == {"y": Output(0), "x": Input(0), "n": Integer(7)}
        assert made.inputs == (TensorMeta.contiguous((5, 7), "float32"),)
        assert made.outputs == made.results == made.inputs
        assert made.dims == {"n": 35}
        assert (made.starts, made.starts_matter, made.result_count) == ((), False, 1)
        assert made.grid(CONFIG) == (64, 1, 1)

    @pytest.mark.parametrize(
        ("value", "slot"),
        [
            (0, Integer(0)),
            (-(2**40), Integer(-(2**40))),
            (0.25, Real(0.25)),
            (True, Constant(True)),
            (None, Constant(None)),
            (Scalar("eps"), Scalar("eps")),
            ((1, 0.5), Group((Integer(1), Real(0.5)))),
            ([], Group(())),
            ("ieee", Constant("ieee")),
            (device_function, Constant(device_function)),
            (tl.float16, Constant(tl.float16)),
        ],
    )
    def test_of_a_run_time_argument(self, value: object, slot: object) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x, value, grid=grid, outputs=y)

        assert resolved(plan).arguments["n"] == slot

    @pytest.mark.parametrize("value", [3, 1, 0.5, "tf32", None, True, (1, 2), device_function])
    def test_of_a_constexpr(self, value: object) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(with_default, y, x, 3, value, grid=grid, outputs=y)

        slot = resolved(plan).arguments["flag"]
        if not isinstance(value, tuple):
            assert slot == Constant(value)

    def test_a_tuple_of_tensors_is_one_argument(self) -> None:
        def plan(x: torch.Tensor, other: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, (x, other), 5, grid=grid, outputs=y)

        meta = TensorMeta.contiguous((5,), "float32")
        assert resolved(plan, meta, meta).arguments["x"] == Group((Input(0), Input(1)))

    def test_a_view_is_the_tensor(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty(7, 5)
            return launch(two, y.view(-1), x.t(), x.stride(0), grid=grid, outputs=y)

        made = resolved(plan)
        assert made.arguments == {"y": Output(0), "x": Input(0), "n": Integer(7)}
        assert made.outputs == (TensorMeta.contiguous((7, 5), "float32"),)

    def test_a_descriptor(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(
                two, tunekit.descriptor(y, ["BLOCK", 16]), tunekit.descriptor(x, (8, "BLOCK")), 3,
                grid=grid, outputs=y,
            )  # fmt: skip

        made = resolved(plan)
        assert made.arguments["y"] == Descriptor(Output(0), ("BLOCK", 16))
        assert made.arguments["x"] == Descriptor(Input(0), (8, "BLOCK"))

    def test_the_inputs_misalignment_is_kept(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x, 3, grid=grid, outputs=y)

        made = resolved(plan, TensorMeta((5,), (1,), "float16", 6))
        assert made.inputs[0].misalignment == 6
        assert made.outputs[0].misalignment == 0


class TestOutputs:
    def test_several_then_buffers(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y, mean = torch.empty_like(x), torch.empty(5, dtype=torch.float64)
            space = torch.empty(3, dtype=torch.int32)
            return launch(two, (y, space), x, mean, grid=grid, outputs=(y, mean), buffers=space)

        made = resolved(plan)
        assert [meta.dtype for meta in made.outputs] == ["float32", "float64", "int32"]
        assert made.results == made.outputs[:2]
        assert made.arguments["y"] == Group((Output(0), Output(2)))

    def test_in_place(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            return launch(two, x, x, 3, grid=grid, outputs=x)

        meta = TensorMeta((5,), (1,), "float16", 6)
        made = resolved(plan, meta)
        assert made.starts == (Input(0),)
        assert made.starts_matter
        assert made.outputs == (meta,)
        assert made.arguments == {"y": Output(0), "x": Output(0), "n": Integer(3)}

    def test_zeroed(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y, locks = torch.empty_like(x), torch.empty(4, dtype=torch.int32)
            return launch(
                two, y, (x, locks), 3, grid=grid, outputs=[y], zeroed=locks, buffers=[locks]
            )

        made = resolved(plan)
        assert made.starts == (None, 0)
        assert made.start_of(1) == 0
        assert made.zeroes is None

    def test_zeroed_for_some_configurations(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y, locks = torch.empty_like(x), torch.empty(4, dtype=torch.int32)
            return launch(
                *(two, y, (x, locks), 3),
                grid=grid,
                outputs=y,
                zeroed=locks,
                buffers=locks,
                zeroed_if=lambda config: config["SPLIT_K"] > 1,
            )

        made = resolved(plan)
        assert made.with_(Config(SPLIT_K=2)).starts == (None, 0)
        assert made.with_(Config(SPLIT_K=1)).starts == (None, None)

    def test_an_output_is_no_argument(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x, 3, grid=grid, outputs=(y, torch.empty(3)))

        with pytest.raises(KernelError, match=r"^mine: output 1 is no argument of the launch$"):
            resolved(plan)

    def test_one_tensor_is_two_outputs(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x, 3, grid=grid, outputs=y, buffers=y.view(-1))

        with pytest.raises(KernelError, match=r"^mine: one tensor is two of the outputs and bu"):
            resolved(plan)

    def test_an_input_is_two_outputs(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            return launch(two, x, x, 3, grid=grid, outputs=(x, x))

        with pytest.raises(KernelError, match=r"^mine: one tensor is two of the outputs and bu"):
            resolved(plan)

    @pytest.mark.parametrize(
        ("make", "shape", "strides"),
        [
            (lambda: torch.empty_strided((5,), (2,), device="meta"), "(5,)", "(2,)"),
            (lambda: torch.empty(5, 8, device="meta")[:, :7], "(5, 7)", "(8, 1)"),
            (lambda: torch.empty(1, 7, device="meta").expand(5, 7), "(5, 7)", "(0, 1)"),
        ],
    )
    def test_an_output_with_gaps(
        self, make: Callable[[], torch.Tensor], shape: str, strides: str
    ) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = make()
            return launch(two, y, x, 3, grid=grid, outputs=y)

        said = f"mine: output 0 of shape {shape} and strides {strides} has gaps; the kernel has to"
        with pytest.raises(KernelError, match=f"^{re.escape(said)}"):
            resolved(plan)

    def test_an_input_in_place_may_have_gaps(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            return launch(two, x, x, 3, grid=grid, outputs=x)

        meta = TensorMeta((5,), (3,), "float32")
        assert resolved(plan, meta).outputs == (meta,)

    @pytest.mark.parametrize("what", ["zeroed", "misspelt"])
    def test_what_is_zeroed_is_an_output_or_a_buffer(self, what: str) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            zeroed = x if what == "zeroed" else torch.empty(3)
            return launch(two, y, x, 3, grid=grid, outputs=y, zeroed=zeroed)

        with pytest.raises(KernelError, match=r"^mine: zeroed= names a tensor that the plan did"):
            resolved(plan)

    def test_what_is_in_place_is_not_zeroed(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            return launch(two, x, x, 3, grid=grid, outputs=x, zeroed=x)

        with pytest.raises(KernelError, match=r"^mine: zeroed= names a tensor that the plan did"):
            resolved(plan)

    def test_there_is_an_output(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            return launch(two, x, x, 3, grid=grid, outputs=())

        with pytest.raises(KernelError, match=r"^mine: outputs= names no tensor"):
            resolved(plan)


class TestTensors:
    def test_one_that_is_no_input(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x.clone(), 3, grid=grid, outputs=y)

        with pytest.raises(
            KernelError, match=r"^mine: x is a tensor that is no input of the plan and not named in"
        ):
            resolved(plan)

    def test_a_view_that_begins_elsewhere(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x[1:], 3, grid=grid, outputs=y)

        with pytest.raises(
            KernelError, match=r"^mine: x is a view that begins 7 elements into its tensor; pass"
        ):
            resolved(plan)

    def test_a_view_of_another_dtype(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x.view(torch.int32), 3, grid=grid, outputs=y)

        with pytest.raises(KernelError, match=r"^mine: x is a view of torch.float32 as torch.int"):
            resolved(plan)

    @pytest.mark.parametrize("change", [lambda x: x.view(-1), lambda x: x.t()])
    def test_a_descriptor_is_of_the_whole_tensor(
        self, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            tiled = tunekit.descriptor(change(x), (8,))
            return launch(two, y, tiled, 3, grid=grid, outputs=y)

        with pytest.raises(
            KernelError,
            match=r"^mine: x is a descriptor of a view of shape .*itself, \(5, 7",
        ):
            resolved(plan)

    def test_the_same_input_for_two_arguments(self) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, (x, x), 3, grid=grid, outputs=y)

        assert resolved(plan).arguments["x"] == Group((Input(0), Input(0)))


class TestGrid:
    @pytest.mark.parametrize(
        ("given", "sizes"),
        [
            (7, (7, 1, 1)),
            ((7, 2), (7, 2, 1)),
            ([7, 2, 3], (7, 2, 3)),
            (lambda config: config["BLOCK"], (64, 1, 1)),
            (lambda config: (2, config["BLOCK"]), (2, 64, 1)),
        ],
    )
    def test_it_is_a_number_some_or_a_function(self, given: Any, sizes: Sequence[int]) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x, 3, grid=given, outputs=y)

        assert resolved(plan).grid(CONFIG) == sizes

    @pytest.mark.parametrize("given", [(), (1, 2, 3, 4), 1.5, (2, 0.5), None, "1", lambda _: 4 / 2])
    def test_it_is_one_to_three_whole_numbers(self, given: Any) -> None:
        def plan(x: torch.Tensor) -> Draft:
            y = torch.empty_like(x)
            return launch(two, y, x, 3, grid=given, outputs=y)

        with pytest.raises(KernelError, match=r"^mine: a grid is one to three whole numbers, got "):
            resolved(plan).grid(CONFIG)


def test_dims_of_the_launch_go_before_those_of_the_shapes() -> None:
    def plan(x: torch.Tensor) -> Draft:
        y = torch.empty_like(x)
        return launch(two, y, x, 3, grid=grid, outputs=y, dims={"m": 4})

    assert resolved(plan).dims == {"m": 4}


def test_heuristics_are_computed_from_all_other_arguments() -> None:
    function = triton.heuristics({"flag": lambda arguments: arguments["n"] * arguments["BLOCK"]})(
        with_default
    )

    def plan(x: torch.Tensor) -> Draft:
        y = torch.empty_like(x)
        return launch(function, y, x, 3, grid=grid, outputs=y)

    bound = resolved(plan).bind(["x"], ["y"], {}, CONFIG)
    assert bound == {"y": "y", "x": "x", "n": 3, "BLOCK": 64, "num_warps": 4, "flag": 192}
