"""Fused convolutions on a GPU: each op within what `tune` allows of the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import triton
from torch import nn

import tunekit
from tunekit.evaluate.verify import TOLERANCES, largest_error, reference_outputs
from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import add_min_gelu_mul, mish_add_hardtanh_scale, mish_mish
from tunekit.kernels.plan import TensorMeta
from tunekit.nn import formats
from tunekit.nn.conv import Fused, fused_conv
from tunekit.runtime import direct
from tunekit.runtime.channels import is_channels_last, to_format, with_bias

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::tunekit.TunekitWarning"),
]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
KINDS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "Conv2d": (nn.Conv2d, (4, 16, 30, 29)),
    "ConvTranspose2d": (nn.ConvTranspose2d, (4, 16, 15, 16)),
    "Conv3d": (nn.Conv3d, (2, 16, 9, 10, 12)),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    tunekit.reload()
    yield
    tunekit.reload()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stream of each direct launch."""
    streams: list[int] = []

    def counting(*arguments: Any) -> direct.Direct | None:
        launch = direct.direct_launch(*arguments)
        if launch is None:
            return None

        def counted(stream: int, pointers: tuple[int, ...], scalars: tuple[float, ...]) -> None:
            streams.append(stream)
            launch(stream, pointers, scalars)

        return counted

    monkeypatch.setattr("tunekit.runtime.call.direct_launch", counting)
    return streams


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What each convolution gave, before an op was written into it."""
    results: list[torch.Tensor] = []
    convolve = Fused._bare

    def keeping(self: Fused, *arguments: Any, **more: Any) -> torch.Tensor:
        y = convolve(self, *arguments, **more)
        results.append(y.detach().clone())
        return y

    monkeypatch.setattr(Fused, "_bare", keeping)
    return results


@pytest.fixture
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def tensor(*shape: int, last: bool = False, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return to_format(torch.randn(shape, device="cuda"), last).to(dtype)


def error_of(
    kernel: Kernel,
    y: torch.Tensor,
    bias: torch.Tensor | None,
    result: torch.Tensor,
    **scalars: float,
) -> float:
    """Largest error in units of what is allowed, of the op of what a convolution gave."""
    inputs = (y,) if bias is None else (y, bias.detach())
    made = folded(kernel, bias=bias is not None)
    meta = TensorMeta.of(result)
    (exact,) = reference_outputs(made, [meta], inputs, {**kernel.scalars, **scalars})
    return largest_error(result.detach(), exact, TOLERANCES[meta.dtype])


@pytest.mark.parametrize("channels_last", [None, False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(8, 64, 56, 56), (3, 17, 7, 5), (2, 1, 9, 9), (2, 33, 5, 6, 7)])
def test_the_op_of_a_convolutions_result(
    shape: tuple[int, ...], dtype: torch.dtype, last: bool, channels_last: bool | None
) -> None:
    y, bias = tensor(*shape, last=last, dtype=dtype), torch.randn(shape[1], device="cuda")
    for each in (bias, bias.to(dtype), None):
        for _ in range(2):  # the ordinary way, then the direct one
            result = with_bias(mish_mish, y, each, {}, channels_last=channels_last)
            assert error_of(mish_mish, y, each, result) <= 1
            wanted = is_channels_last(y) if channels_last is None else channels_last
            assert to_format(result, wanted) is result
        kept = y.clone()
        result = with_bias(mish_mish, kept, each, {}, channels_last=channels_last, inplace=True)
        assert error_of(mish_mish, y, each, result) <= 1


@pytest.mark.parametrize("recorded", [False, True], ids=["no grad", "grad"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("weight_last", [False, True], ids=["", "weight last"])
@pytest.mark.parametrize("last", [False, True], ids=["", "x last"])
@pytest.mark.parametrize(
    ("dtype", "tf32"),
    [(torch.float32, False), (torch.float32, True), *((dtype, True) for dtype in DTYPES[1:])],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fused_module(
    kind: str,
    dtype: torch.dtype,
    tf32: bool,
    last: bool,
    weight_last: bool,
    bias: bool,
    recorded: bool,
    convolved: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    make, shape = KINDS[kind]
    conv = make(16, 24, 3, bias=bias, device="cuda", dtype=dtype)
    conv = conv.to(memory_format=LAST[len(shape)]) if weight_last else conv
    x = tensor(*shape, last=last, dtype=dtype)
    before = x.clone()
    module = fused_conv(conv, mish_add_hardtanh_scale, {"scale": -1.5})
    with torch.set_grad_enabled(recorded):
        for _ in range(2):
            result = module(x)
    assert result.requires_grad is recorded
    assert torch.equal(x, before)
    y = convolved[-1]
    assert len(convolved) == 2
    assert error_of(mish_add_hardtanh_scale, y, conv.bias, result, scale=-1.5) <= 1
    with torch.no_grad():
        assert result.stride() == conv(x).stride()


@pytest.mark.parametrize("chosen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("exact_float32")
def test_in_the_other_format_it_is_the_same_stored_the_same(
    kind: str, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "choose", lambda module, x: chosen)
    make, shape = KINDS[kind]
    conv = make(16, 24, 3, device="cuda")
    module = fused_conv(conv, mish_mish)
    for last in (False, True):
        x = tensor(*shape, last=last)
        exact = conv(x)
        wanted = mish_mish.reference(exact)
        with torch.no_grad():
            for _ in range(2):
                y = module(x)
                assert y.stride() == exact.stride()
                torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
        found = torch.autograd.grad(module(x).sum(), list(conv.parameters()))
        for one, other in zip(
            found, torch.autograd.grad(wanted.sum(), list(conv.parameters())), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("exact_float32")
def test_gradients_are_eagers_in_float64(kind: str) -> None:
    make, shape = KINDS[kind]
    conv, x = make(16, 24, 3, device="cuda"), tensor(*shape).requires_grad_()
    double, z = copy.deepcopy(conv).double(), x.detach().double().requires_grad_()
    module = fused_conv(conv, add_min_gelu_mul)
    y = module(x)
    exact = add_min_gelu_mul.reference(double(z), **add_min_gelu_mul.scalars)
    weight = torch.randn_like(exact)
    found = torch.autograd.grad((y * weight).sum(), [x, *conv.parameters()])
    wanted = torch.autograd.grad((exact * weight).sum(), [z, *double.parameters()])
    for one, other in zip(found, wanted, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("last", [False, True])
@torch.no_grad()
def test_without_gradients_there_is_no_second_output(last: bool) -> None:
    conv = nn.Conv2d(16, 256, 1, device="cuda", dtype=torch.float16)
    module, x = fused_conv(conv, mish_mish), tensor(8, 16, 128, 128, last=last, dtype=torch.float16)
    nbytes = 8 * 256 * 128 * 128 * 2
    peaks = {}
    bare = nn.Conv2d(16, 256, 1, bias=False, device="cuda", dtype=torch.float16)
    for name, each in (("convolution", bare), ("fused", module)):
        each(x)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        y = each(x)
        torch.cuda.synchronize()
        peaks[name] = torch.cuda.max_memory_allocated() - start
        assert y.nbytes == nbytes
        del y
    assert peaks["fused"] < peaks["convolution"] + nbytes // 2


@torch.no_grad()
def test_the_second_call_is_direct(started: list[int]) -> None:
    module = fused_conv(nn.Conv2d(16, 24, 3, device="cuda"), mish_mish)
    for last in (False, True):
        x = tensor(4, 16, 20, 20, last=last)
        first = module(x)
        assert started == []
        second = module(x)
        assert len(started) == 1
        assert torch.equal(first, second)
        started.clear()


@torch.no_grad()
def test_a_new_weight_is_used_at_once(convolved: list[torch.Tensor]) -> None:
    conv, x = nn.Conv2d(16, 24, 3, device="cuda"), tensor(4, 16, 20, 20)
    module = fused_conv(conv, mish_mish)
    for _ in range(3):
        conv.weight.normal_()
        conv.bias.normal_()
        y = module(x)
        assert error_of(mish_mish, convolved[-1], conv.bias, y) <= 1
        torch.testing.assert_close(convolved[-1], conv(x) - conv.bias.view(-1, 1, 1),
                                   rtol=1e-2, atol=1e-2)  # fmt: skip


@pytest.mark.parametrize("last", [False, True])
@torch.no_grad()
def test_capture_and_replay(last: bool) -> None:
    module = fused_conv(nn.Conv2d(16, 24, 3, device="cuda"), mish_mish)
    x = tensor(4, 16, 20, 20, last=last)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = module(x)
    for factor in (1.0, -0.5):
        x.copy_(tensor(4, 16, 20, 20) * factor)
        graph.replay()
        torch.testing.assert_close(y, module(x), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_streams(started: list[int]) -> None:
    module = fused_conv(nn.Conv2d(16, 24, 3, device="cuda"), mish_mish)
    x = torch.zeros(4, 16, 200, 200, device="cuda")
    module(x)
    started.clear()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        x.fill_(1.0)
        y = module(x)
    assert started == [stream.cuda_stream]
    stream.synchronize()
    torch.testing.assert_close(y, module(x), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_launch_hook_sees_every_launch(started: list[int]) -> None:
    module, x = fused_conv(nn.Conv2d(16, 24, 3, device="cuda"), mish_mish), tensor(4, 16, 20, 20)
    module(x)
    seen: list[str] = []
    hook = lambda metadata: seen.append(metadata.get()["name"])  # noqa: E731
    triton.knobs.runtime.launch_enter_hook.add(hook)
    try:
        module(x)
        module(x)
    finally:
        triton.knobs.runtime.launch_enter_hook.remove(hook)
    assert len(seen) == 2
    assert started == []
    module(x)
    assert len(started) == 1


@torch.no_grad()
def test_every_device_current_or_not(convolved: list[torch.Tensor]) -> None:
    conv = nn.Conv2d(16, 24, 3)
    count = torch.cuda.device_count()
    for index in range(count):
        module = fused_conv(copy.deepcopy(conv).to(f"cuda:{index}"), mish_mish)
        for last in (False, True):
            x = tensor(4, 16, 20, 20, last=last).to(f"cuda:{index}")
            for current in range(count):
                with torch.cuda.device(current):
                    for _ in range(2):
                        y = module(x)
                        assert y.device == x.device
                        assert error_of(mish_mish, convolved[-1], module.bias, y) <= 1


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(dtype: torch.dtype, stored: torch.dtype, convolved: list[torch.Tensor]) -> None:
    """The convolution in 16 bits, the bias in float32, the result stored as eager's."""
    conv = nn.Conv2d(16, 24, 3, device="cuda")
    module = fused_conv(conv, mish_mish)
    for last in (False, True):
        x = tensor(4, 16, 20, 20, last=last, dtype=stored)
        with torch.autocast("cuda", dtype):
            y, exact = module(x), conv(x)
        assert y.dtype == exact.dtype == dtype
        assert y.stride() == exact.stride()
        assert error_of(mish_mish, convolved[-1], conv.bias, y) <= 1
        found = torch.autograd.grad(y.float().sum(), list(conv.parameters()))
        wanted = torch.autograd.grad(
            mish_mish.reference(exact.float()).sum(), list(conv.parameters())
        )
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == torch.float32
            scale = float(other.abs().max())
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.02 * scale)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.usefixtures("exact_float32")
def test_torch_compile_has_one_graph(last: bool) -> None:
    torch._dynamo.reset()
    conv = nn.Conv2d(16, 24, 3, device="cuda")
    model = nn.Sequential(fused_conv(conv, mish_add_hardtanh_scale), nn.ReLU())
    x = tensor(4, 16, 20, 20, last=last)
    y = torch.compile(model, fullgraph=True)(x)
    kernel = mish_add_hardtanh_scale
    exact = kernel.reference(conv(x), **kernel.scalars).relu()
    torch.testing.assert_close(y, exact, rtol=1e-4, atol=1e-4)
    parameters = list(conv.parameters())
    for one, other in zip(
        torch.autograd.grad(y.sum(), parameters),
        torch.autograd.grad(exact.sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-1)


@pytest.mark.usefixtures("exact_float32")
def test_vmap_and_functional_gradients() -> None:
    conv, x = nn.Conv2d(16, 24, 3, device="cuda"), tensor(3, 4, 16, 20, 20)
    module = fused_conv(conv, mish_mish)
    exact = torch.stack([mish_mish.reference(conv(each)) for each in x])
    torch.testing.assert_close(torch.func.vmap(module)(x), exact, rtol=1e-4, atol=1e-4)
    parameters = dict(conv.named_parameters())

    def loss(parameters: dict[str, torch.Tensor], of: nn.Module, op: Any) -> torch.Tensor:
        return op(torch.func.functional_call(of, parameters, (x[0],))).sum()

    found = torch.func.grad(loss)(parameters, module, lambda y: y)
    wanted = torch.func.grad(loss)(parameters, conv, mish_mish.reference)
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-1)


