from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

import tunekit
from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.space import Space
from tunekit.errors import KernelError, ShapeError, SpaceError
from tunekit.kernels.from_plan import scalars_of, tensors_of
from tunekit.kernels.inline_space import space_from
from tunekit.kernels.jit import is_jit
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Input, Integer, Output, Scalar, TensorMeta
from tunekit.kernels.plan_inputs import size_names

DEVICE = DEVICES["rtx4090"]
SPACE = {"BLOCK": [64, 16], "num_warps": [4]}


@triton.jit
def scale_kernel(y, x, factor, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + place, mask=place < n) * factor
    tl.store(y + place, value, mask=place < n)


@triton.jit
def other_kernel(y, x, factor, n, BLOCK: tl.constexpr):
    tl.store(y, tl.load(x))


def scale(x, factor=2.0):  # type: ignore[no-untyped-def]
    """Twice as much.

    Or otherwise.
    """
    y = torch.empty_like(x)
    return tunekit.launch(
        scale_kernel, y, x, factor, x.numel(), grid=lambda config: (1,), outputs=y
    )


def refused(function: Callable[..., Any], **options: Any) -> str:
    """Why the decorator does not take a plan."""
    options = {"space": SPACE, "shapes": {"x": ("n",)}} | options
    with pytest.raises((KernelError, ShapeError, SpaceError)) as error:
        tunekit.kernel(**options)(function)
    assert "\n" not in str(error.value)
    return str(error.value)


def planned(function: Callable[..., Any], *metas: TensorMeta, **options: Any) -> Any:
    """The launch of a plan."""
    kernel = tunekit.kernel(**{"space": SPACE, "shapes": {"x": ("n",)}} | options)(function)
    return kernel.plan(metas or (TensorMeta.contiguous((100,), "float32"),), DEVICE)


