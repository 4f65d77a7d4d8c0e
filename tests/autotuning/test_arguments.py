from __future__ import annotations

from typing import Any

import pytest
import triton
import triton.language as tl

import tunekit
from tunekit.autotuning.arguments import backend_options, read_on_miss, read_space
from tunekit.core.space import Space
from tunekit.errors import KernelError, SpaceError, TunekitError, UsageError


@triton.jit
def copy_kernel(x_ptr, out_ptr, n, rows, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


NAME = f"{__name__}:copy_kernel"
CONFIGS = [triton.Config({"BLOCK": 64}), triton.Config({"BLOCK": 128}, num_warps=8)]
SPACE = {"BLOCK": [64, 128]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"configs": []}, "nothing to choose from: give configs=[…] or space=…"),
        ({}, "nothing to choose from: give configs=[…] or space=…"),
        ({"configs": [64]}, "configs=[…] is of triton.Config, got 64"),
        ({"configs": CONFIGS, "space": SPACE}, "give configs=[…] or space=…, not both"),
        (
            {"configs": CONFIGS, "key": ["row"]},
            "key=['row'] is no argument of the kernel; did you mean 'rows'?",
        ),
        ({"configs": CONFIGS, "reset_to_zero": ["y_ptr"]}, "reset_to_zero=['y_ptr'] is no arg"),
        ({"configs": CONFIGS, "restore_value": ["z"]}, "restore_value=['z'] is no argument"),
        ({"configs": CONFIGS, "buffers": ["locks"]}, "buffers=['locks'] is no argument"),
        (
            {"configs": [triton.Config({"n": 3})]},
            "configurations give n, which is no tl.constexpr of the kernel: write `n: tl.cons",
        ),
        (
            {"configs": [triton.Config({"BLOKC": 3})]},
            "configurations give BLOKC, which is neither an argument of the kernel nor an option "
            "of a launch; did you mean 'BLOCK'?",
        ),
        ({"space": {"SIZE": [1]}}, "configurations give SIZE, which is neither"),
        (
            {"space": SPACE, "prune_configs_by": {"top_k": 1}},
            "prune_configs_by is of configs; a space has constraints",
        ),
        ({"configs": CONFIGS, "on_miss": "ask"}, "on_miss='ask': expected one of tune, nearest"),
    ],
)
def test_a_mistake_is_one_line_when_the_kernel_is_defined(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(TunekitError) as raised:
        tunekit.autotune(**given)(copy_kernel)
    told = str(raised.value)
    assert told.startswith(NAME)
    assert message in told
    assert "\n" not in told


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(KernelError, match="goes on a @triton"):
        tunekit.autotune(configs=CONFIGS, key=[])(lambda x: x)


@pytest.mark.parametrize(
    "space", [{"BLOCK": []}, {"BLOCK": [64, "many"]}, {"axes": SPACE}, "no_such_space"]
)
def test_a_space_that_is_none_is_refused(space: Any) -> None:
    with pytest.raises(SpaceError):
        tunekit.autotune(space=space)(copy_kernel)


def test_values_by_axis_are_a_space_whose_default_is_the_first_of_each() -> None:
    space = read_space({"BLOCK": [128, 64], "num_warps": [4, 8, 1]}, "mine")
    assert dict(space.default({})) == {"BLOCK": 128, "num_warps": 4}
    assert [axis.values for axis in space.axes] == [(64, 128), (1, 4, 8)]
    assert read_space(space, "mine") is space
    assert isinstance(read_space("pointwise", "mine"), Space)


def test_tunekits_configurations_do_as_well() -> None:
    given = [
        tunekit.Config({"BLOCK": 64}, num_warps=8),
        tunekit.Config(BLOCK=128, num_stages=2, num_ctas=2),
        {"BLOCK": 256},
    ]
    kernel = tunekit.autotune(configs=given, key=["n"])(copy_kernel)
    assert [each.all_kwargs() for each in kernel.configs] == [
        {"BLOCK": 64, "num_warps": 8, "num_ctas": 1, "num_stages": 3},
        {"BLOCK": 128, "num_warps": 4, "num_ctas": 2, "num_stages": 2},
        {"BLOCK": 256, "num_warps": 4, "num_ctas": 1, "num_stages": 3},
    ]


def test_options_of_the_backends_are_no_mistake() -> None:
    assert {"num_warps", "maxnreg", "waves_per_eu"} <= set(backend_options())
    configs = [triton.Config({"BLOCK": 64, "waves_per_eu": 2})]
    tunekit.autotune(configs=configs, key=["n"])(copy_kernel)


def test_tritons_deprecated_arguments_are_taken() -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):
        kernel = tunekit.autotune(configs=CONFIGS, key=["n"], warmup=5, rep=10)(copy_kernel)
    assert (kernel.num_warmups, kernel.num_reps) == (5, 10)


def test_a_word_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="SAID='perhaps': expected one of tune, nearest, default"):
        read_on_miss("perhaps", "SAID")


def test_under_other_decorators_the_kernel_is_still_the_kernel() -> None:
    under = triton.heuristics({"BLOCK": lambda args: 64})(copy_kernel)
    kernel = tunekit.autotune(configs=[triton.Config({}, num_warps=4)], key=["n"])(under)
    assert kernel.kernel.name == NAME
    assert kernel.fn is under
    assert kernel.base_fn is copy_kernel.fn
