"""Pointwise steps in normal form, and how modules, functions and methods of PyTorch read as such.

A step is a tuple: its name and its numbers, all spelled out. `nn.ReLU6()`, `F.hardtanh(x, 0, 6)`
and `x.clamp(0, 6)` are all `("clamp", 0.0, 6.0)`; `2 - x` is two, `("mul", -1.0), ("add", 2.0)`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Step = tuple[str | float, ...]
Steps = tuple[Step, ...]
Reader = Callable[..., Steps]
"""Takes the arguments of a function but for its tensor, as the function is called."""

VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "add": ("number",),
    "clamp": ("low", "high"),
    "elu": ("alpha",),
    "gelu": ("approximate",),
    "hardsigmoid": (),
    "hardswish": (),
    "leaky_relu": ("slope",),
    "mish": (),
    "mul": ("number",),
    "relu": (),
    "sigmoid": (),
    "silu": (),
    "softplus": ("beta", "threshold"),
    "tanh": (),
}
"""Every step there is, and its parameters: numbers, but for `gelu`'s, "none" or "tanh"."""


class _NotPointwiseError(Exception):
    """What is called so is none of the steps."""


def in_words(steps: Sequence[Step]) -> str:
    """`mish → add 0.5 → clamp -1..1 → mul 2`; nothing is `nothing`."""
    return " → ".join(map(_word, steps)) or "nothing"


def _word(step: Step) -> str:
    name, *values = step
    if name == "clamp":
        return f"clamp {_text(values[0])}..{_text(values[1])}"
    if step == ("gelu", "none"):
        return "gelu"
    return " ".join([str(name), *map(_text, values)])


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def read_module(module: nn.Module, *, drops: bool) -> Steps | None:
    """The steps a module is: none where it is the identity; None where it is something else.

    Args:
        module: of exactly one of PyTorch's classes; a subclass may compute anything.
        drops: whether dropout does anything, as in training.
    """
    if isinstance(module, _DROPOUTS) and type(module) in _DROPOUTS:
        return () if not drops or module.p == 0 else None
    reader = _MODULES.get(type(module))
    return _read(reader, (module,), {})


def read_function(
    function: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], x: Any
) -> Steps | None:
    """The steps that a call of a function is, with `x` standing for the tensor."""
    keywords = dict(keywords)
    if not arguments and keywords.get("input") is x:
        arguments = (keywords.pop("input"),)
    if arguments and arguments[0] is x:
        return _read(_FUNCTIONS.get(function), arguments[1:], keywords)
    if len(arguments) == 2 and arguments[1] is x:
        return _read(_REFLECTED.get(function), arguments[:1], keywords)
    return None


