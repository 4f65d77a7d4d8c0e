"""Fused convolutions in Triton's interpreter; `test_conv_interpreter.py` runs it in a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from tunekit.errors import KernelError
from tunekit.kernels.library import mish_add_hardtanh_scale, mish_mish
from tunekit.nn import formats
from tunekit.nn.conv import Fused, fused_conv
from tunekit.runtime import call

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Kernel of every launch, and whether it was in place."""
    launches: list[tuple[str, bool]] = []
    start = call.Planned.start

    def counting(
        self: call.Planned,
        inputs: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        scalars: Mapping[str, float],
    ) -> None:
        launches.append((self.kernel.name, inputs[0].data_ptr() == outputs[0].data_ptr()))
        start(self, inputs, outputs, scalars)

    monkeypatch.setattr(call.Planned, "start", counting)
    return launches


def assert_close(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.stride() == other.stride()
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def stored(channels_last: bool, *shape: int) -> torch.Tensor:
    x = torch.randn(shape)
    return x.to(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize(
    ("bias", "last", "name"),
    [
        (True, False, "mish_mish+bias"),
        (True, True, "mish_mish+bias/channels_last"),
        (False, False, "mish_mish"),
        (False, True, "mish_mish"),
    ],
)
def test_one_launch_into_the_convolutions_own_result(
    bias: bool, last: bool, name: str, launched: list[tuple[str, bool]]
) -> None:
    conv, x = nn.Conv2d(4, 6, 3, bias=bias), stored(last, 2, 4, 7, 6)
    with torch.no_grad():
        y = fused_conv(conv, mish_mish)(x)
        assert_close(y, mish_mish.reference(conv(x)))
    assert launched == [(name, True)]


def test_under_autograd_it_is_not_in_place(launched: list[tuple[str, bool]]) -> None:
    conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
    fused_conv(conv, mish_mish)(x)
    assert launched == [("mish_mish+bias", False)]


@pytest.mark.parametrize("wide", [(4, 1), (1, 4)], ids=["one channel out", "one channel in"])
@torch.no_grad()
def test_one_channel_is_never_transposed(
    wide: tuple[int, int], launched: list[tuple[str, bool]]
) -> None:
    conv = nn.Conv2d(*wide, 3)
    for x in (stored(False, 2, wide[0], 7, 6), stored(True, 2, wide[0], 7, 6)):
        y = fused_conv(conv, mish_mish)(x)
        assert y.stride() == conv(x).stride()
    assert [in_place for _, in_place in launched] == [True, True]
    assert not any("/to_" in name for name, _ in launched)


FORMATS = [(True, False), (True, True), (False, False), (False, True)]


@pytest.mark.parametrize(("chosen", "weight_last"), FORMATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_format_that_was_chosen_is_run_and_the_result_is_stored_as_ever(
    kind: Any,
    bias: bool,
    chosen: bool,
    weight_last: bool,
    launched: list[tuple[str, bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formats, "choose", lambda module, x: chosen)
    ran: list[bool] = []
    convolve = Fused._bare

    def watching(self: Fused, *arguments: Any, **more: Any) -> torch.Tensor:
        y = convolve(self, *arguments, **more)
        ran.append(y.is_contiguous(memory_format=torch.channels_last))
        return y

    monkeypatch.setattr(Fused, "_bare", watching)
    conv = kind(4, 6, 3, bias=bias)
    if weight_last:
        conv = conv.to(memory_format=torch.channels_last)
    module = fused_conv(conv, mish_mish)
    for last in (False, True):
        x = stored(last, 2, 4, 7, 6)
        before = x.clone()
        with torch.no_grad():
            assert_close(module(x), mish_mish.reference(conv(x)))
        assert ran.pop() is chosen
        # The result is transposed by the op itself, x by a kernel of its own, or neither is.
        stays = last or weight_last
        changes = (
            [] if last is chosen else ["identity/to_" + ("contiguous", "channels_last")[chosen]]
        )
        op = "mish_mish" + "+bias" * bias
        if stays is not chosen:
            op += "/to_" + ("contiguous", "channels_last")[stays]
        elif chosen and bias:
            op += "/channels_last"
        assert launched == [*((name, False) for name in changes), (op, stays is chosen)]
        assert torch.equal(x, before)
        launched.clear()
        y, exact = module(x), mish_mish.reference(conv(x))
        assert_close(y, exact)
        for one, other in zip(
            torch.autograd.grad(y.sum(), list(conv.parameters())),
            torch.autograd.grad(exact.sum(), list(conv.parameters())),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
        ran.clear()
        launched.clear()


@pytest.mark.parametrize("chosen", [True, False])
@torch.no_grad()
def test_formats_of_what_is_stored_in_both(chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "choose", lambda module, x: chosen)
    for conv, shape in (
        (nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
        (nn.Conv2d(1, 6, 3), (2, 1, 5, 5)),
        (nn.Conv2d(4, 1, 3), (2, 4, 5, 5)),
        (nn.Conv2d(4, 6, 1), (2, 4, 1, 1)),
        (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 5, 5)),
    ):
        for x in (stored(False, *shape), stored(True, *shape)):
            for weight_last in (False, True):
                form = torch.channels_last if weight_last else torch.contiguous_format
                conv.weight.data = conv.weight.data.clone(memory_format=form)
                y = fused_conv(conv, mish_mish)(x)
                assert_close(y, mish_mish.reference(conv(x)).as_strided(y.shape, conv(x).stride()))


def test_vmap_over_the_input_is_one_launch(launched: list[tuple[str, bool]]) -> None:
    module = fused_conv(nn.Conv2d(4, 6, 3), mish_mish)
    vmap(module)(torch.randn(3, 2, 4, 7, 6))
    assert launched == [("mish_mish+bias", False)]


def test_vmap_over_the_bias_is_refused() -> None:
    conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
    module = fused_conv(conv, mish_mish)

    def call(bias: torch.Tensor) -> torch.Tensor:
        return functional_call(module, {"weight": conv.weight, "bias": bias}, (x,))

    with pytest.raises(KernelError, match=r"^mish_mish\+bias: vmap over the bias is not supp"):
        vmap(call)(torch.randn(3, 6))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forward_mode_is_an_error_not_a_wrong_result() -> None:
    module, x = fused_conv(nn.Conv2d(4, 6, 3), mish_mish), torch.randn(2, 4, 7, 6)
    with pytest.raises(RuntimeError, match="jvp"):
        torch.func.jvp(module, (x,), (x,))


@pytest.mark.filterwarnings("ignore")
def test_graphs_have_the_operator(launched: list[tuple[str, bool]]) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    module, x = fused_conv(nn.Conv2d(4, 6, 3), mish_add_hardtanh_scale), torch.randn(2, 4, 7, 6)
    program = torch.export.export(nn.Sequential(module), (x,))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["aten.conv2d.default", "tunekit.with_bias.default"]
    assert "tunekit.with_bias" in make_fx(module)(x).code
    launched.clear()
    assert_close(program.module()(x).detach(), module(x).detach())
    traced = torch.jit.trace(module, x, check_trace=False)
    assert_close(traced(x).detach(), module(x).detach())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", [False, True])
def test_a_compiled_module_launches_once(last: bool, launched: list[tuple[str, bool]]) -> None:
    torch._dynamo.reset()
    conv, x = nn.Conv2d(4, 6, 3), stored(last, 2, 4, 7, 6)
    compiled = torch.compile(fused_conv(conv, mish_mish), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert_close(compiled(x), mish_mish.reference(conv(x)))
    assert launched == [("mish_mish+bias" + "/channels_last" * last, False)]


def test_fake_tensors_are_not_launched(launched: list[tuple[str, bool]]) -> None:
    from torch._subclasses import FakeTensorMode

    conv = nn.Conv2d(4, 6, 3)
    for last in (False, True):
        x = stored(last, 2, 4, 7, 6)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            y = fused_conv(conv, mish_mish)(mode.from_tensor(x))
        assert (y.shape, y.stride()) == (conv(x).shape, conv(x).stride())
    assert launched == []


def test_kernels_can_be_turned_off(
    launched: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "EAGER", True)
    conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
    assert torch.equal(fused_conv(conv, mish_mish)(x), mish_mish.reference(conv(x)))
    assert launched == []
