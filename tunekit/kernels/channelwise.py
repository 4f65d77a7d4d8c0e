"""The channelwise template: values of every channel first meet that channel's parameters.

The input is (N, C, *spatial), each image stored channel after channel (contiguous) or position
after position (channels-last). A program handles a tile of some channels at some positions, its
last dim the one that is contiguous in the input; a channel's bias is broadcast `[:, None]` in the
one, `[None, :]` in the other. Where the output is stored the other way the tile is transposed in
registers and shared memory, so that both the load and the store are wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

import triton
import triton.language as tl

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.errors import KernelError
from tunekit.kernels.plan import (
    Constant,
    Group,
    Input,
    Integer,
    Launch,
    Output,
    Plan,
    Scalar,
    TensorMeta,
)

_ALIGNMENT = 16
"""What Triton asks of an integer: divisible or not. What is divisible by less is told apart here."""
_WIDE_FROM = 2**31
"""Elements from which offsets are 64-bit."""
_LONGEST_TILE = 1024
"""Positions; images at least this long are all alike."""


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


@triton.jit
def _multiple(size, ALIGN: tl.constexpr):
    """The size itself, known to the compiler to be a multiple of ALIGN."""
    return size // ALIGN * ALIGN if 1 < ALIGN and ALIGN < 16 else size


@triton.jit
def _image_shift(p, first, inner, channels, INNER_FLOOR: tl.constexpr, BLOCK_P: tl.constexpr):
    """How far positions of a contiguous plane lie beyond their number: all other channels' planes.

    A tile no longer than an image touches two of them at most, which costs one comparison; a
    division for each position would cost more than all the rest.
    """
    step = (channels - 1) * inner
    if BLOCK_P <= INNER_FLOOR:
        image = first // inner
        return image * step + tl.where(p >= (image + 1) * inner, step, 0)
    else:
        return p // inner * step


@triton.jit
def channelwise_kernel(
    input,
    parameters,
    output,
    scalars,
    channels,
    inner,
    positions,
    combine: tl.constexpr,
    epilogue: tl.constexpr,
    LAYOUT: tl.constexpr,
    CHANNELS_ALIGN: tl.constexpr,
    INNER_ALIGN: tl.constexpr,
    INNER_FLOOR: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Apply `epilogue(combine(value, *parameters of its channel), *scalars)` to each element.

    Positions of all images are numbered through, so that no image ends in a part of a tile.
    """
    channels = _multiple(channels, CHANNELS_ALIGN)
    inner = _multiple(inner, INNER_ALIGN)
    positions = _multiple(positions, INNER_ALIGN)
    program = tl.program_id(0)
    if WIDE:
        program, inner = program.to(tl.int64), tl.cast(inner, tl.int64)
    # Programs that run at the same time are neighbours in the input's memory.
    if LAYOUT & 1:
        blocks_c = tl.cdiv(channels, BLOCK_C)
        first_c = program % blocks_c * BLOCK_C
        first_p = program // blocks_c * BLOCK_P
    else:
        blocks_p = tl.cdiv(positions, BLOCK_P)
        first_c = program // blocks_p * BLOCK_C
        first_p = program % blocks_p * BLOCK_P
    c = first_c + tl.arange(0, BLOCK_C)
    p = first_p + tl.arange(0, BLOCK_P)
    if LAYOUT != 3:
        planes = p + _image_shift(p, first_p, inner, channels, INNER_FLOOR, BLOCK_P)
    own = ()
    for i in tl.static_range(len(parameters)):
        each = tl.load(parameters[i] + c, mask=c < channels).to(tl.float32)
        own = own + (each[None, :] if LAYOUT & 1 else each[:, None],)  # type: ignore[assignment]
    if LAYOUT & 1:
        mask = (p < positions)[:, None] & (c < channels)[None, :]
        offsets = p[:, None] * channels + c[None, :]
    else:
        mask = (c < channels)[:, None] & (p < positions)[None, :]
        offsets = c[:, None] * inner + planes[None, :]
    if LAYOUT == 1:  # faster so on an H100; the other layouts do not care
        value = tl.load(input + offsets, mask=mask, eviction_policy="evict_last").to(tl.float32)
    else:
        value = tl.load(input + offsets, mask=mask).to(tl.float32)
    flat = tl.reshape(combine(value, *own), (BLOCK_C * BLOCK_P,))
    result = tl.reshape(epilogue(flat, *scalars), value.shape).to(output.dtype.element_ty)
    if LAYOUT == 1:
        mask = (c < channels)[:, None] & (p < positions)[None, :]
        offsets = c[:, None] * inner + planes[None, :]
        result = tl.trans(result)
    if LAYOUT == 2:
        mask = (p < positions)[:, None] & (c < channels)[None, :]
        offsets = p[:, None] * channels + c[None, :]
        result = tl.trans(result)
    tl.store(output + offsets, result, mask=mask)


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


