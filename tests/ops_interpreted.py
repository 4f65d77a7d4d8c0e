"""The kernels in Triton's interpreter; run by `test_ops_interpreter.py` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest
import torch

from tunekit import ops
from tunekit.core.config import Config
from tunekit.core.space import context
from tunekit.evaluate.inputs import all_bit_patterns, random_input
from tunekit.evaluate.verify import (
    TOLERANCES,
    largest_error,
    reference_outputs,
)
from tunekit.kernels import library
from tunekit.kernels.kernel import Kernel
from tunekit.runtime import call

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

DTYPES = ("float32", "float16", "bfloat16")
NAMES = ("mish_mish", "mish_add_hardtanh_scale", "add_min_gelu_mul")


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, int]]:
    """Configuration and elements of every launch."""
    launches: list[tuple[Config, int]] = []
    start = call.Planned.start

    def counting(
        self: call.Planned,
        inputs: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        scalars: Mapping[str, float],
    ) -> None:
        launches.append((self.config, outputs[0].numel()))
        start(self, inputs, outputs, scalars)

    monkeypatch.setattr(call.Planned, "start", counting)
    return launches


def error_of(kernel: Kernel, x: torch.Tensor, y: torch.Tensor, **scalars: float) -> float:
    dtype = str(x.dtype).removeprefix("torch.")
    (exact,) = reference_outputs(kernel, [], [x], {**kernel.scalars, **scalars})
    return largest_error(y.contiguous(), exact, TOLERANCES[dtype])


def test_this_process_interprets(launched: list[tuple[Config, int]]) -> None:
    assert call.INTERPRETED
    ops.mish_mish(torch.ones(3, 5))
    launch = library.mish_mish.launch_for((15,), "float32", call._INTERPRETED_AS)
    default = library.mish_mish.load_space().default(context(launch.dims, 4, call._INTERPRETED_AS))
    assert launched == [(default, 15)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 31, 1023, 1024, 2049])
def test_odd_sizes_with_special_values(name: str, dtype: str, n: int) -> None:
    x = random_input((n,), dtype, seed=n, device="cpu")
    kernel = library.KERNELS[name]
    assert error_of(kernel, x, ops.call(kernel, x)) <= 1


@pytest.mark.parametrize(
    ("name", "dtype"), list(zip(NAMES, ("float16", "bfloat16", "float16"), strict=True))
)
def test_all_16_bit_values(name: str, dtype: str) -> None:
    x = all_bit_patterns(2**16, dtype, "cpu").view(256, 256)
    kernel = library.KERNELS[name]
    assert error_of(kernel, x, ops.call(kernel, x)) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_last_is_used_as_it_is(dtype: str, launched: list[tuple[Config, int]]) -> None:
    x = random_input((2, 5, 7, 9), dtype, seed=1, device="cpu")
    x = x.to(memory_format=torch.channels_last)
    y = ops.add_min_gelu_mul(x, 0.25, 3.0)
    assert y.is_contiguous(memory_format=torch.channels_last)
    error = error_of(library.add_min_gelu_mul, x, y, add_value=0.25, multiply_value=3.0)
    assert error <= 1
    assert len(launched) == 1


@pytest.mark.parametrize("sliced", [False, True])
def test_in_place_out_and_autograd_launch_too(
    sliced: bool, launched: list[tuple[Config, int]]
) -> None:
    x = random_input((40, 40), "float32", seed=1, device="cpu").nan_to_num(1.0, 2.0, -2.0)
    if sliced:
        x = x[:, ::3]
    (exact,) = reference_outputs(library.mish_mish, [], [x], {})
    out = torch.empty(x.shape)
    ops.mish_mish(x, out=out)
    y = ops.mish_mish(x.clone().requires_grad_())
    ops.mish_mish(x, inplace=True)
    for result in (out, y.detach(), x):
        assert largest_error(result, exact, TOLERANCES["float32"]) <= 1
    assert [n for _, n in launched] == [x.numel()] * 3


def test_kernels_can_be_turned_off(
    launched: list[tuple[Config, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "EAGER", True)
    x = torch.linspace(-5, 5, 60)
    assert torch.equal(ops.mish_mish(x), library.mish_mish.reference(x))
    assert launched == []


@pytest.mark.parametrize(
    ("value", "eager"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_the_variable_that_turns_them_off(value: str, eager: bool) -> None:
    program = "from tunekit.runtime.call import EAGER; print(EAGER)"
    environment = os.environ | {"TUNEKIT_EAGER": value}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == str(eager)


def test_vmap_makes_one_launch(launched: list[tuple[Config, int]]) -> None:
    x = torch.linspace(-5, 5, 60).view(3, 4, 5)
    for dim in range(3):
        y = torch.func.vmap(ops.mish_mish, in_dims=dim, out_dims=dim)(x)
        torch.testing.assert_close(y, library.mish_mish.reference(x))
    assert [elements for _, elements in launched] == [60] * 3


def test_vmap_of_a_gradient() -> None:
    x = torch.linspace(-5, 5, 12).view(3, 4)
    found = torch.func.vmap(torch.func.grad(lambda row: ops.mish_mish(row).sum()))(x)
    exact = torch.func.vmap(torch.func.grad(lambda row: library.mish_mish.reference(row).sum()))(x)
    torch.testing.assert_close(found, exact)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_sees_one_operator(backend: str, launched: list[tuple[Config, int]]) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return ops.mish_add_hardtanh_scale(x * 2, add_value=0.25) + 1

    def exact(x: torch.Tensor) -> torch.Tensor:
        return library.mish_add_hardtanh_scale.reference(x * 2, 0.25, 2.0) + 1

    x = torch.linspace(-5, 5, 70).requires_grad_()
    y = torch.compile(model, backend=backend, fullgraph=True)(x)
    assert len(launched) == 1
    torch.testing.assert_close(y, exact(x))
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, torch.autograd.grad(exact(x).sum(), x)[0])


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_in_place_and_into_a_tensor() -> None:
    def model(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        y = x * 2
        ops.mish_mish(y, inplace=True)
        ops.mish_mish(x, out=out)
        return y

    x, out = torch.linspace(-5, 5, 70), torch.empty(70)
    y = torch.compile(model, backend="aot_eager", fullgraph=True)(x, out)
    torch.testing.assert_close(y, library.mish_mish.reference(x * 2))
    torch.testing.assert_close(out, library.mish_mish.reference(x))


@pytest.mark.filterwarnings("ignore")
def test_torch_export_has_the_operator() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ops.mish_mish(x)

    x = torch.linspace(-5, 5, 70).view(7, 10)
    program = torch.export.export(Model(), (x,))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["tunekit.pointwise.default"]
    torch.testing.assert_close(program.module()(x), library.mish_mish.reference(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["contiguous", "permuted", "sliced"])
@pytest.mark.filterwarnings("ignore")
def test_the_operator_keeps_pytorchs_rules(name: str, layout: str) -> None:
    kernel = library.KERNELS[name]
    x = torch.linspace(-5, 5, 48).view(4, 12)
    x = {"contiguous": x, "permuted": x.t(), "sliced": x[:, :5]}[layout]
    x = x.detach().requires_grad_()
    arguments = (kernel.handle, [x], list(kernel.scalars.values()))
    torch.library.opcheck(torch.ops.tunekit.pointwise.default, arguments)


def test_make_fx_sees_the_operator() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    x = torch.linspace(-5, 5, 70)
    traced = make_fx(lambda x: ops.mish_mish(x))(x)
    assert "tunekit.pointwise" in traced.code
    torch.testing.assert_close(traced(x + 1), library.mish_mish.reference(x + 1))
