"""The GPU that is in this machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache

import torch

from tunekit.core.device import Device, device_of_driver, slug_of
from tunekit.driver import driver_version
from tunekit.errors import UnknownDeviceError


@dataclass(frozen=True, slots=True)
class PresentGpu:
    """A GPU in this machine.

    Attributes:
        device: the model's facts: from the table where it is known, SM count, memory and L2 as
            the driver gives them.
        driver: the driver's version.
    """

    index: int
    name: str
    driver: str
    device: Device


def gpu_count() -> int:
    """CUDA GPUs in this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def select_gpu(index: int) -> PresentGpu:
    """Make a GPU current and say what it is.

    Raises:
        UnknownDeviceError: there is no GPU of that index.
    """
    count = gpu_count()
    if not 0 <= index < count:
        raise UnknownDeviceError(f"--device cuda:{index}: this machine has {count} CUDA GPUs")
    torch.cuda.set_device(index)
    return present_gpu(index)


def present_gpu(index: int) -> PresentGpu:
    """What the driver says of a GPU, joined with the table."""
    name = torch.cuda.get_device_properties(index).name
    return PresentGpu(index, name, _driver_version(), device_at(index))


def driver_of(device: Device) -> str:
    """The driver's version, if a GPU of that model is present; else empty."""
    present = (device_at(index).slug for index in range(gpu_count()))
    return _driver_version() if device.slug in present else ""


@cache
def device_at(index: int) -> Device:
    """The facts of a GPU that is present, asked of the driver once."""
    properties = torch.cuda.get_device_properties(index)
    known = device_of_driver(properties.name) or _from_driver(properties)
    return dataclasses.replace(
        known,
        sm_count=properties.multi_processor_count,
        dram_bytes=properties.total_memory,
        l2_bytes=properties.L2_cache_size,
    )


def _from_driver(properties: object) -> Device:
    """A model that is not in the table: what the driver says, bandwidth from the memory clock.

    Which figures PyTorch passes on depends on its version: clocks it does not know are 0.
    """

    def get(name: str) -> int:
        return int(getattr(properties, name, 0))

    driver_name = str(getattr(properties, "name", ""))
    return Device(
        slug=slug_of(driver_name),
        names=(driver_name,),
        compute_capability=get("major") * 10 + get("minor"),
        sm_count=get("multi_processor_count"),
        sm_clock_hz=get("clock_rate") * 1e3,
        dram_bytes_per_s=2 * get("memory_clock_rate") * 1e3 * get("memory_bus_width") / 8,
        dram_bytes=get("total_memory"),
        l2_bytes=get("L2_cache_size"),
        dram_channels=get("memory_bus_width") // 16,
        dram_banks=16,
        max_threads_per_sm=get("max_threads_per_multi_processor"),
        max_blocks_per_sm=16,
        shared_bytes_per_sm=get("shared_memory_per_multiprocessor"),
        shared_bytes_per_block=get("shared_memory_per_block_optin"),
        source="driver",
    )


@cache
def _driver_version() -> str:
    """The kernel driver's version, as NVML says; the CUDA version it supports without NVML."""
    return driver_version() or _cuda_version_of_driver()


def _cuda_version_of_driver() -> str:
    version = vars(torch._C)["_cuda_getDriverVersion"]()  # absent from a CPU-only PyTorch
    return f"CUDA {version // 1000}.{version % 1000 // 10}"
