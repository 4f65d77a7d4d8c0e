"""The three kernels tunekit's library began with, rebuilt: arithmetic, launch and mistakes.

Each was written by hand for one fixed launch and profiled on an RTX 4090. They are kept as what
`benchmarks/kernels.py` has to beat, so nothing here is improved, and nobody should use them:
`flaw` says what is wrong with each.

`mish_mish(x, out)` and so on run them. `ORIGINALS["mish_mish"].launch(shape, dtype, device)` is the
same launch as data, which `tunekit.evaluate.compile.compile_launch` compiles, with one of the
`configs` and the `scalars`, for a GPU that need not be present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import Input, Integer, Launch, Output, Scalar, Slot, TensorMeta

SAFE = 88.0
"""All three hold for |x| up to this: exp(x) is finite in float32."""


@triton.jit
def mish_add_hardtanh_scale_kernel(
    x_ptr,
    out_ptr,
    channels,
    width,
    positions,
    x_stride_n,
    x_stride_c,
    x_stride_h,
    x_stride_w,
    out_stride_n,
    out_stride_c,
    out_stride_h,
    out_stride_w,
    add_value,
    scale,
    BLOCK_C: tl.constexpr,
    BLOCK_HW: tl.constexpr,
):
    """One tile of channels × positions of one image; tanh from exp(s) and exp(-s)."""
    image = tl.program_id(0)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    position = tl.program_id(2) * BLOCK_HW + tl.arange(0, BLOCK_HW)
    h = position // width
    w = position % width
    mask = (channel < channels)[:, None] & (position < positions)[None, :]

    x_row = x_ptr + image * x_stride_n + channel[:, None] * x_stride_c
    x = tl.load(x_row + (h * x_stride_h + w * x_stride_w)[None, :], mask=mask).to(tl.float32)

    softplus = tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))
    up = tl.exp(softplus)
    down = tl.exp(-softplus)
    y = x * ((up - down) / (up + down + 1e-8)) + add_value
    y = tl.where(y > 1.0, 1.0, y)
    y = tl.where(y < -1.0, -1.0, y)
    y = y * scale

    out_row = out_ptr + image * out_stride_n + channel[:, None] * out_stride_c
    out_at = out_row + (h * out_stride_h + w * out_stride_w)[None, :]
    tl.store(out_at, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def add_min_gelu_mul_kernel(
    x_ptr, out_ptr, numel, add_value, multiply_value, BLOCK_SIZE: tl.constexpr
):
    """Flat; the last factor of the GELU, x, is one too many."""
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < numel
    x = tl.load(x_ptr + offsets, mask=mask).to(tl.float32)
    x = tl.minimum(x + add_value, 0.0)
    y = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476)) * x
    tl.store(out_ptr + offsets, (y * multiply_value).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _mish_of_both_sides(x):
    positive = x + tl.log(1.0 + tl.exp(-x))
    negative = tl.log(1.0 + tl.exp(x))
    softplus = tl.where(x > 0.0, positive, negative)
    return x * (2.0 * tl.sigmoid(2.0 * softplus) - 1.0)


@triton.jit
def mish_mish_kernel(x_ptr, out_ptr, numel, BLOCK_SIZE: tl.constexpr):
    """Flat; both sides of each softplus are computed and one is selected."""
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < numel
    x = tl.load(x_ptr + offsets, mask=mask).to(tl.float32)
    y = _mish_of_both_sides(_mish_of_both_sides(x))
    tl.store(out_ptr + offsets, y.to(out_ptr.dtype.element_ty), mask=mask)


Plan = Callable[[TensorMeta, TensorMeta], Launch]
"""From the metadata of x and out to a launch."""


def _plan_tiles(x: TensorMeta, out: TensorMeta) -> Launch:
    images, channels, height, width = x.shape
    positions = height * width
    strides: dict[str, Slot] = {
        f"{name}_stride_{axis}": Integer(stride)
        for name, meta in (("x", x), ("out", out))
        for axis, stride in zip("nchw", meta.strides, strict=True)
    }

    def grid(config: Config) -> tuple[int, int, int]:
        tiles = triton.cdiv(positions, config["BLOCK_HW"])
        return (images, triton.cdiv(channels, config["BLOCK_C"]), tiles)

    return Launch(
        function=mish_add_hardtanh_scale_kernel,
        arguments={
            "x_ptr": Input(0),
            "out_ptr": Output(0),
            "channels": Integer(channels),
            "width": Integer(width),
            "positions": Integer(positions),
            **strides,
            "add_value": Scalar("add_value"),
            "scale": Scalar("scale"),
        },
        inputs=(x,),
        outputs=(out,),
        dims={"images": images, "channels": channels, "height": height, "width": width},
        grid=grid,
        run_bytes=lambda config: config["BLOCK_HW"] * x.itemsize,
    )


def _flat_plan(function: Any, *scalars: str) -> Plan:
    def plan(x: TensorMeta, out: TensorMeta) -> Launch:
        slots: dict[str, Slot] = {name: Scalar(name) for name in scalars}
        return Launch(
            function=function,
            arguments={"x_ptr": Input(0), "out_ptr": Output(0), "numel": Integer(x.numel), **slots},
            inputs=(x,),
            outputs=(out,),
            dims={"numel": x.numel},
            grid=lambda config: (triton.cdiv(x.numel, config["BLOCK_SIZE"]), 1, 1),
        )

    return plan


@dataclass(frozen=True)
class Original:
    """One hand-written kernel.

    Attributes:
        name: of the library kernel that takes its place.
        plan: its launch, but for the configuration.
        configs: what it was launched with; several are autotuned over.
        computes: what it computes for |x| <= SAFE in exact arithmetic, as eager PyTorch.
        flaw: what is wrong with its results, empty if nothing is.
        autotuned: the kernel under `triton.autotune`, where there are several configurations.
    """

    name: str
    plan: Plan
    configs: tuple[Config, ...]
    computes: Callable[..., torch.Tensor]
    flaw: str = ""
    autotuned: Any = None

    @property
    def scalars(self) -> Mapping[str, float]:
        """Run-time scalars: those of the library kernel."""
        return KERNELS[self.name].scalars

    def launch(self, shape: Sequence[int], dtype: str, device: Device) -> Launch:
        """The launch of contiguous tensors; these kernels did not ask which GPU they run on."""
        meta = TensorMeta.contiguous(shape, dtype)
        return self.plan(meta, meta)

    def run(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """Launch as it was launched, with Triton's autotuning at the first call of a size."""
        launch = self.plan(TensorMeta.of(x), TensorMeta.of(out))
        if self.autotuned is None:
            config = self.configs[0]
            arguments = launch.bind([x], [out], self.scalars, config)
            launch.function[launch.grid(config)](**arguments)
        else:
            arguments = launch.bind([x], [out], self.scalars, Config())
            self.autotuned[launch.grid](**arguments)


