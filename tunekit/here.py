"""The versions a call would run under here, and which rows were found under others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Self

from tunekit.core.device import slug_of
from tunekit.driver import read_driver
from tunekit.store.cache import CacheRow


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine has; neither PyTorch nor Triton is imported to find that out.

    Attributes:
        triton: its version, empty where it is not installed.
        drivers: the driver's version by GPU model.
    """

    triton: str
    drivers: Mapping[str, str]

    @classmethod
    def found(cls) -> Self:
        """This machine."""
        try:
            triton = version("triton")
        except PackageNotFoundError:
            triton = ""
        driver = read_driver()
        return cls(triton, {slug_of(gpu.name): driver.version for gpu in driver.gpus})

    def other_versions(self, row: CacheRow) -> str:
        """`Triton 3.6.0, driver 580.1`: those the row was found under that are not those here.

        A driver counts where the row's GPU is in this machine.
        """
        was = row.provenance
        here = self.drivers.get(row.problem.device, was.driver)
        found = []
        if self.triton and was.triton != self.triton:
            found.append(f"Triton {was.triton}")
        if was.driver and was.driver != here:
            found.append(f"driver {was.driver}")
        return ", ".join(found)

    def __str__(self) -> str:
        drivers = (f"driver {driver}" for driver in dict.fromkeys(self.drivers.values()))
        return ", ".join([f"Triton {self.triton}", *drivers])