def read_method(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Steps | None:
    """The steps that a call of a method of the tensor is; `arguments` are those after it."""
    reader = _METHODS.get(name.strip("_")) if name in _METHOD_NAMES else None
    return _read(reader, arguments, keywords)


def _read(
    reader: Reader | None, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> Steps | None:
    if reader is None:
        return None
    try:
        return reader(*arguments, **keywords)
    except (TypeError, _NotPointwiseError):  # other arguments than a step has, `out=` among them
        return None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NotPointwiseError
    try:
        return float(value)
    except OverflowError:
        raise _NotPointwiseError from None


def _plain(name: str) -> Reader:
    def read(inplace: bool = False) -> Steps:
        return ((name,),)

    return read


def _add(other: Any, alpha: Any = 1) -> Steps:
    return (("add", _number(other) * _number(alpha)),)


def _sub(other: Any, alpha: Any = 1) -> Steps:
    return (("add", -_number(other) * _number(alpha)),)


def _sub_from(other: Any) -> Steps:
    return ("mul", -1.0), ("add", _number(other))


def _mul(other: Any) -> Steps:
    return (("mul", _number(other)),)


def _div(other: Any, rounding_mode: None = None) -> Steps:
    """A product only where it is exactly that: the divisor is a power of two."""
    divisor = _number(other)
    if rounding_mode is not None or abs(math.frexp(divisor)[0]) != 0.5:
        raise _NotPointwiseError
    return (("mul", 1.0 / divisor),)


def _neg() -> Steps:
    return (("mul", -1.0),)


def _clamp(min: Any = None, max: Any = None) -> Steps:
    low = -math.inf if min is None else _number(min)
    high = math.inf if max is None else _number(max)
    if (low, high) == (-math.inf, math.inf) or math.isnan(low) or math.isnan(high):
        raise _NotPointwiseError
    return (("relu",),) if (low, high) == (0.0, math.inf) else (("clamp", low, high),)


def _clamp_min(min: Any) -> Steps:
    return _clamp(min)


def _clamp_max(max: Any) -> Steps:
    return _clamp(None, max)


def _hardtanh(min_val: Any = -1.0, max_val: Any = 1.0, inplace: bool = False) -> Steps:
    return _clamp(min_val, max_val)


def _relu6(inplace: bool = False) -> Steps:
    return _clamp(0, 6)


def _gelu(approximate: str = "none") -> Steps:
    if approximate not in ("none", "tanh"):
        raise _NotPointwiseError
    return (("gelu", approximate),)


def _leaky_relu(negative_slope: Any = 0.01, inplace: bool = False) -> Steps:
    return (("leaky_relu", _number(negative_slope)),)


def _elu(alpha: Any = 1.0, inplace: bool = False) -> Steps:
    return (("elu", _number(alpha)),)


def _softplus(beta: Any = 1, threshold: Any = 20) -> Steps:
    return (("softplus", _number(beta), _number(threshold)),)


def _dropout(p: Any = 0.5, training: Any = True, inplace: bool = False) -> Steps:
    if training is not False and p != 0:
        raise _NotPointwiseError
    return ()


_DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)

_MODULES: dict[type[nn.Module], Reader] = {
    nn.ELU: lambda module: _elu(module.alpha),
    nn.GELU: lambda module: _gelu(module.approximate),
    nn.Hardsigmoid: lambda module: (("hardsigmoid",),),
    nn.Hardswish: lambda module: (("hardswish",),),
    nn.Hardtanh: lambda module: _hardtanh(module.min_val, module.max_val),
    nn.Identity: lambda module: (),
    nn.LeakyReLU: lambda module: _leaky_relu(module.negative_slope),
    nn.Mish: lambda module: (("mish",),),
    nn.ReLU: lambda module: (("relu",),),
    nn.ReLU6: lambda module: _clamp(0, 6),
    nn.SiLU: lambda module: (("silu",),),
    nn.Sigmoid: lambda module: (("sigmoid",),),
    nn.Softplus: lambda module: _softplus(module.beta, module.threshold),
    nn.Tanh: lambda module: (("tanh",),),
}

_ARITHMETIC: dict[str, Reader] = {
    "add": _add,
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp_min,
    "clip": _clamp,
    "div": _div,
    "divide": _div,
    "mul": _mul,
    "multiply": _mul,
    "neg": _neg,
    "negative": _neg,
    "relu": _plain("relu"),
    "sigmoid": _plain("sigmoid"),
    "sub": _sub,
    "subtract": _sub,
    "tanh": _plain("tanh"),
    "true_divide": _div,
}
"""What is a function of `torch`, a method, and both with an underscore, in place."""

_FUNCTIONAL: dict[str, Reader] = {
    "dropout": _dropout,
    "dropout1d": _dropout,
    "dropout2d": _dropout,
    "dropout3d": _dropout,
    "elu": _elu,
    "elu_": _elu,
    "gelu": _gelu,
    "hardsigmoid": _plain("hardsigmoid"),
    "hardswish": _plain("hardswish"),
    "hardtanh": _hardtanh,
    "hardtanh_": _hardtanh,
    "leaky_relu": _leaky_relu,
    "leaky_relu_": _leaky_relu,
    "mish": _plain("mish"),
    "relu": _plain("relu"),
    "relu_": _plain("relu"),
    "relu6": _relu6,
    "sigmoid": _plain("sigmoid"),
    "silu": _plain("silu"),
    "softplus": _softplus,
    "tanh": _plain("tanh"),
}
"""What is a function of `torch.nn.functional`."""

_OPERATORS: dict[str, Reader] = {
    "add": _add,
    "iadd": _add,
    "imul": _mul,
    "isub": _sub,
    "itruediv": _div,
    "mul": _mul,
    "neg": _neg,
    "sub": _sub,
    "truediv": _div,
}

_METHODS = _ARITHMETIC | {"radd": _add, "rmul": _mul, "rsub": _sub_from, "truediv": _div}
_METHOD_NAMES = (
    {*_ARITHMETIC, *(f"{name}_" for name in _ARITHMETIC)}
    | {f"__{name}__" for name in (*_OPERATORS, "radd", "rmul", "rsub") if name[0] != "i"}
)  # fmt: skip

_FUNCTIONS: dict[Any, Reader] = {
    **{
        getattr(torch, name + suffix): reader
        for name, reader in _ARITHMETIC.items()
        for suffix in ("", "_")
        if hasattr(torch, name + suffix)
    },
    **{getattr(F, name): reader for name, reader in _FUNCTIONAL.items()},
    **{getattr(operator, name): reader for name, reader in _OPERATORS.items()},
}
_REFLECTED: dict[Any, Reader] = {
    function: reader
    for module in (torch, operator)
    for name, reader in {"add": _add, "mul": _mul, "sub": _sub_from}.items()
    for function in (getattr(module, name),)
}
"""With the number before the tensor."""