def channelwise_check_shape(shape: tuple[int, ...], config: Config, count: int) -> tuple[int, ...]:
    """At least `count` elements in several images of some tiles and a part of one, in the class.

    Sizes keep what the binary depends on: their remainder by 16, whether they are 1, and how long
    an image is at least. With a count of 0, as the interpreter asks, images are only as long as it
    takes to go the same way through the code.
    """
    images, channels, inner = shape[0], shape[1], math.prod(shape[2:])
    c = _size_like(channels, config["BLOCK_C"])
    longest = _LONGEST_TILE if count else config["BLOCK_P"]
    p = inner if inner < 2 * longest else longest + inner % _ALIGNMENT
    if images * inner == 1:
        return (1, c)
    like = images * inner % _ALIGNMENT == 0
    fewest = max(3 if p > 1 else config["BLOCK_P"] + 1, -(-count // (c * p)))
    fitting = (n for n in range(fewest, fewest + _ALIGNMENT) if (n * p % _ALIGNMENT == 0) == like)
    return (next(fitting, fewest), c, p) if len(shape) > 2 else (next(fitting, fewest), c)


def _size_like(size: int, block: int) -> int:
    """A size above the block like `size` by 16, if possible no multiple of the block."""
    if size == 1:
        return 1
    found = block + 2 + (size - block - 2) % _ALIGNMENT
    return found if found % block or block <= _ALIGNMENT else found + _ALIGNMENT


def plan_channelwise(
    combine: triton.JITFunction,
    epilogue: triton.JITFunction,
    scalars: tuple[str, ...],
    layout: Layout,
) -> Plan:
    """The plan of a channelwise kernel.

    Args:
        combine: takes a float32 value and one of each parameter, and returns one.
        epilogue: takes that and the scalars, and returns one.
        scalars: names of the run-time scalars, in the epilogue's order.
        layout: of input and output.
    """

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        x, *parameters = inputs
        _check(x, parameters, layout)
        images, channels = x.shape[:2]
        inner = math.prod(x.shape[2:])
        positions = images * inner
        # Where one image ends and the next begins is nothing to channels-last tensors.
        image = 1 if layout is Layout.CHANNELS_LAST else inner

        def grid(config: Config) -> tuple[int, int, int]:
            blocks_c = -(-channels // config["BLOCK_C"])
            blocks_p = -(-positions // config["BLOCK_P"])
            return (blocks_c * blocks_p, 1, 1)

        def run_bytes(config: Config) -> float:
            if layout.input_last:
                whole = config["BLOCK_C"] >= channels
                run = config["BLOCK_P"] * channels if whole else config["BLOCK_C"]
            else:
                run = config["BLOCK_P"]
            return float(run * x.itemsize)

        return Launch(
            function=channelwise_kernel,
            arguments={
                "input": Input(0),
                "parameters": Group(tuple(Input(1 + i) for i in range(len(parameters)))),
                "output": Output(0),
                "scalars": Group(tuple(Scalar(name) for name in scalars)),
                "channels": Integer(channels),
                "inner": Integer(image),
                "positions": Integer(positions),
                "combine": Constant(combine),
                "epilogue": Constant(epilogue),
                "LAYOUT": Constant(int(layout)),
                "CHANNELS_ALIGN": Constant(math.gcd(channels, _ALIGNMENT)),
                "INNER_ALIGN": Constant(math.gcd(image, _ALIGNMENT)),
                "INNER_FLOOR": Constant(min(_floor_of(image), _LONGEST_TILE)),
                "WIDE": Constant(x.numel >= _WIDE_FROM),
            },
            inputs=tuple(inputs),
            outputs=(TensorMeta(x.shape, format_strides(x.shape, layout.output_last), x.dtype),),
            dims={"images": images, "channels": channels, "inner": inner},
            grid=grid,
            run_bytes=run_bytes,
        )

    return plan


def _floor_of(size: int) -> int:
    """The largest power of two that is not above a size."""
    return 1 << max(size, 1).bit_length() - 1


def _check(x: TensorMeta, parameters: Sequence[TensorMeta], layout: Layout) -> None:
    if len(x.shape) < 2:
        raise KernelError(f"input 0 has shape {x.shape}: expected (N, C) or (N, C, *spatial)")
    if not is_stored(x, layout.input_last):
        form = "channels-last" if layout.input_last else "contiguous"
        raise KernelError(
            f"input 0 has shape {x.shape} and strides {x.strides}: this kernel needs it {form}"
        )
    for index, each in enumerate(parameters, start=1):
        if (each.shape, each.strides) != ((x.shape[1],), (1,)) and x.shape[1] != 1:
            raise KernelError(
                f"input {index} has shape {each.shape} and strides {each.strides}: expected one "
                f"value a channel, shape ({x.shape[1]},), contiguous"
            )
