"""A small problem that runs the same binary: where a kernel's configuration is tried first."""

from __future__ import annotations

from collections.abc import Iterator

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.problem import ITEMSIZES
from tunekit.core.space import context
from tunekit.errors import TunekitError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch, alignment_class

_MOST_OF_AN_AXIS = 4096


def small_shape(
    kernel: Kernel, shape: tuple[int, ...], config: Config, count: int, dtype: str, device: Device
) -> tuple[int, ...]:
    """A shape of the same alignment class, of some blocks and a part of one.

    A kernel may say itself. Else each size in turn is made as small as the class allows, with two
    blocks and a part of one where it does not mind: what is divisible by 16 stays so, and what a
    constant of the launch is derived from, such as the next power of two, keeps that.

    Args:
        kernel: of the problem.
        shape: of the problem.
        config: of the space.
        count: elements to have at least, as far as the kernel says itself.
        dtype: what is tuned.
        device: the GPU.
    """
    if kernel.check_shape is not None:
        return kernel.check_shape(shape, config, count)
    wanted = alignment_class(kernel.launch_for(shape, dtype, device))
    found = list(shape)
    for axis, size in enumerate(shape):
        for smaller in _candidates(size, config):
            tried = (*found[:axis], smaller, *found[axis + 1 :])
            if _is_alike(kernel, tried, config, dtype, device, wanted):
                found[axis] = smaller
                break
    return tuple(found)


def _candidates(size: int, config: Config) -> Iterator[int]:
    """Smaller sizes of the same divisibility, smallest first."""
    blocks = [value for value in config.meta().values() if value <= _MOST_OF_AN_AXIS]
    part = 16 + size % 16 if size % 16 else 16
    before = 1 << max((size - 1).bit_length() - 1, 0)  # with it the next power of two is the same
    whole = -(-2 * max(blocks, default=1) // 16) * 16  # so that the part alone is divisible or not
    for smaller in sorted({whole + part, before + part}):
        if smaller < size:
            yield smaller


def _is_alike(
    kernel: Kernel,
    shape: tuple[int, ...],
    config: Config,
    dtype: str,
    device: Device,
    wanted: str,
) -> bool:
    try:
        launch: Launch = kernel.launch_for(shape, dtype, device)
        names = context(launch.dims, ITEMSIZES[dtype], device)
        allowed = kernel.load_space().violated(config, names) is None
    except (TunekitError, ArithmeticError, ValueError, AssertionError, RuntimeError):
        return False  # the plan does not take such sizes
    return allowed and alignment_class(launch) == wanted
