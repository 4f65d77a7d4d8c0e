"""The plan of the matmul template: y = epilogue(x @ weight.T + bias, *residuals, *scalars)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.errors import KernelError
from tunekit.kernels.matmul_descriptors import matmul_descriptors_kernel
from tunekit.kernels.matmul_pointers import matmul_pointers_kernel
from tunekit.kernels.plan import (
    Constant,
    Descriptor,
    Group,
    Input,
    Integer,
    Launch,
    Output,
    Plan,
    Scalar,
    Slot,
    TensorMeta,
)

SPLIT_ELEMENTS = 2**22
"""Most partial sums of a split K, 16 MiB; spaces/matmul.toml says the same."""

_MOST_PARTS = 16
_LARGEST_BLOCK = 256
_SPLIT_TILES, _SPLIT_FROM = 96, 1024
_MOST_ALIGNED = 256
"""Elements: a larger power of two that divides K makes no other binary."""
_WIDE_FROM = 2**31 - 2**20
"""Elements from which offsets are 64-bit: the last tile must not overflow 32 bits."""
_DESCRIPTORS_FROM = 90
"""Compute capability."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What a matmul works on.

    Attributes:
        x: (M, K), any strides.
        weight: (N, K), any strides: of `nn.Linear`, or of the transpose of a (K, N) tensor.
        bias: (N,), contiguous, or None.
        residuals: each (M, N), any strides.
    """

    x: TensorMeta
    weight: TensorMeta
    bias: TensorMeta | None
    residuals: tuple[TensorMeta, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, N and K."""
        return self.x.shape[0], self.weight.shape[0], self.x.shape[1]

    def check(self) -> None:
        """Refuse what is no such product.

        Raises:
            KernelError: in one line.
        """
        for name, meta in (("x", self.x), ("weight", self.weight)):
            if len(meta.shape) != 2:
                raise KernelError(f"linear: {name} has shape {meta.shape}, expected two dims")
        m, n, k = self.sizes
        if self.weight.shape[1] != k:
            raise KernelError(
                f"linear: x has shape {self.x.shape} and weight {self.weight.shape}: their last "
                "dims must be equal"
            )
        if min(m, n, k) < 1:
            raise KernelError(f"linear: nothing to compute of M={m}, N={n}, K={k}")
        if self.bias is not None and (self.bias.shape != (n,) or self.bias.strides != (1,)):
            raise KernelError(
                f"linear: bias has shape {self.bias.shape} and strides {self.bias.strides}, "
                f"expected ({n},) contiguous"
            )
        for index, residual in enumerate(self.residuals):
            if residual.shape != (m, n):
                raise KernelError(
                    f"linear: residual {index} has shape {residual.shape}, expected ({m}, {n})"
                )
        given = (self.x, self.weight, *self.residuals, *((self.bias,) if self.bias else ()))
        if len({meta.dtype for meta in given}) > 1:
            found = ", ".join(meta.dtype for meta in given)
            raise KernelError(f"linear: all tensors must be of one dtype, got {found}")


def plan_matmul(
    epilogue: triton.JITFunction, scalars: tuple[str, ...], residuals: int, has_bias: bool
) -> Plan:
    """The plan of `epilogue(x @ weight.T + bias, *residuals, *scalars)`.

    Inputs are x (M, K), weight (N, K), bias (N,) unless there is none, and residuals (M, N), all of
    one dtype; the output is (M, N), contiguous. Sums are float32. Where x and weight lie as tensor
    descriptors need it, on a GPU that has them, those copy the tiles; else plain pointers do.

    Args:
        epilogue: of float32 blocks of any shape, then of the scalars.
        scalars: names of the run-time scalars, in the epilogue's order.
        residuals: number of further inputs of the output's shape.
        has_bias: whether there is one.
    """
    count = 2 + has_bias + residuals

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        if len(inputs) != count:
            raise KernelError(f"linear: takes {count} tensors, got {len(inputs)}")
        bias = inputs[2] if has_bias else None
        operands = Operands(inputs[0], inputs[1], bias, tuple(inputs[2 + has_bias :]))
        operands.check()
        return _launch(operands, inputs, device, epilogue, scalars)

    return plan


