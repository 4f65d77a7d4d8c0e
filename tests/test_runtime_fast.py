"""When a call of a known kind is launched directly, and when it goes the ordinary way."""

from __future__ import annotations

import pytest
import torch
import triton
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad

from tunekit.kernels.library import mish_mish
from tunekit.runtime import fast
from tunekit.runtime.fast import Fast

Started = list[tuple[int, tuple[int, ...], tuple[float, ...]]]


@pytest.fixture
def started() -> Started:
    return []


@pytest.fixture
def known(started: Started, monkeypatch: pytest.MonkeyPatch) -> Fast:
    """Knows float32 tensors of 6 and of 2 × 3 elements; the CPU stands for the GPU."""
    monkeypatch.setattr(fast, "current_device", lambda: -1)
    monkeypatch.setattr(fast, "stream_of", lambda device: 7)
    found = Fast(mish_mish)
    for x in (torch.ones(6), torch.ones(2, 3)):
        found.learn((x,), lambda *arguments: started.append(arguments))
    found.learn((torch.ones(6),) * 2, lambda *arguments: started.append(arguments))
    return found


def test_pointers_scalars_and_the_stream_are_what_changes(known: Fast, started: Started) -> None:
    x = torch.ones(6)
    y = known.one(x, (0.5, 2.0))
    assert y is not None
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert started == [(7, (x.data_ptr(), y.data_ptr()), (0.5, 2.0))]


def test_several_inputs(known: Fast, started: Started) -> None:
    x, other = torch.ones(6), torch.ones(6)
    y = known.of((x, other), ())
    assert y is not None
    assert started == [(7, (x.data_ptr(), other.data_ptr(), y.data_ptr()), ())]
    assert known.of((x, other), (), inplace=True) is None
    assert known.of((x, torch.ones(7)), ()) is None
    assert known.of((x, torch.ones(7)[1:]), ()) is None
    assert known.of((x, other.requires_grad_()), ()) is None
    assert len(started) == 1


def test_in_place_counts_as_a_write(known: Fast, started: Started) -> None:
    x = torch.ones(6)
    version = x._version
    assert known.one(x, (), inplace=True) is x
    assert x._version == version + 1
    assert started == [(7, (x.data_ptr(), x.data_ptr()), ())]


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(7),
        torch.ones(3, 2),
        torch.ones(3, 2).t(),
        torch.ones(6, dtype=torch.float16),
        torch.ones(7)[1:],
        torch.ones(6).requires_grad_(),
        torch._neg_view(torch.ones(6)),
        torch.ones(6).as_subclass(type("Own", (torch.Tensor,), {})),
        [1.0] * 6,
        None,
    ],
    ids=str,
)
def test_what_is_not_of_the_kind(known: Fast, started: Started, x: object) -> None:
    assert known.one(x, ()) is None  # type: ignore[arg-type]
    assert started == []


def test_a_parameter_is_plain_where_nothing_is_recorded(known: Fast, started: Started) -> None:
    x = torch.nn.Parameter(torch.ones(6))
    assert known.one(x, ()) is None
    with torch.no_grad():
        assert known.one(x, ()) is not None
    with torch.inference_mode():
        assert known.one(x, ()) is not None
    assert len(started) == 2


def test_another_device_is_current(
    known: Fast, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "current_device", lambda: 1)
    assert known.one(torch.ones(6), ()) is None
    assert known.of((torch.ones(6),) * 2, ()) is None
    assert started == []


@pytest.mark.parametrize("name", ["launch_enter_hook", "launch_exit_hook"])
def test_a_launch_hook_has_to_see_it(known: Fast, started: Started, name: str) -> None:
    chain = getattr(triton.knobs.runtime, name)

    def hook(metadata: object) -> None:
        pass

    chain.add(hook)
    try:
        assert known.one(torch.ones(6), ()) is None
    finally:
        chain.remove(hook)
    setattr(triton.knobs.runtime, name, hook)
    try:
        assert known.one(torch.ones(6), ()) is None
    finally:
        setattr(triton.knobs.runtime, name, chain)
    assert started == []
    assert known.one(torch.ones(6), ()) is not None


def test_a_mode_has_to_see_it(known: Fast, started: Started) -> None:
    x = torch.ones(6)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert known.one(x, ()) is None
    assert started == []


def test_forward_mode_has_to_see_it(known: Fast, started: Started) -> None:
    with forward_ad.dual_level():
        assert known.one(torch.ones(6), ()) is None
    assert started == []


def test_vmap_has_to_see_it(known: Fast, started: Started) -> None:
    seen = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(known.one(x, ()))
        return x

    torch.func.vmap(function)(torch.ones(4, 6))
    assert seen == [None]
    assert started == []


@pytest.mark.filterwarnings("ignore")
def test_a_trace_has_to_see_it(known: Fast, started: Started) -> None:
    seen = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append(known.one(x, ()))
        return x + 1

    torch.jit.trace(function, (torch.ones(6),), check_trace=False)
    assert seen == [None]
    assert started == []


def test_what_is_forgotten(known: Fast, started: Started) -> None:
    known.forget()
    assert known.one(torch.ones(6), ()) is None


def test_kinds_do_not_grow_without_end(known: Fast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_MOST_KINDS", 8)
    for size in range(100):
        known.learn((torch.ones(size),), lambda *arguments: None)
        assert len(known._kinds) <= 8


def test_one_for_each_kernel() -> None:
    assert fast.fast_of(mish_mish) is fast.fast_of(mish_mish)
    fast.fast_of(mish_mish).learn((torch.ones(6),), lambda *arguments: None)
    fast.forget()
    assert not fast.fast_of(mish_mish)._kinds
