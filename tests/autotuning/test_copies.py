from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from tunekit.autotuning.copies import Arguments, memory_of

NAMES = ("a", "b", "c")


class Pair(NamedTuple):
    first: torch.Tensor
    second: int


def test_what_is_written_to_a_copy_is_not_written_to_the_callers() -> None:
    a, b = torch.arange(8.0), torch.ones(2, 3)
    own = Arguments.like((a, 3), {"b": b})
    own.args[0].fill_(7.0)
    own.kwargs["b"].zero_()
    assert torch.equal(a, torch.arange(8.0))
    assert torch.equal(b, torch.ones(2, 3))
    assert own.args[1] == 3
    assert own.nbytes == 8 * 4 + 6 * 4
    own.restore()
    assert torch.equal(own.args[0], a)
    assert torch.equal(own.kwargs["b"], b)


def test_views_keep_their_layout_and_the_memory_they_share() -> None:
    memory = torch.arange(24.0)
    wide, odd = memory.view(4, 6).t()[::2], memory[1:]
    own = Arguments.like((wide, odd, memory), {})
    copied, shifted, whole = own.args
    assert (copied.shape, copied.stride()) == (wide.shape, wide.stride())
    assert torch.equal(copied, wide)
    assert shifted.data_ptr() % 16 == odd.data_ptr() % 16
    whole.fill_(5.0)
    assert bool((copied == 5).all())
    assert bool((shifted == 5).all())
    assert own.nbytes == 24 * 4


def test_what_holds_or_describes_tensors_holds_copies() -> None:
    x = torch.zeros(16, 16)
    descriptor = TensorDescriptor.from_tensor(x, [8, 8])
    own = Arguments.like(
        ((x, [x]), Pair(x, 2), descriptor, triton.reinterpret(x, tl.int32)), {"none": None}
    )
    (first, (second,)), pair, described, seen = own.args
    first.fill_(1.0)
    for tensor in (second, pair.first, described.base, seen.base):
        assert bool((tensor == 1).all())
    assert not x.any()
    assert (pair.second, own.kwargs["none"]) == (2, None)
    described.block_shape[0] = 4
    assert descriptor.block_shape == [8, 8]
    assert own.nbytes == memory_of(((x, [x]), descriptor)) == 16 * 16 * 4


def test_pieces_that_changed_are_named_by_the_arguments_in_them() -> None:
    a, b = torch.arange(8.0), torch.arange(6, dtype=torch.int32)
    own = Arguments.like((a[:4], b, a[4:]), {})
    assert own.changed() == ()
    own.args[2][1] = 9.0
    assert own.changed() == (0,)
    (name, value), *rest = own.results(NAMES, own.changed()).items()
    assert (name, rest) == ("a", [])
    assert value.tolist() == [0, 1, 2, 3, 4, 9, 6, 7]


def test_of_memory_with_several_dtypes_each_argument_is_its_view() -> None:
    memory = torch.zeros(8)
    own = Arguments.like((memory[:4], memory.view(torch.int32)[4:]), {})
    own.args[0].fill_(1.0)
    own.args[1].fill_(2)
    found = own.results(NAMES, own.changed())
    assert {name: value.tolist() for name, value in found.items()} == {"a": [1.0] * 4, "b": [2] * 4}


def test_what_is_written_beside_a_guarded_copy_is_seen_and_put_right() -> None:
    a = torch.zeros(4)
    own = Arguments.like((a,), {}, guarded=True)
    assert not own.trespass()
    beside = torch.as_strided(own.args[0], (1,), (1,), own.args[0].storage_offset() + 4)
    beside.fill_(1.0)
    assert own.trespass()
    assert not own.trespass()
    assert torch.equal(own.args[0], a)
    assert torch.equal(own.again().args[0], a)


def test_other_values_go_into_floats_alone() -> None:
    a, b, c = torch.zeros(4), torch.zeros(4, dtype=torch.int64), torch.zeros(4)
    own = Arguments.like((a, b, c), {})
    before = own.fingerprints()
    assert own.overwrite(but=(2,)) == [0]
    after = own.fingerprints()
    assert [x == y for x, y in zip(before, after, strict=True)] == [False, True, True]
    assert 0 < float(own.args[0][0]) < 12


def test_tensors_without_elements_and_with_gradients_are_no_trouble() -> None:
    leaf = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        own = Arguments.like((torch.empty(0), leaf), {})
        own.args[1].fill_(2.0)
    assert torch.equal(leaf.detach(), torch.ones(3))
    assert own.nbytes == 12
