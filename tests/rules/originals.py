"""The kernels the library began with, as kernels that `find_kernel` finds, to be checked.

Arithmetic and launches are those of benchmarks/originals.py; `mish_mish` works in place, as it did.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import triton
import triton.language as tl

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.space import Space
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Input, Integer, Launch, Output, Scalar, TensorMeta

_PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "originals.py"


def _originals() -> Any:
    """Loaded once: Triton keeps a kernel's source by its module."""
    name = "tunekit_benchmark_originals"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _PATH)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _space(name: str, configs: Sequence[Config]) -> Space:
    """The configurations an original was launched with, the first the default."""
    axes = {axis: sorted({config[axis] for config in configs}) for axis in configs[0]}
    return Space.of(
        {
            "axes": axes,
            "default": dict(configs[0].items()),
        },
        "tests/rules/originals.py",
        name,
    )


def _kernel(name: str, *, in_place: bool = False) -> Kernel:
    original = _originals().ORIGINALS[name]

    def plan(inputs: Sequence[TensorMeta], device: Device) -> Launch:
        (x,) = inputs
        launch = original.plan(x, replace(x))
        if not in_place:
            return launch
        arguments = dict(launch.arguments) | {"x_ptr": Output(0)}
        return replace(launch, arguments=arguments, starts=(Input(0),))

    function = original.plan(*[TensorMeta.contiguous((1, 1, 1, 1), "float32")] * 2).function
    return Kernel(
        name=f"original_{name}",
        plan=plan,
        reference=original.computes,
        space=_space(name, original.configs),
        input_count=1,
        scalars=original.scalars,
        functions=(function,),
        elementwise=True,
    )


mish_add_hardtanh_scale = _kernel("mish_add_hardtanh_scale")
add_min_gelu_mul = _kernel("add_min_gelu_mul")
mish_mish = _kernel("mish_mish", in_place=True)


@triton.jit
def _rows_of_64(x_ptr, out_ptr, stride_n, add_value, scale, BLOCK: tl.constexpr):
    """One program an image, one block of its first row: right where an image is one short row."""
    row = x_ptr + tl.program_id(0) * stride_n
    offsets = tl.arange(0, BLOCK)
    x = tl.load(row + offsets).to(tl.float32)
    softplus = tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))
    up, down = tl.exp(softplus), tl.exp(-softplus)
    y = x * ((up - down) / (up + down + 1e-8)) + add_value
    y = tl.minimum(tl.maximum(y, -1.0), 1.0) * scale
    tl.store(out_ptr + tl.program_id(0) * stride_n + offsets, y.to(out_ptr.dtype.element_ty))


def _plan_rows(inputs: Sequence[TensorMeta], device: Device) -> Launch:
    (x,) = inputs
    return Launch(
        function=_rows_of_64,
        arguments={
            "x_ptr": Input(0),
            "out_ptr": Output(0),
            "stride_n": Integer(x.strides[0]),
            "add_value": Scalar("add_value"),
            "scale": Scalar("scale"),
        },
        inputs=tuple(inputs),
        outputs=(x,),
        dims={"n": x.numel},
        grid=lambda config: (x.shape[0], 1, 1),
    )


mish_add_hardtanh_scale_rows = replace(
    mish_add_hardtanh_scale,
    name="original_mish_add_hardtanh_scale_rows",
    plan=_plan_rows,
    space=_space("rows", [Config(BLOCK=64, num_warps=2)]),
    functions=(_rows_of_64,),
)
"""The other variant: it leaves elements unwritten wherever C > 1, H > 1 or W > 64."""
