"""Which configuration a call is served, and why that one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
import triton

from tunekit.core.config import Config
from tunekit.core.device import Device, device_named
from tunekit.core.evaluation import Source
from tunekit.core.problem import Problem, parse_dtype
from tunekit.core.space import Space, context
from tunekit.errors import ShapeError, SpaceError, UnknownDeviceError
from tunekit.gpu import device_at, driver_of, gpu_count
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel
from tunekit.runtime.advice import warn_untuned
from tunekit.runtime.known import Known, Sized, merged_rows, size_of
from tunekit.runtime.nearest import neighbours
from tunekit.store.cache import CacheRow

__all__ = ["Choice", "Served", "choose", "forget", "lookup", "merged_rows"]

_known = Known()


class Served(StrEnum):
    """What kind of row a configuration comes from, best first."""

    EXACT = "exact"  # measured at this very size
    NEAREST = "nearest"  # measured at another size: the nearest whose configuration suits this one
    ESTIMATED = "estimated"  # compiled and estimated for this device, never run on it
    DEFAULT = "default"  # the space's default: nothing is tuned


@dataclass(frozen=True, slots=True)
class Choice:
    """The configuration a call is served.

    Attributes:
        row: the row it comes from, None for the default.
        problem: the problem that was asked about.
    """

    config: Config
    served: Served
    row: CacheRow | None
    problem: Problem


def lookup(
    kernel: Kernel | str,
    shape: Sequence[int],
    dtype: object = "float32",
    *,
    device: str | Device | None = None,
) -> Choice:
    """Which configuration a call with contiguous, aligned inputs of that shape is served.

    Args:
        kernel: a kernel, or how the command line names it: `mish_mish`, `package.module:NAME`.
        shape: of the inputs, every size at least 1.
        dtype: a name such as `float16`, or a `torch.dtype`.
        device: a GPU model (`rtx4090`), a GPU of this machine (`cuda:0`), or the facts of one;
            None is the current GPU.

    Raises:
        UnknownKernelError: there is no such kernel.
        ShapeError: a shape or dtype that cannot be tuned.
        UnknownDeviceError: there is no such GPU, or none in this machine and none is named.
    """
    found = find_kernel(kernel) if isinstance(kernel, str) else kernel
    model = _device(device)
    launch = found.launch_for(_checked(shape), parse_dtype(str(dtype)), model)
    choice = choose(found, launch, model)
    if choice.served is Served.DEFAULT:
        warn_untuned(found, launch, model, shape)
    return choice


def choose(kernel: Kernel, launch: Launch, device: Device) -> Choice:
    """The configuration for a launch: the first of `choices`.

    Raises:
        SpaceError: nothing is tuned and the space has no default here.
    """
    return next(choices(kernel, launch, device))


def choices(kernel: Kernel, launch: Launch, device: Device) -> Iterator[Choice]:
    """Every configuration a launch may be served, best first.

    In this order: the row measured for the very problem; the rows measured at other sizes, nearest
    first (`tunekit.runtime.nearest`); the rows estimated for this device, exact before nearest; the
    default of the space; rows of sizes so much smaller that the default is better. Kernel, its
    hash, dtype, alignment class and device must match; a row of another size is passed over when
    its configuration violates a constraint of the space here.

    Raises:
        SpaceError: at the end, if the space has no default here.
    """
    seen: set[Config] = set()
    for choice in _in_order(kernel, launch, device):
        if choice.config not in seen:
            seen.add(choice.config)
            yield choice


def _in_order(kernel: Kernel, launch: Launch, device: Device) -> Iterator[Choice]:
    problem, space = kernel.problem_of(launch, device), kernel.load_space()
    group = _known.group(problem)
    names = context(launch.dims, problem.itemsize, device)
    exact = group.exact.get(problem.dims)
    if exact is not None and not _has_axes(space, exact.config):
        exact = None

    def others(rows: Sequence[Sized]) -> tuple[list[CacheRow], list[CacheRow]]:
        launched = [each for each in rows if _has_axes(space, each.row.config)]
        driver = _running_driver(launched, device)
        return neighbours(
            launched,
            problem,
            launch,
            device,
            triton.__version__,
            running_driver=driver,
            by_dim=bool(kernel.sizes),
        )

    def allowed(rows: Iterable[CacheRow], served: Served) -> Iterator[Choice]:
        for row in rows:
            if _holds(space, row.config, names):
                yield Choice(row.config, served, row, problem)

    if exact is not None and exact.source is Source.MEASURED:
        yield Choice(exact.config, Served.EXACT, exact, problem)
    measured, far_measured = others(group.measured)
    yield from allowed(measured, Served.NEAREST)
    if exact is not None and exact.source is Source.ESTIMATED:
        yield Choice(exact.config, Served.ESTIMATED, exact, problem)
    estimated, far_estimated = others(group.estimated)
    yield from allowed(estimated, Served.ESTIMATED)
    default = _default(space, names)
    if default is not None:
        yield Choice(default, Served.DEFAULT, None, problem)
    yield from allowed(far_measured, Served.NEAREST)
    yield from allowed(far_estimated, Served.ESTIMATED)
    if default is None:
        space.default(names)  # says what is wrong with it


def _running_driver(rows: Sequence[Sized], device: Device) -> str:
    """Empty where it makes no difference, and the driver need not be asked."""
    differ = len({each.row.provenance.driver for each in rows}) > 1
    return driver_of(device) if differ else ""


def nearest_row(problem: Problem) -> CacheRow | None:
    """The row measured for a problem that is no launch of one kernel, else for the nearest size."""
    group = _known.group(problem)
    exact = group.exact.get(problem.dims)
    if exact is not None and exact.source is Source.MEASURED:
        return exact
    rows, size = group.measured, max(size_of(problem), 1)
    near = min(rows, key=lambda each: abs(math.log(max(each.size, 1) / size)), default=None)
    return None if near is None else near.row


def forget() -> None:
    """Read the databases again when next asked."""
    _known.forget()


def _default(space: Space, names: dict[str, int]) -> Config | None:
    try:
        return space.default(names)
    except SpaceError:
        return None


def _holds(space: Space, config: Config, names: dict[str, int]) -> bool:
    try:
        return _has_axes(space, config) and space.violated(config, names) is None
    except SpaceError:
        return False


def _has_axes(space: Space, config: Config) -> bool:
    """A row found before the space had other axes cannot be launched."""
    return config.keys() == set(space.axis_names)


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in shape)
    if any(size < 1 for size in sizes):
        raise ShapeError(f"shape {sizes}: every dim must be at least 1")
    return sizes


def _device(device: str | Device | None) -> Device:
    if isinstance(device, Device):
        return device
    text = "cuda" if device is None else str(device)
    kind, _, index = text.partition(":")
    if kind != "cuda":
        return device_named(text)
    count = gpu_count()
    if not count:
        raise UnknownDeviceError("this machine has no CUDA GPU; name one, such as device='rtx4090'")
    number = int(index) if index.isdecimal() else torch.cuda.current_device()
    if number >= count:
        raise UnknownDeviceError(f"device {text!r}: this machine has {count} CUDA GPUs")
    return device_at(number)
