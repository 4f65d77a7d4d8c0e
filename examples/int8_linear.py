"""A linear layer whose weight is int8 with a scale for each output channel.

tunekit tune examples/int8_linear.py:int8_linear --dim M=16 --dim N=11008 --dim K=4096 \
    --dtype float16
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

import tunekit


@triton.jit(do_not_specialize=["M"])  # one binary, and one tuned row, for any number of tokens
def int8_linear_kernel(
    y, x, weight, scales, y_stride, x_stride, weight_stride, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # Blocks in groups of GROUP_M rows of blocks: neighbours share what they load, in the L2 cache.
    block, blocks_m, blocks_n = tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    group, place = block // (GROUP_M * blocks_n), block % (GROUP_M * blocks_n)
    group_rows = tl.minimum(blocks_m - group * GROUP_M, GROUP_M)
    m = (group * GROUP_M + place % group_rows) * BLOCK_M + tl.arange(0, BLOCK_M)[None, :]
    n = (place // group_rows) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    # The weight is the left operand, as a Hopper GPU takes only that from registers, where int8
    # becomes the dtype of x; so the tile of the result is (BLOCK_N, BLOCK_M).
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for start in range(0, K, BLOCK_K):
        left_k = start + tl.arange(0, BLOCK_K)[None, :]
        right_k = start + tl.arange(0, BLOCK_K)[:, None]
        left = tl.load(weight + n * weight_stride + left_k, mask=(n < N) & (left_k < K), other=0)
        right = tl.load(x + m * x_stride + right_k, mask=(m < M) & (right_k < K), other=0.0)
        total = tl.dot(left.to(x.dtype.element_ty), right, total)
    total *= tl.load(scales + n, mask=n < N)
    tl.store(y + m * y_stride + n, total, mask=(m < M) & (n < N))


def quantised(weight):
    """A weight of shape (N, K) as int8, and its scales, float32 of shape (N,)."""
    scales = weight.float().abs().amax(1) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


def inputs(M, N, K, *, dtype, device):
    x = torch.randn(M, K, dtype=dtype, device=device)
    return x, *quantised(torch.randn(N, K, device=device) / K**0.5)


@tunekit.kernel(
    shapes={"x": ("M", "K"), "weight": ("N", "K"), "scales": ("N",)},
    inputs=inputs,
    reference=lambda x, weight, scales: F.linear(x, (weight * scales[:, None]).to(x.dtype)),
    flops=lambda M, N, K: 2 * M * N * K,
    dtypes=["float16", "bfloat16"],
    space={
        "axes": {
            "BLOCK_M": [16, 32, 64, 128],
            "BLOCK_N": [64, 128],
            "BLOCK_K": [64, 128],
            "GROUP_M": [1, 8],
            "num_warps": [4, 8],
            "num_stages": [3, 4, 5],
        },
        "default": {
            "BLOCK_M": "max(16, min(64, next_power_of_2(M)))",
            "BLOCK_N": "64 if M <= 32 else 128",
            "BLOCK_K": 64,
            "GROUP_M": 8,
            "num_warps": 4,
            "num_stages": 3,
        },
        "constraints": {
            "rows_exist": "BLOCK_M <= max(16, next_power_of_2(M))",
            "groups_matter": "GROUP_M == 8 or M > BLOCK_M",
            "tile_fits_registers": "BLOCK_M * BLOCK_N <= num_warps * 32 * 128",
            "every_warp_has_work": "BLOCK_M * BLOCK_N >= num_warps * 32 * 4",
            "stages_fit_shared_memory": (
                "num_stages * BLOCK_K * (BLOCK_M * itemsize + BLOCK_N) <= shared_bytes_per_block"
            ),
        },
    },
)
def int8_linear(x, weight, scales):
    """Linear layer, x @ (weight * scales).T, of int8 weight (N, K) and float32 scales (N,)."""
    assert x.stride(1) == weight.stride(1) == scales.stride(0) == 1, "rows must be contiguous"
    (M, K), N = x.shape, weight.shape[0]
    y = torch.empty(M, N, dtype=x.dtype, device=x.device)
    return tunekit.launch(
        int8_linear_kernel,
        *(y, x, weight, scales, y.stride(0), x.stride(0), weight.stride(0), M, N, K),
        grid=lambda config: triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"]),
        outputs=y,
    )
