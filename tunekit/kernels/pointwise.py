"""The pointwise template: one or several inputs of one shape, an epilogue, one output."""

from __future__ import annotations

from collections.abc import Sequence

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

_WIDE_FROM = 2**31 - 2**20
"""Elements from which offsets are 64-bit: the last block must not overflow 32 bits."""


@triton.jit
def _full_block(inputs, output, scalars, offsets, epilogue: tl.constexpr):
    values = ()
    for i in tl.static_range(len(inputs)):
        values = values + (tl.load(inputs[i] + offsets).to(tl.float32),)  # type: ignore[assignment]
    tl.store(output + offsets, epilogue(*values, *scalars).to(output.dtype.element_ty))


@triton.jit
def _tail_block(inputs, output, scalars, offsets, n, epilogue: tl.constexpr):
    mask = offsets < n
    values = ()
    for i in tl.static_range(len(inputs)):
        values = values + (tl.load(inputs[i] + offsets, mask=mask).to(tl.float32),)  # type: ignore[assignment]
    tl.store(output + offsets, epilogue(*values, *scalars).to(output.dtype.element_ty), mask=mask)


@triton.jit
def pointwise_kernel(
    inputs,
    output,
    scalars,
    n,
    epilogue: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    VEC: tl.constexpr,
    num_stages: tl.constexpr,
):
    """Apply `epilogue(*values, *scalars)` to n elements in storage order.

    Full blocks take a body without a mask: a mask whose end is not known to be divisible by 16
    makes every load narrow (1.4 times the time per element was measured).
    """
    lanes = tl.max_contiguous(tl.arange(0, BLOCK_SIZE), VEC)
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    if num_stages == 1:
        start = program * BLOCK_SIZE
        if start + BLOCK_SIZE <= n:
            _full_block(inputs, output, scalars, start + lanes, epilogue)
        else:
            _tail_block(inputs, output, scalars, start + lanes, n, epilogue)
    else:
        full = n // BLOCK_SIZE
        programs = tl.num_programs(0)
        for block in tl.range(program, full, programs, num_stages=num_stages):
            _full_block(inputs, output, scalars, block * BLOCK_SIZE + lanes, epilogue)
        if program == full % programs:
            _tail_block(inputs, output, scalars, full * BLOCK_SIZE + lanes, n, epilogue)


def programs_per_sm(num_warps: int, device: Device) -> int:
    """Programs of the grid-stride loop an SM is given: as many as its warps allow at once."""
    return max(1, min(device.max_blocks_per_sm, device.max_warps_per_sm // num_warps))


def pointwise_check_shape(shape: tuple[int, ...], config: Config, count: int) -> tuple[int, ...]:
    """At least `count` elements in some blocks and a part of one, in the class of `shape`.

    One element stays one: Triton folds n = 1 into the binary. A grid-stride loop gets an odd number
    of blocks, so that two programs repeat it unequally often.
    """
    n = 1
    for size in shape:
        n *= size
    if n == 1:
        return (1,)
    block = config["BLOCK_SIZE"]
    part = 16 if n % 16 == 0 else 16 + n % 16
    fewest = 2 if config["num_stages"] == 1 else 5
    return (max(-(-count // block), fewest) * block + part,)


def _is_dense(meta: TensorMeta) -> bool:
    """Whether the elements fill their memory in some order of the axes, each place once."""
    extent = 1
    for stride, size in sorted(zip(meta.strides, meta.shape, strict=True)):
        if size > 1 and stride != extent:
            return meta.numel == 0
        extent *= size
    return True


def plan_pointwise(epilogue: triton.JITFunction, scalars: tuple[str, ...]) -> Plan:
    """The plan of a pointwise kernel with that epilogue.

    Args:
        epilogue: takes one float32 value for each input, then the scalars, and returns one.
        scalars: names of the run-time scalars, in the epilogue's order.
    """

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        first = inputs[0]
        for index, other in enumerate(inputs[1:], start=1):
            if (other.shape, other.strides) != (first.shape, first.strides):
                raise KernelError(
                    f"input {index} has shape {other.shape} and strides {other.strides}, input 0 "
                    f"{first.shape} and {first.strides}: a pointwise kernel needs them equal"
                )
        if not _is_dense(first):
            raise KernelError(
                f"shape {first.shape} with strides {first.strides} leaves gaps or overlaps: a "
                "pointwise kernel needs dense inputs; call .contiguous()"
            )
        n = first.numel

        def grid(config: Config) -> tuple[int, int, int]:
            blocks = -(-n // config["BLOCK_SIZE"])
            if config["num_stages"] > 1:
                blocks = min(blocks, device.sm_count * programs_per_sm(config["num_warps"], device))
            return (blocks, 1, 1)

        def repeats(config: Config) -> float:
            if config["num_stages"] == 1:
                return 0.0
            return n / config["BLOCK_SIZE"] / grid(config)[0]

        return Launch(
            function=pointwise_kernel,
            arguments={
                "inputs": Group(tuple(Input(i) for i in range(len(inputs)))),
                "output": Output(0),
                "scalars": Group(tuple(Scalar(name) for name in scalars)),
                "n": Integer(n),
                "epilogue": Constant(epilogue),
                "WIDE": Constant(n >= _WIDE_FROM),
            },
            inputs=tuple(inputs),
            outputs=(TensorMeta(first.shape, first.strides, first.dtype),),
            dims={"n": n},
            grid=grid,
            repeats=repeats,
        )

    return plan
