from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tunekit.errors import KernelError
from tunekit.kernels import library
from tunekit.nn import activations
from tunekit.nn.patterns import PATTERNS, Pattern, longest
from tunekit.nn.steps import Step, Steps

MISH: Step = ("mish",)
HARD: Step = ("clamp", -1.0, 1.0)
LOW: Step = ("clamp", -math.inf, 0.0)
GELU: Step = ("gelu", "none")


def found(steps: Steps, patterns: tuple[Pattern, ...] = PATTERNS) -> tuple[object, ...] | None:
    match = longest(steps, range(1, len(steps) + 1), patterns)
    return match and (match.kernel.name, match.scalars, match.count)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((MISH, MISH), ("mish_mish", {}, 2)),
        (
            (MISH, ("add", 0.25), HARD, ("mul", 3.0)),
            ("mish_add_hardtanh_scale", {"add_value": 0.25, "scale": 3.0}, 4),
        ),
        (
            (MISH, ("add", 0.25), HARD),
            ("mish_add_hardtanh_scale", {"add_value": 0.25, "scale": 1.0}, 3),
        ),
        (
            (("add", 0.5), LOW, GELU, ("mul", 2.0)),
            ("add_min_gelu_mul", {"add_value": 0.5, "multiply_value": 2.0}, 4),
        ),
        (
            (("add", 0.5), LOW, GELU),
            ("add_min_gelu_mul", {"add_value": 0.5, "multiply_value": 1.0}, 3),
        ),
        ((("relu",),), ("relu", {}, 1)),
        ((("clamp", 0.0, 6.0),), ("clamp", {"low": 0.0, "high": 6.0}, 1)),
        ((("leaky_relu", 0.2),), ("leaky_relu", {"slope": 0.2}, 1)),
        ((GELU,), ("gelu", {}, 1)),
        ((MISH, ("elu", 1.0)), ("mish", {}, 1)),
        ((MISH, MISH, MISH), ("mish_mish", {}, 2)),
        ((MISH, ("add", 0.25), ("clamp", -2.0, 1.0)), ("mish", {}, 1)),
        ((("gelu", "tanh"),), None),
        ((("elu", 1.0), MISH), None),
        ((("mul", 1.0),), None),
    ],
)
def test_the_longest_chain_that_a_kernel_computes(
    steps: Steps, expected: tuple[object, ...] | None
) -> None:
    assert found(steps) == expected


def test_a_step_that_shares_its_node_with_another_is_not_cut_off() -> None:
    steps: Steps = (MISH, ("mul", -1.0), ("add", 2.0))
    match = longest(steps, (1, 3), PATTERNS)
    assert match is not None
    assert match.count == 1
    assert longest(steps, (3,), PATTERNS) is None


def test_patterns_of_ones_own_go_first() -> None:
    own = Pattern(activations.mish, (MISH, MISH))
    assert found((MISH, MISH), (own, *PATTERNS)) == ("mish", {}, 2)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.kernel.name)
def test_the_steps_of_a_pattern_are_what_its_kernel_computes(pattern: Pattern) -> None:
    functions = {
        "add": torch.add,
        "mul": torch.mul,
        "clamp": torch.clamp,
        "gelu": lambda x, approximate: F.gelu(x, approximate=approximate),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    scalars = dict(pattern.kernel.scalars)
    x = y = torch.linspace(-8, 8, 101, dtype=torch.float64)
    for name, *parameters in pattern.steps:
        values = [scalars.get(str(each), each) for each in parameters]
        y = functions.get(str(name), getattr(F, str(name), None))(y, *values)
    torch.testing.assert_close(y, pattern.kernel.reference(x, **scalars))


@pytest.mark.parametrize(
    ("kernel", "steps", "message"),
    [
        (library.mish_mish, (), "it has no steps"),
        (library.mish_mish, (("mosh",),), r"\('mosh',\) is no step; there are: add number; clamp"),
        (library.mish_mish, (("mish", 1.0),), "is no step"),
        (library.mish_mish, (("add", "value"),), r"\(none\) needs one place, the steps have value"),
        (activations.clamp, (("clamp", "low", 6.0),), r"\(low, high\) needs one place"),
        (
            activations.leaky_relu,
            (("add", "slope"), ("mul", "slope")),
            "the steps have slope, slope",
        ),
    ],
)
def test_a_pattern_that_says_nothing_sensible_is_refused(
    kernel: library.Kernel, steps: Steps, message: str
) -> None:
    with pytest.raises(KernelError, match=message):
        Pattern(kernel, steps)


def test_a_pattern_is_of_a_pointwise_kernel() -> None:
    from tunekit.kernels.folded import folded

    with pytest.raises(KernelError, match="expected a pointwise kernel of one input"):
        Pattern(folded(library.mish_mish), (MISH, MISH))
