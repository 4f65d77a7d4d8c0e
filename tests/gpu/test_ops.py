"""The ops on a GPU, against float64: every result within what `tune` allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import triton
import triton.language as tl

import tunekit
from tunekit import ops
from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.errors import KernelError
from tunekit.evaluate.inputs import all_bit_patterns, random_input
from tunekit.evaluate.verify import (
    TOLERANCES,
    largest_error,
    reference_outputs,
)
from tunekit.gpu import device_at
from tunekit.kernels import library
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.runtime import lookup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::tunekit.notices.TunekitWarning"),
]

DTYPES = ("float32", "float16", "bfloat16")
NAMES = ("mish_mish", "mish_add_hardtanh_scale", "add_min_gelu_mul")


@triton.jit
def _gated(x, gate, weight):
    return tl.abs(x) * gate * weight


GATED = tunekit.pointwise(
    "gated",
    epilogue=_gated,
    reference=lambda x, gate, weight: x.abs() * gate * weight,
    scalars={"weight": 2.0},
    input_count=2,
)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    tunekit.reload()
    yield
    tunekit.reload()


def tensor(*shape: int, dtype: str = "float32", seed: int = 0) -> torch.Tensor:
    """Normal values with special ones strewn in."""
    return random_input(shape, dtype, seed, "cuda")


def error_of(
    kernel: Kernel, inputs: list[torch.Tensor], y: torch.Tensor, **scalars: float
) -> float:
    """Largest error in units of what is allowed."""
    (exact,) = reference_outputs(kernel, [], inputs, {**kernel.scalars, **scalars})
    return largest_error(y.detach(), exact, TOLERANCES[str(y.dtype).removeprefix("torch.")])


DENSE: dict[str, Callable[[str], torch.Tensor]] = {
    "contiguous": lambda dtype: tensor(7, 33, 65, dtype=dtype),
    "channels last": lambda dtype: tensor(3, 5, 31, 33, dtype=dtype).to(
        memory_format=torch.channels_last
    ),
    "permuted": lambda dtype: tensor(7, 33, 65, dtype=dtype).permute(2, 0, 1),
    "unaligned": lambda dtype: tensor(100_001, dtype=dtype)[1:],
    "0-dim": lambda dtype: tensor(1, dtype=dtype)[0],
    "no elements": lambda dtype: tensor(1, dtype=dtype)[:0].view(3, 0),
}
SPARSE: dict[str, Callable[[str], torch.Tensor]] = {
    "columns": lambda dtype: tensor(99, 101, dtype=dtype)[:, 2:],
    "every second": lambda dtype: tensor(64, 66, 5, dtype=dtype)[:, ::2],
    "sliced channels last": lambda dtype: tensor(2, 3, 50, 80, dtype=dtype).to(
        memory_format=torch.channels_last
    )[..., :51],
}
EXPANDED = {"expanded": lambda dtype: tensor(999, 1, dtype=dtype).expand(999, 77)}


@pytest.mark.parametrize("n", [1, 15, 16, 1023, 1024, 4097, 65_536, 1_000_003])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_op_dtype_and_size(name: str, dtype: str, n: int) -> None:
    kernel, x = library.KERNELS[name], tensor(n, dtype=dtype, seed=n)
    before = x.clone()
    y = ops.call(kernel, x)
    assert error_of(kernel, [x], y) <= 1
    assert torch.equal(x.nan_to_num(), before.nan_to_num())
    assert torch.equal(ops.call(kernel, x).nan_to_num(), y.nan_to_num())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_all_16_bit_values(name: str, dtype: str) -> None:
    kernel, x = library.KERNELS[name], all_bit_patterns(2**16, dtype, "cuda")
    assert error_of(kernel, [x], ops.call(kernel, x)) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [*DENSE, *SPARSE, *EXPANDED])
@pytest.mark.parametrize("name", NAMES)
def test_every_layout(name: str, layout: str, dtype: str) -> None:
    kernel, x = library.KERNELS[name], (DENSE | SPARSE | EXPANDED)[layout](dtype)
    y = ops.call(kernel, x)
    assert y.stride() == (x if layout in DENSE else x.clone()).stride()
    if x.numel():
        assert error_of(kernel, [x], y) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [*DENSE, *SPARSE])
def test_out_and_in_place(layout: str, dtype: str) -> None:
    kernel = library.mish_mish
    x = (DENSE | SPARSE)[layout](dtype)
    source = x.clone()
    out = torch.full_like(x, float("nan"))
    assert ops.mish_mish(source, out=out) is out
    other = (DENSE | SPARSE)[layout](dtype).fill_(float("nan"))
    assert ops.mish_mish(source, out=other) is other
    assert ops.mish_mish(x, inplace=True) is x
    if x.numel():
        assert max(error_of(kernel, [source], y) for y in (out, other, x)) <= 1


def test_only_the_output_is_written() -> None:
    memory = torch.full((1 << 20,), 7.0, device="cuda")
    for start, stop in ((0, 1000), (1, 5000), (16, 70_001), (3, 1_000_002)):
        memory.fill_(7.0)
        x = tensor(stop - start)
        ops.mish_mish(x, out=memory[start:stop])
        assert error_of(library.mish_mish, [x], memory[start:stop]) <= 1
        assert (memory[:start] == 7).all()
        assert (memory[stop:] == 7).all()


def test_an_expanded_tensor_cannot_be_changed_in_place() -> None:
    with pytest.raises(KernelError, match="more than one element"):
        ops.mish_mish(EXPANDED["expanded"]("float32"), inplace=True)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize(
    "axes",
    [
        {"BLOCK_SIZE": 128, "VEC": 1, "num_warps": 1, "num_stages": 1},
        {"BLOCK_SIZE": 1024, "VEC": 4, "num_warps": 8, "num_stages": 1},
        {"BLOCK_SIZE": 1024, "VEC": 4, "num_warps": 4, "num_stages": 2},
        {"BLOCK_SIZE": 4096, "VEC": 4, "num_warps": 16, "num_stages": 3},
    ],
    ids=str,
)
def test_the_configuration_that_is_served_runs(
    axes: dict[str, int], inplace: bool, aligned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def choices(kernel: Kernel, launch: Launch, device: Device) -> Iterator[lookup.Choice]:
        asked.append(launch.outputs[0].misalignment)
        problem = kernel.problem_of(launch, device)
        yield lookup.Choice(Config(axes), lookup.Served.EXACT, None, problem)

    monkeypatch.setattr(lookup, "choices", choices)
    kernel, x = library.mish_add_hardtanh_scale, tensor(3_000_001)
    x = x if aligned else x[1:]
    source = x.clone()
    y = ops.mish_add_hardtanh_scale(x, 0.25, scale=3, inplace=inplace)
    assert error_of(kernel, [source], y, add_value=0.25, scale=3.0) <= 1
    assert asked == [4 if inplace and not aligned else 0]


def test_scalars_are_those_of_each_call() -> None:
    x = tensor(5000)
    for scale in (2, 1, 0.5, 16, -3.0):
        y = ops.mish_add_hardtanh_scale(x, scale=scale)
        assert error_of(library.mish_add_hardtanh_scale, [x], y, scale=float(scale)) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_inputs(dtype: str) -> None:
    x, gate = (random_input((333, 77), dtype, seed, "cuda").clamp(-9, 9) for seed in (1, 2))
    assert error_of(GATED, [x, gate], ops.call(GATED, x, gate)) <= 1
    other = gate.t().contiguous().t()
    assert error_of(GATED, [x, gate], ops.call(GATED, x, other, weight=-1), weight=-1.0) <= 1
    row = gate[:, :1].expand(333, 77)
    assert error_of(GATED, [x, row], ops.call(GATED, x, row)) <= 1
    source = gate.clone()
    assert ops.call(GATED, x, gate, out=gate) is gate
    assert error_of(GATED, [x, source], gate) <= 1


def test_mixed_devices_are_refused() -> None:
    with pytest.raises(KernelError, match="input 1 has device cpu, input 0 has cuda:0"):
        ops.call(GATED, tensor(5), tensor(5).cpu())
    with pytest.raises(KernelError, match="out has device cpu"):
        ops.mish_mish(tensor(5), out=torch.empty(5))


def test_the_current_stream_is_used() -> None:
    x = torch.zeros(1 << 20, device="cuda")
    ops.mish_mish(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)  # tens of ms: a launch elsewhere would find zeros
        x.fill_(1.0)
        y = ops.mish_mish(x)
        ops.mish_mish(x, inplace=True)
    stream.synchronize()
    one = torch.ones_like(x)
    assert error_of(library.mish_mish, [one], y) <= 1
    assert torch.equal(x, y)


def test_a_call_can_be_captured_in_a_graph() -> None:
    x, out = tensor(100_000), torch.empty(100_000, device="cuda")
    ops.mish_mish(x, out=out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ops.mish_mish(x, out=out)
    x.copy_(tensor(100_000, seed=5))
    out.fill_(float("nan"))
    graph.replay()
    assert error_of(library.mish_mish, [x], out) <= 1


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_goes_around_a_launch() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return ops.mish_mish(x * 2) + 1

    x = torch.linspace(-5, 5, 70, device="cuda").requires_grad_()
    y = torch.compile(model)(x)
    torch.testing.assert_close(y, library.mish_mish.reference(x * 2) + 1)
    (grad,) = torch.autograd.grad(y.sum(), x)
    (exact,) = torch.autograd.grad(library.mish_mish.reference(x * 2).sum(), x)
    torch.testing.assert_close(grad, exact)


@pytest.mark.skipif("torch.cuda.device_count() < 2", reason="needs two GPUs")
def test_another_gpu_than_the_current_one() -> None:
    x = tensor(5000).to("cuda:1")
    y = ops.mish_mish(x)
    assert y.device == x.device
    assert torch.cuda.current_device() == 0
    assert error_of(library.mish_mish, [x], y) <= 1


def test_more_elements_than_32_bits_count() -> None:
    n = 2**31 + 17
    x = torch.empty(n, dtype=torch.float16, device="cuda").normal_(0.0, 2.0)
    y = ops.mish_mish(x)
    part = 2**22
    for start in (0, 2**30 - part // 2, 2**31 - 2**20 - part, 2**31 - part, n - part):
        place = slice(start, start + part)
        assert error_of(library.mish_mish, [x[place]], y[place]) <= 1
    assert ops.mish_mish(x, inplace=True) is x
    for start in range(0, n, 2**28):
        place = slice(start, min(start + 2**28, n))
        assert torch.equal(x[place], y[place])
    del x, y
    torch.cuda.empty_cache()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "columns"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_reference(name: str, layout: str, dtype: str) -> None:
    kernel = library.KERNELS[name]
    x = (DENSE | SPARSE)[layout](dtype).nan_to_num_(1.0, 2.0, -2.0).requires_grad_()
    other = x.detach().clone().requires_grad_()
    y = ops.call(kernel, x)
    assert y.grad_fn is not None
    weight = torch.randn_like(other)
    y.backward(weight)
    kernel.reference(other, **kernel.scalars).backward(weight)
    torch.testing.assert_close(x.grad, other.grad, check_stride=False, equal_nan=True)


def test_in_place_under_autograd_and_under_no_grad() -> None:
    x = torch.randn(5000, device="cuda").requires_grad_()
    y = x * 1.5
    ops.mish_mish(y, inplace=True)
    y.sum().backward()
    other = x.detach().clone().requires_grad_()
    library.mish_mish.reference(other * 1.5).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
    kept = x.exp()
    with torch.no_grad():
        ops.mish_mish(kept, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()


def test_the_gpu_of_this_machine_is_looked_up() -> None:
    assert tunekit.lookup("mish_mish", (4096,)).problem.device == device_at(0).slug
    kernel = tunekit.pointwise("gated_not_tuned", epilogue=_gated, reference=torch.mul)
    with pytest.warns(tunekit.TunekitWarning, match="tunekit tune gated_not_tuned"):
        tunekit.lookup(kernel, (4096,), device="cuda:0")
