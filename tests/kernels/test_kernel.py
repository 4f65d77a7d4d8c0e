from __future__ import annotations

from pathlib import Path

import pytest
import torch
import triton

from tunekit.core.device import DEVICES
from tunekit.core.problem import Problem
from tunekit.errors import KernelError, SpaceError
from tunekit.kernels import epilogues
from tunekit.kernels.kernel import Kernel, pointwise
from tunekit.kernels.library import KERNELS, mish_mish
from tunekit.kernels.plan import TensorMeta
from tunekit.kernels.pointwise import pointwise_kernel
from tunekit.kernels.source_hash import source_hash

H100 = DEVICES["h100"]


def _scaled(**changes: object) -> Kernel:
    arguments = {
        "epilogue": epilogues.mish_add_hardtanh_scale,
        "reference": lambda x, add_value, scale: x,
        "scalars": {"add_value": 0.5, "scale": 2.0},
    }
    return pointwise("mine", **(arguments | changes))  # type: ignore[arg-type]


class TestPointwise:
    def test_what_it_makes(self) -> None:
        kernel = _scaled(input_count=2, summary="one line")
        assert kernel.name == "mine"
        assert kernel.space == "pointwise"
        assert kernel.input_count == 2
        assert kernel.scalars == {"add_value": 0.5, "scale": 2.0}
        assert kernel.elementwise
        assert kernel.summary == "one line"

    def test_the_hash_is_of_the_template_and_the_epilogue(self) -> None:
        assert _scaled().source_hash == source_hash(
            pointwise_kernel, epilogues.mish_add_hardtanh_scale
        )
        assert _scaled().source_hash == KERNELS["mish_add_hardtanh_scale"].source_hash

    def test_scalars_are_slots_in_the_epilogues_order(self) -> None:
        launch = _scaled().launch_for((8,), "float32", H100)
        bound = launch.bind(
            ["x"],
            ["y"],
            {"scale": 3.0, "add_value": 1.0},
            mish_mish.load_space().default(_context()),
        )
        assert bound["scalars"] == (1.0, 3.0)
        assert bound["inputs"] == ("x",)
        assert bound["epilogue"] is epilogues.mish_add_hardtanh_scale

    @pytest.mark.parametrize("epilogue", [torch.relu, lambda x: x, None, 3])
    def test_an_epilogue_that_is_not_jitted_is_refused(self, epilogue: object) -> None:
        with pytest.raises(KernelError, match=r"mine: the epilogue must be a @triton\.jit"):
            _scaled(epilogue=epilogue)

    def test_it_does_not_keep_the_mapping_it_was_given(self) -> None:
        scalars = {"add_value": 0.5, "scale": 2.0}
        kernel = _scaled(scalars=scalars)
        scalars["scale"] = 9.0
        assert kernel.scalars["scale"] == 2.0


def _context() -> dict[str, int]:
    from tunekit.core.space import context

    return context({"n": 4096}, 4, H100)


class TestScalarValues:
    def test_its_own_unless_given(self) -> None:
        assert _scaled().scalar_values() == {"add_value": 0.5, "scale": 2.0}
        assert _scaled().scalar_values({"scale": 3}) == {"add_value": 0.5, "scale": 3.0}
        assert list(_scaled().scalar_values({"scale": 3})) == ["add_value", "scale"]

    def test_what_is_given_stays_with_the_call(self) -> None:
        kernel = _scaled()
        kernel.scalar_values({"scale": 3})
        assert kernel.scalars["scale"] == 2.0

    @pytest.mark.parametrize(
        ("kernel", "has"), [(_scaled(), "add_value, scale"), (mish_mish, "none")]
    )
    def test_an_unknown_one_is_named_with_those_there_are(self, kernel: Kernel, has: str) -> None:
        with pytest.raises(KernelError, match=rf"no scalar 'scael'; it has: {has}$"):
            kernel.scalar_values({"scael": 1.0})


class TestProblem:
    def test_it_names_what_the_binary_and_the_time_depend_on(self) -> None:
        launch = mish_mish.launch_for((3, 5), "bfloat16", H100)
        assert mish_mish.problem_of(launch, H100) == Problem(
            kernel="mish_mish",
            kernel_hash=mish_mish.source_hash,
            dims=(("n", 15),),
            dtype="bfloat16",
            alignment="p16,p16,i32",
            device="h100",
        )

    def test_shapes_of_one_size_are_one_problem(self) -> None:
        problems = {
            mish_mish.problem_of(mish_mish.launch_for(shape, "float32", H100), H100)
            for shape in ((4, 6), (24,), (2, 3, 4))
        }
        assert len(problems) == 1


@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
@pytest.mark.parametrize("input_count", [1, 3])
def test_bytes_moved_are_each_input_and_the_output_once(
    dtype: str, itemsize: int, input_count: int
) -> None:
    kernel = _scaled(input_count=input_count)
    launch = kernel.launch_for((10, 10), dtype, H100)
    assert kernel.bytes_moved(launch) == 100 * itemsize * (input_count + 1)


def test_inputs_that_tuning_allocates_are_contiguous_and_aligned() -> None:
    assert (
        _scaled(input_count=2).input_metas((2, 3), "float16")
        == (TensorMeta((2, 3), (3, 1), "float16", 0),) * 2
    )


def test_the_space_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[axes]\nBLOCK_SIZE = [128]\n[default]\nBLOCK_SIZE = 128\n")
    kernel = _scaled(space=str(path))
    space = kernel.load_space()
    assert space.axis_names == ("BLOCK_SIZE",)
    path.unlink()
    assert kernel.load_space() is space


def test_a_space_that_is_not_there_is_missed_when_it_is_needed() -> None:
    with pytest.raises(SpaceError, match="no search space nowhere"):
        _scaled(space="nowhere").load_space()


def test_the_template_is_a_jit_function() -> None:
    assert isinstance(pointwise_kernel, triton.JITFunction)
