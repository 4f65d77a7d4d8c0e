"""bfloat16 in Triton's interpreter, which keeps it as 16-bit integers and computes with those."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import triton
import triton.language as tl


def mend_bfloat16() -> None:
    """Have this process's interpreter convert, add, multiply and compare bfloat16 as it should.

    It does nothing unless kernels are interpreted (TRITON_INTERPRET=1), nor a second time.
    Products, sums, functions of one value and conversions from and to integers go through float32,
    and float32 is rounded to bfloat16, not truncated. Reductions stay as they are: widen first.
    """
    if not triton.knobs.runtime.interpret:
        return
    import numpy as np
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    if hasattr(InterpreterBuilder.cast_impl, "__wrapped__"):
        return

    def narrowed(wide: Any) -> Any:
        bits = wide.data.astype(np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        quiet = (bits >> 16) | 0x40  # a nan's bits must not be rounded up to -0
        kept = np.where(np.isnan(wide.data), quiet, rounded)
        return TensorHandle(kept.astype(np.uint16), tl.bfloat16)

    def widened(handle: Any) -> Any:
        if not isinstance(handle, TensorHandle) or handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return TensorHandle(bits.view(np.float32), tl.float32)

    def by_float32(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def computed(self: Any, first: Any, *rest: Any) -> Any:
            if not isinstance(first, TensorHandle) or first.dtype.scalar != tl.bfloat16:
                return method(self, first, *rest)
            result = method(self, widened(first), *map(widened, rest))
            return narrowed(result) if result.data.dtype == np.float32 else result

        return computed

    def dot(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def multiplied(self: Any, a: Any, b: Any, *rest: Any) -> Any:
            return method(self, widened(a), widened(b), *rest)

        return multiplied

    def cast(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def converted(self: Any, source: Any, target: Any) -> Any:
            if target.scalar == tl.bfloat16 and source.dtype.scalar != tl.bfloat16:
                return narrowed(method(self, source, tl.float32))
            return method(self, widened(source), target)

        return converted

    for name, mended in {
        "cast_impl": cast,
        "create_dot": dot,
        "binary_op": by_float32,
        "unary_op": by_float32,
    }.items():
        setattr(InterpreterBuilder, name, mended(getattr(InterpreterBuilder, name)))
