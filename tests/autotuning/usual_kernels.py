"""Kernels as they are written for Triton's own decorator.

test_interpreted.py runs this source twice: as it is, and with one import changed.
"""

import torch
import triton
import triton.language as tl
from triton import autotune


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# --- a vector add: one size, a grid that is a function -------------------------------------------


@autotune(
    configs=[
        triton.Config({"BLOCK": 64}, num_warps=2),
        triton.Config({"BLOCK": 256}, num_warps=4),
        triton.Config({"BLOCK": 512}, num_warps=8),
    ],
    key=["n"],
)
@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + y, mask=mask)


def vector_add():
    x, y = random(600), random(600, seed=1)
    out = torch.empty_like(x)
    add_kernel[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]),)](x, y, out, x.numel())
    return out, x + y


# --- a row softmax: a constant of the caller's, a grid that is a tuple ----------------------------


@autotune(
    configs=[triton.Config({}, num_warps=warps) for warps in (1, 2, 4)],
    key=["columns"],
    warmup=None,
    rep=None,
)
@triton.jit
def softmax_kernel(out_ptr, x_ptr, row_stride, columns, WIDTH: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, WIDTH)
    mask = offsets < columns
    x = tl.load(x_ptr + row * row_stride + offsets, mask=mask, other=-float("inf"))
    e = tl.exp(x - tl.max(x, 0))
    tl.store(out_ptr + row * row_stride + offsets, e / tl.sum(e, 0), mask=mask)


def softmax():
    x = random(3, 100)
    out = torch.empty_like(x)
    softmax_kernel[(3,)](out, x, x.stride(0), 100, WIDTH=128)
    return out, torch.softmax(x, -1)


# --- a layer norm: a loop over the row, three outputs, an argument that may be None ---------------