def test_inference_mode_and_double(convolved: list[torch.Tensor]) -> None:
    conv, x = nn.Conv2d(16, 24, 3, device="cuda"), tensor(4, 16, 20, 20)
    module = fused_conv(conv, mish_mish)
    with torch.inference_mode():
        for _ in range(2):
            y = module(x)
            assert y.is_inference()
            assert error_of(mish_mish, convolved[-1], conv.bias, y) <= 1
    double = fused_conv(copy.deepcopy(conv).double(), mish_mish)
    exact = mish_mish.reference(copy.deepcopy(conv).double()(x.double()))
    torch.testing.assert_close(double(x.double()), exact)


@torch.no_grad()
def test_no_images_and_one_image_without_a_batch() -> None:
    conv = nn.Conv2d(16, 24, 3, device="cuda")
    module = fused_conv(conv, mish_mish)
    for last in (False, True):
        assert module(tensor(0, 16, 20, 20, last=last)).shape == (0, 24, 18, 18)
    x = tensor(16, 20, 20)
    torch.testing.assert_close(module(x), mish_mish.reference(conv(x)))


@torch.no_grad()
def test_more_elements_than_32_bits_count() -> None:
    """In every layout the last elements are right, too."""
    shape = (2**16 + 1, 128, 16, 16)
    bias = torch.randn(128, device="cuda")
    for last in (False, True):
        y = torch.empty(shape, dtype=torch.float16, device="cuda", memory_format=LAST[4] if last
                        else torch.contiguous_format).normal_()  # fmt: skip
        for stored in (last, not last):
            result = with_bias(mish_mish, y, bias, {}, channels_last=stored)
            for part in (slice(0, 64), slice(2**15, 2**15 + 64), slice(-64, None)):
                assert error_of(mish_mish, y[part], bias, result[part]) <= 1
            del result
        del y
        torch.cuda.empty_cache()
