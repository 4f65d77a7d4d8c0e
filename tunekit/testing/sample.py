"""A sample of a kernel's space: the default, the extremes of each axis, and some at random."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tunekit.core.config import Config
from tunekit.core.problem import ITEMSIZES
from tunekit.core.space import context
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.testing.place import Place

AT_RANDOM = 3


def sample_configs(
    kernel: Kernel, launch: Launch, dtype: str, default: Config, place: Place, seed: int
) -> list[Config]:
    """Configurations of the space, the default first, each once.

    In the interpreter two that differ by launch options alone are one.

    Args:
        kernel: whose space.
        launch: of the problem, for what constraints and the function's arguments are.
        dtype: what is tuned.
        default: the default configuration.
        place: where they run.
        seed: of those taken at random.
    """
    names = context(launch.dims, ITEMSIZES[dtype], place.device)
    valid = kernel.load_space().configs(names)
    seen = set(launch.function.arg_names if place.interprets else default)
    distinct: dict[tuple[int, ...], Config] = {}
    for config in (default, *_extremes(valid, default)):
        distinct.setdefault(_values_of(config, seen), config)
    rest: dict[tuple[int, ...], Config] = {}
    for config in valid:
        if (values := _values_of(config, seen)) not in distinct:
            rest.setdefault(values, config)
    more = random.Random(seed).sample(list(rest.values()), min(AT_RANDOM, len(rest)))
    return [*distinct.values(), *more]


def _values_of(config: Config, axes: set[str]) -> tuple[int, ...]:
    return tuple(value for axis, value in config.items() if axis in axes)


def _extremes(valid: list[Config], default: Config) -> Iterator[Config]:
    """Nearest to the default those with the ends of each axis, and the first and the last."""
    for axis in default:
        values = [config[axis] for config in valid]
        for end in (min(values), max(values)):
            yield min(
                (config for config in valid if config[axis] == end),
                key=lambda config: sum(config[each] != default[each] for each in default),
            )
    yield min(valid, key=lambda config: tuple(config.values()))
    yield max(valid, key=lambda config: tuple(config.values()))