@autotune(
    configs=[triton.Config({"BLOCK": size}, num_warps=4) for size in (32, 64, 128)],
    key=["columns", "HAS_BIAS"],
)
@triton.jit
def layer_norm_kernel(
    x_ptr, out_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, columns, eps,
    HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    mean = tl.sum(total, 0) / columns
    square = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
        centred = tl.where(at < columns, x - mean, 0.0)
        square += centred * centred
    rstd = 1 / tl.sqrt(tl.sum(square, 0) / columns + eps)
    tl.store(mean_ptr + row, mean)
    tl.store(rstd_ptr + row, rstd)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        mask = at < columns
        x = tl.load(x_ptr + row * columns + at, mask=mask, other=0.0)
        y = (x - mean) * rstd * tl.load(weight_ptr + at, mask=mask)
        if HAS_BIAS:
            y += tl.load(bias_ptr + at, mask=mask)
        tl.store(out_ptr + row * columns + at, y, mask=mask)


def _layer_norm(bias):
    x, weight = random(2, 90), random(90, seed=1)
    out, mean, rstd = torch.empty_like(x), torch.empty(2), torch.empty(2)
    layer_norm_kernel[(2,)](x, out, weight, bias, mean, rstd, 90, 1e-5, HAS_BIAS=bias is not None)
    return out, torch.nn.functional.layer_norm(x, (90,), weight, bias, 1e-5)


def layer_norm():
    plain, expected_plain = _layer_norm(None)
    biased, expected_biased = _layer_norm(random(90, seed=2))
    return torch.cat([plain, biased]), torch.cat([expected_plain, expected_biased])


# --- a matrix product: three sizes, heuristics beneath, all arguments by name ---------------------


@autotune(
    configs=[
        triton.Config({"BM": 16, "BN": 16, "BK": 32}, num_stages=2, num_warps=2),
        triton.Config({"BM": 32, "BN": 16, "BK": 16}, num_stages=3, num_warps=2),
        triton.Config({"BM": 16, "BN": 32, "BK": 64}, num_stages=1, num_warps=4),
    ],
    key=["M", "N", "K"],
)
@triton.heuristics({"EVEN_K": lambda args: args["K"] % args["BK"] == 0})
@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K, stride_am, stride_bk, stride_cm,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        a_at = a_ptr + rm[:, None] * stride_am + (k + rk)[None, :]
        b_at = b_ptr + (k + rk)[:, None] * stride_bk + rn[None, :]
        if EVEN_K:
            a = tl.load(a_at, mask=(rm < M)[:, None], other=0.0)
            b = tl.load(b_at, mask=(rn < N)[None, :], other=0.0)
        else:
            a = tl.load(a_at, mask=(rm < M)[:, None] & (k + rk < K)[None, :], other=0.0)
            b = tl.load(b_at, mask=(k + rk < K)[:, None] & (rn < N)[None, :], other=0.0)
        total += tl.dot(a, b)
    c_at = c_ptr + rm[:, None] * stride_cm + rn[None, :]
    tl.store(c_at, total, mask=(rm < M)[:, None] & (rn < N)[None, :])


def matmul():
    found = []
    for k in (32, 24):
        a, b = random(20, k, dtype=torch.float16), random(k, 30, seed=1, dtype=torch.float16)
        c = torch.empty(20, 30)
        matmul_kernel[lambda meta: (triton.cdiv(20, meta["BM"]), triton.cdiv(30, meta["BN"]))](
            a_ptr=a, b_ptr=b, c_ptr=c, M=20, N=30, K=k,
            stride_am=a.stride(0), stride_bk=b.stride(0), stride_cm=c.stride(0),
        )  # fmt: skip
        found += [c, a.float() @ b.float()]
    return torch.cat(found[::2]), torch.cat(found[1::2])


# --- atomics into an output that has to be zero ---------------------------------------------------


@autotune(
    configs=[
        triton.Config({"BLOCK": 32, "SPLIT": 1}),
        triton.Config({"BLOCK": 32, "SPLIT": 2}),
        triton.Config({"BLOCK": 64, "SPLIT": 4}),
    ],
    key=["rows", "columns"],
    reset_to_zero=["out_ptr"],
)
@triton.jit
def column_sums_kernel(x_ptr, out_ptr, rows, columns, BLOCK: tl.constexpr, SPLIT: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, rows, SPLIT):
        row = start + tl.program_id(1)
        mask = (at < columns) & (row < rows)
        total += tl.load(x_ptr + row * columns + at, mask=mask, other=0.0)
    tl.atomic_add(out_ptr + at, total, mask=at < columns)


def column_sums():
    x, out = random(9, 100), torch.zeros(100)
    column_sums_kernel[lambda meta: (triton.cdiv(100, meta["BLOCK"]), meta["SPLIT"])](
        x, out, 9, 100
    )
    return out, x.sum(0)


# --- in place -------------------------------------------------------------------------------------


@autotune(
    configs=[triton.Config({"BLOCK": size}) for size in (64, 128)],
    key=["n"],
    restore_value=["x_ptr"],
)
@triton.jit
def scale_kernel(x_ptr, n, factor, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    tl.store(x_ptr + at, x * factor, mask=at < n)


def scaled_in_place():
    x = random(300)
    expected = x * 3
    scale_kernel[lambda meta: (triton.cdiv(300, meta["BLOCK"]),)](x, 300, 3.0)
    return x, expected


# --- configurations that are pruned, by a rule and by a model -------------------------------------

PRUNED = []


def small_blocks(configs, named_args, **kwargs):
    kept = [each for each in configs if each.kwargs["BLOCK"] <= named_args["n"]]
    PRUNED.append((len(configs), len(kept), sorted(kwargs)))
    return kept


@autotune(
    configs=[triton.Config({"BLOCK": size}) for size in (1024, 64, 128, 256)],
    key=["n"],
    prune_configs_by={
        "early_config_prune": small_blocks,
        "perf_model": lambda n, BLOCK, **rest: n / BLOCK,
        "top_k": 2,
    },
)
@triton.jit
def negate_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, -tl.load(x_ptr + at, mask=at < n), mask=at < n)


def pruned():
    x = random(300)
    out = torch.empty_like(x)
    negate_kernel[lambda meta: (triton.cdiv(300, meta["BLOCK"]),)](x, out, 300)
    return out, -x


# --- a configuration's own hook, and hooks of the decorator ---------------------------------------

HOOKED = []


def clear_output(arguments):
    arguments["out_ptr"].zero_()


def before(arguments, reset_only=False):
    HOOKED.append("before")
    arguments["out_ptr"].zero_()


def after(arguments, exception=None):
    HOOKED.append("after")


@autotune(
    configs=[
        triton.Config({"BLOCK": 64}, pre_hook=clear_output),
        triton.Config({"BLOCK": 128}, pre_hook=clear_output),
    ],
    key=["n"],
    pre_hook=before,
    post_hook=after,
)
@triton.jit
def sum_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out_ptr, tl.sum(tl.load(x_ptr + at, mask=at < n, other=0.0), 0))


def hooked():
    x, out = random(300), torch.full((1,), 7.0)
    for _ in range(2):
        sum_kernel[lambda meta: (triton.cdiv(300, meta["BLOCK"]),)](x, out, 300)
    return out, x.sum()[None]


# --- heuristics above, run and one configuration --------------------------------------------------


@triton.heuristics({"DOUBLE": lambda args: args["n"] > 100})
@autotune(configs=[triton.Config({"BLOCK": 128})], key=[])
@triton.jit
def copy_kernel(x_ptr, out_ptr, n, DOUBLE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    if DOUBLE:
        x = x * 2
    tl.store(out_ptr + at, x, mask=at < n)


def heuristics_above():
    x = random(200)
    out = torch.empty_like(x)
    copy_kernel.run(x, out, 200, grid=(2,), warmup=False)
    return out, x * 2


CASES = (
    vector_add, softmax, layer_norm, matmul, column_sums, scaled_in_place, pruned, hooked,
    heuristics_above,
)  # fmt: skip
