"""Ask a kernel's plan for a launch, and tell what it refuses from where it breaks down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.errors import TunekitError
from tunekit.kernels.from_plan import tensors_of
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.planned import PlannedKernel

_REFUSING = (TunekitError, ValueError, AssertionError, RuntimeError)
"""What is raised on purpose, or by PyTorch of a shape or layout; anything else is a mistake."""


class RefusedError(Exception):
    """A kernel does not take such tensors; the message is its own."""


class BrokenError(Exception):
    """A plan fails, other than by refusing."""


def planned(make: Callable[[], Launch]) -> Launch:
    """The launch that a plan makes, the same one each time.

    Raises:
        RefusedError: it takes no such tensors.
        BrokenError: it fails, or makes another one the next time.
    """
    first, second = _made(make), _made(make)
    for field in ("arguments", "outputs", "starts", "dims"):
        if getattr(first, field) != getattr(second, field):
            raise BrokenError(
                f"the plan is not the same twice: {field} {getattr(first, field)!r:.200}, then "
                f"{getattr(second, field)!r:.200}"
            )
    return first


def _made(make: Callable[[], Launch]) -> Launch:
    try:
        return make()
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error.__cause__ or error, _REFUSING):
            raise RefusedError(said) from error
        raise BrokenError(said) from error


def programs(launch: Launch, config: Config) -> int:
    """How many programs a configuration launches."""
    x, y, z = launch.grid(config)
    return x * y * z


def default_of(kernel: Kernel, launch: Launch, device: Device) -> Config:
    """The configuration that is launched when nothing is tuned.

    Raises:
        RefusedError: the space has none here.
    """
    try:
        return kernel.default(launch, device)
    except TunekitError as error:
        raise RefusedError(str(error)) from error


def input_names(kernel: Kernel, count: int) -> Sequence[str]:
    """What to call the inputs: as the plan does, else by number."""
    if isinstance(kernel, PlannedKernel):
        return tensors_of(kernel.functions[0])
    return [f"input {index}" for index in range(count)]
