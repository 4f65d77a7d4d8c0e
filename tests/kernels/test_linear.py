from __future__ import annotations

import pytest
import torch

from tunekit.core.device import DEVICES
from tunekit.errors import KernelError
from tunekit.kernels import epilogues
from tunekit.kernels.linear import linear
from tunekit.kernels.linear_library import LINEAR_KERNELS, linear_gelu
from tunekit.kernels.plan import TensorMeta

H100 = DEVICES["h100"]


def test_inputs_follow_from_the_sizes() -> None:
    assert linear_gelu.input_metas((2, 3, 4), "float16") == (
        TensorMeta.contiguous((2, 4), "float16"),
        TensorMeta.contiguous((3, 4), "float16"),
        TensorMeta.contiguous((3,), "float16"),
    )
    added = LINEAR_KERNELS["linear_add"]
    assert added.input_metas((2, 3, 4), "float16")[3] == TensorMeta.contiguous((2, 3), "float16")
    assert linear_gelu.sizes == ("M", "N", "K")


def test_a_layer_without_bias() -> None:
    kernel = linear("bare", epilogue=epilogues.identity, reference=lambda x, w: x @ w.T, bias=False)
    launch = kernel.launch_for((4, 8, 16), "float16", H100)
    assert len(launch.inputs) == kernel.input_count == 2


def test_what_is_no_epilogue_is_refused() -> None:
    with pytest.raises(KernelError, match="must be a @triton"):
        linear("wrong", epilogue=lambda x: x, reference=lambda x, w, b: x)


def test_work_is_two_operations_a_product() -> None:
    assert linear_gelu.flops is not None
    assert linear_gelu.flops({"M": 2, "N": 3, "K": 5}) == 60


def test_inputs_give_sums_of_order_one() -> None:
    shape = (64, 64, 1024)
    inputs = [torch.empty(meta.shape) for meta in linear_gelu.input_metas(shape, "float32")]
    assert linear_gelu.draw is not None
    linear_gelu.draw(inputs, shape, "float32")
    sums = inputs[0] @ inputs[1].T
    assert 0.8 < float(sums.std()) < 1.2
    assert all(each.isfinite().all() for each in inputs)


@pytest.mark.parametrize("k", [64, 1024, 16384])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_tolerance_notices_one_product_left_out(dtype: str, k: int) -> None:
    launch = linear_gelu.launch_for((64, 64, k), dtype, H100)
    assert linear_gelu.tolerance is not None
    allowed = linear_gelu.tolerance(launch, launch.results[0])
    assert allowed is not None
    assert allowed.absolute < k**-0.5 / 4


def test_epilogues_have_hashes_of_their_own() -> None:
    assert len({kernel.source_hash for kernel in LINEAR_KERNELS.values()}) == len(LINEAR_KERNELS)
