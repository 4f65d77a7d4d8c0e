"""Which configurations of a file fit a kernel's space, and which of those a problem begins with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tunekit.candidates.listed import Contents, Listed, Near
from tunekit.core.axis import Axis
from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.core.space import Space
from tunekit.errors import SpaceError, UsageError
from tunekit.records import MAX_AXIS_VALUE
from tunekit.store.fields import shown

NEAREST = 4
"""Configurations that a table of several sizes gives for one problem."""

_TRITON = {"num_warps": 4, "num_stages": 3, "num_ctas": 1, "maxnreg": None}
"""What `triton.Config` has where nothing is said."""
_OTHER_DTYPE, _OTHER_DEVICE, _OTHER_DIMS = 4.0, 2.0, 100.0
"""Octaves that something else than a size counts for in a distance."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """A configuration as the kernel's space names its axes."""

    config: Config
    listed: Listed


@dataclass(frozen=True, slots=True)
class Fit:
    """What of a file has the axes of a space.

    Attributes:
        fitting: in the order of the file.
        refused: why others have not, and how many each.
    """

    fitting: tuple[Fitting, ...]
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of it one problem begins with.

    Attributes:
        fitting: each configuration once.
        off_list: how many have a value that the space does not list.
        violated: constraints that others violate here, and how many each.
    """

    fitting: tuple[Fitting, ...]
    off_list: int
    violated: Mapping[str, int] = field(default_factory=dict)


def fit(
    contents: Contents, space: Space, rename: Mapping[str, str], group: str | None = None
) -> Fit:
    """Hold what a file lists against the axes of a space.

    Args:
        contents: of the file.
        space: of the kernel.
        rename: the kernel's name for a name of the file's; an empty one leaves that value out.
        group: of that list alone.

    Raises:
        UsageError: there is no such list, or nothing that is renamed.
    """
    listed = contents.listed
    if group is not None:
        if group not in contents.groups:
            raise UsageError(f"--list {group!r:.100}: the lists are {_short(contents.groups)}")
        listed = tuple(each for each in listed if each.group == group)
    names = {name for each in listed for name in each.values}
    for name in rename:
        if name not in names:
            raise UsageError(
                f"--rename {name!r:.100}: no configuration has that; they have "
                f"{_short(sorted(names))}"
            )
    fitting = []
    refused: Counter[str] = Counter()
    for each in listed:
        config = _config(each.values, space, rename)
        if isinstance(config, str):
            refused[config] += 1
        else:
            fitting.append(Fitting(config, each))
    return Fit(tuple(fitting), dict(refused))


def choose(
    fitted: Fit,
    space: Space,
    context: Mapping[str, int],
    problem: Problem,
    size: int | None = None,
) -> Chosen:
    """Of what fits, that which a problem is to begin with: in order, the nearest first.

    Args:
        fitted: what fits.
        space: of the kernel.
        context: what the space's constraints see at this problem.
        problem: what is to be measured.
        size: of the problem, that which a table is keyed by; None where that is not known.
    """
    violated: Counter[str] = Counter()
    found: dict[Config, Fitting] = {}
    for each in fitted.fitting:
        if each.config in found:
            continue
        try:
            constraint = space.violated(each.config, context)
        except SpaceError:
            constraint = "constraints, which have no value there"
        if constraint is None:
            found[each.config] = each
        else:
            violated[constraint] += 1
    chosen = _nearest([each for each in fitted.fitting if each.config in found], problem, size)
    values = {axis.name: set(axis.values) for axis in space.axes}
    off_list = sum(
        any(value not in values[axis] for axis, value in each.config.items()) for each in chosen
    )
    return Chosen(tuple(chosen), off_list, dict(violated))


def _config(values: Mapping[str, object], space: Space, rename: Mapping[str, str]) -> Config | str:
    """The configuration, or why there is none."""
    ours: dict[str, object] = {}
    for name, value in values.items():
        axis = rename.get(name, name)
        if axis in ours:
            return f"two values for {shown(axis)}"
        if axis:
            ours[axis] = value
    axes = {axis.name: axis for axis in space.axes}
    for name, value in _TRITON.items():
        if name in axes:
            ours.setdefault(name, value)
        elif name in ours and (ours[name] is None or ours[name] == value):
            del ours[name]
    missing = [name for name in axes if name not in ours]
    unknown = [name for name in ours if name not in axes]
    if missing or unknown:
        parts = [f"no {', '.join(missing)}"] if missing else []
        told = [f"{name}={ours[name]}" if name in _TRITON else name for name in unknown]
        parts += [f"{_short(told)}, which the space has not"] if unknown else []
        return " and ".join(parts)
    for name in axes:
        if not _is_value(ours[name], axes[name]):
            return f"{name}={shown(ours[name])}, expected a whole number from 1 to {MAX_AXIS_VALUE}"
    return Config({name: int(ours[name]) for name in axes})  # type: ignore[call-overload]


def _is_value(value: object, axis: Axis) -> bool:
    return isinstance(value, int) and (value in axis.values or 0 < value <= MAX_AXIS_VALUE)


def _nearest(fitting: Sequence[Fitting], problem: Problem, size: int | None) -> list[Fitting]:
    """Of what was found for other problems the nearest; all of what is for any."""
    kernels = {each.listed.near.kernel for each in fitting if each.listed.near is not None}
    own = problem.kernel if problem.kernel in kernels else None
    anywhere: list[Fitting] = []
    somewhere: list[tuple[float, Fitting]] = []
    for each in fitting:
        near = each.listed.near
        if near is not None and own is not None and near.kernel != own:
            continue
        if near is None or (near.dims is None and (near.size is None or size is None)):
            anywhere.append(each)
        else:
            somewhere.append((_distance(near, problem, size), each))
    somewhere.sort(key=lambda pair: pair[0])
    nearest = _once(each for _, each in somewhere)[:NEAREST]
    return _once([*nearest, *anywhere])


def _once(fitting: Iterable[Fitting]) -> list[Fitting]:
    found: dict[Config, Fitting] = {}
    for each in fitting:
        found.setdefault(each.config, each)
    return list(found.values())


def _distance(near: Near, problem: Problem, size: int | None) -> float:
    """How far what a configuration was found for is, in octaves of size."""
    distance = 0.0
    if near.size is not None and size is not None:
        distance += _octaves(near.size, size)
    if near.dims is not None:
        dims = dict(problem.dims)
        if near.dims.keys() == dims.keys():
            distance += sum(_octaves(near.dims[name], dims[name]) for name in dims)
        else:
            distance += _OTHER_DIMS
    distance += _OTHER_DTYPE * (near.dtype not in (None, problem.dtype))
    return distance + _OTHER_DEVICE * (near.device not in (None, problem.device))


def _octaves(one: int, other: int) -> float:
    return abs(math.log2(max(one, 1) / max(other, 1)))


def _short(names: Iterable[str]) -> str:
    """Some names for a message."""
    listed = [shown(name).strip("'\"") for name in names]
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more
