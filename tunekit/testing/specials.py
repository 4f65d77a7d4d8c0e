"""Values that kernels get wrong: ±0, ±inf, nan, subnormal numbers, the largest ones."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from tunekit.errors import UsageError
from tunekit.kernels.kernel import Kernel

Values = Iterable[float] | bool
Given = Values | Mapping[str, Values]
"""Numbers, or True for those of `NAMES`, or False for none; or these for some inputs, by name."""

NAMES = ("0", "-0", "inf", "-inf", "nan", "subnormal", "largest", "-largest")


def kept(given: Given, names: Sequence[str]) -> dict[str, tuple[float, ...] | bool]:
    """What was given, for each input.

    Raises:
        UsageError: an input that is named is none.
    """
    every: Mapping[str, Values] = (
        given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    )
    if unknown := [name for name in every if name not in names]:
        raise UsageError(
            f"special_values: {unknown[0]!r:.60} is no input; these are: {', '.join(names)}"
        )
    return {
        name: values if isinstance(values, bool) else tuple(map(float, values))
        for name, values in every.items()
    }


def text_of(given: Mapping[str, tuple[float, ...] | bool], names: Sequence[str]) -> str:
    """The argument that asks for them; empty if it may be left out."""
    if len(given) == len(names) and all(values is True for values in given.values()):
        return ""
    if len(given) == len(names) and not any(given.values()):
        return "special_values=False"
    inner = ", ".join(
        f"{name!r}: {values if isinstance(values, bool) else _numbers(values)}"
        for name, values in given.items()
    )
    return f"special_values={{{inner}}}"


def _numbers(values: Iterable[float]) -> str:
    return f"[{', '.join(str(v) if math.isfinite(v) else f'float({str(v)!r})' for v in values)}]"


def values_of(dtype: torch.dtype, given: tuple[float, ...] | bool) -> dict[str, float]:
    """What to try in a tensor of that dtype, by name."""
    if given is False:
        return {}
    if given is not True:
        return {f"{value:g}": value for value in given}
    limits = torch.finfo(dtype)
    tiny = limits.smallest_normal / 8  # 1 / x overflows, whether or not it is taken for 0
    values = (0.0, -0.0, torch.inf, -torch.inf, torch.nan, tiny, limits.max, limits.min)
    return dict(zip(NAMES, values, strict=True))


def places(
    inputs: Sequence[torch.Tensor], given: Sequence[tuple[float, ...] | bool], seed: int
) -> Iterator[tuple[int, tuple[int, ...], str, float]]:
    """For each value where to put it: which input, at which index, its name, the value.

    No two are at one place of an input where that has the room.
    """
    for number, x in enumerate(inputs):
        if not x.is_floating_point() or not x.numel():
            continue
        values = values_of(x.dtype, given[number])
        draw = random.Random(seed + number)
        room = range(x.numel())
        flat = draw.sample(room, min(len(values), len(room)))
        for turn, (name, value) in enumerate(values.items()):
            yield number, _index(flat[turn % len(flat)], x.shape), name, value


def _index(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    index = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        index.append(place)
    return tuple(reversed(index))


def judges(kernel: Kernel) -> Iterator[Kernel]:
    """The kernel with references that are right as well where a number is extreme.

    float64 knows no overflow where a kernel, and PyTorch, compute in float32; and GPUs may take
    subnormal numbers for 0.
    """
    yield _with(kernel, lambda x: x.float())
    yield _with(kernel, _flushed)


def _with(kernel: Kernel, change: Callable[[torch.Tensor], torch.Tensor]) -> Kernel:
    reference = kernel.reference
    assert reference is not None

    def changed(*tensors: torch.Tensor, **scalars: float) -> Any:
        given = [change(x) if x.is_floating_point() else x for x in tensors]
        return reference(*given, **scalars)

    return dataclasses.replace(kernel, reference=changed)


def _flushed(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() < torch.finfo(torch.float32).smallest_normal, x * 0, x)
