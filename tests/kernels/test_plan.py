from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given
from hypothesis import strategies as st
from triton.backends.compiler import BaseBackend

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.evaluate.compile import compile_launch
from tunekit.evaluate.on_device import zeroed_by
from tunekit.kernels.library import KERNELS
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
    Slot,
    TensorMeta,
    alignment_class,
    tuned_dtype,
)
from tunekit.kernels.stand_ins import stand_in


@triton.jit
def _untyped(x, n, m):
    tl.store(x, n + m)


FLAT = Config(BLOCK_SIZE=256, VEC=2, num_warps=2, num_stages=1)


def _launch(
    *slots: Slot, inputs: tuple[TensorMeta, ...] = (), outputs: tuple[TensorMeta, ...] = ()
) -> Launch:
    arguments = {f"argument{index}": slot for index, slot in enumerate(slots)}
    return Launch(None, arguments, inputs, outputs, {}, lambda config: (1, 1, 1))


def _class_by_triton(value: object) -> str:
    """The class of one argument, from the specialisation Triton's own launcher computes."""
    jit = pytest.importorskip("triton.runtime.jit")
    kind, key = jit.native_specialize_impl(BaseBackend, value, False, True, True)
    if kind == "constexpr":
        return "1"
    divisible = key == "D"
    if kind.startswith("*"):
        return "p16" if divisible else "p1"
    return f"{kind}x16" if divisible else str(kind)


class TestTensorMeta:
    def test_of_a_tensor(self) -> None:
        x = torch.empty(2, 3, 4, dtype=torch.bfloat16).permute(0, 2, 1)
        meta = TensorMeta.of(x)
        assert meta == TensorMeta((2, 4, 3), (12, 1, 4), "bfloat16", 0)
        assert (meta.numel, meta.itemsize) == (24, 2)

    @pytest.mark.parametrize(("first", "misalignment"), [(0, 0), (1, 4), (2, 8), (4, 0), (7, 12)])
    def test_misalignment_is_that_of_the_address(self, first: int, misalignment: int) -> None:
        view = torch.empty(32, dtype=torch.float32)[first:]
        assert view.data_ptr() % 16 == misalignment
        assert TensorMeta.of(view).misalignment == misalignment

    @pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (4, 1, 3), (2, 0, 3)])
    def test_contiguous_is_what_torch_allocates(self, shape: tuple[int, ...]) -> None:
        tensor = torch.empty(shape, dtype=torch.float16)
        assert TensorMeta.contiguous(shape, "float16") == TensorMeta.of(tensor)


class TestStandIn:
    @pytest.mark.parametrize("misalignment", [0, 4, 8, 12])
    def test_it_has_the_metadata_it_stands_for(self, misalignment: int) -> None:
        meta = TensorMeta((3, 5), (7, 1), "float32", misalignment)
        tensor = stand_in(meta)
        assert tensor.is_meta
        assert (tuple(tensor.shape), tensor.stride()) == (meta.shape, meta.strides)
        assert tensor.data_ptr() % 16 == misalignment


