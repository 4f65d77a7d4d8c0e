from __future__ import annotations

import math

import pytest
import torch

from tunekit.evaluate.guards import (
    FINITE,
    GUARD_BYTES,
    NOT_A_NUMBER,
    Buffers,
    Guarded,
    fingerprint,
    holds_poison,
    poison,
)
from tunekit.evaluate.tensors import in_memory
from tunekit.kernels.plan import Launch, TensorMeta

DTYPES = ("float32", "float16", "bfloat16")
LAST = TensorMeta((3, 4, 5, 7), (140, 1, 28, 4), "float16")


def _guarded(meta: TensorMeta = LAST) -> Guarded:
    return Guarded.empty(meta, "cpu", "its output", 0xA5)


def _around(guarded: Guarded, offset: int) -> torch.Tensor:
    """The byte so far from the tensor's first."""
    memory = guarded._memory
    start = guarded.tensor.data_ptr() - memory.data_ptr()
    return memory[start + offset : start + offset + 1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tensor_is_as_its_metadata_says(dtype: str) -> None:
    for meta in (
        TensorMeta.contiguous((7, 9), dtype),
        TensorMeta((3, 4, 5, 7), (140, 1, 28, 4), dtype),
        TensorMeta((5,), (1,), dtype, misalignment=8),
        TensorMeta((), (), dtype),
    ):
        tensor = _guarded(meta).tensor
        assert TensorMeta.of(tensor) == meta
        in_memory(tensor).fill_(1.0)
        assert (tensor == 1.0).all()


def test_writing_the_tensor_itself_is_no_damage() -> None:
    guarded = _guarded()
    guarded.tensor.fill_(3.0)
    assert guarded.damage() == ""


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        (840, "writes past the end of its output, as far as 1 bytes from it"),
        (840 + 511, "writes past the end of its output, as far as 512 bytes from it"),
        (
            840 + GUARD_BYTES - 1,
            f"writes past the end of its output, as far as {GUARD_BYTES:,} bytes from it",
        ),
        (-1, "writes before the start of its output, as far as 1 bytes from it"),
        (-4096, "writes before the start of its output, as far as 4,096 bytes from it"),
    ],
)
def test_a_byte_beside_it_is_seen_and_put_right(offset: int, said: str) -> None:
    guarded = _guarded()
    assert guarded.tensor.nbytes == 840
    _around(guarded, offset).fill_(0)
    assert guarded.damage() == said
    assert guarded.damage() == ""


def test_what_is_read_beside_an_input_is_nan_and_copying_it_beside_the_output_shows() -> None:
    meta = TensorMeta.contiguous((4,), "float32")
    launch = Launch(None, {}, (meta,), (meta,), {}, lambda config: (1, 1, 1))
    buffers = Buffers.of(launch, "cpu")
    read = buffers.inputs[0].as_strided((8,), (1,))
    assert read[4:].isnan().all()
    buffers.outputs[0].as_strided((8,), (1,)).copy_(read)
    assert buffers.damage() == "writes past the end of its output, as far as 16 bytes from it"
    assert not buffers.damage()
    buffers.inputs[0].as_strided((5,), (1,))[4] = 0.0
    assert buffers.damage().startswith("writes past the end of input 0")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("byte", "nan"), [(NOT_A_NUMBER, True), (FINITE, False)])
def test_poison_is_nan_or_finite_and_is_known_again(byte: int, nan: bool, dtype: str) -> None:
    tensor = torch.empty(3, 4, 5, dtype=getattr(torch, dtype)).permute(2, 0, 1)
    poison(tensor, byte)
    assert bool(tensor.isnan().all()) is nan
    assert nan or tensor.isfinite().all()
    assert holds_poison(tensor, byte).all()
    tensor[1, 2, 3] = math.nan  # another nan than the one it was filled with
    tensor[0, 0, 0] = 1.0
    assert holds_poison(tensor, byte).sum() == 58


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fingerprint_changes_with_any_bit(dtype: str, offset: int) -> None:
    x, y = (torch.randn(3, 40).to(getattr(torch, dtype)) for _ in range(2))
    y = torch.cat([y.new_zeros(offset), y.view(-1), y.new_ones(1)])[offset:]  # and a part of a word
    before = fingerprint([x, y])
    assert before.shape == (2,)
    assert torch.equal(before, fingerprint([x, y]))
    for place in [*range(0, 120, 7), 120]:
        y[place] = -y[place]
        assert (before != fingerprint([x, y])).tolist() == [False, True]
        y[place] = -y[place]
        assert torch.equal(before, fingerprint([x, y]))
