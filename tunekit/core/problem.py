"""One tuning task: a kernel, its dims, a dtype, an alignment class and a device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tunekit.errors import ShapeError

MAX_DIMS = 32
"""Most dims of a shape: what records hold."""

MAX_ELEMENTS = 2**48
"""Elements of a tensor are fewer: 256 TiB of bytes."""

ITEMSIZES = {
    "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8,
    "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int8": 1, "uint8": 1, "int16": 2, "int32": 4, "int64": 8, "bool": 1,
}  # fmt: skip
"""Bytes of one element of each dtype that a kernel's tensors may have."""

DTYPES = ("float32", "float16", "bfloat16")
"""What a kernel is tuned in, unless it says otherwise."""

_DTYPE_ALIASES = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}


def parse_shape(text: str) -> tuple[int, ...]:
    """Read `64,128,254,254` (or `64x128x254x254`).

    Raises:
        ShapeError: the text is no comma-separated list of positive integers, has more than
            `MAX_DIMS` of them, or their product is `MAX_ELEMENTS` or more.
    """
    parts = text.strip().strip("()[]").replace("x", ",").split(",")
    try:
        shape = tuple(map(int, parts))
    except ValueError:
        raise ShapeError(
            f"--shape {_shown(text)}: expected positive integers separated by commas, "
            "such as 64,128,254,254"
        ) from None
    if any(size <= 0 for size in shape):
        raise ShapeError(f"--shape {_shown(text)}: every dim must be at least 1")
    if len(shape) > MAX_DIMS:
        raise ShapeError(f"--shape {_shown(text)}: expected at most {MAX_DIMS} dims")
    if math.prod(shape) >= MAX_ELEMENTS:
        raise ShapeError(f"--shape {_shown(text)}: too many elements for any GPU")
    return shape


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")


def parse_dtype(text: str) -> str:
    """The dtype's full name: `bf16` and `torch.bfloat16` are `bfloat16`.

    Raises:
        ShapeError: no kernel has tensors of that dtype.
    """
    name = text.lower().removeprefix("torch.")
    name = _DTYPE_ALIASES.get(name, name)
    if name not in ITEMSIZES:
        raise ShapeError(f"--dtype {_shown(text)}: expected one of {', '.join(ITEMSIZES)}")
    return name


@dataclass(frozen=True, slots=True)
class Problem:
    """What one Optuna study is about.

    Attributes:
        kernel: the kernel's name, or its `module:NAME` reference.
        kernel_hash: hash of the source that computes the result; another hash is another kernel.
        dims: the sizes the launch depends on, by name, such as `(("n", 4096),)`.
        dtype: what it is tuned in, `float32` and so on: that of the first input of a float dtype.
        alignment: what Triton specialises the binary on (see `kernels.plan.alignment_class`).
        device: slug of a GPU model in the device table, such as `h100`.
    """

    kernel: str
    kernel_hash: str
    dims: tuple[tuple[str, int], ...]
    dtype: str
    alignment: str
    device: str

    @classmethod
    def of(
        cls,
        kernel: str,
        kernel_hash: str,
        dims: Mapping[str, int] | Iterable[tuple[str, int]],
        dtype: str,
        alignment: str,
        device: str,
    ) -> Problem:
        """Build one from dims in any order."""
        return cls(kernel, kernel_hash, tuple(sorted(dict(dims).items())), dtype, alignment, device)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return ITEMSIZES[self.dtype]

    @property
    def key(self) -> str:
        """A stable text identity, also the name of the Optuna study."""
        dims = ",".join(f"{name}={size}" for name, size in self.dims)
        return (
            f"{self.kernel}@{self.kernel_hash}[{dims}]:{self.dtype}:{self.alignment}:{self.device}"
        )