class TestAlignmentClass:
    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    @pytest.mark.parametrize("misalignment", [0, 2, 4, 8])
    def test_pointers_are_classed_as_triton_does(self, dtype: str, misalignment: int) -> None:
        meta = TensorMeta((64,), (1,), dtype, misalignment // 4 * 4)
        if dtype != "float32":
            meta = TensorMeta((64,), (1,), dtype, misalignment)
        assert alignment_class(_launch(Input(0), inputs=(meta,))) == _class_by_triton(
            stand_in(meta)
        )

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (0, "i32x16"),
            (1, "1"),
            (2, "i32"),
            (16, "i32x16"),
            (17, "i32"),
            (-16, "i32x16"),
            (2**31 - 1, "i32"),
            (2**31 - 16, "i32x16"),
            (2**31, "i64x16"),
            (2**31 + 1, "i64"),
            (2**33 + 16, "i64x16"),
            (-(2**31), "i32x16"),
            (-(2**31) - 1, "i64"),
        ],
    )
    def test_integers(self, value: int, expected: str) -> None:
        assert alignment_class(_launch(Integer(value))) == expected
        assert _class_by_triton(value) == expected

    @given(st.integers(-(2**63), 2**63 - 1))
    def test_every_integer_is_classed_as_triton_does(self, value: int) -> None:
        assert alignment_class(_launch(Integer(value))) == _class_by_triton(value)

    def test_groups_are_followed_and_scalars_and_functions_are_not(self) -> None:
        aligned, off = TensorMeta((4,), (1,), "float32"), TensorMeta((4,), (1,), "float32", 4)
        launch = _launch(
            Group((Input(0), Input(1))),
            Output(0),
            Group((Scalar("scale"),)),
            Integer(32),
            Constant(KERNELS["identity"]),
            Constant(False),
            Constant(True),
            Constant(3),
            inputs=(aligned, off),
            outputs=(aligned,),
        )
        assert alignment_class(launch) == "p16,p1,p16,i32x16,=1,=3"

    @pytest.mark.parametrize(
        ("n", "misalignment", "expected"),
        [
            (4096, 0, "p16,p16,i32x16"),
            (4097, 0, "p16,p16,i32"),
            (4096, 4, "p1,p16,i32x16"),
            (1, 0, "p16,p16,1"),
            (2**31 - 16, 0, "p16,p16,i32x16,=1"),
            (2**31 + 1, 0, "p16,p16,i64,=1"),
            (2**31 + 16, 0, "p16,p16,i64x16,=1"),
        ],
    )
    def test_the_compiled_kernel_is_specialised_on_it(
        self, n: int, misalignment: int, expected: str, compiling: Device
    ) -> None:
        meta = TensorMeta((n,), (1,), "float32", misalignment)
        launch = KERNELS["identity"].plan((meta,), compiling)
        assert alignment_class(launch) == expected

        source = compile_launch(launch, FLAT, {}).kernel.src
        names = list(source.signature)
        divisible = {path for path, attributes in source.attrs.items() if attributes}
        n_at = names.index("n")
        n_type = source.signature["n"]
        n_class = "1" if n_type == "constexpr" else n_type + "x16" * ((n_at,) in divisible)
        parts = [
            "p16" if (names.index("inputs"), 0) in divisible else "p1",
            "p16" if (names.index("output"),) in divisible else "p1",
            n_class,
        ]
        if source.constants[(names.index("WIDE"),)]:
            parts.append("=1")
        assert ",".join(parts) == expected

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, "=None"),
            ("tf32", "=tf32"),
            ("", "="),
            (0.5, "=0.5"),
            (0.0, "=0.0"),
            (tl.float16, "=fp16"),
            (512, "=512"),
            (-1, "=-1"),
            (False, ""),
            (0, ""),
            (_untyped, ""),
        ],
    )
    def test_constants(self, value: object, expected: str) -> None:
        assert alignment_class(_launch(Constant(value))) == expected

    def test_floats_are_never_compiled_in(self) -> None:
        assert alignment_class(_launch(Real(1.0), Scalar("scale"), Group((Real(0.0),)))) == ""

    def test_a_dtype_that_is_not_the_tuned_one_is_named(self) -> None:
        half, counts, bytes_ = (
            TensorMeta((64,), (1,), dtype) for dtype in ("float16", "int32", "int8")
        )
        off = TensorMeta((64,), (1,), "int8", 3)
        launch = _launch(
            Input(0), Input(1), Input(2), Output(0), Group((Input(0), Output(1))),
            inputs=(bytes_, half, off), outputs=(counts, half),
        )  # fmt: skip
        assert alignment_class(launch) == "p16:int8,p16,p1:int8,p16:int32,p16:int8,p16"

    def test_a_descriptor_is_of_its_tensor(self) -> None:
        half = TensorMeta((64, 32), (32, 1), "float16")
        other = TensorMeta((64, 32), (32, 1), "int8")
        launch = _launch(
            Descriptor(Input(0), ("BLOCK", 32)), Descriptor(Output(0), (1, 32)), Input(0),
            inputs=(half,), outputs=(other,),
        )  # fmt: skip
        assert alignment_class(launch) == "dp16,dp16:int8,p16"

    @pytest.mark.parametrize(
        ("decorate", "expected"),
        [
            (triton.jit, "p16,1,i32x16"),
            (triton.jit(do_not_specialize=["n"]), "p16,i32,i32x16"),
            (triton.jit(do_not_specialize=["n", "m"]), "p16,i32,i32"),
            (triton.jit(do_not_specialize=["x"]), "p1,1,i32x16"),
            (triton.jit(do_not_specialize_on_alignment=["x", "m", "n"]), "p1,1,i32"),
            (triton.jit(do_not_specialize=[0, 1]), "p1,i32,i32x16"),
        ],
    )
    def test_what_is_not_specialised_on(
        self, decorate: Callable[[Any], Any], expected: str, compiling: Device
    ) -> None:
        """As Triton does: what it compiles for 1 and 32 has these attributes and no others."""
        function = decorate(_untyped.fn)
        meta = TensorMeta((64,), (1,), "float32")
        arguments: dict[str, Slot] = {"x": Input(0), "n": Integer(1), "m": Integer(32)}
        launch = Launch(function, arguments, (meta,), (), {}, lambda config: (1, 1, 1))
        assert alignment_class(launch) == expected
        source = compile_launch(launch, Config(num_warps=1), {}).kernel.src
        divisible = {path for path, attributes in source.attrs.items() if attributes}
        kinds = ["1" if kind == "constexpr" else kind for kind in source.signature.values()]
        found = [
            ("p16" if (index,) in divisible else "p1")
            if kind.startswith("*")
            else kind + "x16" * ((index,) in divisible)
            for index, kind in enumerate(kinds)
        ]
        assert ",".join(found) == expected


