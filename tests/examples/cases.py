"""The kernels of examples/, and shapes to try them at; `EXAMPLES` is their folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunekit.kernels.kernel import Kernel
from tunekit.kernels.registry import find_kernel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """A kernel of examples/.

    Attributes:
        odd: a small shape, nothing of which is a multiple of a block.
        real: shapes as models have them.
    """

    file: str
    name: str
    odd: tuple[int, ...]
    real: tuple[tuple[int, ...], ...]

    @property
    def reference(self) -> str:
        return f"{EXAMPLES / self.file}:{self.name}"

    @property
    def kernel(self) -> Kernel:
        return find_kernel(self.reference)

    def __str__(self) -> str:
        return self.name


ALL = (
    Example("softmax.py", "softmax", (7, 131), ((8192, 4096), (4096, 32768))),
    Example("softmax.py", "softmax_long", (3, 5003), ((512, 128256),)),
    Example("rmsnorm.py", "rms_norm", (5, 203), ((4096, 4096),)),
    Example("rmsnorm.py", "add_rms_norm", (5, 203), ((4096, 8192),)),
    Example("rotary.py", "rotary", (2, 3, 1, 13, 24), ((1, 32, 8, 4096, 128),)),
    Example(
        "int8_linear.py", "int8_linear", (17, 35, 70), ((16, 11008, 4096), (4096, 11008, 4096))
    ),
)
