"""What a person gave the decorator, checked: mistakes are one line, when the kernel is defined."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from tunekit.autotuning.configs import OPTIONS, as_triton
from tunekit.autotuning.identity import kernel_name
from tunekit.autotuning.serving import OnMiss
from tunekit.core.config import Config
from tunekit.core.space import Space
from tunekit.errors import KernelError, UsageError
from tunekit.kernels.inline_space import space_from
from tunekit.kernels.jit import beneath, is_jit

SpaceLike = Space | str | os.PathLike[str] | Mapping[str, Any]
ON_MISS = "TUNEKIT_ON_MISS"
"""Says for all kernels of a process what a call does that nothing was measured for."""


def check_kernel(function: Any) -> None:
    """Refuse what is no `@triton.jit` function, bare or under other decorators.

    Raises:
        KernelError: it is not.
    """
    if not is_jit(beneath(function)) or not hasattr(function, "run"):
        raise KernelError(
            f"@tunekit.autotune goes on a @triton.jit function, got {function!r:.100}: put it "
            "above @triton.jit"
        )


def read_configs(configs: Iterable[Any] | None, name: str) -> list[triton.Config]:
    """The list, mappings such as `tunekit.Config` made `triton.Config`.

    Raises:
        KernelError: something else is in it, or nothing.
    """
    found = []
    for each in configs or ():
        if isinstance(each, Config | Mapping):
            each = as_triton(each)
        if not isinstance(each, triton.Config):
            raise KernelError(f"{name}: configs=[…] is of triton.Config, got {each!r:.100}")
        found.append(each)
    if not found:
        raise KernelError(f"{name}: nothing to choose from: give configs=[…] or space=…")
    return found


def read_space(space: SpaceLike, name: str) -> Space:
    """A space, by its name or file, as what such a file says, or as values by axis.

    Of values by axis the first of each is the default: `{"BLOCK": [256, 128], "num_warps": [4]}`.

    Raises:
        SpaceError: it is none.
    """
    found = space_from(space, name)
    return found if isinstance(found, Space) else Space.load(found)


def check_names(
    function: Any, keys: Sequence[str], axes: Iterable[str], others: Mapping[str, Iterable[str]]
) -> None:
    """Refuse names that the kernel does not have.

    Args:
        function: what is decorated.
        keys: arguments that tell problems apart.
        axes: what configurations give.
        others: further arguments, by the parameter of the decorator that names them.

    Raises:
        KernelError: one of them is no argument, or an axis no constant.
    """
    name, parameters = kernel_name(function), list(function.arg_names)
    for what, given in {"key": keys, **others}.items():
        for each in given:
            if each not in parameters:
                hint = _hint(each, parameters)
                raise KernelError(f"{name}: {what}=[{each!r}] is no argument of the kernel{hint}")
    constants = constexprs_of(function)
    for axis in axes:
        if axis in OPTIONS:
            continue
        if axis in parameters and axis not in constants:
            raise KernelError(
                f"{name}: configurations give {axis}, which is no tl.constexpr of the kernel: "
                f"write `{axis}: tl.constexpr`"
            )
        if axis not in parameters and axis not in backend_options():
            raise KernelError(
                f"{name}: configurations give {axis}, which is neither an argument of the kernel "
                f"nor an option of a launch{_hint(axis, parameters)}"
            )


def constexprs_of(function: Any) -> frozenset[str]:
    """The parameters of the kernel that are compile-time constants."""
    parameters = inspect.signature(beneath(function).fn).parameters.values()
    return frozenset(each.name for each in parameters if _is_constexpr(each.annotation))


def read_on_miss(given: str, where: str) -> OnMiss:
    """What a call does that nothing was measured for.

    Raises:
        UsageError: there is no such thing to do.
    """
    try:
        return OnMiss(given)
    except ValueError:
        raise UsageError(f"{where}={given!r:.40}: expected one of {', '.join(OnMiss)}") from None


def asked_on_miss(given: OnMiss) -> OnMiss:
    """The same, but for what the environment says of all kernels.

    Raises:
        UsageError: it says nothing that can be done.
    """
    word = os.environ.get(ON_MISS)
    return read_on_miss(word, ON_MISS) if word else given


def backend_options() -> Collection[str]:
    """What the compilers of this Triton take as options of a launch, such as `waves_per_eu`."""
    from triton.backends import backends

    modules = {sys.modules[backend.compiler.__module__] for backend in backends.values()}
    return {
        name
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        for name in getattr(value, "__dataclass_fields__", ())
    }


def _is_constexpr(annotation: Any) -> bool:
    return annotation is tl.constexpr or (isinstance(annotation, str) and "constexpr" in annotation)


def _hint(name: str, parameters: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(parameters), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
