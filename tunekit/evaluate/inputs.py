"""What a kernel is tried on: random values with special ones strewn in, or every value there is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tunekit.evaluate.tensors import in_memory
from tunekit.kernels.kernel import Kernel

SPECIAL_VALUES = (
    0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1.0, -1.0, 20.0, -20.0, 88.0, -88.0,
    100.0, -100.0, 3e4, -3e4, 6e-5, -6e-5, 1e-6, -1e-6,
)  # fmt: skip
"""±0, ±inf, nan, where exp overflows, large, and the edge of float16's subnormals."""
_TURN = 7
"""Places that special values are turned on from one input to the next."""
_VALUES_OF_16_BITS = 2**16


def draw(inputs: Sequence[torch.Tensor], seed: int) -> None:
    """Fill dense tensors, each from a seed of its own.

    Special values do not meet their own: 88x + 88 near x = -1 is the rounding of a product.
    """
    for index, tensor in enumerate(inputs):
        fill_random(tensor, seed + index, _TURN * index)


def draw_for(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    shape: Sequence[int],
    dtype: str,
    seed: int,
    *,
    check: bool = False,
) -> None:
    """Fill a kernel's inputs, by its own hook where it has one.

    Special values are strewn in where an element of the result depends on few of the inputs': of a
    sum over a row one nan would hide the rest.

    Args:
        kernel: whose inputs.
        inputs: tensors as tuning at `shape` allocates them.
        shape: a problem's.
        dtype: what is tuned.
        seed: of the values.
        check: by `draw_check` instead of `draw`.
    """
    if kernel.draw is not None:
        devices = [inputs[0].get_device()] if inputs[0].is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            kernel.draw(inputs, shape, dtype)
    elif not (kernel.elementwise or kernel.batched):
        _draw_normal(inputs, seed)
    elif check:
        draw_check(inputs, seed)
    else:
        draw(inputs, seed)


def _draw_normal(inputs: Sequence[torch.Tensor], seed: int) -> None:
    """Standard normal values; whole numbers for integers, 0 to 99."""
    for index, tensor in enumerate(inputs):
        generator = torch.Generator(device=tensor.device).manual_seed(seed + index)
        shape, device = tensor.shape, tensor.device
        if tensor.is_floating_point():
            values = torch.randn(shape, generator=generator, device=device)
        else:
            values = torch.randint(0, 100, shape, generator=generator, device=device)
        tensor.copy_(values)


def draw_check(inputs: Sequence[torch.Tensor], seed: int) -> None:
    """Fill them for a check: all 65,536 values where one 16-bit input has the room, else `draw`."""
    if len(inputs) == 1 and inputs[0].element_size() == 2:
        (only,) = inputs
        if only.numel() >= _VALUES_OF_16_BITS:
            fill_with_all_bit_patterns(only)
            return
    draw(inputs, seed)


def random_input(shape: Sequence[int], dtype: str, seed: int, device: str) -> torch.Tensor:
    """A contiguous tensor as `fill_random` fills it."""
    made = torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=device)
    fill_random(made, seed)
    return made


def all_bit_patterns(count: int, dtype: str, device: str) -> torch.Tensor:
    """Every value of a 16-bit dtype, repeated or cut: shape (count,)."""
    made = torch.empty(count, dtype=getattr(torch, dtype), device=device)
    fill_with_all_bit_patterns(made)
    return made


def fill_random(tensor: torch.Tensor, seed: int, turn: int = 0) -> None:
    """Normal values of deviation 2, with the special values strewn in, that many turned on."""
    generator = torch.Generator(device=tensor.device).manual_seed(seed)
    flat = in_memory(tensor)
    flat.normal_(0.0, 2.0, generator=generator)
    special = torch.tensor(SPECIAL_VALUES, dtype=flat.dtype, device=flat.device).roll(turn)
    count = min(len(special), len(flat) // 2)  # most of a small input stays random
    places = torch.linspace(0, len(flat) - 1, count, device=flat.device, dtype=torch.float64)
    flat[places.long()] = special[:count]


def fill_with_all_bit_patterns(tensor: torch.Tensor) -> None:
    """Every value of a 16-bit dtype in the order of memory, repeated or cut."""
    flat = in_memory(tensor).view(torch.int16)
    patterns = torch.arange(_VALUES_OF_16_BITS, dtype=torch.int32, device=flat.device)
    for part in flat.split(_VALUES_OF_16_BITS):
        part.copy_(patterns[: len(part)].to(torch.int16))
