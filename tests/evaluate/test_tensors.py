from __future__ import annotations

import itertools
import math

import pytest
import torch

from tunekit.evaluate import tensors
from tunekit.evaluate.tensors import differing, empty_of, in_memory, laid_out, same_bits
from tunekit.kernels.plan import TensorMeta

LAYOUTS = {
    "contiguous": ((2, 3, 4, 5), (60, 20, 5, 1)),
    "channels last": ((2, 3, 4, 5), (60, 1, 15, 3)),
    "channels last 3d": ((2, 3, 4, 5, 2), (120, 1, 30, 6, 3)),
    "permuted": ((4, 2, 3), (1, 4, 8)),
    "one channel": ((2, 1, 4, 5), (20, 1, 5, 1)),
    "an odd stride of one element": ((2, 1, 3), (3, 99, 1)),
    "one element": ((1,), (7,)),
    "0-dim": ((), ()),
}
DTYPES = ("float32", "float16", "bfloat16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_of(layout: str, dtype: str) -> None:
    meta = TensorMeta(*LAYOUTS[layout], dtype)
    made = empty_of(meta, "cpu")
    assert (tuple(made.shape), made.stride()) == LAYOUTS[layout]
    assert made.dtype == getattr(torch, dtype)
    assert empty_of(meta, "cpu", torch.float32).dtype == torch.float32
    assert empty_of(meta, "meta").device.type == "meta"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_in_the_order_of_memory_there_and_back(layout: str) -> None:
    shape, strides = LAYOUTS[layout]
    meta = TensorMeta(shape, strides, "float32")
    values = torch.arange(float(meta.numel))
    tensor = laid_out(values, meta)
    assert (tuple(tensor.shape), tensor.stride()) == (shape, strides)
    assert torch.equal(in_memory(tensor), values)
    for index in itertools.product(*map(range, shape)):
        place = sum(i * s for i, s, n in zip(index, strides, shape, strict=True) if n > 1)
        assert float(tensor[index]) == place


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_elements_of_a_dense_tensor_are_shared(layout: str) -> None:
    tensor = empty_of(TensorMeta(*LAYOUTS[layout], "float32"), "cpu").fill_(1.0)
    in_memory(tensor).fill_(2.0)
    assert (tensor == 2.0).all()


def test_elements_of_a_view_start_where_it_does() -> None:
    memory = torch.arange(100.0)
    view = memory[10:40].view(3, 10).t()
    assert torch.equal(in_memory(view), memory[10:40])


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, :5],
        lambda x: x[::2],
        lambda x: x.t()[3:7],
        lambda x: x[0].expand(6, 12),
        lambda x: x[:0],
    ],
    ids=["columns", "rows", "permuted", "expanded", "none"],
)
def test_of_a_tensor_with_gaps_every_element_is_there(view: object) -> None:
    x = view(torch.arange(72.0).view(6, 12))  # type: ignore[operator]
    assert torch.equal(in_memory(x).sort().values, x.flatten().sort().values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_PART", 8)  # several parts, the last one short
    one = torch.arange(-10.0, 10.5).to(getattr(torch, dtype))
    one[3], one[4] = math.nan, 0.0
    assert same_bits(one, one.clone())
    for place, value in ((4, -0.0), (20, 11.0), (3, 1.0)):
        other = one.clone()
        other[place] = value
        assert not same_bits(one, other)


def test_same_bits_of_channels_last_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_PART", 16)
    one = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last)
    assert same_bits(one, one.clone())
    for place in range(0, one.numel(), 11):
        other = one.clone()
        other.permute(0, 2, 3, 1).view(-1)[place] += 1.0
        assert not same_bits(one, other)


@pytest.mark.parametrize("part", [16, 2**24])
def test_which_of_several_pairs_differ(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "_PART", part)
    one = torch.randn(3, 4, 5).permute(2, 0, 1)
    one[0, 0, 0] = math.nan
    others = [one.clone() for _ in range(5)]
    assert differing((one, other) for other in others) == []
    others[1][4, 2, 3] += 1.0
    others[3][0, 0, 1] = -others[3][0, 0, 1]
    assert differing((one, other) for other in others) == [1, 3]
    assert differing([]) == []
