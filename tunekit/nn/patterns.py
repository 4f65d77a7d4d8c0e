"""Which chains of pointwise steps a kernel computes, with places for its scalars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunekit.errors import KernelError
from tunekit.kernels import library
from tunekit.kernels.kernel import Kernel
from tunekit.nn import activations
from tunekit.nn.steps import VOCABULARY, Step, Steps

_TEXTS = {"gelu": ("none", "tanh")}
"""Steps whose parameter is a word, and the words."""


@dataclass(frozen=True)
class Pattern:
    """A kernel and the steps it computes.

        Pattern(squared, (("relu",), ("mul", "scale")))

    Attributes:
        kernel: a pointwise one of one input.
        steps: each a name of `tunekit.nn.steps.VOCABULARY` and its parameters: a number, which has
            to be that very number, or the name of one of the kernel's scalars, which takes any.

    Raises:
        KernelError: a step is not in the vocabulary or has other parameters; a scalar of the kernel
            has no place, or several; the kernel is not pointwise.
    """

    kernel: Kernel
    steps: Steps

    def __post_init__(self) -> None:
        kernel = self.kernel
        if kernel.input_count != 1 or not kernel.elementwise:
            raise KernelError(f"{kernel.name}: expected a pointwise kernel of one input")
        if not self.steps:
            raise KernelError(f"pattern of {kernel.name}: it has no steps")
        places: list[str] = []
        for step in self.steps:
            places += self._places(step)
        if sorted(places) != sorted(kernel.scalars):
            has = ", ".join(kernel.scalars) or "none"
            raise KernelError(
                f"pattern of {kernel.name}: each scalar of the kernel ({has}) needs one place, the "
                f"steps have {', '.join(places) or 'none'}"
            )

    def _places(self, step: Step) -> list[str]:
        name, *values = step
        parameters = VOCABULARY.get(str(name))
        if parameters is None or len(values) != len(parameters):
            known = "; ".join(" ".join([each, *of]) for each, of in VOCABULARY.items())
            raise KernelError(
                f"pattern of {self.kernel.name}: {step!r} is no step; there are: {known}"
            )
        words = _TEXTS.get(str(name), ())
        return [value for value in values if isinstance(value, str) and value not in words]


@dataclass(frozen=True, slots=True)
class Match:
    """A kernel, its scalars, and how many of the steps it computes, from the first."""

    kernel: Kernel
    scalars: dict[str, float]
    count: int


PATTERNS: tuple[Pattern, ...] = (
    Pattern(library.mish_mish, (("mish",), ("mish",))),
    Pattern(
        library.mish_add_hardtanh_scale,
        (("mish",), ("add", "add_value"), ("clamp", -1.0, 1.0), ("mul", "scale")),
    ),
    Pattern(
        library.add_min_gelu_mul,
        (
            ("add", "add_value"),
            ("clamp", float("-inf"), 0.0),
            ("gelu", "none"),
            ("mul", "multiply_value"),
        ),
    ),
    Pattern(activations.relu, (("relu",),)),
    Pattern(activations.clamp, (("clamp", "low", "high"),)),
    Pattern(activations.leaky_relu, (("leaky_relu", "slope"),)),
    Pattern(activations.sigmoid, (("sigmoid",),)),
    Pattern(activations.tanh, (("tanh",),)),
    Pattern(activations.silu, (("silu",),)),
    Pattern(activations.mish, (("mish",),)),
    Pattern(activations.gelu, (("gelu", "none"),)),
    Pattern(activations.hardswish, (("hardswish",),)),
)
"""What ships: the fused ops, and one activation each."""


def longest(
    steps: Sequence[Step], ends: Iterable[int], patterns: Sequence[Pattern]
) -> Match | None:
    """The kernel that computes most of the steps.

    Args:
        steps: what follows a convolution.
        ends: the numbers of steps it may take.
        patterns: the first of several that take as many wins.
    """
    for end in sorted(ends, reverse=True):
        for pattern in patterns:
            scalars = _values(pattern.steps, steps[:end])
            if scalars is not None:
                ordered = {name: scalars[name] for name in pattern.kernel.scalars}
                return Match(pattern.kernel, ordered, end)
    return None


def _values(pattern: Sequence[Step], steps: Sequence[Step]) -> dict[str, float] | None:
    """The scalars with which the pattern is the steps, None if it is not.

    A product with a scalar may be missing: times 1 is exact.
    """
    if not pattern:
        return None if steps else {}
    first, *rest = pattern
    if steps and (own := _values_of_one(first, steps[0])) is not None:
        others = _values(rest, steps[1:])
        if others is not None:
            return own | others
    name, *values = first
    if name == "mul" and isinstance(values[0], str):
        others = _values(rest, steps)
        return None if others is None else {values[0]: 1.0} | others
    return None


def _values_of_one(pattern: Step, step: Step) -> dict[str, float] | None:
    name, *parameters = pattern
    if name != step[0]:
        return None
    found: dict[str, float] = {}
    for parameter, value in zip(parameters, step[1:], strict=True):
        if isinstance(parameter, str) and not isinstance(value, str):
            found[parameter] = value
        elif parameter != value:
            return None
    return found
