from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from tunekit.evaluate.inputs import (
    SPECIAL_VALUES,
    all_bit_patterns,
    draw,
    draw_check,
    random_input,
)
from tunekit.evaluate.tensors import empty_of
from tunekit.kernels.plan import TensorMeta

DTYPES = ("float32", "float16", "bfloat16")


def _drawn(
    how: Callable[[Sequence[torch.Tensor], int], None], metas: Sequence[TensorMeta], seed: int
) -> list[torch.Tensor]:
    inputs = [empty_of(meta, "cpu") for meta in metas]
    how(inputs, seed)
    return inputs


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_inputs_hold_every_special_value(dtype: str) -> None:
    x = random_input((50, 20), dtype, seed=1, device="cpu")
    assert x.shape == (50, 20)
    assert x.dtype == getattr(torch, dtype)
    for value in torch.tensor(SPECIAL_VALUES, dtype=x.dtype):
        if value.isnan():
            assert x.isnan().any()
        else:
            same_sign = x.signbit() == value.signbit()
            assert ((x == value) & same_sign).any()


def test_the_rest_is_random_and_follows_the_seed() -> None:
    one, same, other = (random_input((4096,), "float32", seed, "cpu") for seed in (1, 1, 2))
    assert torch.equal(one.view(torch.int32), same.view(torch.int32))
    assert (one == other).float().mean() < 0.02
    ordinary = one[one.isfinite() & (one.abs() < 15)]
    assert float(ordinary.std()) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_most_of_a_small_input_is_random(n: int) -> None:
    """One element alone must not be 0, where wrong formulas are right."""
    drawn = [random_input((n,), "float32", seed, "cpu") for seed in range(8)]
    changing = sum(len({float(x[i]) for x in drawn}) == len(drawn) for i in range(n))
    assert changing >= (n + 1) // 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_all_bit_patterns(dtype: str) -> None:
    x = all_bit_patterns(2**16 + 100, dtype, "cpu")
    assert x.dtype == getattr(torch, dtype)
    assert len(x) == 2**16 + 100
    assert len(x.view(torch.int16).unique()) == 2**16
    assert len(all_bit_patterns(7, dtype, "cpu")) == 7


def test_one_16_bit_input_with_room_is_checked_on_every_value() -> None:
    meta = TensorMeta.contiguous((2, 2**15), "float16")
    (x,) = _drawn(draw_check, [meta], 0)
    assert x.shape == (2, 2**15)
    assert len(x.view(torch.int16).unique()) == 2**16


def test_every_value_is_there_in_any_layout() -> None:
    meta = TensorMeta((2, 16, 32, 64), (2**15, 1, 1024, 16), "float16")
    (x,) = _drawn(draw_check, [meta], 0)
    assert (tuple(x.shape), x.stride()) == (meta.shape, meta.strides)
    assert len(x.contiguous().view(torch.int16).unique()) == 2**16


def test_inputs_have_each_their_own_shape_strides_and_values() -> None:
    metas = [
        TensorMeta((2, 8, 3, 5), (120, 1, 40, 8), "bfloat16"),
        TensorMeta((8,), (1,), "bfloat16"),
        TensorMeta((8,), (1,), "bfloat16"),
    ]
    inputs = _drawn(draw, metas, 3)
    assert [(tuple(x.shape), x.stride()) for x in inputs] == [
        (meta.shape, meta.strides) for meta in metas
    ]
    assert not torch.equal(inputs[1], inputs[2])


def test_large_values_do_not_meet_their_own() -> None:
    """Of a scale and a bias of one channel: what cancels there is the rounding of a product."""
    one, other = _drawn(draw, [TensorMeta.contiguous((40,), "float32")] * 2, 0)
    assert all((x.abs() >= 20).sum() >= 8 for x in (one, other))
    met = (one.abs() >= 20) & (one.abs() == other.abs()) & one.isfinite()
    assert not met.any()


@pytest.mark.parametrize(
    ("count", "shape", "dtype"),
    [(1, (2**16,), "float32"), (1, (2**16 - 1,), "bfloat16"), (2, (2**16,), "bfloat16")],
)
def test_else_inputs_are_random_and_differ(count: int, shape: tuple[int, ...], dtype: str) -> None:
    inputs = _drawn(draw_check, [TensorMeta.contiguous(shape, dtype)] * count, 3)
    assert len(inputs) == count
    assert all((x.isfinite() & (x != 0)).float().mean() > 0.99 for x in inputs)
    if count == 2:
        assert not torch.equal(inputs[0], inputs[1])
