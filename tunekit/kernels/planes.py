"""The channelwise template between contiguous tensors: runs of memory, whatever plane they are of.

A program handles a run of elements that starts at a multiple of its length, so that every access is
wide however long a plane is. A run no longer than a plane touches two of them at most, and chooses
between the parameters of two channels.
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
    images_like,
    inner_like,
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

LONGEST_RUN = 8192
"""Elements; planes at least this long are all alike."""


@triton.jit
def _own_parameters(
    parameters,
    start,
    offsets,
    mask,
    inner,
    channels,
    INNER_FLOOR: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):
    """Of each element's channel; a division for each element is left to planes that are short."""
    own = ()
    if BLOCK_SIZE <= INNER_FLOOR:
        plane = start // inner
        is_next = offsets >= (plane + 1) * inner
        for i in tl.static_range(len(parameters)):
            first = tl.load(parameters[i] + plane % channels).to(tl.float32)
            second = tl.load(parameters[i] + (plane + 1) % channels).to(tl.float32)
            own = own + (tl.where(is_next, second, first),)  # type: ignore[assignment]
    else:
        c = offsets // inner % channels
        for i in tl.static_range(len(parameters)):
            own = own + (tl.load(parameters[i] + c, mask=mask).to(tl.float32),)  # type: ignore[assignment]
    return own


@triton.jit
def planes_kernel(
    input,
    parameters,
    output,
    scalars,
    n,
    inner,
    channels,
    combine: tl.constexpr,
    epilogue: tl.constexpr,
    INNER_FLOOR: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):
    """Apply `epilogue(combine(value, *parameters of its channel), *scalars)` to n elements."""
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    start = program * BLOCK_SIZE
    offsets = start + tl.arange(0, BLOCK_SIZE)
    # A mask whose end is not known to be divisible by 16 would make every access narrow.
    if start + BLOCK_SIZE <= n:
        own = _own_parameters(
            parameters, start, offsets, None, inner, channels, INNER_FLOOR, BLOCK_SIZE
        )
        value = combine(tl.load(input + offsets).to(tl.float32), *own)
        tl.store(output + offsets, epilogue(value, *scalars).to(output.dtype.element_ty))
    else:
        mask = offsets < n
        own = _own_parameters(
            parameters, start, offsets, mask, inner, channels, INNER_FLOOR, BLOCK_SIZE
        )
        value = combine(tl.load(input + offsets, mask=mask).to(tl.float32), *own)
        result = epilogue(value, *scalars).to(output.dtype.element_ty)
        tl.store(output + offsets, result, mask=mask)


def planes_check_shape(shape: tuple[int, ...], config: Config, count: int) -> tuple[int, ...]:
    """At least `count` elements in several images of some runs and a part of one, in the class.

    See `channelwise_check_shape`.
    """
    images, channels, inner = shape[0], shape[1], math.prod(shape[2:])
    block = config["BLOCK_SIZE"]
    c = channels if channels <= 2 * ALIGNMENT else ALIGNMENT + (channels % ALIGNMENT or ALIGNMENT)
    p = inner_like(inner, LONGEST_RUN if count else block)
    n = images_like(images, channels * inner, c * p, block, -(-max(count, block + 1) // (c * p)))
    return (n, c, p) if len(shape) > 2 else (n, c)


def plan_planes(
    combine: triton.JITFunction, epilogue: triton.JITFunction, scalars: tuple[str, ...]
) -> Plan:
    """The plan of a channelwise kernel between contiguous tensors; see `plan_channelwise`."""

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        x, *parameters = inputs
        check_inputs(x, parameters, Layout.CONTIGUOUS)
        images, channels = x.shape[:2]
        inner = math.prod(x.shape[2:])
        return Launch(
            function=planes_kernel,
            arguments={
                "input": Input(0),
                "parameters": Group(tuple(Input(1 + i) for i in range(len(parameters)))),
                "output": Output(0),
                "scalars": Group(tuple(Scalar(name) for name in scalars)),
                "n": Integer(x.numel),
                "inner": Integer(inner),
                "channels": Integer(channels),
                "combine": Constant(combine),
                "epilogue": Constant(epilogue),
                "INNER_FLOOR": Constant(min(floor_of(inner), LONGEST_RUN)),
                "WIDE": Constant(x.numel >= WIDE_FROM),
            },
            inputs=tuple(inputs),
            outputs=(TensorMeta(x.shape, x.strides, x.dtype),),
            dims={"images": images, "channels": channels, "inner": inner},
            grid=lambda config: (-(-x.numel // config["BLOCK_SIZE"]), 1, 1),
        )

    return plan
