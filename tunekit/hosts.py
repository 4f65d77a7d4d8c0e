"""Where to evaluate, or to compile for, by what a person gave: --device, --target, or neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunekit.core.device import device_named
from tunekit.errors import UnknownDeviceError, UsageError

if TYPE_CHECKING:
    from tunekit.core.device import Device
    from tunekit.evaluate.host import Host
    from tunekit.evaluate.job import Job

_MAX_DIGITS = 4  # of the index of a GPU

DEFAULT_TARGET = "rtx4090"
"""The GPU model estimated for where there is no GPU and none is named."""


def make_host(
    device: str | None, target: str | None, warm: bool, say: Callable[[str], None]
) -> Host:
    """Where to evaluate: a GPU that is present, else an estimate for a model; `say` tells which.

    Raises:
        UsageError: both are given, or an estimate with a warm cache.
        UnknownDeviceError: there is no such GPU, or no such model.
    """
    from tunekit.evaluate.host import Host
    from tunekit.gpu import gpu_count

    if device is not None and target is not None:
        raise UsageError("--device measures and --target estimates: give one of them")
    if target is None and (device is not None or gpu_count()):
        return gpu_host(device, warm=warm)
    if warm:
        raise UsageError("--warm is about measuring: an estimate has no cache to be warm")
    model = device_named(target or DEFAULT_TARGET)
    why = "" if target else "No CUDA GPU in this machine: "
    say(
        f"{why}compiling for {model.names[0]}, checking in Triton's interpreter, estimating the "
        "time. Nothing is measured."
    )
    return Host.estimating(model)


def job_host(job: Job, device: str | None, target: str | None) -> Host:
    """Where to repeat a job: a GPU of the model it is for, else an estimate for that model.

    Raises:
        UsageError: both are given.
        UnknownDeviceError: there is no such GPU, or no such model.
    """
    from tunekit.evaluate.host import Host
    from tunekit.gpu import gpu_count, present_gpu

    if device is not None and target is not None:
        raise UsageError("--device measures and --target estimates: give one of them")
    if device is not None:
        return gpu_host(device)
    if target is None:
        for index in range(gpu_count()):
            if present_gpu(index).device.slug == job.target:
                return Host.on_gpu(index)
    return Host.estimating(device_named(target or job.target))


def gpu_host(device: str | None, *, warm: bool = False) -> Host:
    """A GPU of this machine.

    Raises:
        UnknownDeviceError: there is none.
    """
    from tunekit.evaluate.host import Host
    from tunekit.gpu import gpu_count

    index = gpu_index(device)
    if not gpu_count():
        raise UnknownDeviceError(
            f"--device {device or 'cuda:0'}: this machine has no CUDA GPU to measure on; "
            "`tunekit tune --target rtx4090` estimates for one"
        )
    return Host.on_gpu(index, warm)


def compile_device(target: str | None) -> Device:
    """The GPU model to compile for, and Triton made to compile for it where it is not present.

    Raises:
        UsageError: no model is named and this machine has no GPU.
        UnknownDeviceError: there is no model of that name.
    """
    from tunekit.evaluate.compile import compile_for
    from tunekit.gpu import gpu_count, select_gpu

    if target is None and not gpu_count():
        raise UsageError("this machine has no CUDA GPU: name a model, such as --target rtx4090")
    if target is None:
        return select_gpu(0).device
    device = device_named(target)
    compile_for(device)
    return device


def gpu_index(device: str | None) -> int:
    """N of `cuda:N`.

    Raises:
        UsageError: the text is anything else.
    """
    kind, _, index = (device or "cuda:0").partition(":")
    if kind != "cuda" or not (index or "0").isdecimal() or len(index) > _MAX_DIGITS:
        raise UsageError(
            f"--device {device!r:.100}: expected cuda or cuda:N; --target names a model"
        )
    return int(index or 0)


def device_model(device: str | None, target: str | None) -> Device:
    """The GPU model a call would run on.

    Raises:
        UsageError: both are given.
        UnknownDeviceError: there is no such GPU, or no such model.
    """
    from tunekit.gpu import gpu_count, present_gpu, select_gpu

    if device is not None and target is not None:
        raise UsageError("--device is a GPU here and --target a model: give one of them")
    if device is not None:
        return select_gpu(gpu_index(device)).device
    if target is None and gpu_count():
        return present_gpu(0).device
    return device_named(target or DEFAULT_TARGET)