def fault(function: Callable[..., Any], *metas: TensorMeta, **options: Any) -> str:
    """Why a plan gives no launch."""
    with pytest.raises(KernelError) as error:
        planned(function, *metas, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestParameters:
    def test_tensors_then_scalars_and_perhaps_the_device(self) -> None:
        def plan(x, w, eps=1e-6, factor=3, *, device):  # type: ignore[no-untyped-def]
            pass

        assert tensors_of(plan) == ["x", "w"]
        assert scalars_of(plan, "mine") == {"eps": 1e-6, "factor": 3.0}
        assert all(type(value) is float for value in scalars_of(plan, "mine").values())

    @pytest.mark.parametrize("default", [True, None, "ieee", (1,), torch.float16])
    def test_a_default_is_a_number(self, default: object) -> None:
        def plan(x, flag=default):  # type: ignore[no-untyped-def]
            return scale(x)

        assert refused(plan, name="mine").startswith("mine: flag has the default ")

    def test_any_number_of_tensors_is_none(self) -> None:
        assert refused(lambda *xs: None) == ("the plan takes *xs: name each tensor and each scalar")
        assert refused(lambda x, **rest: None) == (
            "the plan takes **rest: name each tensor and each scalar"
        )

    def test_a_plan_has_a_tensor(self) -> None:
        said = "the plan takes no tensor: a parameter without a default is one"
        assert refused(lambda: None) == refused(lambda device, eps=1.0: None) == said

    def test_the_device_is_given(self) -> None:
        seen: list[Device] = []

        def plan(x, device):  # type: ignore[no-untyped-def]
            seen.append(device)
            return scale(x, 1.0)

        planned(plan)
        assert seen == [DEVICE]

    def test_a_scalar_is_passed_on_as_it_is(self) -> None:
        assert planned(scale).arguments == {
            "y": Output(0),
            "x": Input(0),
            "factor": Scalar("factor"),
            "n": Integer(100),
        }

    def test_a_plan_cannot_compute_with_a_scalar(self) -> None:
        def plan(x, factor=2.0):  # type: ignore[no-untyped-def]
            return scale(x, factor * 2)

        assert "TypeError" in fault(plan)


class TestShapes:
    def test_the_names_are_the_sizes_in_order(self) -> None:
        shapes = {"x": ("M", "K"), "w": ("K", "N"), "scale": (1, "N")}
        assert size_names(shapes, None) == ("M", "K", "N")

    def test_without_shapes_the_hook_names_them(self) -> None:
        def inputs(rows: int, columns: int, *, dtype: torch.dtype, device: torch.device) -> None:
            pass

        assert size_names(None, inputs) == ("rows", "columns")
        assert size_names({"x": ("columns", "rows")}, inputs) == ("rows", "columns")
        assert size_names({"x": ("columns", "other")}, inputs) == ("columns", "other")
        assert size_names(None, lambda shape, *, dtype, device: None) == ()
        assert size_names(None, None) == ()

    @pytest.mark.parametrize("shape", ["n", "rows", ("n", 0), ("n", -1), ("n", 1.5), ("n", None)])
    def test_a_shape_is_names_and_numbers(self, shape: object) -> None:
        assert refused(scale, shapes={"x": shape}) == (
            f"shapes= gives x {shape!r}: expected names of sizes and numbers from 1 on, such as "
            "('rows', 64)"
        )

    def test_something_states_the_problem(self) -> None:
        assert refused(scale, shapes={"x": (64, 64)}).startswith("shapes= names no size")

    @pytest.mark.parametrize(
        ("shapes", "names"),
        [({}, "nothing"), ({"y": ("n",)}, "y"), ({"x": ("n",), "factor": (1,)}, "x, factor")],
    )
    def test_they_are_of_the_tensors(self, shapes: Any, names: str) -> None:
        assert refused(scale, shapes=shapes) == (
            f"scale: shapes= names {names}, and the tensors of the plan are x, in this order"
        )

    @pytest.mark.parametrize(
        ("shape", "said"),
        [
            ((3,), "two: x has shape (3,), expected (n, 4)"),
            ((3, 5), "two: x has shape (3, 5), expected (n, 4)"),
            ((3, 4, 1), "two: x has shape (3, 4, 1), expected (n, 4)"),
        ],
    )
    def test_a_call_with_another_is_refused(self, shape: tuple[int, ...], said: str) -> None:
        def two(x, w):  # type: ignore[no-untyped-def]
            return scale(x, 1.0)

        metas = (TensorMeta.contiguous(shape, "float32"), TensorMeta.contiguous((3,), "float32"))
        assert fault(two, *metas, shapes={"x": ("n", 4), "w": ("n",)}) == said

    def test_a_size_is_the_same_everywhere(self) -> None:
        def two(x, w):  # type: ignore[no-untyped-def]
            return scale(x, 1.0)

        metas = tuple(TensorMeta.contiguous(shape, "float32") for shape in ((3, 4), (5,)))
        assert fault(two, *metas, shapes={"x": ("n", "m"), "w": ("n",)}) == (
            "two: w has shape (5,), expected (n), where n is 3"
        )

    def test_the_number_of_tensors(self) -> None:
        meta = TensorMeta.contiguous((3,), "float32")
        assert fault(scale, meta, meta) == "scale takes 1 tensors (x), got 2"

    def test_without_names_the_dims_are_numbered(self) -> None:
        meta = TensorMeta.contiguous((3, 5), "float32")
        assert planned(scale, meta, shapes=None).dims == {"size0": 3, "size1": 5}

    def test_sizes_of_a_hook_have_to_be_named(self) -> None:
        def inputs(rows: int, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
            return torch.empty(rows, dtype=dtype, device=device)

        assert fault(scale, shapes=None, inputs=inputs) == (
            "scale: the launch has no size rows: name the shapes by shapes=, or give "
            "launch(…, dims={'rows': …})"
        )


class TestWhatThePlanReturns:
    @pytest.mark.parametrize("value", [None, 3, "launch"])
    def test_it_is_a_launch(self, value: object) -> None:
        def plan(x):  # type: ignore[no-untyped-def]
            return value

        assert fault(plan, name="mine") == (
            f"mine: the plan returns {type(value).__name__}, not tunekit.launch(…)"
        )

    def test_what_it_raises_is_said_with_the_line(self) -> None:
        def plan(x):  # type: ignore[no-untyped-def]
            _, columns = x.shape
            return scale(x, columns)

        line = plan.__code__.co_firstlineno + 1
        assert fault(plan, name="mine") == (
            f"mine: the plan, line {line} fails on tensors of shape (100,): ValueError: not enough "
            "values to unpack (expected 2, got 1)"
        )

    def test_what_it_reads_of_a_tensor_is_refused(self) -> None:
        def plan(x):  # type: ignore[no-untyped-def]
            return scale(x, float(x.max()))

        assert "mine: the plan, line " in fault(plan, name="mine")

    def test_its_own_refusal_stays_as_it_is(self) -> None:
        def plan(x):  # type: ignore[no-untyped-def]
            raise KernelError("mine: rows have to be contiguous")

        assert fault(plan) == "mine: rows have to be contiguous"

    def test_an_axis_that_goes_nowhere(self) -> None:
        assert fault(scale, space={"BLOCK": [1], "WIDTH": [2]}) == (
            "scale: axis WIDTH of the space is no argument of scale_kernel"
        )

    @pytest.mark.parametrize("option", ["num_warps", "num_stages", "num_ctas", "maxnreg"])
    def test_options_of_a_launch_are_axes(self, option: str) -> None:
        planned(scale, space={"BLOCK": [64], option: [1]})

    def test_an_axis_that_the_plan_gives_too(self) -> None:
        def plan(x):  # type: ignore[no-untyped-def]
            y = torch.empty_like(x)
            return tunekit.launch(scale_kernel, y, x, 1.0, 5, BLOCK=4, grid=(1,), outputs=y)

        assert fault(plan, name="mine") == (
            "mine: BLOCK is an axis of the space, and the plan gives it too"
        )

    def test_an_argument_that_nothing_gives(self) -> None:
        assert fault(scale, space={"num_warps": [1]}) == (
            "scale: scale_kernel needs BLOCK, which neither the plan gives nor an axis of the space"
        )

    def test_a_function_that_the_hash_does_not_cover(self) -> None:
        table = {"kernel": other_kernel}

        def plan(x):  # type: ignore[no-untyped-def]
            y = torch.empty_like(x)
            return tunekit.launch(table["kernel"], y, x, 1.0, 5, grid=(1,), outputs=y)

        assert fault(plan, name="mine") == (
            "mine: the plan launches other_kernel without naming it: use a variable of its module, "
            "or of the function it is defined in, not an attribute of an object"
        )
        assert is_jit(table["kernel"])


class TestInputs:
    def make(self, inputs: Callable[..., Any], **options: Any) -> Kernel:
        return tunekit.kernel(**{"space": SPACE, "inputs": inputs} | options)(scale)

    def test_of_shapes_in_the_dtype_tuned(self) -> None:
        def plan(x, w):  # type: ignore[no-untyped-def]
            return scale(x)

        kernel = tunekit.kernel(space=SPACE, shapes={"x": ("n", "m"), "w": (2, "m")})(plan)
        assert kernel.input_metas((3, 5), "float16") == (
            TensorMeta.contiguous((3, 5), "float16"),
            TensorMeta.contiguous((2, 5), "float16"),
        )
        with pytest.raises(
            ShapeError, match=r"plan has the sizes n, m: give all of them, as --dim"
        ):
            kernel.input_metas((3,), "float16")

    def test_of_a_hook_with_sizes(self) -> None:
        def inputs(n: int, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
            return torch.full((n, 2), 7, dtype=dtype, device=device).t()

        kernel = self.make(inputs)
        assert kernel.sizes == ("n",)
        assert kernel.input_metas((3,), "float16") == (TensorMeta((2, 3), (1, 2), "float16"),)
        (x,) = (torch.zeros(2, 3, dtype=torch.float16),)
        assert kernel.draw is not None
        kernel.draw([x], (3,), "float16")
        assert (x == 7).all()

    def test_of_a_hook_with_a_shape(self) -> None:
        def inputs(
            shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device
        ) -> list[torch.Tensor]:
            return [torch.zeros(shape, dtype=torch.int8, device=device)]

        kernel = self.make(inputs)
        assert kernel.sizes == ()
        assert kernel.input_metas((3, 2), "float32") == (TensorMeta.contiguous((3, 2), "int8"),)

    @pytest.mark.parametrize(
        ("hook", "said"),
        [
            (lambda n, *, dtype, device: [3], "got int"),
            (lambda n, *, dtype, device: torch.zeros(n), "got cpu"),
            (lambda n, *, dtype, device: None, "fails on {'n': 5}, float32, meta: TypeError"),
            (lambda n, *, dtype, device: 1 // 0, "fails on {'n': 5}, float32, meta: ZeroDivis"),
            (lambda n, *, dtype, device: torch.randperm(n, device=device).tolist(), "fails on"),
            (lambda n: torch.zeros(n), "fails on {'n': 5}, float32, meta: TypeError"),
            (lambda shape: torch.zeros(shape), "fails on {'shape': (5,)}, float32, meta: TypeE"),
        ],
    )
    def test_a_hook_that_is_wrong(self, hook: Callable[..., Any], said: str) -> None:
        with pytest.raises(KernelError, match="<lambda>") as error:
            self.make(hook).input_metas((5,), "float32")
        assert said in str(error.value)
        assert "\n" not in str(error.value)

    def test_the_first_float_dtype_is_the_one_tuned(self) -> None:
        def inputs(n: int, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
            return torch.zeros(n, dtype=torch.float16, device=device)

        kernel = self.make(inputs, shapes={"x": ("n",)})
        with pytest.raises(KernelError, match=r"scale in float32: its first input .* is float16"):
            kernel.launch_for((5,), "float32", DEVICE)
        assert kernel.launch_for((5,), "float16", DEVICE).dims == {"n": 5}

    def test_dtypes_may_not_be_empty(self) -> None:
        assert refused(scale, dtypes=[]) == "scale: dtypes= is empty: name those to tune in"
        assert "'float33': expected one of" in refused(scale, dtypes=["float33"])


class TestSpace:
    def test_of_axes_the_first_value_is_the_default(self) -> None:
        space = space_from({"BLOCK": [64, 16, 32], "num_warps": (8, 4)}, "mine")
        assert isinstance(space, Space)
        assert [axis.values for axis in space.axes] == [(16, 32, 64), (4, 8)]
        assert space.default({}) == Config(BLOCK=64, num_warps=8)
        assert space.name == "inline"

    def test_powers_of_two_and_ranges(self) -> None:
        space = space_from({"BLOCK": {"from": 16, "to": 64}, "stages": range(1, 4)}, "mine")
        assert isinstance(space, Space)
        assert [axis.values for axis in space.axes] == [(16, 32, 64), (1, 2, 3)]
        assert space.default({}) == Config(BLOCK=16, stages=1)

    def test_all_that_a_file_says(self) -> None:
        space = space_from(
            {
                "axes": {"BLOCK": (16, 32)},
                "default": {"BLOCK": "16 if n < 100 else 32"},
                "constraints": {"fits": "BLOCK <= 2 * n"},
                "description": "mine",
            },
            "mine",
        )
        assert isinstance(space, Space)
        assert space.default({"n": 5000}) == Config(BLOCK=32)
        assert space.violated(Config(BLOCK=32), {"n": 4}) == "fits"

    def test_a_name_or_a_path(self, tmp_path: Path) -> None:
        assert space_from("pointwise", "mine") == "pointwise"
        assert space_from(tmp_path / "mine.toml", "mine") == str(tmp_path / "mine.toml")

    @pytest.mark.parametrize(
        ("space", "said"),
        [
            ({}, "axes: expected at least one axis"),
            ({"B": []}, "axes.B: expected a list of positive integers"),
            ({"B": 64}, "axes.B: expected a list of positive integers or {from = .., to = ..}, go"),
            ({"B": {64}}, "axes.B: expected a list of positive integers"),
            ({"B": "64"}, "axes.B: expected a list of positive integers"),
            ({"B": None}, "axes.B: expected a list of positive integers"),
            ({"B": [1.5]}, "axes.B: expected a list of positive integers"),
            ({"B": [0]}, "axes.B: expected a list of positive integers"),
            ({"B": [True]}, "axes.B: expected a list of positive integers"),
            ({"B": [2, 2]}, "axes.B: expected each value once, got 2 more than once"),
            ({"B": {"to": 4}}, "axes.B: expected a list of positive integers"),
            ({"B": {"from": 3, "to": 4}}, "axes.B.from: expected a power of two, got 3"),
            ({3: [4]}, "axes.'3': expected a name as in Python"),
            ({"a b": [4]}, "axes.'a b': expected a name as in Python"),
            ({"axes": {"B": [1]}}, "default: the table is missing"),
            ({"axes": {"B": [1]}, "default": {"B": 2}, "more": 1}, "more: there is no key more"),
        ],
    )
    def test_one_that_is_none(self, space: Any, said: str) -> None:
        message = refused(scale, space=space)
        assert message.startswith(f"space of scale: {said}")


@pytest.mark.parametrize("grid", [1, (1,), lambda config: 1, lambda config: [1, 2]])
def test_a_grid_may_be_written_in_any_way(grid: Any) -> None:
    def plan(x):  # type: ignore[no-untyped-def]
        y = torch.empty_like(x)
        return tunekit.launch(scale_kernel, y, x, 1.0, 5, grid=grid, outputs=y)

    sizes: Sequence[int] = planned(plan).grid(Config(BLOCK=64))
    assert len(sizes) == 3
