"""The problem that a call of a decorated kernel is, by its arguments."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tunekit.core.problem import ITEMSIZES, Problem
from tunekit.kernels.jit import is_jit
from tunekit.kernels.source_hash import source_hash
from tunekit.printable import one_line
from tunekit.store.fields import MAX_INT, MAX_ITEMS, MAX_NAME

_ALIGNMENT = 16
_INT32 = 2**31
_LONGEST = 900
_LONGEST_VALUE = 60
NO_SIZE = "any"
"""The dim of a kernel that no size is a key of."""


@dataclass(frozen=True, slots=True)
class Described:
    """A call as a problem.

    Attributes:
        shape: what the rows say it was evaluated at: the key's sizes, in its order.
        itemsize: bytes of an element of the problem's dtype, 4 where that is none.
    """

    problem: Problem
    shape: tuple[int, ...]
    itemsize: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """What of a problem is the kernel's.

    Attributes:
        name: `module:function`.
        source_hash: of its code.
        arg_names: its parameters, in order.
        constexprs: those that are compile-time constants.
        keys: those whose values tell problems apart.
        axes: those that configurations give.
    """

    name: str
    source_hash: str
    arg_names: tuple[str, ...]
    constexprs: frozenset[str]
    keys: tuple[str, ...]
    axes: frozenset[str]


def describe(kernel: Kernel, arguments: Mapping[str, Any], device: str) -> Described:
    """The problem of a call.

    Its sizes are the key's whole numbers. All else that a binary depends on, or the key names, is
    in the alignment class: dtypes, each pointer's and each integer's divisibility by 16, constants.

    Args:
        kernel: what is called.
        arguments: by name, without those of the configuration.
        device: slug of the GPU model.
    """
    dims = dict(_dims(kernel.keys, arguments)) or {NO_SIZE: 1}
    dtype = _dtype(arguments[name] for name in kernel.arg_names if name in arguments)
    alignment = ",".join(_classes(kernel, arguments, dims, dtype))
    if len(alignment) > _LONGEST:
        alignment = f"sha256:{sha256(alignment.encode()).hexdigest()[:32]}"
    problem = Problem.of(kernel.name, kernel.source_hash, dims, dtype, alignment, device)
    sizes = tuple(max(size, 1) for size in dims.values())
    return Described(problem, sizes, ITEMSIZES.get(dtype, 4))


def dtype_name(value: Any) -> str:
    """`float16` of a tensor, of a descriptor and of what wraps one; empty of anything else."""
    found = getattr(value, "dtype", None) or getattr(getattr(value, "base", None), "dtype", None)
    return "" if found is None else str(found).removeprefix("torch.")


def _dims(keys: Sequence[str], arguments: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name in keys[:MAX_ITEMS]:
        size = _whole(arguments.get(name))
        if size is not None and 0 <= size <= MAX_INT and len(name) <= MAX_NAME:
            yield name, size


def _whole(value: Any) -> int | None:
    """A whole number that is a size: a flag is none, nor is a tensor."""
    if isinstance(value, bool) or hasattr(value, "data_ptr"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _dtype(values: Iterator[Any]) -> str:
    """Of the first tensor of a float dtype, else of the first tensor."""
    names = [name for name in map(dtype_name, values) if name]
    return next((name for name in names if "float" in name), names[0] if names else "none")


def _classes(
    kernel: Kernel, arguments: Mapping[str, Any], dims: Collection[str], dtype: str
) -> Iterator[str]:
    """What Triton specialises on, an entry for each parameter that is not a configuration's."""
    for name in kernel.arg_names:
        if name in kernel.axes or name not in arguments:
            continue
        value = arguments[name]
        if name in kernel.constexprs:
            if name not in dims:
                yield f"={_constant(value)}"
            continue
        # A flag or a text that is a key tells problems apart though no binary depends on it.
        keyed = name in kernel.keys and name not in dims and not hasattr(value, "data_ptr")
        yield f"{_class(value, dtype)}{f'={_constant(value)}' if keyed else ''}"


def _class(value: Any, dtype: str) -> str:
    own = dtype_name(value)
    marked = f":{own}" if own and own != dtype else ""
    if hasattr(value, "data_ptr"):
        return f"{'p16' if value.data_ptr() % _ALIGNMENT == 0 else 'p1'}{marked}"
    if own:
        return f"d{marked}"
    if isinstance(value, tuple | list):
        return f"({' '.join(_class(each, dtype) for each in value)})"
    number = _whole(value)
    if number is None:
        return type(value).__name__
    if number == 1:
        return "1"
    width = "i32" if -_INT32 <= number < _INT32 else "i64"
    return f"{width}x16" if number % _ALIGNMENT == 0 else width


def _constant(value: Any) -> str:
    """A constant as text: a device function by its code, anything else as it prints."""
    if is_jit(value):
        return f"{value.fn.__qualname__}@{source_hash(value)}"
    if isinstance(value, type):
        return value.__qualname__
    text = one_line(str(value)).replace(",", ";")
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[:20]}…{sha256(text.encode()).hexdigest()[:12]}"
