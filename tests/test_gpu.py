from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tunekit import gpu
from tunekit.core.device import DEVICES
from tunekit.errors import UnknownDeviceError

SAID = {
    "name": "NVIDIA H100 80GB HBM3",
    "major": 9,
    "minor": 0,
    "multi_processor_count": 114,
    "total_memory": 79 * 2**30,
    "L2_cache_size": 40 * 2**20,
    "max_threads_per_multi_processor": 2048,
    "shared_memory_per_multiprocessor": 233472,
    "shared_memory_per_block_optin": 232448,
}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the driver says of every GPU, and how often it was asked."""
    said = SimpleNamespace(**SAID, asked=0)

    def properties(index: int) -> Any:
        said.asked += 1
        return said

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(gpu, "_driver_version", lambda: "580.1")
    gpu.device_at.cache_clear()
    yield said
    gpu.device_at.cache_clear()


def test_a_known_model_with_the_counts_of_this_one(driver: Any) -> None:
    device = gpu.device_at(0)
    assert (device.slug, device.sm_count, device.l2_bytes) == ("h100", 114, 40 * 2**20)
    assert device.dram_bytes_per_s == DEVICES["h100"].dram_bytes_per_s
    assert gpu.present_gpu(0) == gpu.PresentGpu(0, driver.name, "580.1", device)


def test_the_driver_is_asked_once_a_gpu(driver: Any) -> None:
    gpu.device_at(0)
    gpu.device_at(0)
    assert driver.asked == 1
    gpu.device_at(1)
    assert driver.asked == 2


def test_an_unknown_model_is_what_the_driver_says(driver: Any) -> None:
    driver.name = "NVIDIA GeForce RTX 4080"
    driver.major, driver.minor = 8, 9
    driver.clock_rate, driver.memory_clock_rate, driver.memory_bus_width = 2505000, 11201000, 256
    device = gpu.device_at(0)
    assert (device.slug, device.compute_capability) == ("rtx4080", 89)
    assert device.dram_bytes_per_s == pytest.approx(716.9e9, rel=1e-3)
    assert device.sm_clock_hz == 2.505e9


def test_clocks_that_pytorch_does_not_pass_on_are_0(driver: Any) -> None:
    driver.name = "NVIDIA Next"
    device = gpu.device_at(0)
    assert (device.sm_clock_hz, device.dram_bytes_per_s) == (0, 0)
    assert device.facts()["sm_count"] == 114


def test_there_is_no_such_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu_count", lambda: 1)
    with pytest.raises(UnknownDeviceError, match="cuda:1: this machine has 1"):
        gpu.select_gpu(1)
