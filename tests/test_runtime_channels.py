"""Memory formats, and the operator that folds a bias in.

On the CPU nothing is launched; `nn/test_conv_interpreter.py` runs this file again in Triton's
interpreter, where the same tensors go through the kernels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from tunekit.errors import KernelError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import identity, mish_add_hardtanh_scale, mish_mish
from tunekit.runtime.call import INTERPRETED
from tunekit.runtime.channels import (
    is_channels_last,
    like_result,
    suggests_channels_last,
    to_format,
    with_bias,
)
from tunekit.runtime.graph_channels import call_with_bias

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
SHAPES = (
    *itertools.product((1, 2), (1, 3), (1, 4), (1, 5)),
    (2, 3, 4, 5, 2),
    (2, 1, 4, 1, 2),
    (2, 3, 1, 1, 1),
    (0, 3, 4, 5),
)
VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "itself": lambda x: x,
    "sliced": lambda x: x[..., ::2],
    "channels": lambda x: x[:, ::2],
    "images": lambda x: x[1:],
    "permuted": lambda x: x.transpose(1, -1),
    "rows": lambda x: x.transpose(-1, -2),
    "expanded": lambda x: x[:1].expand_as(x),
    "row": lambda x: x[..., :1, :],
    "column": lambda x: x[..., :1],
    "one channel": lambda x: x[:, :1],
}


def tensors() -> list[torch.Tensor]:
    """All kinds of strides."""
    made = [torch.randn(shape) for shape in SHAPES]
    made += [x.to(memory_format=LAST[x.dim()]) for x in made]
    return [view(x) for x in made for view in VIEWS.values()]


def test_the_rule_is_pytorchs() -> None:
    from torch._prims_common import suggest_memory_format

    for x in tensors():
        wanted = suggest_memory_format(x) is LAST[x.dim()]
        assert suggests_channels_last(x) is wanted, (x.shape, x.stride())


def test_a_convolution_follows_the_rule() -> None:
    """By its result: what it is given goes by the rule, whatever its weight is."""
    weight = torch.randn(4, 3, 1, 1).contiguous()
    for x in (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 1)):
        for each in (x, x.to(memory_format=torch.channels_last)):
            assert suggests_channels_last(F.conv2d(each, weight)) is suggests_channels_last(each)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4), (2, 3, 1, 1, 1, 1)])
def test_of_other_dims_there_is_none(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert not suggests_channels_last(x)
    assert not is_channels_last(x)
    if len(shape) > 1:
        assert to_format(x, True) is x
        assert to_format(x, False) is x


def test_what_is_channels_last_is_dense() -> None:
    for x in tensors():
        if is_channels_last(x):
            assert suggests_channels_last(x)
            assert x.is_contiguous(memory_format=LAST[x.dim()])
        elif suggests_channels_last(x):
            assert not x.is_contiguous(memory_format=LAST[x.dim()])


@pytest.mark.parametrize("channels_last", [False, True])
def test_to_format(channels_last: bool) -> None:
    for x in tensors():
        y = to_format(x, channels_last)
        assert torch.equal(x, y)
        form = LAST[x.dim()] if channels_last else torch.contiguous_format
        assert y.is_contiguous(memory_format=form)
        if x.numel() and y.stride() != (1,) * x.dim() and max(x.shape[1:]) > 1:
            assert suggests_channels_last(y) is channels_last, (x.shape, x.stride(), y.stride())
        assert to_format(y, channels_last).data_ptr() == y.data_ptr()  # nothing to do


@pytest.mark.parametrize("channels_last", [False, True])
def test_to_format_of_a_sign_that_is_not_in_memory(channels_last: bool) -> None:
    for x in (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5).to(memory_format=LAST[4])):
        assert torch.equal(to_format(torch._neg_view(x), channels_last), -x)


@pytest.mark.parametrize("channels_last", [False, True])
def test_autograd_follows_a_format(channels_last: bool) -> None:
    for x in (torch.randn(2, 3, 4, 5), torch.randn(2, 1, 4, 5), torch.randn(2, 3, 1, 1)):
        for each in (x, x.to(memory_format=LAST[4])):
            leaf = each.detach().clone().requires_grad_()
            to_format(leaf * 2, channels_last).square().sum().backward()
            torch.testing.assert_close(leaf.grad, 8 * x, check_stride=False)


def exact_of(
    kernel: Kernel, x: torch.Tensor, bias: torch.Tensor | None, values: dict[str, float]
) -> torch.Tensor:
    x = x.double()
    if bias is not None:
        x = x + bias.double().view(-1, *[1] * (x.dim() - 2))
    return kernel.reference(x, **values)


def like_it(x: torch.Tensor) -> torch.Tensor:
    return torch.randn(x.shape).to(x.dtype) if x.numel() else x


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kernel", [mish_mish, mish_add_hardtanh_scale], ids=lambda each: each.name)
def test_the_operator_on_all_kinds_of_tensors(kernel: Kernel, biased: bool) -> None:
    values = {name: value + 0.25 for name, value in kernel.scalars.items()}
    seen = [torch.randn(3, 4), torch.randn(2, 3, 7), *tensors()[::11]]
    for x in seen:
        bias = torch.randn(x.shape[1]) if biased else None
        y = call_with_bias(kernel, x, bias, values)
        assert y.stride() == like_result(x).stride()
        assert y.numel() == 0 or y.data_ptr() != x.data_ptr()
        torch.testing.assert_close(
            y.double(), exact_of(kernel, x, bias, values), rtol=1e-5, atol=1e-5, check_stride=False
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias_dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_bias_of_another_dtype(dtype: torch.dtype, bias_dtype: torch.dtype) -> None:
    """As under autocast: the convolution is in 16 bits, the parameter is not."""
    x = torch.randn(2, 3, 4, 5).to(dtype).requires_grad_()
    bias = torch.randn(3).to(bias_dtype).requires_grad_()
    y = call_with_bias(mish_mish, x, bias, {})
    assert y.dtype == dtype
    exact = exact_of(mish_mish, x, bias, {})
    torch.testing.assert_close(y.double(), exact, rtol=2e-2, atol=2e-2)
    found = torch.autograd.grad(y.sum(), (x, bias))
    for one, other in zip(found, torch.autograd.grad(exact.sum(), (x, bias)), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one.double(), other.double(), rtol=5e-2, atol=0.3)


@pytest.mark.parametrize("biased", [True, False])
def test_vmap_of_the_operator(biased: bool) -> None:
    bias = torch.randn(3) if biased else None
    x = torch.randn(4, 2, 3, 5, 5)
    for dim in (0, 2, -1):
        y = torch.vmap(lambda x: call_with_bias(mish_mish, x, bias, {}), in_dims=dim)(
            x.movedim(0, dim)
        )
        exact = torch.stack([exact_of(mish_mish, each, bias, {}) for each in x])
        torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [(0, 0), (None, 0)])
def test_vmap_over_the_bias_is_refused(dims: tuple[int | None, int]) -> None:
    x = torch.randn(4, 2, 3, 5, 5)
    with pytest.raises(KernelError, match=r"^mish_mish\+bias: vmap over the bias is not supp"):
        torch.vmap(lambda x, bias: call_with_bias(mish_mish, x, bias, {}), in_dims=dims)(
            x if dims[0] == 0 else x[0], torch.randn(4, 3)
        )


if INTERPRETED:

    @pytest.mark.parametrize(
        ("stored", "kernel", "biased"),
        [
            ("contiguous", mish_mish, True),
            ("channels last", mish_add_hardtanh_scale, True),
            ("permuted", mish_mish, True),
            ("channels last", mish_mish, False),
            ("2-D", mish_add_hardtanh_scale, False),
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_the_operator_keeps_pytorchs_rules(stored: str, kernel: Kernel, biased: bool) -> None:
        x = {
            "contiguous": torch.randn(2, 3, 4, 5),
            "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "permuted": torch.randn(3, 2, 4, 9).transpose(0, 1)[..., :5],
            "2-D": torch.randn(4, 3),
        }[stored].requires_grad_()
        bias = torch.randn(3, requires_grad=True) if biased else None
        torch.library.opcheck(
            torch.ops.tunekit.with_bias.default,
            (kernel.handle, x, bias, list(kernel.scalars.values())),
        )

    @pytest.mark.parametrize("channels_last", [None, False, True])
    @pytest.mark.parametrize("inplace", [False, True])
    @pytest.mark.parametrize("biased", [True, False])
    def test_with_bias_stores_as_it_is_told(
        biased: bool, inplace: bool, channels_last: bool | None
    ) -> None:
        for x in [x for x in tensors()[::13] if x.numel()]:
            bias = torch.randn(x.shape[1]) if biased else None
            exact, before = exact_of(mish_mish, x, bias, {}), x.clone()
            dense, version = is_channels_last(x) or x.is_contiguous(), x._version
            if inplace and not dense:
                continue
            y = with_bias(mish_mish, x, bias, {}, channels_last=channels_last, inplace=inplace)
            torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5, check_stride=False)
            if channels_last is None:
                assert y.stride() == like_result(x).stride()
            else:
                assert torch.equal(to_format(y, channels_last), y)
                assert to_format(y, channels_last).data_ptr() == y.data_ptr()
            if not inplace:
                assert torch.equal(x, before)
                assert x._version == version
            elif y.data_ptr() == x.data_ptr():
                assert x._version > version

    def test_in_place_is_in_place_where_nothing_is_transposed() -> None:
        for x in (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5).to(memory_format=LAST[4])):
            for bias in (torch.randn(3), None):
                kept = is_channels_last(x)
                y = with_bias(identity, x, bias, {}, channels_last=kept, inplace=True)
                assert y.data_ptr() == x.data_ptr()
                y = with_bias(identity, x, bias, {}, channels_last=not kept, inplace=True)
                assert y.data_ptr() != x.data_ptr()

    def test_where_autograd_records_nothing_is_in_place() -> None:
        x, bias = torch.randn(2, 3, 4, 5), torch.randn(3, requires_grad=True)
        before = x.clone()
        y = with_bias(mish_mish, x, bias, {}, inplace=True)
        assert torch.equal(x, before)
        assert y.grad_fn is not None

    def test_a_bias_of_another_size_is_one_clear_line() -> None:
        with pytest.raises(KernelError, match=r"^input 1 has shape \(4,\) .* shape \(3,\), contig"):
            with_bias(mish_mish, torch.randn(2, 3, 4, 5), torch.randn(4), {})
