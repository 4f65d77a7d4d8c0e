"""What a check finds, in Triton's interpreter; run by `test_check.py` in a process of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import tunekit
import tunekit.testing
from tunekit.errors import KernelError, ShapeError, UsageError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.runtime import call
from tunekit.testing import Case, Report, cases, check_kernel


def _planted() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLANTED = _planted()
FLOAT32 = ["float32"]
AT_SEVERAL_SIZES = (
    "breaks_down",
    "odd_sizes",
    "one_configuration",
    "other_plan_each_time",
    "wrong_without_a_reference",
)
"""Whose mistakes are looked for at the sizes that are chosen; the others at one, to save time."""


def of(name: str) -> Kernel:
    kernel = getattr(PLANTED, name)
    assert isinstance(kernel, Kernel)
    return kernel


def fault_of(name: str, **options: object) -> str:
    kernel = of(name)
    if "float32" in kernel.dtypes:
        options = {"dtypes": FLOAT32} | options
    if name not in AT_SEVERAL_SIZES:
        options = {"shapes": [(13, 61) if "rows" in kernel.sizes else 61]} | options
    with pytest.raises(AssertionError) as found:
        check_kernel(kernel, **options)  # type: ignore[arg-type]
    return str(found.value)


FAULTS = {
    "off_by_one": r"n=61, BLOCK=64, .*\(1 of 61 elements are not written\)",
    "odd_sizes": r"\(13 of 61 elements are not written\)",
    "past_the_end": r"writes past the end of its output, as far as 4 bytes from it",
    "swallows_nan": r"nan in x at \(\d+,\): .*such as 0 for nan\)",
    "clamps": r"inf in x at \(\d+,\): .*such as 3e\+38 for inf\)",
    "one_configuration": r"n=261, BLOCK=128, num_warps=4, random values: differs",
    "wrong_without_a_reference": r"BLOCK=128, num_warps=4, random values: differs",
    "not_the_same_twice": r"gives other bits for the same inputs \(61 of 61 elements\)",
    "changes_its_input": r"changes input 0",
    "offset_twice": r"starting at no multiple of 16 bytes: differs",
    "other_plan_each_time": r"planning: the plan is not the same twice: arguments .*offset",
    "breaks_down": r"n=1, planning: breaks_down: the plan, line \d+ fails on .*ZeroDivisionError",
    "wrong_everywhere": r"random values: differs .*61 of 61 elements",
    "second_result": r"\(output 1: 13 of 13 elements, such as",
    "second_unwritten": r"\(output 1: 1 of 13 elements are not written\)",
    "ignores_strides": r"x with rows 64 elements apart: differs",
    "ignores_transposition": r"x transposed in memory: differs",
    "reads_its_neighbour": r"n=61, BLOCK=16, random values: differs .*of 61 elements, such as",
    "fills_gaps": r"x with a gap after each element: writes between the elements of x",
    "forgets_to_zero": r"int64, n=61, BLOCK=32, random values: .*elements are not written\)",
    "ignores_its_scalar": r"scale=0.75: differs",
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_is_found_and_named(name: str) -> None:
    message = fault_of(name)
    first, again, *_ = message.splitlines()
    assert first.startswith(f"{name} is wrong in Triton's interpreter: ")
    assert re.search(FAULTS[name], first)
    assert again.startswith(f"  to reproduce: tunekit.testing.check_kernel({name}, ")
    assert message.count("\n") <= 7


def test_a_mistake_in_one_dtype_is_found_in_that_alone() -> None:
    message = fault_of("wrong_in_bfloat16", dtypes=["float16", "bf16"])
    assert "wrong_in_bfloat16 is wrong in Triton's interpreter: bfloat16, n=61" in message
    assert "float16, " not in message.replace("bfloat16, ", "")
    check_kernel(of("wrong_in_bfloat16"), shapes=[61], dtypes=["float16"])


@pytest.mark.parametrize("name", ["one_configuration", "swallows_nan", "second_unwritten"])
def test_what_a_message_says_finds_it_again(name: str) -> None:
    message = fault_of(name, seed=3)
    said = re.search(r"to reproduce: (tunekit\.testing\.check_kernel\(.*\))$", message, re.M)
    assert said is not None
    assert said[1].endswith(", seed=3)")
    with pytest.raises(AssertionError) as again:
        eval(said[1], {"tunekit": tunekit, name: of(name)})
    assert str(again.value).splitlines()[0] == message.splitlines()[0]


CLEAN = ("clean", "centred", "adds_in_place", "counts", "gated", "without_a_reference")


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_where_nothing_is_wrong(name: str) -> None:
    kernel = of(name)
    report = check_kernel(kernel, dtypes=[kernel.dtypes[0]])
    assert report.kernel == name
    assert report.dtypes == kernel.dtypes[:1]
    assert report.results == sum(report.checks.values()) > 10
    assert report.checks["calls"] >= 2
    assert len(report.configs) >= 2
    assert ("special values" in report.checks) == (name not in ("counts", "without_a_reference"))
    assert ("other scalars" in report.checks) == (name == "gated")
    assert ("in place" in report.checks) == (name == "gated")
    assert bool(report.notes) == (name == "without_a_reference")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_16_bits_too(dtype: str) -> None:
    check_kernel(of("clean"), dtypes=[dtype], shapes=[61])
    check_kernel(of("centred"), dtypes=[dtype], shapes=[{"rows": 5, "columns": 33}])


@pytest.mark.parametrize("name", ["mish_mish", "add_min_gelu_mul", "mish_add_hardtanh_scale"])
def test_the_library_passes(name: str) -> None:
    report = check_kernel(KERNELS[name], shapes=[1025], dtypes=["bfloat16"])
    assert report.shapes == ("1025",)
    assert report.checks["special values"] == 1


def test_a_kernel_for_channels_passes() -> None:
    from tunekit.kernels.registry import find_kernel

    kernel = find_kernel("mish_mish+bias")
    report = check_kernel(kernel, shapes=[(2, 3, 5, 7)], dtypes=FLOAT32)
    assert "calls" not in report.checks  # it is part of a module


def test_atomics_that_add_floats_are_excused_only_if_asked() -> None:
    report = check_kernel(of("not_the_same_twice"), dtypes=FLOAT32, deterministic=False)
    assert report.results > 10
    assert "deterministic=False allows" in fault_of("not_the_same_twice")


def test_what_is_refused_is_told_and_no_failure() -> None:
    report = check_kernel(of("clean"), dtypes=["float32", "float16"])
    (refused,) = report.refused
    assert refused.what == "x with a gap after each element"
    assert refused.dtypes == ("float32", "float16")
    assert "x has to be contiguous" in refused.reason
    lines = str(report).splitlines()
    assert lines[0] == f"clean in Triton's interpreter: {report.results} results are right"
    assert "  shapes          n=61; n=65; n=63; n=1; n=16" in lines
    assert any(line.startswith("  refused         x with a gap") for line in lines)


def only_even(kernel: Kernel) -> Kernel:
    """The kernel, with a plan that takes even sizes alone."""

    def plan(metas: object, device: object) -> object:
        if metas[0].shape[0] % 2:  # type: ignore[index]
            raise KernelError("even sizes only")
        return kernel.plan(metas, device)  # type: ignore[arg-type]

    return dataclasses.replace(kernel, plan=plan)  # type: ignore[arg-type]


def test_a_size_may_be_refused_unless_it_was_asked_for() -> None:
    kernel = only_even(of("clean"))
    report = check_kernel(kernel, dtypes=FLOAT32)
    assert "n=16" in report.shapes
    assert [each.reason for each in report.refused if each.what == "n=61"] == ["even sizes only"]
    with pytest.raises(AssertionError, match=r"float32, n=61, refused: even sizes only"):
        check_kernel(kernel, dtypes=FLOAT32, shapes=[(61,)])


def test_it_is_a_failure_to_refuse_everything() -> None:
    def refuse(metas: object, device: object) -> object:
        raise KernelError("not today")

    kernel = dataclasses.replace(of("clean"), plan=refuse)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"nothing could be checked .*every shape .*not today"):
        check_kernel(kernel)


def test_special_values_may_be_left_out_or_chosen() -> None:
    check_kernel(of("swallows_nan"), shapes=[61], dtypes=FLOAT32, special_values=False)
    check_kernel(of("swallows_nan"), shapes=[61], dtypes=FLOAT32, special_values=[0.0, 1e-3])
    message = fault_of("swallows_nan", special_values=[float("nan")])
    assert "nan in x at" in message
    assert "special_values={'x': [float('nan')]}" in message


def test_special_values_may_be_of_some_inputs() -> None:
    kernel = of("swallows_nan")
    check_kernel(kernel, shapes=[61], dtypes=FLOAT32, special_values={})
    check_kernel(kernel, shapes=[61], dtypes=FLOAT32, special_values={"x": [2.0]})
    assert "special_values" not in fault_of("swallows_nan", shapes=[61], special_values={"x": True})
    with pytest.raises(UsageError, match=r"special_values: 'y' is no input; these are: x$"):
        check_kernel(kernel, special_values={"y": True})


def test_the_configurations_may_be_given() -> None:
    check_kernel(of("one_configuration"), dtypes=FLOAT32, configs=[{"BLOCK": 32, "num_warps": 4}])
    message = fault_of("one_configuration", configs=[{"BLOCK": 128, "num_warps": 2}])
    assert "float32, n=61, BLOCK=128, num_warps=2, random values" in message


def test_scalars_may_be_given() -> None:
    check_kernel(of("gated"), shapes=[61], dtypes=FLOAT32, scalars={"scale": -3.0})
    message = fault_of("ignores_its_scalar", shapes=[61], scalars={"scale": -3.0})
    assert "scalars={'scale': -3.0}" in message
    with pytest.raises(KernelError, match="gated has no scalar 'alpha'; it has: scale"):
        check_kernel(of("gated"), scalars={"alpha": 1.0})


def test_what_a_launch_raises_is_a_failure() -> None:
    message = fault_of("clean", configs=[{"BLOCK": 63, "num_warps": 4}])
    assert re.search(r"BLOCK=63, num_warps=4, random values: raises \w+: .*power of 2", message)


def test_a_reference_with_other_results_is_a_failure() -> None:
    kernel = dataclasses.replace(of("clean"), reference=lambda x: x[1:])
    with pytest.raises(AssertionError, match=r"raises KernelError: clean: result 0 of the refer"):
        check_kernel(kernel, shapes=[61], dtypes=FLOAT32)


def test_a_call_that_launches_something_else_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: call.Planned, inputs: object, outputs: list, scalars: object) -> None:  # type: ignore[type-arg]
        outputs[0].zero_()

    monkeypatch.setattr(call.Planned, "start", start)
    assert "float32, n=61, BLOCK=64, num_warps=4, called: differs" in fault_of("clean", shapes=[61])


class TestCases:
    def test_there_is_one_for_each_dtype_and_shape(self) -> None:
        found = cases(of("clean"), dtypes=["float32", "bf16"])
        assert [str(case) for case in found] == [
            f"{dtype}-{n}" for dtype in ("float32", "bfloat16") for n in (61, 65, 63, 1, 16)
        ]
        assert [case.thorough for case in found] == [True, *[False] * 4] * 2

    def test_together_they_are_what_check_kernel_checks(self) -> None:
        whole = check_kernel(of("clean"), dtypes=FLOAT32)
        parts = [case.check() for case in cases(of("clean"), dtypes=FLOAT32)]
        assert sum(part.results for part in parts) == whole.results
        assert all(isinstance(part, Report) for part in parts)

    def test_one_fails_alone(self) -> None:
        one, *others = cases(of("swallows_nan"), dtypes=FLOAT32)
        with pytest.raises(AssertionError, match="nan in x"):
            one.check()
        one.check(special_values=False)
        for other in others:
            other.check()

    def test_a_kernel_that_takes_no_shape_has_one_that_says_so(self) -> None:
        (case,) = cases(of("other_plan_each_time"), dtypes=FLOAT32)
        assert case.shape == ()
        with pytest.raises(AssertionError, match="every shape tried, planning: the plan is not"):
            case.check()

    def test_shapes_may_be_given_by_number_by_tuple_and_by_name(self) -> None:
        found = cases(of("clean"), shapes=[5, (6,), {"n": 7}], dtypes=FLOAT32)
        assert [case.shape for case in found] == [(5,), (6,), (7,)]
        assert all(case.given for case in found)
        two = cases(of("centred"), shapes=[(2, 3), {"columns": 5, "rows": 4}], dtypes=FLOAT32)
        assert [case.shape for case in two] == [(2, 3), (4, 5)]

    @pytest.mark.parametrize(
        ("shape", "said"),
        [
            ({"m": 3}, r"\{'m': 3\} is no shape of centred, whose sizes are rows, columns"),
            ((3,), r"\(3,\) is no shape of centred, whose sizes are rows, columns"),
            ((3, 0), r"expected positive integers, got \(3, 0\)"),
            ((3, 2.5), r"expected positive integers, got \(3, 2.5\)"),
            ((), r"expected positive integers, got \(\)"),
        ],
    )
    def test_a_shape_that_is_none_is_refused(self, shape: object, said: str) -> None:
        with pytest.raises(ShapeError, match=said):
            cases(of("centred"), shapes=[shape])  # type: ignore[list-item]

    def test_a_dtype_that_is_none_is_refused(self) -> None:
        with pytest.raises(ShapeError, match="'float33': expected one of"):
            cases(of("clean"), dtypes=["float33"])

    def test_a_case_is_plain_data(self) -> None:
        assert Case(of("clean"), (3,), "float32") == Case(of("clean"), (3,), "float32")


def test_a_gpu_cannot_be_asked_for_here() -> None:
    with pytest.raises(UsageError, match="'cuda': kernels run in Triton's interpreter here"):
        check_kernel(of("clean"), device="cuda")
    check_kernel(of("clean"), device="cpu", shapes=[5], dtypes=FLOAT32)
