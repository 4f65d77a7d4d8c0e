"""What programs do: every access to memory, and what could not be followed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tunekit.rules.ranges import Array
from tunekit.rules.ttir import Op, Value

Truth = npt.NDArray[np.bool_]

_LOADS = ("tt.load", "tt.descriptor_load", "tt.experimental_descriptor_load")
_STORES = ("tt.store", "tt.descriptor_store", "tt.experimental_descriptor_store")
_ATOMICS = ("tt.atomic_rmw", "tt.atomic_cas", "tt.descriptor_reduce")
ACCESSES = {
    **dict.fromkeys(_LOADS, "load"),
    **dict.fromkeys(_STORES, "store"),
    **dict.fromkeys(_ATOMICS, "atomic"),
    "tt.descriptor_gather": "load",
    "tt.descriptor_scatter": "store",
}
"""What each operation that touches global memory does."""


@dataclass(eq=False, slots=True)
class Event:
    """One execution of an access, by all programs that are followed.

    Attributes:
        kind: `load`, `store` or `atomic`.
        memory: the kernel's parameter it goes to, None where the pointer is not known.
        lo, hi: bytes from where the parameter points, `[programs, *block]`.
        size: bytes of an element.
        shape: of the block, `()` for a scalar.
        surely, perhaps: which lanes are not masked off, as far as is known; None without a mask.
        may, must: which programs come here, as far as is known.
        clipped: whether the hardware keeps it within the tensor (tensor descriptors).
        why: why the addresses, or the mask, are not known; empty if they are.
    """

    op: Op
    kind: str
    memory: int | None
    lo: Array
    hi: Array
    size: int
    shape: tuple[int, ...]
    surely: Array | None
    perhaps: Array | None
    may: Truth
    must: Truth
    clipped: bool = False
    why: str = ""

    @classmethod
    def of(cls, op: Op, size: int, shape: tuple[int, ...], may: Truth, must: Truth) -> Event:
        """One of which nothing is known yet but what it accesses at once."""
        nothing = np.zeros((1,) * (1 + len(shape)), dtype=np.int64)
        return cls(
            op, ACCESSES[op.name], None, nothing, nothing, size, shape, None, None, may, must
        )

    @property
    def lanes(self) -> int:
        """Elements of the block."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(eq=False, slots=True)
class Trace:
    """What some programs do.

    Attributes:
        programs: their ids, `[programs, 3]`.
        events: in the order they happen.
        doubts: what could not be followed, a clause each, with where it is.
        overflows: operations whose result does not fit into its 32 bits.
        stopped: why the rest was not followed, empty if all was.
    """

    programs: Array
    events: list[Event] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    overflows: list[Op] = field(default_factory=list)
    stopped: str = ""

    def doubt(self, text: str) -> None:
        """Note what could not be followed, once."""
        if text not in self.doubts:
            self.doubts.append(text)


def roles(op: Op) -> tuple[Value | None, Value | None]:
    """The pointer and the mask of an access; a mask that is constantly true is none."""
    operands = op.operands
    match op.name:
        case "tt.load":
            pointer, mask = operands[0], operands[1] if len(operands) > 1 else None
        case "tt.store" | "tt.atomic_rmw":
            pointer, mask = operands[0], operands[2] if len(operands) > 2 else None
        case _:
            pointer, mask = operands[0] if operands else None, None
    if mask is not None and mask.op is not None and mask.op.name == "arith.constant":
        mask = None if "true" in mask.op.text else mask
    return pointer, mask


def is_masked(op: Op) -> bool:
    """Whether an access has a mask that is not constantly true."""
    return roles(op)[1] is not None