def _gelu_with_one_x_too_many(
    x: torch.Tensor, add_value: float, multiply_value: float
) -> torch.Tensor:
    low = (x + add_value).clamp(max=0.0)
    return F.gelu(low) * low * multiply_value


_GELU_CONFIGS = (
    Config(BLOCK_SIZE=1024, num_warps=4, num_stages=2),
    Config(BLOCK_SIZE=2048, num_warps=4, num_stages=2),
    Config(BLOCK_SIZE=4096, num_warps=8, num_stages=2),
    Config(BLOCK_SIZE=8192, num_warps=8, num_stages=2),
)
_autotuned_gelu = triton.autotune([each.to_triton() for each in _GELU_CONFIGS], key=["numel"])

ORIGINALS = {
    original.name: original
    for original in (
        Original(
            "mish_add_hardtanh_scale",
            plan=_plan_tiles,
            configs=(Config(BLOCK_C=16, BLOCK_HW=64, num_warps=4),),
            computes=KERNELS["mish_add_hardtanh_scale"].reference,
            flaw=f"nan for x above {SAFE:g}",
        ),
        Original(
            "add_min_gelu_mul",
            plan=_flat_plan(add_min_gelu_mul_kernel, "add_value", "multiply_value"),
            configs=_GELU_CONFIGS,
            computes=_gelu_with_one_x_too_many,
            flaw="wrong by design: multiplies by x once too often",
            autotuned=_autotuned_gelu(add_min_gelu_mul_kernel),
        ),
        Original(
            "mish_mish",
            plan=_flat_plan(mish_mish_kernel),
            configs=(Config(BLOCK_SIZE=1024, num_warps=4, num_stages=2),),
            computes=KERNELS["mish_mish"].reference,
        ),
    )
}


def mish_add_hardtanh_scale(x: torch.Tensor, out: torch.Tensor) -> None:
    """clamp(mish(x) + 0.5, -1, 1)·2 of a 4-D tensor, with any strides."""
    ORIGINALS["mish_add_hardtanh_scale"].run(x, out)


def add_min_gelu_mul(x: torch.Tensor, out: torch.Tensor) -> None:
    """low·gelu(low)·2 of low = min(x + 0.5, 0): meant to be gelu(low)·2."""
    ORIGINALS["add_min_gelu_mul"].run(x, out)


def mish_mish(x: torch.Tensor, out: torch.Tensor) -> None:
    """mish(mish(x)); `out` may be `x`."""
    ORIGINALS["mish_mish"].run(x, out)
