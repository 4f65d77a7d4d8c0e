"""Find a kernel by the reference a person or a job gives."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from tunekit.errors import KernelError, UnknownKernelError
from tunekit.kernels.kernel import Kernel


def find_kernel(reference: str) -> Kernel:
    """The kernel called `mish_mish`, `package.module:NAME` or `path/file.py:NAME`.

    A name may end in a suffix of `kernels.folded`: `mish_mish+bias/channels_last`.

    Raises:
        UnknownKernelError: there is none of that name; the nearest is suggested.
        KernelError: the module cannot be imported.
    """
    place = reference.rpartition(":")[2]
    if "+" in place or "/" in place:
        from tunekit.kernels.folded import SUFFIXES, folded  # most programs have none

        for suffix, (layout, bias) in SUFFIXES.items():
            if (
                place.endswith(suffix)
                and place != suffix
                and not reference.endswith("+bias" + suffix)
            ):
                origin = find_kernel(reference.removesuffix(suffix))
                return folded(origin, layout, bias=bias)
    if ":" not in reference:
        return _library_kernel(reference)
    location, _, name = reference.rpartition(":")
    module = _load_file(Path(location)) if location.endswith(".py") else _load_module(location)
    found = getattr(module, name, None)
    if isinstance(found, Kernel):
        return found
    kernels = [key for key, value in vars(module).items() if isinstance(value, Kernel)]
    raise UnknownKernelError(
        f"{location} has no tunekit kernel {name!r}; it has: {', '.join(kernels) or 'none'}"
    )


def find_library_kernel(name: str) -> Kernel:
    """The library's kernel of that name, or one derived from it; nothing is imported by the name.

    A database may come from anybody: what it says a kernel is called must not choose what runs.

    Raises:
        UnknownKernelError: the library has none of that name.
    """
    if ":" in name:
        raise UnknownKernelError(f"{name!r} is no kernel of the library")
    return find_kernel(name)


def library_kernels() -> dict[str, Kernel]:
    """All that ship, by name."""
    from tunekit.kernels.library import KERNELS
    from tunekit.kernels.linear_library import LINEAR_KERNELS

    return {**KERNELS, **LINEAR_KERNELS}


def _library_kernel(name: str) -> Kernel:
    from tunekit.kernels.library import KERNELS

    if name in KERNELS:
        return KERNELS[name]
    kernels = library_kernels()
    if name in kernels:
        return kernels[name]
    near = difflib.get_close_matches(name[:200], kernels, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "`tunekit kernels` lists them"
    raise UnknownKernelError(f"unknown kernel {name!r:.200}; {hint}")


def _load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise KernelError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> Any:
    path = Path(os.path.realpath(path))  # pathlib's own raises where links go round in circles
    name = f"tunekit_kernel_file_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    # pathlib raises where a name is too long; os.path says no.
    if not os.path.isfile(path) or spec is None or spec.loader is None:
        raise UnknownKernelError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise KernelError(f"cannot import {path}: {type(error).__name__}: {error}") from error
    return module
