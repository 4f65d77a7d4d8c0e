"""Rotary position embedding of queries and keys in one launch.

tunekit tune examples/rotary.py:rotary --dim batch=1 --dim q_heads=32 --dim k_heads=8 \
    --dim seq=4096 --dim head_dim=128 --dtype bfloat16
"""

import torch
import triton
import triton.language as tl

import tunekit


@triton.jit
def rotate(
    y, x, y_strides, x_strides, cos, sin, cos_stride, sin_stride, block, seq,
    HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK_HALF: tl.constexpr, BLOCK_ROWS: tl.constexpr,
):  # fmt: skip
    row = block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]  # of a position and a head
    position, head = row // HEADS, row % HEADS
    column = tl.arange(0, BLOCK_HALF)[None, :]
    mask = (position < seq) & (column < HALF)
    batch = tl.program_id(1).to(tl.int64)
    x += batch * x_strides[0] + head * x_strides[1] + position * x_strides[2] + column
    y += batch * y_strides[0] + head * y_strides[1] + position * y_strides[2] + column
    c = tl.load(cos + position * cos_stride + column, mask=mask).to(tl.float32)
    s = tl.load(sin + position * sin_stride + column, mask=mask).to(tl.float32)
    first = tl.load(x, mask=mask).to(tl.float32)
    second = tl.load(x + HALF, mask=mask).to(tl.float32)
    tl.store(y, first * c - second * s, mask=mask)
    tl.store(y + HALF, second * c + first * s, mask=mask)


@triton.jit(do_not_specialize=["seq"])
def rotary_kernel(
    q_out, k_out, q, k, cos, sin, q_out_strides, k_out_strides, q_strides, k_strides,
    cos_stride, sin_stride, seq,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK_HALF: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):  # fmt: skip
    block, q_blocks = tl.program_id(0), tl.cdiv(seq * Q_HEADS, BLOCK_ROWS)
    if block < q_blocks:
        rotate(q_out, q, q_out_strides, q_strides, cos, sin, cos_stride, sin_stride,
               block, seq, Q_HEADS, HALF, BLOCK_HALF, BLOCK_ROWS)  # fmt: skip
    else:
        rotate(k_out, k, k_out_strides, k_strides, cos, sin, cos_stride, sin_stride,
               block - q_blocks, seq, K_HEADS, HALF, BLOCK_HALF, BLOCK_ROWS)  # fmt: skip


def inputs(batch, q_heads, k_heads, seq, head_dim, *, dtype, device):
    """As a model has them: heads beside one another in memory, halves of cos and sin the same."""
    q = torch.randn(batch, seq, q_heads, head_dim, dtype=dtype, device=device).transpose(1, 2)
    k = torch.randn(batch, seq, k_heads, head_dim, dtype=dtype, device=device).transpose(1, 2)
    powers = torch.arange(0, head_dim, 2, device=device) / head_dim
    angles = torch.arange(seq, device=device)[:, None] * 10000.0**-powers
    angles = torch.cat([angles, angles], -1)
    return q, k, angles.cos().to(dtype), angles.sin().to(dtype)


def reference(q, k, cos, sin):
    def rotated(x):
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    return rotated(q), rotated(k)


@tunekit.kernel(
    shapes={
        "q": ("batch", "q_heads", "seq", "head_dim"),
        "k": ("batch", "k_heads", "seq", "head_dim"),
        "cos": ("seq", "head_dim"),
        "sin": ("seq", "head_dim"),
    },
    inputs=inputs,
    reference=reference,
    space={
        "axes": {"BLOCK_ROWS": {"from": 4, "to": 128}, "num_warps": [1, 2, 4, 8, 16]},
        "default": {
            "BLOCK_ROWS": "max(4, min(128, next_power_of_2(4096 // head_dim)))",
            "num_warps": 4,
        },
        "constraints": {
            "tile_fits_registers": "BLOCK_ROWS * head_dim <= num_warps * 32 * 64",
            "loads_are_wide": (
                "num_warps <= 4 or BLOCK_ROWS * head_dim * itemsize >= num_warps * 32 * 16"
            ),
        },
    },
)
def rotary(q, k, cos, sin):
    """Rotary embedding of q and k of shape (batch, heads, seq, head_dim), in halves."""
    assert all(x.stride(-1) == 1 for x in (q, k, cos, sin)), "the last dim must be contiguous"
    (batch, q_heads, seq, head_dim), k_heads = q.shape, k.shape[1]
    assert head_dim % 2 == 0, "the first half of head_dim is rotated with the second"
    q_out, k_out = torch.empty_like(q), torch.empty_like(k)
    return tunekit.launch(
        rotary_kernel,
        *(q_out, k_out, q, k, cos, sin),
        *(x.stride() for x in (q_out, k_out, q, k)),
        *(cos.stride(0), sin.stride(0), seq),
        *(q_heads, k_heads, head_dim // 2, triton.next_power_of_2(head_dim // 2)),
        grid=lambda config: (
            sum(triton.cdiv(seq * heads, config["BLOCK_ROWS"]) for heads in (q_heads, k_heads)),
            batch,
        ),
        outputs=(q_out, k_out),
    )
