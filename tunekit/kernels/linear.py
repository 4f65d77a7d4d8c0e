"""Kernels of the matmul template: a linear layer and what follows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunekit.errors import KernelError
from tunekit.kernels.interpreted import mend_bfloat16
from tunekit.kernels.jit import is_jit
from tunekit.kernels.kernel import Kernel, Reference, Tolerance
from tunekit.kernels.matmul import matmul_check_shape, plan_matmul, precision_of
from tunekit.kernels.matmul_descriptors import matmul_descriptors_kernel
from tunekit.kernels.matmul_pointers import matmul_pointers_kernel
from tunekit.kernels.plan import Launch, TensorMeta

if TYPE_CHECKING:
    import torch

_ROUNDING = {"float32": 2.0**-17, "float16": 2.0**-10, "bfloat16": 2.0**-7, "tf32": 2.0**-10}
"""Relative: one unit in the last place of 16-bit results and of TF32 operands, 64 of float32."""


def linear(
    name: str,
    *,
    epilogue: Any,
    reference: Reference,
    scalars: Mapping[str, float] | None = None,
    residuals: int = 0,
    bias: bool = True,
    space: str = "matmul",
    summary: str = "",
) -> Kernel:
    """A linear layer and its epilogue: `epilogue(x @ weight.T + bias, *residuals, *scalars)`.

    Its inputs are x (M, K), weight (N, K) as `nn.Linear` has it, bias (N,), and the residuals
    (M, N), all of one dtype: float32, float16 or bfloat16. Sums are float32; float32 inputs are
    multiplied as TF32 where `torch.backends.cuda.matmul.allow_tf32` says so.

    Args:
        name: how it is called.
        epilogue: a `@triton.jit` function of one float32 block of any shape for the sum, one for
            each residual, then the scalars.
        reference: the same in eager PyTorch: `reference(x, weight, bias, *residuals, **scalars)`.
        scalars: run-time scalars and the values tuning uses, in the epilogue's order.
        residuals: number of further inputs of the result's shape.
        bias: whether there is one.
        space: a shipped space or a path.
        summary: one line that says what it computes.

    Raises:
        KernelError: the epilogue is no `@triton.jit` function.
    """
    if not is_jit(epilogue):
        raise KernelError(f"{name}: the epilogue must be a @triton.jit function, got {epilogue!r}")
    mend_bfloat16()
    scalars = {each: float(value) for each, value in (scalars or {}).items()}

    def metas(shape: Sequence[int], dtype: str) -> tuple[TensorMeta, ...]:
        m, n, k = shape
        sizes = [(m, k), (n, k), *([(n,)] if bias else []), *[(m, n)] * residuals]
        return tuple(TensorMeta.contiguous(size, dtype) for size in sizes)

    return Kernel(
        name=name,
        plan=plan_matmul(epilogue, tuple(scalars), residuals, bias),
        reference=reference,
        space=space,
        input_count=2 + bias + residuals,
        scalars=scalars,
        functions=(matmul_pointers_kernel, matmul_descriptors_kernel, epilogue),
        check_shape=matmul_check_shape,
        metas=metas,
        sizes=("M", "N", "K"),
        draw=_draw,
        tolerance=_tolerance,
        flops=lambda dims: 2.0 * dims["M"] * dims["N"] * dims["K"],
        summary=summary,
    )


def _draw(inputs: Sequence[torch.Tensor], shape: Sequence[int], dtype: str) -> None:
    """Standard normal values, the weight's so much smaller that sums are as well, whatever K is.

    No special values: one nan or infinity would hide a whole row or column of the result.
    """
    for index, tensor in enumerate(inputs):
        tensor.normal_(0.0, shape[2] ** -0.5 if index == 1 else 1.0)


def _tolerance(launch: Launch, result: TensorMeta) -> Tolerance:
    """What the result may differ by, for values as `_draw` draws them.

    Sums stay below 8 in magnitude, and no activation here is steeper than 2.

    16-bit: tensor cores multiply exactly, but cut off what they add (M. Fasi, N. J. Higham, M.
    Mikaitis and S. Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7,
    e330, 2021): in steps of 16 products, each cuts less than a unit in the last place of 4, 2^-21.
    TF32: either operand of each product is off by up to 2^-10 as well, so a sum of K of them by
    2^-10 as its deviation, of which six are allowed.
    float32: K roundings by half a unit in the last place of 4, of which the root of K is expected,
    and 16 times that is allowed.
    Then the result is rounded. One product left out weighs 1/√K, far more than any of that.
    """
    k, dtype = launch.dims["K"], launch.inputs[0].dtype
    tf32 = precision_of(dtype) == "tf32"
    if tf32:
        sums = 6 * 2.0**-10 + k / 8 * 2.0**-21
    elif dtype == "float32":
        sums = 16 * math.sqrt(k) * 2.0**-22
    else:
        sums = k / 16 * 2.0**-21
    relative = _ROUNDING["tf32" if tf32 else dtype]
    return Tolerance(relative, 2 * sums + 2.0**-19)