@pytest.mark.parametrize(
    ("dtypes", "tuned"),
    [
        (("float32",), "float32"),
        (("int32", "float16", "float32"), "float16"),
        (("float8_e4m3fn", "bfloat16"), "bfloat16"),
        (("float8_e5m2",), "float8_e5m2"),
        (("int8", "int64"), "int8"),
        (("bool", "float64"), "float64"),
    ],
)
def test_the_dtype_tuned_is_that_of_the_first_float_input(
    dtypes: tuple[str, ...], tuned: str
) -> None:
    assert tuned_dtype([TensorMeta((4,), (1,), dtype) for dtype in dtypes]) == tuned


class TestLaunch:
    def test_results_are_the_first_outputs(self) -> None:
        metas = tuple(TensorMeta((size,), (1,), "float32") for size in (3, 4, 5))
        assert _launch(outputs=metas).results == metas
        for count in (1, 2, 3):
            launch = dataclasses.replace(_launch(outputs=metas), result_count=count)
            assert launch.results == metas[:count]

    def test_what_outputs_hold_before_it(self) -> None:
        launch = _launch(outputs=(TensorMeta((3,), (1,), "float32"),) * 3)
        assert not launch.starts_matter
        assert [launch.start_of(index) for index in range(3)] == [None] * 3
        launch = dataclasses.replace(launch, starts=(None, 0, Input(1)))
        assert launch.starts_matter
        assert [launch.start_of(index) for index in range(3)] == [None, 0, Input(1)]
        assert not dataclasses.replace(launch, starts=(None,) * 3).starts_matter

    @pytest.mark.parametrize(
        ("meta", "extent"),
        [
            (TensorMeta((3, 5), (5, 1), "float32"), 15),
            (TensorMeta((3, 5), (8, 1), "float32"), 21),
            (TensorMeta((3, 5), (1, 3), "float32"), 15),
            (TensorMeta((3, 5), (0, 1), "float32"), 5),
            (TensorMeta((), (), "float32"), 1),
            (TensorMeta((3, 0), (9, 9), "float32"), 0),
        ],
    )
    def test_the_memory_between_first_and_last_element(self, meta: TensorMeta, extent: int) -> None:
        assert meta.extent == extent


