from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tunekit.core.device import DEVICES, Device, device_named, device_of_driver, slug_of
from tunekit.errors import UnknownDeviceError, UsageError

GIB = 1 << 30
EVERY_DEVICE = pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())


def test_the_table_is_keyed_by_slug_and_has_the_models_people_tune_on() -> None:
    assert all(slug == device.slug for slug, device in DEVICES.items())
    assert {
        *("rtx4090", "rtx3090", "a100", "a100-40gb", "l40s"),
        *("h100", "h100-pcie", "h200", "b200"),
    } <= DEVICES.keys()


def test_no_two_models_share_a_driver_name() -> None:
    names = [name for device in DEVICES.values() for name in device.names]
    assert len(names) == len(set(names))


@EVERY_DEVICE
def test_figures_are_in_the_units_the_docstring_says(device: Device) -> None:
    """A slip of a unit is off by a thousand; these ranges are narrower."""
    assert 50 <= device.sm_count <= 200
    assert 1e9 < device.sm_clock_hz < 3e9
    assert 0.5e12 < device.dram_bytes_per_s < 10e12
    assert 16 * GIB <= device.dram_bytes <= 300 * GIB
    assert 4 << 20 <= device.l2_bytes <= 256 << 20
    assert device.source


@EVERY_DEVICE
def test_limits_of_an_sm_are_consistent(device: Device) -> None:
    assert device.max_warps_per_sm * device.warp_size == device.max_threads_per_sm
    assert device.max_threads_per_block <= device.max_threads_per_sm
    assert device.shared_bytes_per_block == device.shared_bytes_per_sm - 1024
    assert device.special_function_per_clock == 16


# Non-tensor FP32 of the data sheets, TFLOPS: SMs and clock must give it back.
@pytest.mark.parametrize(
    ("slug", "fp32_per_sm", "tflops"),
    [
        ("rtx4090", 128, 82.6),
        ("rtx3090", 128, 35.6),
        ("a100", 64, 19.5),
        ("l40s", 128, 91.6),
        ("h100", 128, 67.0),
        ("h100-pcie", 128, 51.2),
        ("h200", 128, 67.0),
        ("b200", 128, 75.0),
    ],
)
def test_sm_count_and_clock_give_the_flops_of_the_data_sheet(
    slug: str, fp32_per_sm: int, tflops: float
) -> None:
    device = DEVICES[slug]
    flops = device.sm_count * device.sm_clock_hz * fp32_per_sm * 2
    assert flops / 1e12 == pytest.approx(tflops, rel=0.01)


def test_the_rtx_4090_is_as_its_users_give_it() -> None:
    device = DEVICES["rtx4090"]
    assert device.compute_capability == 89
    assert (device.sm_count, device.dram_bytes_per_s, device.l2_bytes) == (128, 1008e9, 72 << 20)
    assert (device.max_threads_per_sm, device.max_warps_per_sm) == (1536, 48)
    assert device.max_blocks_per_sm == 24
    assert (device.shared_bytes_per_sm, device.shared_bytes_per_block) == (100 << 10, 99 << 10)
    assert (device.max_threads_per_block, device.max_registers_per_thread) == (1024, 255)


def test_facts_are_the_integers_of_the_device() -> None:
    facts = DEVICES["h100"].facts()
    assert facts["sm_count"] == 132
    assert facts["max_warps_per_sm"] == 64
    assert all(type(value) is int for value in facts.values())


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("rtx4090", "rtx4090"),
        ("RTX 4090", "rtx4090"),
        ("rtx-4090", "rtx4090"),
        (" rtx_4090 ", "rtx4090"),
        ("GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("nvidia h100 80gb hbm3", "h100"),
        ("NVIDIA H100", "h100"),
        ("H100 PCIe", "h100-pcie"),
        ("A100 40GB", "a100-40gb"),
        ("A100-SXM4-80GB", "a100"),
    ],
)
def test_device_named_takes_what_people_type(text: str, slug: str) -> None:
    assert device_named(text).slug == slug


@pytest.mark.parametrize(
    ("text", "near"), [("rtx409", "rtx4090"), ("h100-pci", "h100-pcie"), ("l40", "l40s")]
)
def test_an_unknown_device_is_told_the_nearest_name_and_where_the_list_is(
    text: str, near: str
) -> None:
    with pytest.raises(UnknownDeviceError) as caught:
        device_named(text)
    message = str(caught.value)
    assert repr(text) in message
    assert f"did you mean '{near}'?" in message
    assert "`tunekit devices`" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "potato"])
def test_nothing_is_suggested_when_nothing_is_near(text: str) -> None:
    with pytest.raises(UsageError, match="`tunekit devices`") as caught:
        device_named(text)
    assert "did you mean" not in str(caught.value)


@EVERY_DEVICE
def test_every_model_is_found_by_each_of_its_names(device: Device) -> None:
    for name in device.names:
        assert device_of_driver(name) is device
        assert device_named(name) is device
        assert slug_of(name) == device.slug


@pytest.mark.parametrize(
    "name", ["", "rtx4090", "nvidia geforce rtx 4090", "NVIDIA GeForce RTX 4090 D", "NVIDIA H100"]
)
def test_device_of_driver_wants_the_exact_name(name: str) -> None:
    assert device_of_driver(name) is None


@pytest.mark.parametrize(
    ("driver_name", "slug"),
    [
        ("NVIDIA GeForce RTX 4080", "rtx4080"),
        ("NVIDIA GeForce RTX 4080 SUPER", "rtx4080-super"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx4090-laptop-gpu"),
        ("NVIDIA GeForce GTX 1080 Ti", "gtx1080-ti"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000-ada-generation"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "a100-sxm4-80gb-mig-1g-10gb"),
        ("Tesla V100-SXM2-16GB", "tesla-v100-sxm2-16gb"),
        ("NVIDIA H100", "h100-other"),
        ("", "unnamed"),
    ],
)
def test_slug_of_an_unknown_gpu(driver_name: str, slug: str) -> None:
    assert slug_of(driver_name) == slug


@given(st.one_of(st.text(), st.sampled_from(sorted(DEVICES)).map(str.upper)))
def test_an_unknown_gpu_never_gets_a_slug_of_the_table(driver_name: str) -> None:
    assume(device_of_driver(driver_name) is None)
    slug = slug_of(driver_name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
    assert slug not in DEVICES
