"""Tensors with guard bytes on both sides, which show what was written where nothing may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunekit.evaluate.tensors import bits, in_memory
from tunekit.kernels.plan import Input, Launch, TensorMeta

GUARD_BYTES = 2**18
"""On each side: more than the largest block of any space writes when its mask is left out."""

_BESIDE_INPUT = 0xFF
"""Such bytes are nan in every dtype, so that what is read there shows in the result."""
_BESIDE_OUTPUT = 0xA5
"""Another pattern: a kernel that copies past both ends would write what is there already."""
NOT_A_NUMBER = 0xFF
FINITE = 0x55
"""Bytes of a finite value: 1.5e13 as float32 and bfloat16, 85.3 as float16."""


@dataclass(frozen=True)
class Guarded:
    """A tensor between guards.

    Attributes:
        name: what a fault calls it, such as `input 0`.
    """

    tensor: torch.Tensor
    name: str
    _memory: torch.Tensor
    _pattern: int
    _nbytes: int

    @classmethod
    def empty(cls, meta: TensorMeta, device: str, name: str, pattern: int) -> Guarded:
        """A tensor with that metadata, its contents undefined."""
        start, nbytes = GUARD_BYTES + meta.misalignment, meta.extent * meta.itemsize
        memory = torch.empty(start + nbytes + GUARD_BYTES, dtype=torch.uint8, device=device)
        own = memory[start : start + nbytes].view(getattr(torch, meta.dtype))
        made = cls(own.as_strided(meta.shape, meta.strides), name, memory, pattern, nbytes)
        made._restore()
        return made

    def changed(self) -> torch.Tensor:
        """Whether a byte of each guard was written: bool, (2,)."""
        return torch.stack([(guard != self._pattern).any() for guard in self._sides()])

    def damage(self) -> str:
        """Where bytes beside it were written, in words; empty if nowhere. They are put right."""
        for guard, side in zip(self._sides(), ("before the start", "past the end"), strict=True):
            places = (guard != self._pattern).nonzero().flatten()
            if len(places):
                first, last = int(places[0]), int(places[-1])
                far = len(guard) - first if side == "before the start" else last + 1
                self._restore()
                return f"writes {side} of {self.name}, as far as {far:,} bytes from it"
        return ""

    def _sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        start = len(self._memory) - GUARD_BYTES - self._nbytes
        return self._memory[:start], self._memory[start + self._nbytes :]

    def _restore(self) -> None:
        for guard in self._sides():
            guard.fill_(self._pattern)


@dataclass(frozen=True)
class Buffers:
    """The guarded inputs and outputs of a launch."""

    guarded_inputs: tuple[Guarded, ...]
    guarded_outputs: tuple[Guarded, ...]

    @classmethod
    def of(cls, launch: Launch, device: str) -> Buffers:
        """Buffers of that launch, their contents undefined."""
        inputs = tuple(
            Guarded.empty(meta, device, f"input {index}", _BESIDE_INPUT)
            for index, meta in enumerate(launch.inputs)
        )
        names = _output_names(launch)
        outputs = tuple(
            Guarded.empty(meta, device, name, _BESIDE_OUTPUT)
            for meta, name in zip(launch.outputs, names, strict=True)
        )
        return cls(inputs, outputs)

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """The input tensors."""
        return tuple(each.tensor for each in self.guarded_inputs)

    @property
    def outputs(self) -> tuple[torch.Tensor, ...]:
        """The output tensors: the results, then auxiliary buffers."""
        return tuple(each.tensor for each in self.guarded_outputs)

    def damage(self) -> str:
        """What was written beside one of them, in words; empty if nothing."""
        guarded = (*self.guarded_outputs, *self.guarded_inputs)
        if not torch.stack([each.changed() for each in guarded]).any():
            return ""
        return next(filter(None, (each.damage() for each in guarded)))


def _output_names(launch: Launch) -> list[str]:
    results = len(launch.results)
    own = ["its output"] if results == 1 else [f"output {index}" for index in range(results)]
    return own + [f"buffer {index}" for index in range(len(launch.outputs) - results)]


def prepare(
    launch: Launch | None,
    inputs: Sequence[torch.Tensor],
    outputs: Sequence[torch.Tensor],
    byte: int,
) -> None:
    """Give each output what it has to hold before a launch, and the others that byte all over."""
    for index, output in enumerate(outputs):
        match None if launch is None else launch.start_of(index):
            case None:
                poison(output, byte)
            case Input(source):
                output.copy_(inputs[source])
            case value:
                output.fill_(value)


def poison(tensor: torch.Tensor, byte: int) -> None:
    """Fill a dense tensor with a byte, so that nothing left over passes for a result."""
    in_memory(tensor).view(torch.uint8).fill_(byte)


def prepare_all(
    launch: Launch | None,
    inputs: Sequence[torch.Tensor],
    sets: Sequence[Sequence[torch.Tensor]],
    byte: int,
) -> None:
    """`prepare` the outputs of several sets of buffers, many small ones by a few operations.

    Args:
        launch: of all of them; None where no output has to hold anything.
        inputs: of the first set; the others hold the same values.
        sets: the outputs of each.
        byte: see `prepare`.
    """
    first, *rest = sets
    prepare(launch, inputs, first, byte)
    for index, output in enumerate(first):
        if others := [each[index] for each in rest]:
            torch._foreach_copy_(others, [output] * len(others))


def holds_poison(tensor: torch.Tensor, byte: int) -> torch.Tensor:
    """Which elements, in the order of memory, still are as `poison` left them: bool, (numel,)."""
    pattern = int.from_bytes(bytes([byte]) * tensor.element_size(), "little", signed=True)
    return bits(tensor) == pattern


def fingerprint(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """A number for what each holds now, int64, (len(tensors),); reading them once is its cost."""
    return torch.stack([_sum_of_bits(tensor) for tensor in tensors])


def _sum_of_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Modulo 2**64, of words of 8 bytes where they begin at one: a GPU adds those fastest."""
    raw = in_memory(tensor).view(torch.uint8)
    if raw.storage_offset() % 8:
        return bits(tensor).sum(dtype=torch.int64)
    whole = len(raw) // 8 * 8
    return raw[:whole].view(torch.int64).sum() + raw[whole:].sum(dtype=torch.int64)