class TestBind:
    def test_every_slot_is_filled_and_the_configuration_added(self) -> None:
        launch = _launch(
            Group((Input(1), Input(0))),
            Output(0),
            Scalar("scale"),
            Integer(7),
            Constant(None),
            Group(()),
        )
        bound = launch.bind(["x", "y"], ["out"], {"scale": 3}, Config(BLOCK_SIZE=128, num_warps=4))
        assert bound == {
            "argument0": ("y", "x"),
            "argument1": "out",
            "argument2": 3.0,
            "argument3": 7,
            "argument4": None,
            "argument5": (),
            "BLOCK_SIZE": 128,
            "num_warps": 4,
        }
        assert isinstance(bound["argument2"], float)

    def test_heuristics_see_all_that_went_before(self) -> None:
        launch = dataclasses.replace(
            _launch(Input(0), Integer(7)),
            heuristics={
                "EVEN": lambda bound: bound["argument1"] % bound["BLOCK"] == 0,
                "num_warps": lambda bound: 8 if bound["EVEN"] else 4,
            },
        )
        assert launch.bind(["x"], [], {}, Config(BLOCK=7, num_warps=2)) == {
            "argument0": "x",
            "argument1": 7,
            "BLOCK": 7,
            "EVEN": True,
            "num_warps": 8,
        }

    def test_a_descriptors_block_is_of_the_configuration(self) -> None:
        x = torch.zeros(64, 32, dtype=torch.float16)
        launch = _launch(Descriptor(Input(0), ("BLOCK", 16)))
        made = launch.bind([x], [], {}, Config(BLOCK=8))["argument0"]
        assert made.base is x
        assert list(made.shape) == [64, 32]
        assert list(made.strides) == [32, 1]
        assert list(made.block_shape) == [8, 16]

    def test_a_launch_has_no_loop_unless_it_says_so(self) -> None:
        assert _launch().repeats(FLAT) == 0.0


def test_a_plan_never_looks_at_tensors() -> None:
    metas = KERNELS["mish_mish"].input_metas((3, 5), "float16")
    launch = KERNELS["mish_mish"].plan(metas, DEVICES["h100"])
    assert launch.inputs == metas
    assert not any(isinstance(each, torch.Tensor) for each in launch.arguments.values())


class TestWhatIsZeroed:
    META = TensorMeta.contiguous((4,), "float32")
    SPLIT, WHOLE = Config(SPLIT_K=4), Config(SPLIT_K=1)

    def _launch(self, **more: Any) -> Launch:
        metas = (self.META,) * 3
        starts = (None, 0, Input(0))
        return Launch(None, {}, metas, metas, {}, lambda config: (1, 1, 1), starts=starts, **more)

    def test_all_configurations_need_it_unless_told(self) -> None:
        launch = self._launch()
        assert launch.with_(self.WHOLE) is launch

    def test_who_does_not_need_it_may_find_anything(self) -> None:
        launch = self._launch(zeroes=lambda config: config["SPLIT_K"] > 1)
        assert launch.with_(self.SPLIT).starts == (None, 0, Input(0))
        assert launch.with_(self.WHOLE).starts == (None, None, Input(0))

    def test_it_is_part_of_the_launch_only_where_configurations_differ(self) -> None:
        sets = [[torch.empty(4) for _ in range(3)] for _ in range(2)]
        assert zeroed_by(self._launch(), self.SPLIT, sets) == []
        launch = self._launch(zeroes=lambda config: config["SPLIT_K"] > 1)
        assert zeroed_by(launch, self.WHOLE, sets) == []
        found = zeroed_by(launch, self.SPLIT, sets)
        assert [[each.data_ptr() for each in own] for own in found] == [
            [outputs[1].data_ptr()] for outputs in sets
        ]
