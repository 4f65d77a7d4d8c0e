"""Python and what tunekit builds on."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from tunekit._version import __version__
from tunekit.doctor.check import Check, note, ok, problem
from tunekit.doctor.probe import ProbeFailed, ask

LEAST = {
    "torch": (2, 6),
    "triton": (3, 6),
    "optuna": (5,),
    "sqlite-utils": (4,),
    "click": (8, 3),
    "rich": (13,),
    "platformdirs": (4,),
}
"""The oldest versions tunekit works with."""
TESTED_TRITON = ((3, 6), (3, 7))
"""The first and the last Triton that tunekit's tests have run on."""


def check_versions() -> Iterator[Check]:
    """Those of tunekit, of Python and of the packages."""
    yield ok("tunekit", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    for package, least in LEAST.items():
        yield _package(package, least)


def check_torch(driver_cuda: tuple[int, int] | None) -> Iterator[Check]:
    """Whether PyTorch can be imported, and finds the GPUs there are.

    Args:
        driver_cuda: the newest CUDA the driver supports, None without a driver.
    """
    try:
        found = ask("torch")
    except ProbeFailed as failure:
        yield problem("PyTorch", f"cannot be imported: {failure}", "install PyTorch again")
        return
    cuda = found["cuda"]
    says = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    if driver_cuda is None:
        yield ok("PyTorch", f"{says}; no NVIDIA driver here")
    elif not cuda:
        yield problem(
            "PyTorch",
            f"{says}, and this machine has an NVIDIA driver: its GPUs are not used",
            "install a PyTorch that is built for CUDA: https://pytorch.org/get-started",
        )
    elif found["gpus"]:
        yield ok("PyTorch", f"{says}, finds {found['gpus']} GPUs")
    elif _numbers(cuda)[:1] > driver_cuda[:1]:
        yield problem(
            "PyTorch",
            f"{says}, and the driver supports up to {driver_cuda[0]}.{driver_cuda[1]}",
            "update the driver, or install a PyTorch that is built for an older CUDA",
        )
    else:
        yield problem(
            "PyTorch",
            f"{says}, and finds no GPU",
            "see that CUDA_VISIBLE_DEVICES names one and that `nvidia-smi` lists it",
        )


def _package(package: str, least: tuple[int, ...]) -> Check:
    try:
        found = version(package)
    except PackageNotFoundError:
        return problem(package, "is not installed", f"pip install {package}")
    numbers = _numbers(found)
    oldest = ".".join(map(str, least))
    if numbers < least:
        return problem(
            package, f"{found}, and tunekit needs {oldest}", f"pip install '{package}>={oldest}'"
        )
    if package == "triton":
        first, last = (".".join(map(str, each)) for each in TESTED_TRITON)
        if not TESTED_TRITON[0] <= numbers[:2] <= TESTED_TRITON[1]:
            return note(
                package,
                f"{found}: tunekit was tested on {first} to {last}",
                "if calls or tuning fail, use one of those",
            )
    return ok(package, found)


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers a version begins with: (2, 13, 0) of 2.13.0+cu130."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])
