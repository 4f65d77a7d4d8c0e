"""What holds of fused convolutions wherever they run.

On the CPU that is PyTorch alone; `test_conv_interpreter.py` runs this file again in Triton's
interpreter, where the same tensors go through the kernels.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from tunekit.errors import KernelError
from tunekit.kernels.epilogues import add_bias
from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel, pointwise
from tunekit.kernels.library import add_min_gelu_mul, mish_add_hardtanh_scale, mish_mish
from tunekit.nn.conv import FUSED, fused_conv
from tunekit.runtime.layout import same_layout

# Triton's interpreter computes with NumPy, which warns where a GPU says inf or nan.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

PRECISION = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
KINDS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "Conv1d": (nn.Conv1d, (2, 4, 11)),
    "Conv2d": (nn.Conv2d, (2, 4, 7, 6)),
    "Conv3d": (nn.Conv3d, (2, 4, 5, 4, 6)),
    "ConvTranspose1d": (nn.ConvTranspose1d, (2, 4, 7)),
    "ConvTranspose2d": (nn.ConvTranspose2d, (2, 4, 5, 4)),
    "ConvTranspose3d": (nn.ConvTranspose3d, (2, 4, 3, 4, 3)),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def exact_of(conv: nn.Module, kernel: Kernel, x: torch.Tensor, **scalars: float) -> torch.Tensor:
    """The convolution by PyTorch, the op after it in float64."""
    y = conv(x)
    return kernel.reference(y.double(), **{**kernel.scalars, **scalars}).to(y.dtype)


def check(
    conv: nn.Module, x: torch.Tensor, kernel: Kernel = mish_mish, **scalars: float
) -> torch.Tensor:
    """The fused module says the same, stored the same."""
    exact = exact_of(conv, kernel, x, **scalars)
    y = fused_conv(conv, kernel, scalars)(x)
    assert (y.shape, y.dtype) == (exact.shape, exact.dtype)
    assert same_layout(y, exact), (y.stride(), exact.stride())
    precision = PRECISION[y.dtype]
    torch.testing.assert_close(y, exact, rtol=precision, atol=precision, check_stride=False)
    return y


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_convolution(kind: str, bias: bool) -> None:
    make, shape = KINDS[kind]
    conv = make(4, 6, 3, bias=bias)
    module = fused_conv(conv, mish_mish)
    assert type(module) is FUSED[type(conv)]
    assert isinstance(module, type(conv))
    check(conv, torch.randn(shape))


@pytest.mark.parametrize(
    ("kernel", "scalars"),
    [(mish_add_hardtanh_scale, {"scale": -1.5}), (add_min_gelu_mul, {"add_value": 0.25})],
    ids=["mish_add_hardtanh_scale", "add_min_gelu_mul"],
)
@pytest.mark.parametrize("dtype", PRECISION, ids=str)
def test_ops_dtypes_and_scalars(
    dtype: torch.dtype, kernel: Kernel, scalars: dict[str, float]
) -> None:
    conv = nn.Conv2d(4, 6, 3).to(dtype)
    check(conv, torch.randn(2, 4, 7, 6).to(dtype), kernel)
    check(conv, torch.randn(2, 4, 7, 6).to(dtype), kernel, **scalars)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": (2, 1)},
        {"groups": 2},
        {"padding": "same", "padding_mode": "circular"},
        {"padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_options(options: dict[str, Any]) -> None:
    check(nn.Conv2d(4, 6, 3, **options), torch.randn(2, 4, 7, 6))


INPUTS: dict[str, Callable[[tuple[int, ...]], torch.Tensor]] = {
    "contiguous": torch.randn,
    "channels last": lambda shape: torch.randn(shape).to(memory_format=LAST[len(shape)]),
    "sliced": lambda shape: torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2],
    "sliced channels last": lambda shape: torch.randn(*shape[:-1], 9)
    .to(memory_format=LAST[len(shape)])[..., : shape[-1]],
    "some channels of channels last": lambda shape: torch.randn(shape[0], 8, *shape[2:])
    .to(memory_format=LAST[len(shape)])[:, : shape[1]],
    "expanded": lambda shape: torch.randn(1, *shape[1:]).expand(shape),
    "one channel expanded": lambda shape: torch.randn(shape[0], 1, *shape[2:]).expand(shape),
    "permuted": lambda shape: torch.randn(shape[1], shape[0], *shape[2:]).transpose(0, 1),
    "negative": lambda shape: torch._neg_view(torch.randn(shape)),
}  # fmt: skip


@pytest.mark.parametrize("weight_last", [False, True])
@pytest.mark.parametrize("stored", INPUTS)
@pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose3d"])
@torch.no_grad()
def test_results_are_stored_as_pytorchs_are(kind: str, stored: str, weight_last: bool) -> None:
    make, shape = KINDS[kind]
    conv = make(4, 6, 3)
    if weight_last:
        conv = conv.to(memory_format=LAST[len(shape)])
    check(conv, INPUTS[stored](shape))


@pytest.mark.parametrize("weight_last", [False, True])
@pytest.mark.parametrize("input_last", [False, True])
@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
        (nn.Conv2d(1, 6, 3), (2, 1, 5, 5)),
        (nn.Conv2d(4, 1, 3), (2, 4, 5, 5)),
        (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 5, 5)),
        (nn.Conv2d(4, 6, 1), (2, 4, 1, 1)),
        (nn.Conv2d(4, 6, (1, 3)), (2, 4, 1, 5)),
        (nn.Conv2d(1, 1, 1), (1, 1, 1, 1)),
        (nn.ConvTranspose2d(4, 6, 3), (2, 4, 1, 1)),
        (nn.Conv3d(1, 6, 1), (2, 1, 3, 4, 3)),
    ],
    ids=["1x1", "one in", "one out", "depthwise", "one place", "one row", "one", "grows", "3d"],
)
@torch.no_grad()
def test_where_sizes_are_one_strides_alone_say_the_format(
    conv: nn.Module, shape: tuple[int, ...], input_last: bool, weight_last: bool
) -> None:
    x = torch.randn(shape)
    form = LAST[len(shape)]
    conv = copy.deepcopy(conv).to(memory_format=form) if weight_last else conv
    check(conv, x.to(memory_format=form) if input_last else x)


def test_a_transposed_convolution_takes_an_output_size() -> None:
    conv, x = nn.ConvTranspose2d(4, 6, 3, stride=2), torch.randn(2, 4, 5, 5)
    module = fused_conv(conv, mish_mish)
    for size in ((11, 11), (12, 11), [2, 6, 12, 12]):
        exact = mish_mish.reference(conv(x, output_size=size))
        torch.testing.assert_close(module(x, output_size=size), exact, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="requested an output size"):
        module(x, output_size=(99, 99))


def test_others_do_not() -> None:
    module = fused_conv(nn.Conv2d(4, 6, 3), mish_mish)
    with pytest.raises(KernelError, match=r"^FusedConv2d: output_size is for transposed convol"):
        module(torch.randn(2, 4, 5, 5), output_size=(3, 3))


def test_the_input_may_be_given_by_name() -> None:
    conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 5, 5)
    module = fused_conv(conv, mish_mish)
    assert torch.equal(module(input=x), module(x))


def test_one_image_without_a_batch() -> None:
    """Its first dim is channels: no kernel takes it so."""
    for channels in (5, 6):  # as long as the image is high, and not
        conv, x = nn.Conv2d(4, channels, 3), torch.randn(4, 7, 6)
        exact = mish_mish.reference(conv(x))
        torch.testing.assert_close(fused_conv(conv, mish_mish)(x), exact, rtol=1e-5, atol=1e-5)


def test_dtypes_that_kernels_do_not_take_are_pytorchs() -> None:
    conv, x = nn.Conv2d(4, 6, 3).double(), torch.randn(2, 4, 7, 6).double()
    y = fused_conv(conv, mish_mish)(x)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, mish_mish.reference(conv(x)), rtol=1e-12, atol=1e-12)


def test_no_images() -> None:
    conv, x = nn.Conv2d(4, 6, 3), torch.randn(0, 4, 7, 6)
    for each in (x, x.to(memory_format=torch.channels_last)):
        assert fused_conv(conv, mish_mish)(each).shape == (0, 6, 5, 4)


def test_what_pytorch_refuses_is_refused() -> None:
    module = fused_conv(nn.Conv2d(4, 6, 3), mish_mish)
    with pytest.raises(RuntimeError, match="expected input"):
        module(torch.randn(2, 5, 7, 6))
    with pytest.raises(RuntimeError, match="size"):
        module(torch.randn(2, 4, 2, 2))


@pytest.mark.parametrize(
    "bias", [torch.randn(12)[::2], torch.randn(1).expand(6)], ids=["every second", "expanded"]
)
def test_a_bias_that_is_not_dense(bias: torch.Tensor) -> None:
    conv = nn.Conv2d(4, 6, 3)
    conv.bias = nn.Parameter(bias)
    assert not conv.bias.is_contiguous()
    check(conv, torch.randn(2, 4, 7, 6))


def gradients(
    module: Callable[[torch.Tensor], torch.Tensor],
    conv: nn.Module,
    x: torch.Tensor,
    weight: torch.Tensor,
) -> list[torch.Tensor]:
    """Of x, of each parameter, and of a function of x's gradient by each."""
    inputs = [x.detach().clone().requires_grad_(), *conv.parameters()]
    loss = (module(inputs[0]) * weight).sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    second = torch.autograd.grad((first[0] ** 2).sum(), inputs)
    return [*first, *second]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stored", ["contiguous", "channels last", "sliced", "expanded"])
@pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose2d"])
def test_gradients_and_theirs_are_those_in_float64(kind: str, stored: str, bias: bool) -> None:
    make, shape = KINDS[kind]
    conv, x = make(4, 6, 3, bias=bias), INPUTS[stored](shape)
    double = copy.deepcopy(conv).double()
    weight = torch.randn_like(conv(x))
    found = gradients(fused_conv(conv, mish_mish), conv, x, weight)
    exact = gradients(lambda x: mish_mish.reference(double(x)), double, x.double(), weight.double())
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_of_16_bits(dtype: torch.dtype) -> None:
    conv, x = nn.Conv2d(4, 6, 3).to(dtype), torch.randn(2, 4, 7, 6).to(dtype)
    for one, other in zip(
        torch.autograd.grad(fused_conv(conv, mish_mish)(x).sum(), list(conv.parameters())),
        torch.autograd.grad(mish_mish.reference(conv(x)).sum(), list(conv.parameters())),
        strict=True,
    ):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.2)


@pytest.mark.parametrize("wanted", ["bias", "weight", "x"])
def test_only_one_requires_a_gradient(wanted: str) -> None:
    conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
    conv.requires_grad_(False)
    tensor = x if wanted == "x" else getattr(conv, wanted)
    tensor.requires_grad_(True)
    y = fused_conv(conv, mish_mish)(x)
    assert y.grad_fn is not None
    (found,) = torch.autograd.grad(y.sum(), tensor)
    (exact,) = torch.autograd.grad(mish_mish.reference(conv(x)).sum(), tensor)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


