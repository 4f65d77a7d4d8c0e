"""How (N, C, *spatial) tensors are stored, and small shapes that run the same binary."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from tunekit.errors import KernelError
from tunekit.kernels.plan import TensorMeta

ALIGNMENT = 16
"""What Triton asks of an integer is whether it is divisible by that; templates also by less."""
WIDE_FROM = 2**31 - 2**20
"""Elements from which offsets are 64-bit: the last tile must not overflow 32 bits."""


class Layout(IntEnum):
    """How input and output are stored; bit 0: the input is channels-last, bit 1: the output."""

    CONTIGUOUS = 0
    TO_CONTIGUOUS = 1
    TO_CHANNELS_LAST = 2
    CHANNELS_LAST = 3

    @property
    def input_last(self) -> bool:
        """Whether the input is channels-last."""
        return bool(self & 1)

    @property
    def output_last(self) -> bool:
        """Whether the output is channels-last."""
        return bool(self & 2)

    @property
    def transposes(self) -> bool:
        """Whether they are stored differently."""
        return self.input_last is not self.output_last


def format_strides(shape: Sequence[int], channels_last: bool) -> tuple[int, ...]:
    """Strides in elements of a dense (N, C, *spatial) tensor."""
    order = [0, *range(2, len(shape)), 1] if channels_last else range(len(shape))
    strides, step = [1] * len(shape), 1
    for axis in reversed(list(order)):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def is_stored(meta: TensorMeta, channels_last: bool) -> bool:
    """Whether a tensor is stored so; the stride of an axis of size 1 is never used."""
    pairs = zip(meta.shape, meta.strides, format_strides(meta.shape, channels_last), strict=True)
    return meta.numel == 0 or all(size == 1 or one == other for size, one, other in pairs)


def channelwise_metas(
    shape: Sequence[int], dtype: str, layout: Layout, parameters: int
) -> tuple[TensorMeta, ...]:
    """What tuning allocates: the input as the layout has it, and parameters of shape (C,)."""
    if len(shape) < 2:
        raise KernelError(
            f"shape {tuple(shape)}: a channelwise kernel needs (N, C) or (N, C, *spatial)"
        )
    x = TensorMeta(tuple(shape), format_strides(shape, layout.input_last), dtype)
    return (x, *[TensorMeta.contiguous((shape[1],), dtype)] * parameters)


def check_inputs(x: TensorMeta, parameters: Sequence[TensorMeta], layout: Layout) -> None:
    """Refuse what a kernel of that layout cannot take.

    Raises:
        KernelError: shapes or strides are others.
    """
    if len(x.shape) < 2:
        raise KernelError(f"input 0 has shape {x.shape}: expected (N, C) or (N, C, *spatial)")
    if not is_stored(x, layout.input_last):
        form = "channels-last" if layout.input_last else "contiguous"
        raise KernelError(
            f"input 0 has shape {x.shape} and strides {x.strides}: this kernel needs it {form}"
        )
    for index, each in enumerate(parameters, start=1):
        channels = x.shape[1]
        if each.shape != (channels,) or (each.strides != (1,) and channels > 1):
            raise KernelError(
                f"input {index} has shape {each.shape} and strides {each.strides}: expected one "
                f"value a channel, shape ({channels},), contiguous"
            )


def floor_of(size: int) -> int:
    """The largest power of two that is not above a size."""
    return 1 << max(size, 1).bit_length() - 1


def size_like(size: int, block: int) -> int:
    """A size above the block like `size` by 16, if possible no multiple of the block."""
    if size == 1:
        return 1
    found = block + 2 + (size - block - 2) % ALIGNMENT
    return found if found % block or block <= ALIGNMENT else found + ALIGNMENT


def inner_like(inner: int, longest: int) -> int:
    """Positions like `inner` by 16, and at least as many as its power of two or `longest`."""
    if inner < 2 * ALIGNMENT:
        return inner
    return min(floor_of(inner), max(longest, ALIGNMENT)) + (inner % ALIGNMENT or ALIGNMENT)


def images_like(images: int, size: int, small: int, block: int, fewest: int) -> int:
    """So many images of `small` that all together are like `images` of `size`, by 16 and by 1.

    At least `fewest` and three, and if possible they are no multiple of the block.
    """
    if images * size == 1:
        return 1
    fewest = max(fewest, 3 if small > 1 else block + 1)
    like = images * size % ALIGNMENT == 0
    some = range(fewest, fewest + 2 * ALIGNMENT)
    fitting = [n for n in some if (n * small % ALIGNMENT == 0) == like]
    return next((n for n in fitting if n * small % block), fitting[0])
