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

import triton
import triton.language as tl

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.kernels.layouts import (
    ALIGNMENT,
    WIDE_FROM,
    Layout,
    check_inputs,
    floor_of,
    format_strides,
    images_like,
    inner_like,
    size_like,
)
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

LONGEST_TILE = 1024
"""Positions; images at least this long are all alike."""


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

    Positions of all images are numbered through, so that no image ends in a part of a tile, and
    programs that run at the same time are neighbours in channels-last memory.
    """
    channels = _multiple(channels, CHANNELS_ALIGN)
    inner, positions = _multiple(inner, INNER_ALIGN), _multiple(positions, INNER_ALIGN)
    program = tl.program_id(0)
    if WIDE:
        program, inner = program.to(tl.int64), tl.cast(inner, tl.int64)
        positions = tl.cast(positions, tl.int64)
    blocks_c = tl.cdiv(channels, BLOCK_C)
    first_p = program // blocks_c * BLOCK_P
    c = program % blocks_c * BLOCK_C + tl.arange(0, BLOCK_C)
    p = first_p + tl.arange(0, BLOCK_P)
    if LAYOUT != 3:
        planes = p + _image_shift(p, first_p, inner, channels, INNER_FLOOR, BLOCK_P)
    if LAYOUT & 1:
        is_row, is_column = p < positions, c < channels
        rows = p * channels
        columns = c
    else:
        is_row, is_column = c < channels, p < positions
        rows = c * inner
        columns = planes
    own = ()
    for i in tl.static_range(len(parameters)):
        each = tl.load(parameters[i] + c, mask=is_column if LAYOUT & 1 else is_row).to(tl.float32)
        own = own + (each[None, :] if LAYOUT & 1 else each[:, None],)  # type: ignore[assignment]
    mask = is_row[:, None] & is_column[None, :]
    offsets = rows[:, None] + columns[None, :]
    if LAYOUT == 1:  # faster so on an H100
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


def channelwise_check_shape(shape: tuple[int, ...], config: Config, count: int) -> tuple[int, ...]:
    """At least `count` elements in several images of some tiles and a part of one, in the class.

    Sizes keep what the binary depends on: their remainder by 16, whether they are 1, and how long
    an image is at least. With a count of 0, as the interpreter asks, images are only as long as it
    takes to go the same way through the code.
    """
    images, channels, inner = shape[0], shape[1], math.prod(shape[2:])
    tile, c = config["BLOCK_P"], size_like(channels, config["BLOCK_C"])
    p = inner_like(inner, LONGEST_TILE if count else tile)
    n = images_like(images, inner, p, tile, -(-count // (c * p)))
    return (n, c, p) if len(shape) > 2 else (n, c)


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
        check_inputs(x, parameters, layout)
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
                "CHANNELS_ALIGN": Constant(math.gcd(channels, ALIGNMENT)),
                "INNER_ALIGN": Constant(math.gcd(image, ALIGNMENT)),
                "INNER_FLOOR": Constant(
                    min(floor_of(image), LONGEST_TILE) if layout.transposes else 1
                ),
                "WIDE": Constant(x.numel >= WIDE_FROM),
            },
            inputs=tuple(inputs),
            outputs=(TensorMeta(x.shape, format_strides(x.shape, layout.output_last), x.dtype),),
            dims={"images": images, "channels": channels, "inner": inner},
            grid=grid,
            run_bytes=run_bytes,
        )

    return plan
