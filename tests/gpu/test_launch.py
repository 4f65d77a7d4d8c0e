"""The direct launch: it is taken where it may be, and nowhere else, and is always right."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import triton

import tunekit
from tunekit import ops
from tunekit.core.config import Config
from tunekit.kernels import library
from tunekit.kernels.kernel import pointwise
from tunekit.paths import cache_folder
from tunekit.runtime import binaries, direct, fast, lookup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::tunekit.TunekitWarning"),
]

reference = library.mish_mish.reference


@triton.jit
def scaled_sum(x, y, scale):
    return (x + y) * scale


_sum = pointwise(
    "gpu_test_scaled_sum",
    epilogue=scaled_sum,
    reference=lambda x, y, scale: (x + y) * scale,
    scalars={"scale": 1.0},
    input_count=2,
)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
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


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.linspace(-8, 8, torch.Size(shape).numel(), device="cuda").to(dtype).view(shape)


def assert_right(y: torch.Tensor, x: torch.Tensor) -> None:
    step = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[x.dtype]
    torch.testing.assert_close(y.float(), reference(x.float()), rtol=step, atol=1e-3 * step)


def test_this_version_is_proven() -> None:
    assert direct.is_proven()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2,), (4096,), (4097,), (3, 5, 7), (64, 1, 33), (2**20 + 16,)])
def test_the_second_call_is_direct_and_says_the_same(
    dtype: torch.dtype, shape: tuple[int, ...], started: list[int]
) -> None:
    x = tensor(*shape, dtype=dtype)
    first = ops.mish_mish(x)
    assert started == []
    second = ops.mish_mish(x)
    assert len(started) == 1
    assert torch.equal(first, second)
    assert_right(second, x)


@pytest.mark.parametrize("op", ["mish_add_hardtanh_scale", "add_min_gelu_mul"])
def test_scalars_are_arguments(op: str, started: list[int]) -> None:
    x = tensor(1000)
    for add, factor in ((0.5, 2.0), (0.25, -3.0), (1.0, 16.0), (1e-30, 1e-3)):
        y = getattr(ops, op)(x, add, factor)
        exact = library.KERNELS[op].reference(x.double(), add, factor).float()
        torch.testing.assert_close(y, exact, rtol=1e-5, atol=1e-6 * abs(factor))
    assert len(started) == 3


def test_several_inputs_of_a_kernel_of_ones_own(started: list[int]) -> None:
    x, y = tensor(5000), tensor(5000).flip(0).contiguous()
    for scale in (1.0, 3.0):
        found = ops.call(_sum, x, y, scale=scale)
        torch.testing.assert_close(found, (x + y) * scale)
    assert len(started) == 1
    # One that does not start at a multiple of 16 bytes is another binary.
    part = tensor(5001)[1:]
    torch.testing.assert_close(ops.call(_sum, x, part, scale=2.0), (x + part) * 2)
    assert len(started) == 1


def test_layouts(started: list[int]) -> None:
    x = tensor(2, 8, 5, 7)
    for each in (x, x.to(memory_format=torch.channels_last), x.permute(3, 1, 0, 2)):
        first, second = ops.mish_mish(each), ops.mish_mish(each)
        assert second.stride() == first.stride() == each.stride()
        assert_right(first, each)
        assert_right(second, each)
    assert len(started) == 5  # all but the first: they are as many elements
    for other in (x[:, ::2], tensor(1, 6).expand(4, 6)):  # copied first
        assert_right(ops.mish_mish(other), other)


def test_a_tensor_that_starts_elsewhere(started: list[int]) -> None:
    memory = tensor(4096 + 4)
    x, shifted = memory[:4096], memory[1:4097]
    for _ in range(3):
        assert_right(ops.mish_mish(x), x)
        assert_right(ops.mish_mish(shifted), shifted)
    assert len(started) == 2  # the shifted one never


def test_in_place_and_its_version(started: list[int]) -> None:
    for _ in range(3):
        x = tensor(3000)
        exact, version = reference(x), x._version
        assert ops.mish_mish(x, inplace=True) is x
        torch.testing.assert_close(x, exact)
        assert x._version == version + 1
    assert len(started) == 2


def test_what_autograd_has_to_see(started: list[int]) -> None:
    for _ in range(3):
        x = tensor(300).requires_grad_()
        y = ops.mish_mish(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(grad, torch.autograd.grad(reference(x).sum(), x)[0])
    with torch.no_grad():
        assert not ops.mish_mish(x).requires_grad
    assert len(started) == 3  # inside of the function that autograd sees


def test_gradients_are_right() -> None:
    kernel = library.add_min_gelu_mul
    x = tensor(40).requires_grad_()
    y = ops.add_min_gelu_mul(x, 0.5, 2.0)
    z = x.detach().double().requires_grad_()
    exact = kernel.reference(z, 0.5, 2.0)
    torch.testing.assert_close(y.double(), exact)
    (found,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(found.double(), torch.autograd.grad(exact.sum(), z)[0])


def test_inference_mode(started: list[int]) -> None:
    x = tensor(500)
    with torch.inference_mode():
        for _ in range(2):
            y = ops.mish_mish(x)
            assert y.is_inference()
            assert_right(y, x)
        z = tensor(500)
        ops.mish_mish(z, inplace=True)
        assert_right(z, x)
    assert len(started) == 2


def test_autocast_leaves_dtypes_alone() -> None:
    x = tensor(500)
    with torch.autocast("cuda", torch.float16):
        for _ in range(2):
            assert ops.mish_mish(x).dtype == torch.float32
            assert ops.mish_mish(x.half()).dtype == torch.float16


def test_streams(started: list[int]) -> None:
    x = tensor(2**22)
    ops.mish_mish(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        x.mul_(2)
        y = ops.mish_mish(x)
    assert started == [stream.cuda_stream]
    stream.synchronize()
    assert_right(y, x)


def test_capture_and_replay(started: list[int]) -> None:
    x = tensor(70000)
    ops.mish_mish(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = ops.mish_mish(x)
    assert len(started) == 1
    for factor in (1.0, -0.5):
        x.copy_(tensor(70000) * factor)
        graph.replay()
        assert_right(y, x)


def test_threads() -> None:
    sizes = [1000 + 16 * index for index in range(8)]
    wrong: list[int] = []

    def work(size: int) -> None:
        x = tensor(size)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.default_stream())
        with torch.cuda.stream(stream):
            for _ in range(50):
                if not torch.allclose(ops.mish_mish(x), reference(x), atol=1e-5):
                    wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_every_device_current_or_not(started: list[int]) -> None:
    count = torch.cuda.device_count()
    for index in range(count):
        x = tensor(640).to(f"cuda:{index}")
        for current in range(count):
            with torch.cuda.device(current):
                for _ in range(2):
                    y = ops.mish_mish(x)
                    assert y.device == x.device
                    assert_right(y, x)
    assert len(started) >= count


def test_a_launch_hook_sees_every_launch(started: list[int]) -> None:
    x, seen = tensor(640), []
    ops.mish_mish(x)
    hook = lambda metadata: seen.append(metadata.get()["name"])  # noqa: E731
    triton.knobs.runtime.launch_enter_hook.add(hook)
    try:
        ops.mish_mish(x)
        ops.mish_mish(x)
    finally:
        triton.knobs.runtime.launch_enter_hook.remove(hook)
    assert len(seen) == 2
    assert started == []
    ops.mish_mish(x)
    assert len(started) == 1


def test_reload_forgets(monkeypatch: pytest.MonkeyPatch, started: list[int]) -> None:
    monkeypatch.setattr(binaries, "load", lambda *arguments: None)
    x = tensor(640)
    for _ in range(2):
        ops.mish_mish(x)
        tunekit.reload()
    assert started == []


def test_a_new_process_finds_the_binary_of_the_last(started: list[int]) -> None:
    x = tensor(1234)
    first = ops.mish_mish(x)
    assert started == []
    tunekit.reload()  # all that a process knows
    assert torch.equal(ops.mish_mish(x), first)
    assert len(started) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b'{"files": 3}', b'{"files": {}, "hash": "x"}'])
def test_word_that_is_damaged_is_no_word(damage: bytes, started: list[int]) -> None:
    x = tensor(1234)
    first = ops.mish_mish(x)
    (entry,) = (cache_folder() / "binaries").glob("*.json")
    entry.write_bytes(damage)
    tunekit.reload()
    assert torch.equal(ops.mish_mish(x), first)
    assert started == []


def test_a_binary_that_is_damaged_is_compiled_anew(started: list[int]) -> None:
    x = tensor(1234)
    first = ops.mish_mish(x)
    (entry,) = (cache_folder() / "binaries").glob("*.json")
    word = json.loads(entry.read_text())
    (cubin,) = (name for name in word["files"] if name.endswith(".cubin"))
    damaged = entry.with_suffix(".cubin")
    damaged.write_bytes(b"no machine code")
    word["files"][cubin] = str(damaged)
    entry.write_text(json.dumps(word))
    tunekit.reload()
    assert torch.equal(ops.mish_mish(x), first)
    assert started == []


def test_an_unproven_version_takes_the_ordinary_way(
    monkeypatch: pytest.MonkeyPatch, started: list[int]
) -> None:
    monkeypatch.setattr(direct, "PROVEN", ())
    x = tensor(640)
    for _ in range(3):
        assert_right(ops.mish_mish(x), x)
    assert started == []


@pytest.mark.parametrize(
    "view", [lambda x: x.conj().imag, lambda x: torch._neg_view(x.real.clone())]
)
def test_a_sign_that_is_not_in_memory(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for shape in ((), (1,), (4,)):
        x = torch.full(shape, 1 + 2j, device="cuda")
        plain = torch.full(shape, -2.0, device="cuda")
        ops.mish_mish(plain)
        y = view(x)
        for _ in range(2):
            torch.testing.assert_close(ops.mish_mish(y), reference(y.clone()))


def test_nothing_to_do() -> None:
    for _ in range(2):
        assert ops.mish_mish(tensor(0)).shape == (0,)
        assert ops.mish_mish(torch.zeros(3, 0, 4, device="cuda")).shape == (3, 0, 4)


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_has_one_graph() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return ops.mish_add_hardtanh_scale(x * 2, 0.25, 3.0) + 1

    x = tensor(4000).requires_grad_()
    y = torch.compile(model, fullgraph=True)(x)
    exact = library.mish_add_hardtanh_scale.reference(x * 2, 0.25, 3.0) + 1
    torch.testing.assert_close(y, exact)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, torch.autograd.grad(exact.sum(), x)[0])


def test_vmap_and_functional_gradients() -> None:
    x = tensor(6, 50)
    torch.testing.assert_close(torch.func.vmap(ops.mish_mish)(x), reference(x))
    found = torch.func.grad(lambda x: ops.mish_mish(x).sum())(x)
    torch.testing.assert_close(found, torch.func.grad(lambda x: reference(x).sum())(x))


def test_fake_tensors_are_not_launched(started: list[int]) -> None:
    from torch._subclasses import FakeTensorMode

    x = tensor(640)
    ops.mish_mish(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = ops.mish_mish(mode.from_tensor(x))
        assert type(y) is not torch.Tensor
    assert started == []
    assert fast.fast_of(library.mish_mish).one(y, ()) is None


def test_a_row_that_cannot_be_launched_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch, started: list[int]
) -> None:
    bad = Config(BLOCK_SIZE=2**21, VEC=4, num_warps=4, num_stages=1)  # more than Triton compiles
    choices = lookup.choices

    def with_a_bad_one(*arguments: Any) -> Iterator[lookup.Choice]:
        good = list(choices(*arguments))
        yield replace(good[0], config=bad)
        yield from good

    monkeypatch.setattr(lookup, "choices", with_a_bad_one)
    x = tensor(5000)
    with pytest.warns(tunekit.TunekitWarning, match="BLOCK_SIZE=2097152.*cannot be launched"):
        assert_right(ops.mish_mish(x), x)
    assert_right(ops.mish_mish(x), x)
    assert len(started) == 1