def test_what_a_backward_needs_is_not_overwritten() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    module = fused_conv(conv, mish_mish)
    x = torch.randn(2, 4, 7, 6, requires_grad=True)
    y = module(module(module(x)))
    exact = x
    for _ in range(3):
        exact = mish_mish.reference(conv(exact))
    inputs = [x, *conv.parameters()]
    for one, other in zip(
        torch.autograd.grad(y.sum(), inputs),
        torch.autograd.grad(exact.sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stored", ["contiguous", "channels last"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_of_the_users_is_written_to(mode: Any, stored: str) -> None:
    conv, x = nn.Conv2d(4, 4, 1, bias=False), INPUTS[stored]((2, 4, 7, 6))
    conv.weight.data.copy_(torch.eye(4).view(4, 4, 1, 1))
    module, before, version = fused_conv(conv, mish_mish), x.clone(), x._version
    with mode():
        y = module(x)
    assert torch.equal(x, before)
    assert x._version == version
    assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    assert torch.equal(conv.weight.view(4, 4), torch.eye(4))


def test_without_gradients() -> None:
    conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
    module = fused_conv(conv, mish_mish)
    with torch.no_grad():
        assert not module(x).requires_grad
    with torch.inference_mode():
        y = module(x)
        assert y.is_inference()
        kept = x * 1
    torch.testing.assert_close(y, mish_mish.reference(conv(x)), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert not module(kept).is_inference()
    conv.requires_grad_(False)
    assert not module(x).requires_grad


class TestTransforms:
    @pytest.mark.parametrize("dim", [0, 1, 3])
    @pytest.mark.parametrize("bias", [True, False])
    def test_vmap_over_the_input(self, bias: bool, dim: int) -> None:
        conv = nn.Conv2d(4, 6, 3, bias=bias)
        x = torch.randn(3, 2, 4, 7, 6)
        exact = torch.stack([mish_mish.reference(conv(each)) for each in x])
        y = vmap(fused_conv(conv, mish_mish), in_dims=dim)(x.movedim(0, dim))
        torch.testing.assert_close(y, exact, rtol=1e-5, atol=1e-5)

    def test_vmap_over_channels_last_inputs(self) -> None:
        conv = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
        x = torch.randn(3, 2, 4, 7, 6)
        flat = x.flatten(0, 1).to(memory_format=torch.channels_last)
        y = vmap(fused_conv(conv, mish_mish))(flat.unflatten(0, (3, 2)))
        torch.testing.assert_close(
            y.flatten(0, 1), mish_mish.reference(conv(flat)), rtol=1e-5, atol=1e-5
        )

    def test_vmap_over_the_weight(self) -> None:
        conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
        module, weights = fused_conv(conv, mish_mish), torch.randn(3, 6, 4, 3, 3)

        def call(weight: torch.Tensor) -> torch.Tensor:
            return functional_call(module, {"weight": weight, "bias": conv.bias}, (x,))

        exact = [mish_mish.reference(nn.functional.conv2d(x, each, conv.bias)) for each in weights]
        torch.testing.assert_close(vmap(call)(weights), torch.stack(exact), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("bias", [True, False])
    def test_functional_gradients(self, bias: bool) -> None:
        conv, x = nn.Conv2d(4, 6, 3, bias=bias), torch.randn(2, 4, 7, 6)
        module = fused_conv(conv, mish_mish)
        parameters = dict(conv.named_parameters())

        def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            return functional_call(module, parameters, (x,)).sum()

        def exact(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            return mish_mish.reference(functional_call(conv, parameters, (x,))).sum()

        found, wanted = grad(loss)(parameters), grad(exact)(parameters)
        assert found.keys() == wanted.keys()
        for name in found:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-3)

    def test_gradients_of_each_image(self) -> None:
        conv, x = nn.Conv2d(4, 6, 3), torch.randn(3, 4, 7, 6)
        module = fused_conv(conv, mish_mish)
        found = vmap(grad(lambda each: module(each[None]).sum()))(x)
        exact = vmap(grad(lambda each: mish_mish.reference(conv(each[None])).sum()))(x)
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    @pytest.mark.parametrize("kernel", [mish_mish, mish_add_hardtanh_scale], ids=["", "scalars"])
    def test_torch_compile_has_one_graph(self, kernel: Kernel, backend: str) -> None:
        torch._dynamo.reset()
        conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
        module = torch.compile(fused_conv(conv, kernel), backend=backend, fullgraph=True)
        y, exact = module(x), kernel.reference(conv(x), **kernel.scalars)
        torch.testing.assert_close(y, exact, rtol=1e-5, atol=1e-5)
        parameters = list(conv.parameters())
        for one, other in zip(
            torch.autograd.grad(y.sum(), parameters),
            torch.autograd.grad(exact.sum(), parameters),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)

    @pytest.mark.filterwarnings("ignore")
    def test_torch_compile_of_what_no_kernel_takes(self) -> None:
        torch._dynamo.reset()
        for channels in (5, 6):
            conv, x = nn.Conv2d(4, channels, 3), torch.randn(4, 7, 6)
            module = torch.compile(fused_conv(conv, mish_mish), backend="eager", fullgraph=True)
            torch.testing.assert_close(module(x), mish_mish.reference(conv(x)))

    @pytest.mark.filterwarnings("ignore")
    def test_torch_export(self) -> None:
        conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
        program = torch.export.export(nn.Sequential(fused_conv(conv, mish_mish)), (x,))
        torch.testing.assert_close(
            program.module()(x), mish_mish.reference(conv(x)), rtol=1e-5, atol=1e-5
        )


class TestModule:
    def test_it_shares_the_parameters_and_changes_nothing(self) -> None:
        conv = nn.Conv2d(4, 6, 3)
        before = {name: id(value) for name, value in conv.__dict__.items()}
        module = fused_conv(conv, mish_mish)
        assert type(conv) is nn.Conv2d
        assert {name: id(value) for name, value in conv.__dict__.items()} == before
        assert module.weight is conv.weight
        assert module.bias is conv.bias
        assert list(module.state_dict()) == list(conv.state_dict()) == ["weight", "bias"]

    def test_what_is_registered_with_the_one_is_not_with_the_other(self) -> None:
        conv = nn.Conv2d(4, 6, 3)
        module = fused_conv(conv, mish_mish)
        seen = []
        module.register_forward_hook(lambda *arguments: seen.append("fused"))
        module.register_buffer("extra", torch.ones(1))
        conv.register_forward_hook(lambda *arguments: seen.append("conv"))
        conv.register_parameter("own", nn.Parameter(torch.ones(1)))
        x = torch.randn(2, 4, 7, 6)
        module(x)
        assert seen == ["fused"]
        conv(x)
        assert seen == ["fused", "conv"]
        assert "extra" not in conv.state_dict()
        assert "own" not in module.state_dict()

    def test_a_state_that_is_loaded_is_loaded_into_both(self) -> None:
        conv, other = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3)
        module = fused_conv(conv, mish_mish)
        module.load_state_dict(other.state_dict())
        assert torch.equal(conv.weight, other.weight)
        other.load_state_dict(module.state_dict())

    def test_a_deep_copy_has_parameters_of_its_own_and_the_same_kernel(self) -> None:
        conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
        module = fused_conv(conv, mish_mish)
        twin = copy.deepcopy(module)
        assert twin.kernel is module.kernel
        assert twin.weight is not module.weight
        before = module(x)
        torch.testing.assert_close(twin(x), before)
        with torch.no_grad():
            twin.weight.zero_()
        assert torch.equal(module(x), before)

    def test_it_can_be_pickled_and_saved(self) -> None:
        conv, x = nn.Conv2d(4, 6, 3), torch.randn(2, 4, 7, 6)
        module = fused_conv(conv, mish_add_hardtanh_scale, {"scale": 3.0})
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        for loaded in (pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)):
            assert loaded.kernel is mish_add_hardtanh_scale
            torch.testing.assert_close(loaded(x), module(x))

    def test_it_follows_to_and_half(self) -> None:
        module = fused_conv(nn.Conv2d(4, 6, 3), mish_mish).half()
        assert module(torch.randn(2, 4, 7, 6).half()).dtype == torch.float16
        assert module.to("meta")(torch.empty(2, 4, 7, 6, device="meta").half()).shape == (
            2,
            6,
            5,
            4,
        )

    def test_it_says_what_it_is(self) -> None:
        module = fused_conv(nn.Conv2d(4, 6, 3), mish_add_hardtanh_scale, {"scale": 3.0})
        assert repr(module) == (
            "FusedConv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), "
            "then mish_add_hardtanh_scale, add_value=0.5, scale=3)"
        )


HOOKS: dict[str, Callable[[nn.Module], object]] = {
    "forward": lambda conv: conv.register_forward_hook(lambda *arguments: None),
    "forward pre": lambda conv: conv.register_forward_pre_hook(lambda *arguments: None),
    "backward": lambda conv: conv.register_full_backward_hook(lambda *arguments: None),
    "backward pre": lambda conv: conv.register_full_backward_pre_hook(lambda *arguments: None),
}


class TestRefused:
    @pytest.mark.parametrize("hook", HOOKS)
    def test_hooks(self, hook: str) -> None:
        conv = nn.Conv2d(4, 6, 3)
        HOOKS[hook](conv)
        with pytest.raises(KernelError, match=r"^Conv2d has hooks, which expect its own result$"):
            fused_conv(conv, mish_mish)

    @pytest.mark.filterwarnings("ignore")
    def test_old_parametrizations_are_hooks(self) -> None:
        for change in (nn.utils.weight_norm, nn.utils.spectral_norm):
            with pytest.raises(KernelError, match=r"^Conv2d has hooks"):
                fused_conv(change(nn.Conv2d(4, 6, 3)), mish_mish)

    def test_parametrizations(self) -> None:
        conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3))
        with pytest.raises(KernelError, match=r"Conv2d is none of PyTorch's convolutions$"):
            fused_conv(conv, mish_mish)

    def test_a_forward_of_its_own(self) -> None:
        conv = nn.Conv2d(4, 6, 3)
        conv.forward = lambda x: x  # type: ignore[method-assign]
        with pytest.raises(KernelError, match=r"^Conv2d has a forward of its own"):
            fused_conv(conv, mish_mish)

    @pytest.mark.parametrize(
        "module",
        [
            nn.Linear(3, 4),
            nn.LazyConv2d(4, 3),
            nn.Identity(),
            type("Own", (nn.Conv2d,), {})(3, 4, 3),
        ],
        ids=lambda module: type(module).__name__,
    )
    def test_what_is_no_convolution_of_pytorchs(self, module: nn.Module) -> None:
        name = type(module).__name__
        with pytest.raises(KernelError, match=f"^{name} is none of PyTorch's convolutions$"):
            fused_conv(module, mish_mish)

    def test_a_fused_one(self) -> None:
        module = fused_conv(nn.Conv2d(4, 6, 3), mish_mish)
        with pytest.raises(KernelError, match=r"^FusedConv2d is none of"):
            fused_conv(module, mish_mish)

    def test_kernels_of_other_kinds(self) -> None:
        two = pointwise("two", epilogue=add_bias, reference=lambda x, y: x + y, input_count=2)
        for kernel in (two, folded(mish_mish)):
            with pytest.raises(KernelError, match=r"expected a pointwise kernel of one input$"):
                fused_conv(nn.Conv2d(4, 6, 3), kernel)

    def test_scalars_that_it_has_not(self) -> None:
        with pytest.raises(KernelError, match=r"no scalar 'scael'; it has: add_value, scale$"):
            fused_conv(nn.Conv2d(4, 6, 3), mish_add_hardtanh_scale, {"scael": 1.0})
