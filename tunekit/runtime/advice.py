"""What to run so that a call is served something tuned."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunekit.core.device import Device
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch, tuned_dtype
from tunekit.kernels.registry import library_kernels
from tunekit.notices import warn

if TYPE_CHECKING:
    from tunekit.runtime.lookup import Choice

_SCRIPT = ("__main__", "__mp_main__")
"""What Python calls the script that runs; the second in a process that multiprocessing spawned."""

_said: set[tuple[str, str, str, bool]] = set()


def warn_untuned(kernel: Kernel, launch: Launch, device: Device, shape: Sequence[int]) -> None:
    """Warn, once for each kernel, dtype and device, that the default is launched.

    Tuning allocates aligned tensors, so for others there is no command to name.
    """
    dtype = tuned_dtype(launch.inputs)
    aligned = not any(meta.misalignment for meta in (*launch.inputs, *launch.outputs))
    key = (kernel.name, dtype, device.slug, aligned)
    if key in _said:
        return
    _said.add(key)
    what = f"{kernel.name} {dtype} on {device.slug}"
    if aligned:
        warn(
            f"nothing is tuned for {what}, the default runs; run `{command(kernel, shape, dtype)}`"
        )
    else:
        warn(
            f"nothing is tuned for {what} where a tensor starts at no multiple of 16 bytes, the "
            "default configuration runs; pass tensors that do, not views such as x[1:]"
        )


def warn_unusable(kernel: Kernel, choice: Choice, why: str, next_one: Choice) -> None:
    """Warn that a configuration which was found cannot be launched, and what runs instead."""
    dims = ", ".join(f"{name} = {size}" for name, size in choice.problem.dims)
    warn(
        f"{kernel.name} at {dims}: {choice.config} ({choice.served}) cannot be launched: {why}; "
        f"{next_one.config} ({next_one.served}) runs instead"
    )


def command(kernel: Kernel, shape: Sequence[int], dtype: str) -> str:
    """The command line that tunes what a call needs."""
    if kernel.sizes:
        named = zip(kernel.sizes, shape, strict=True)
        sizes = " ".join(f"--dim {name}={size}" for name, size in named)
    else:
        sizes = f"--shape {','.join(str(size) for size in shape) or '1'}"
    reference = shlex.quote(reference_of(kernel))
    return f"tunekit tune {reference} {sizes} --dtype {dtype}"


def reference_of(kernel: Kernel) -> str:
    """How the command line names a kernel; its own name where no module holds it."""
    if kernel.batched:
        from tunekit.kernels.folded import origin_of  # most programs have none

        if (origin := origin_of(kernel)) is not None:
            return reference_of(origin[0]) + origin[1]
    if library_kernels().get(kernel.name) is kernel:
        return kernel.name
    # A script that imports the kernel holds it too: the module it comes from is the better name.
    modules = sorted(sys.modules.items(), key=lambda item: item[0] in _SCRIPT)
    for name, module in modules:
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is kernel and (location := _location(name, module)):
                return f"{location}:{attribute}"
    return kernel.name


def forget() -> None:
    """Warn again."""
    _said.clear()


def _location(name: str, module: object) -> str | None:
    """The module, or its file where it cannot be imported by its name."""
    if name in _SCRIPT or name.startswith("tunekit_kernel_file_"):
        return getattr(module, "__file__", None)
    return name
