"""Kernels that deserve no trust. Each is wrong, or looks faster than it is, in one way.

`ADVERSARIES` says of each what its evaluation has to say, in Triton's interpreter and on a GPU;
None where that place cannot tell: an interpreter runs one program after the other, at a small size,
and times nothing. `HONEST` are built alike and are right.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Input, Integer, Launch, Output, TensorMeta

SPACE = str(Path(__file__).with_name("space.toml"))
_STATE_WORDS = 2**24
_NO_ADDRESS = 2**44
"""For who only compiles: of the class that addresses of tensors are."""


@cache
def _state(name: str) -> torch.Tensor | None:
    """Memory that outlives a launch: int32, zeros. Each kernel has its own."""
    if torch.cuda.is_initialized():
        return torch.zeros(_STATE_WORDS, dtype=torch.int32, device="cuda")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return torch.zeros(_STATE_WORDS, dtype=torch.int32)
    return None


def _address(name: str) -> int:
    state = _state(name)
    return _NO_ADDRESS if state is None else state.data_ptr()


def _check_shape(shape: tuple[int, ...], config: Config, count: int) -> tuple[int, ...]:
    block = config["BLOCK_SIZE"]
    return (max(-(-count // block), 4) * block + 16,)


def _kernel(
    name: str,
    function: Any,
    reference: Callable[..., torch.Tensor] = lambda x: x,
    *,
    inputs: int = 1,
    state: bool = False,
    grid: Callable[[int], int] = lambda blocks: blocks,
) -> Kernel:
    """One that takes `x, out, n`, further inputs, and the address of memory of its own."""

    def plan(metas: Sequence[TensorMeta], device: Device) -> Launch:
        n = metas[0].numel
        arguments: dict[str, Any] = {"x": Input(0), "out": Output(0), "n": Integer(n)}
        arguments |= {f"x{index}": Input(index) for index in range(1, inputs)}
        if state:
            arguments["state"] = Integer(_address(name))
        return Launch(
            function=function,
            arguments=arguments,
            inputs=tuple(metas),
            outputs=(dataclasses.replace(metas[0]),),
            dims={"n": n},
            grid=lambda config: (grid(-(-n // config["BLOCK_SIZE"])), 1, 1),
        )

    return Kernel(
        name=name,
        plan=plan,
        reference=reference,
        space=SPACE,
        input_count=inputs,
        scalars={},
        functions=(function,),
        check_shape=_check_shape,
        elementwise=True,
    )


@triton.jit
def copies(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def writes_a_constant(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(out + at, tl.zeros((BLOCK_SIZE,), tl.float32), mask=at < n)


@triton.jit
def writes_nothing(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < 0)


@triton.jit
def gives_the_last_result(x, out, n, state, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    last = state.to(tl.pointer_type(tl.float32)) + at
    tl.store(out + at, tl.load(last, mask=at < n), mask=at < n)
    tl.store(last, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def writes_past_the_end(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(out + at, tl.load(x + at))


@triton.jit
def writes_before_the_start(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)
    tl.store(out + at - BLOCK_SIZE, 0.0, mask=at < BLOCK_SIZE)


@triton.jit
def writes_into_its_input(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(x + at, 2 * tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def writes_into_the_other_input(x, out, n, x1, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    tl.store(x1 + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def forgets_the_part_block(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    if (tl.program_id(0) + 1) * BLOCK_SIZE <= n:
        tl.store(out + at, tl.load(x + at))


@triton.jit
def right_once(x, out, n, state, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    launches = state.to(tl.pointer_type(tl.int32)) + tl.program_id(0)
    before = tl.load(launches)
    tl.store(launches, before + 1)
    tl.store(out + at, tl.load(x + at, mask=at < n) + before, mask=at < n)


@triton.jit
def right_of_small_values(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    value = tl.load(x + at, mask=at < n).to(tl.float32)
    tl.store(out + at, tl.log(1.0 + tl.exp(value)), mask=at < n)


@triton.jit
def swallows_nan(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    value = tl.load(x + at, mask=at < n).to(tl.float32)
    tl.store(out + at, tl.where(value == value, value, 0.0), mask=at < n)


@triton.jit
def clears_its_neighbour(x, out, n, BLOCK_SIZE: tl.constexpr):
    """A race: whether the neighbour writes after that is luck."""
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    value = tl.load(x + at, mask=at < n)
    tl.store(out + at + BLOCK_SIZE, 0.0 * value, mask=at + BLOCK_SIZE < n)
    tl.store(out + at, value, mask=at < n)


@triton.jit
def wrong_every_other_time(x, out, n, BLOCK_SIZE: tl.constexpr):
    """By the clock: right in one launch and wrong in the next, without any order in it."""
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    now = tl.inline_asm_elementwise(
        "mov.u64 $0, %globaltimer;", "=l", [], dtype=tl.int64, is_pure=False, pack=1
    )
    mixed = ((now >> 5) * 2654435761) >> 16
    lost = (tl.program_id(0) == 0) & (mixed % 2 == 0)
    value = tl.load(x + at, mask=at < n)
    tl.store(out + at, tl.where(lost, 7.0, value), mask=at < n)


@triton.jit
def adds_up_in_16_bits(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    value = tl.load(x + at, mask=at < n)
    total = tl.zeros((BLOCK_SIZE,), tl.float16)
    for _ in range(16):
        total += (value * 0.0625).to(tl.float16)
    tl.store(out + at, total, mask=at < n)


@triton.jit
def adds_up(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    value = tl.load(x + at, mask=at < n).to(tl.float32)
    total = tl.zeros((BLOCK_SIZE,), tl.float32)
    for _ in range(16):
        total += value * 0.0625
    tl.store(out + at, total, mask=at < n)


@triton.jit
def changes_its_input(x, out, n, BLOCK_SIZE: tl.constexpr):
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    value = tl.load(x + at, mask=at < n)
    tl.store(out + at, value, mask=at < n)
    tl.store(x + at, value + 1, mask=at < n)


@triton.jit
def adds_to_what_is_there(x, out, n, BLOCK_SIZE: tl.constexpr):
    """Reads memory nobody has written, and takes a nan there for nothing."""
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    there = tl.load(out + at, mask=at < n).to(tl.float32)
    there = tl.where(there == there, there, 0.0)
    tl.store(out + at, tl.load(x + at, mask=at < n) + there, mask=at < n)


@triton.jit
def keeps_results_by_address(x, out, n, state, LEAST: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    """Of tensors of at least so many elements."""
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    kept = state.to(tl.pointer_type(tl.float32)) + at
    known = state.to(tl.pointer_type(tl.int64)) + 2**22 + tl.program_id(0)
    key = x.to(tl.int64) + out.to(tl.int64)
    value = tl.load(x + at, mask=at < n)
    if (tl.load(known) == key) & (n >= LEAST):
        value = tl.load(kept, mask=at < n)
    tl.store(kept, value, mask=at < n)
    tl.store(known, key)
    tl.store(out + at, value, mask=at < n)


@triton.jit
def keeps_all_results_by_address(x, out, n, state, BLOCK_SIZE: tl.constexpr):
    keeps_results_by_address(x, out, n, state, 0, BLOCK_SIZE)


@triton.jit
def keeps_large_results_by_address(x, out, n, state, BLOCK_SIZE: tl.constexpr):
    keeps_results_by_address(x, out, n, state, 500000, BLOCK_SIZE)


@triton.jit
def works_where_it_is_nan(x, out, n, BLOCK_SIZE: tl.constexpr):
    """Only a check fills its output with nan; who times it does not."""
    start = tl.program_id(0) * BLOCK_SIZE
    at = start + tl.arange(0, BLOCK_SIZE)
    there = tl.load(out + start).to(tl.float32)
    if there != there:
        tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def works_where_it_is_wrong(x, out, n, BLOCK_SIZE: tl.constexpr):
    """Looks at one element of each block: right whenever it is called, and timed doing nothing."""
    start = tl.program_id(0) * BLOCK_SIZE
    at = start + tl.arange(0, BLOCK_SIZE)
    if tl.load(out + start) != tl.load(x + start):
        tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def works_a_few_times(x, out, n, state, BLOCK_SIZE: tl.constexpr):
    """Long enough to pass a check, and not as long as a measurement takes."""
    at = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    launches = state.to(tl.pointer_type(tl.int32)) + tl.program_id(0)
    before = tl.load(launches)
    tl.store(launches, before + 1)
    if before < 20:
        tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


class OtherStream(Launch):
    """Does the work when its arguments are bound, on a stream that nobody times."""

    def bind(
        self,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        scalars: Mapping[str, float],
        config: Config,
    ) -> dict[str, Any]:
        if isinstance(inputs[0], torch.Tensor) and inputs[0].is_cuda:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                outputs[0].copy_(inputs[0])
            stream.synchronize()
        return super().bind(inputs, outputs, scalars, config)


def _on_another_stream(kernel: Kernel) -> Kernel:
    def plan(metas: Sequence[TensorMeta], device: Device) -> Launch:
        launch = kernel.plan(metas, device)
        fields = {each.name: getattr(launch, each.name) for each in dataclasses.fields(launch)}
        return OtherStream(**fields)

    return dataclasses.replace(kernel, plan=plan)


constant = _kernel("constant", writes_a_constant)
nothing = _kernel("nothing", writes_nothing)
last_result = _kernel("last_result", gives_the_last_result, state=True)
half = _kernel("half", copies, grid=lambda blocks: max(blocks // 2, 1))
past_the_end = _kernel("past_the_end", writes_past_the_end)
before_the_start = _kernel("before_the_start", writes_before_the_start)
wrong_tensor = _kernel("wrong_tensor", writes_into_its_input, lambda x: 2 * x)
other_tensor = _kernel("other_tensor", writes_into_the_other_input, lambda x, y: x, inputs=2)
whole_blocks = _kernel("whole_blocks", forgets_the_part_block)
first_call = _kernel("first_call", right_once, state=True)
small_values = _kernel("small_values", right_of_small_values, F.softplus)
small_sizes = _kernel("small_sizes", copies, grid=lambda blocks: min(blocks, 300))
nan_swallowing = _kernel("nan_swallowing", swallows_nan)
racy = _kernel("racy", clears_its_neighbour)
unsteady = _kernel("unsteady", wrong_every_other_time)
sixteen_bits = _kernel("sixteen_bits", adds_up_in_16_bits)
mutating = _kernel("mutating", changes_its_input)
uninitialised = _kernel("uninitialised", adds_to_what_is_there)
by_address = _kernel("by_address", keeps_all_results_by_address, state=True)
large_by_address = _kernel("large_by_address", keeps_large_results_by_address, state=True)
unless_checked = _kernel("unless_checked", works_where_it_is_nan)
repeated = _kernel("repeated", works_where_it_is_wrong)
tiring = _kernel("tiring", works_a_few_times, state=True)
other_stream = _on_another_stream(_kernel("other_stream", writes_nothing))

honest = _kernel("honest", copies)
honest_sum = _kernel("honest_sum", adds_up)


@dataclass(frozen=True)
class Adversary:
    """What an evaluation has to say of a kernel, as regular expressions; None: it cannot tell.

    Attributes:
        warm: whether it shows where one launch follows another in the same tensors only.
    """

    kernel: Kernel
    interpreted: str | None
    on_gpu: str
    warm: bool = False


_DIFFERS = r"differs from the reference .*at "
_AGAIN = r"right at first, but launched again on other values it "
_UNWRITTEN = r"differs from the reference .* elements are not written"
_TIMED = r"differs from the reference when it was timed, its output overwritten before"

ADVERSARIES = (
    Adversary(constant, rf"{_DIFFERS}.*such as 0 for", rf"{_DIFFERS}.*such as 0 for"),
    Adversary(nothing, _UNWRITTEN, _UNWRITTEN),
    Adversary(last_result, _DIFFERS, _DIFFERS),
    Adversary(half, _UNWRITTEN, _UNWRITTEN),
    Adversary(past_the_end, "writes past the end of its output", "writes past the end of its out"),
    Adversary(before_the_start, "writes before the start of its output", "writes before the start"),
    Adversary(wrong_tensor, "changes input 0", "changes input 0"),
    Adversary(other_tensor, "changes input 1", "changes input 1"),
    Adversary(whole_blocks, _UNWRITTEN, rf"{_DIFFERS}\d+: .*\(16 of .* are not written"),
    Adversary(first_call, rf"{_AGAIN}differs|{_DIFFERS}", rf"{_AGAIN}differs|{_DIFFERS}"),
    Adversary(small_values, rf"{_DIFFERS}.*such as inf for", rf"{_DIFFERS}.*such as inf for"),
    Adversary(small_sizes, None, rf"{_DIFFERS}.*elements are not written"),
    Adversary(nan_swallowing, rf"{_DIFFERS}.*such as 0 for nan", rf"{_DIFFERS}.*0 for nan"),
    Adversary(racy, None, "differs from the reference"),
    Adversary(unsteady, None, "differs from the reference .*such as 7 for"),
    Adversary(sixteen_bits, _DIFFERS, _DIFFERS),
    Adversary(mutating, "changes input 0", "changes input 0"),
    Adversary(uninitialised, rf"{_AGAIN}differs", rf"{_AGAIN}differs"),
    Adversary(by_address, rf"{_AGAIN}differs", rf"{_AGAIN}differs"),
    Adversary(
        large_by_address, None, "in the race: differs from the reference when it was", warm=True
    ),
    Adversary(unless_checked, rf"{_AGAIN}.*not written", rf"{_AGAIN}.*not written"),
    Adversary(repeated, None, "skips work: takes .* where its output is not there yet"),
    Adversary(tiring, None, rf"{_TIMED}.*not written"),
    Adversary(other_stream, _UNWRITTEN, rf"{_TIMED}.*not written"),
)
HONEST = (honest, honest_sum)