def _launch(
    operands: Operands,
    inputs: Sequence[TensorMeta],
    device: Device,
    epilogue: triton.JITFunction,
    scalars: tuple[str, ...],
) -> Launch:
    m, n, k = operands.sizes
    result = TensorMeta.contiguous((m, n), operands.x.dtype)
    buffers = split_buffers(m, n, k)
    by_descriptors = suits_descriptors(operands, device)
    has_bias = operands.bias is not None
    first_residual = 2 + has_bias
    strides = [Integer(stride) for each in operands.residuals for stride in each.strides]
    shared: dict[str, Slot] = {
        "bias": Input(2) if has_bias else Constant(None),
        "residuals": Group(
            tuple(Input(first_residual + i) for i in range(len(operands.residuals)))
        ),
        "residual_strides": Group(tuple(strides)),
        "output": Output(0),
        "partials": Output(1) if buffers else Constant(None),
        "counters": Output(2) if buffers else Constant(None),
        "scalars": Group(tuple(Scalar(name) for name in scalars)),
        "M": Integer(m),
        "N": Integer(n),
        "K": Integer(k),
        "epilogue": Constant(epilogue),
        "HAS_BIAS": Constant(has_bias),
        "PRECISION": Constant(precision_of(operands.x.dtype)),
        "WIDE": Constant(max(meta.extent for meta in (*inputs, result)) >= _WIDE_FROM),
    }
    own = _descriptors(operands, result) if by_descriptors else _pointers(operands)

    def tiles(config: Config) -> int:
        return -(-m // config["BLOCK_M"]) * -(-n // config["BLOCK_N"])

    def grid(config: Config) -> tuple[int, int, int]:
        if by_descriptors and config["SCHEDULE"] > 1:
            return min(tiles(config), device.sm_count), 1, 1
        return tiles(config), config["SPLIT_K"], 1

    def repeats(config: Config) -> float:
        return -(-k // config["BLOCK_K"]) / config["SPLIT_K"] * tiles(config) / grid(config)[0]

    return Launch(
        function=matmul_descriptors_kernel if by_descriptors else matmul_pointers_kernel,
        arguments={**own, **shared},
        inputs=tuple(inputs),
        outputs=(result, *buffers),
        result_count=1,
        starts=(None, None, 0) if buffers else (),
        zeroes=lambda config: config["SPLIT_K"] > 1,
        dims={"M": m, "N": n, "K": k},
        grid=grid,
        repeats=repeats,
    )


def _pointers(operands: Operands) -> dict[str, Slot]:
    m, n, k = operands.sizes
    (xm, xk), (wn, wk) = operands.x.strides, operands.weight.strides
    return {
        "x": Input(0),
        "weight": Input(1),
        "stride_xm": Integer(xm),
        "stride_xk": Integer(xk),
        "stride_wn": Integer(wn),
        "stride_wk": Integer(wk),
        "M_ALIGN": _hint(m if xm == 1 else 0),  # of M nothing else depends on that
        "N_ALIGN": _hint(n),
        "K_ALIGN": Constant(math.gcd(k, _MOST_ALIGNED)),
        "XM_ALIGN": _hint(xm),
        "XK_ALIGN": _hint(xk),
        "WN_ALIGN": _hint(wn),
        "WK_ALIGN": _hint(wk),
    }


def _descriptors(operands: Operands, result: TensorMeta) -> dict[str, Slot]:
    x_across, w_across = (each.strides[1] != 1 for each in (operands.x, operands.weight))
    stored = _is_describable(result)
    return {
        "x": Descriptor(Input(0), ("BLOCK_M", "BLOCK_K"), transposed=x_across),
        "weight": Descriptor(Input(1), (_strip, "BLOCK_K"), transposed=w_across),
        "output_tiles": Descriptor(Output(0), ("BLOCK_M", _strip)) if stored else Constant(None),
        "X_ACROSS": Constant(x_across),
        "W_ACROSS": Constant(w_across),
        "STORE_TILES": Constant(stored),
    }


def _strip(config: Config) -> int:
    """Columns of a strip of a tile, as in matmul_tiles.py."""
    return config["BLOCK_N"] & -config["BLOCK_N"]


def _hint(value: int) -> Constant:
    """The power of two that divides it, where Triton does not see that: it knows of 1 and of 16."""
    align = math.gcd(value, 16)
    return Constant(align if 1 < align < 16 else 0)


def precision_of(dtype: str) -> str:
    """How float32 is multiplied: `tf32` where PyTorch's own matmul is allowed to, else `ieee`."""
    if dtype != "float32":
        return "ieee"
    settings = torch.backends.cuda.matmul
    # The newer name of the same switch; who has set that must not ask for the older one.
    setting = getattr(settings, "fp32_precision", None)
    allowed = setting == "tf32" if setting is not None else settings.allow_tf32
    return "tf32" if allowed else "ieee"


def suits_descriptors(operands: Operands, device: Device) -> bool:
    """Whether x and weight are to be copied by tensor descriptors there.

    IEEE float32 is multiplied by ordinary instructions, out of registers, and gains nothing.
    """
    if device.compute_capability < _DESCRIPTORS_FROM:
        return False
    if operands.x.dtype == "float32" and precision_of("float32") == "ieee":
        return False
    return _is_describable(operands.x) and _is_describable(operands.weight)


def _is_describable(meta: TensorMeta) -> bool:
    """Rows, or columns, without gaps, a multiple of 16 bytes apart, the first at one."""
    for along, across in ((1, 0), (0, 1)):
        if meta.strides[along] == 1 and meta.strides[across] * meta.itemsize % 16 == 0:
            return meta.misalignment == 0
    return False


def split_buffers(m: int, n: int, k: int) -> tuple[TensorMeta, ...]:
    """Partial sums, and a counter for each tile, where K may be split; else nothing."""
    if not may_split(m, n, k):
        return ()
    padded = [-(-size // _LARGEST_BLOCK) * _LARGEST_BLOCK for size in (m, n)]
    elements = min(SPLIT_ELEMENTS, padded[0] * padded[1] * _MOST_PARTS)
    most_tiles = -(-m // 16) * -(-n // 16)
    return (
        TensorMeta.contiguous((elements,), "float32"),
        TensorMeta.contiguous((most_tiles,), "int32"),
    )


def may_split(m: int, n: int, k: int) -> bool:
    """Whether tiles are few and each part of K has work enough; spaces/matmul.toml says the same.

    It does not depend on the GPU, so that a small problem to try a configuration on can be found.
    """
    return -(-m // 64) * -(-n // (32 if m <= 64 else 64)) <= _SPLIT_TILES and k >= _SPLIT_FROM


def matmul_check_shape(shape: tuple[int, ...], config: Config, count: int) -> tuple[int, ...]:
    """Some tiles and a part of one each way, in the class of `shape`, whatever the count."""
    m, n, k = shape
    blocks = 2 if config["SPLIT_K"] == 1 else 1  # partial sums of more would not fit
    rows = _small(m, blocks * config["BLOCK_M"])
    columns = _small(n, blocks * config["BLOCK_N"])
    if k == 1:
        return rows, columns, 1
    unit = math.gcd(k, _MOST_ALIGNED)
    least = max(config["BLOCK_K"], _SPLIT_FROM if may_split(m, n, k) else 1)
    return rows, columns, (least // unit // 2 * 2 + 1) * unit


def _small(size: int, whole: int) -> int:
    """Whole blocks and a part, as divisible by 16 as the size; 1 stays 1."""
    return 1 if size == 1 else whole + (size % 16 or 16)
