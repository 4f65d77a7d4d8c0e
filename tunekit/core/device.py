"""GPU models and the figures that bound a kernel on them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from tunekit.errors import UnknownDeviceError

_KIB = 1 << 10
_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU model.

    Attributes:
        slug: short name used on the command line and in the database.
        names: what the driver calls it.
        compute_capability: major * 10 + minor, as Triton's `GPUTarget` wants it.
        sm_count: streaming multiprocessors (SMs) that are enabled.
        sm_clock_hz: highest boost clock, Hz.
        dram_bytes_per_s: peak DRAM bandwidth, bytes a second.
        dram_bytes: nominal DRAM capacity; the driver keeps some of it.
        l2_bytes: L2 cache of the whole GPU.
        dram_channels: DRAM channels that are addressed independently.
        dram_banks: banks of one channel, each with one row open.
        max_threads_per_sm: resident threads an SM can hold.
        max_blocks_per_sm: resident blocks an SM can hold.
        shared_bytes_per_sm: shared memory of an SM.
        shared_bytes_per_block: shared memory a block can opt in to.
        source: where the figures come from, one line.
        tensor_flops_per_s: dense matrix products of 16-bit operands, added up in float32; half of
            it in TF32. The data sheets' figures; 0 where it is not known.
        max_threads_per_block: threads a block can have.
        registers_per_sm: 32-bit registers of an SM.
        max_registers_per_thread: registers a thread can use.
        schedulers_per_sm: warp instructions an SM can issue a clock.
        special_function_per_clock: special-function results an SM gives a clock.
        warp_size: threads of a warp.
    """

    slug: str
    names: tuple[str, ...]
    compute_capability: int
    sm_count: int
    sm_clock_hz: float
    dram_bytes_per_s: float
    dram_bytes: int
    l2_bytes: int
    dram_channels: int
    dram_banks: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    shared_bytes_per_sm: int
    shared_bytes_per_block: int
    source: str
    tensor_flops_per_s: float = 0.0
    max_threads_per_block: int = 1024
    registers_per_sm: int = 65536
    max_registers_per_thread: int = 255
    schedulers_per_sm: int = 4
    special_function_per_clock: int = 16
    warp_size: int = 32

    @property
    def max_warps_per_sm(self) -> int:
        """Resident warps an SM can hold."""
        return self.max_threads_per_sm // self.warp_size

    def facts(self) -> Mapping[str, int]:
        """The names a space's expressions may use."""
        return {
            "sm_count": self.sm_count,
            "max_threads_per_block": self.max_threads_per_block,
            "max_threads_per_sm": self.max_threads_per_sm,
            "max_warps_per_sm": self.max_warps_per_sm,
            "max_blocks_per_sm": self.max_blocks_per_sm,
            "shared_bytes_per_block": self.shared_bytes_per_block,
            "shared_bytes_per_sm": self.shared_bytes_per_sm,
            "l2_bytes": self.l2_bytes,
            "compute_capability": self.compute_capability,
        }


class _Limits(TypedDict):
    """What follows from the compute capability alone."""

    compute_capability: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    shared_bytes_per_sm: int
    shared_bytes_per_block: int


def _limits(capability: int, threads: int, blocks: int, shared_kib: int) -> _Limits:
    return {
        "compute_capability": capability,
        "max_threads_per_sm": threads,
        "max_blocks_per_sm": blocks,
        "shared_bytes_per_sm": shared_kib * _KIB,
        # CUDA keeps 1 KiB of every block for itself.
        "shared_bytes_per_block": (shared_kib - 1) * _KIB,
    }


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; its table of
# arithmetic throughput gives 16 special-function results an SM and clock for all of these.
_CC80 = _limits(80, threads=2048, blocks=32, shared_kib=164)
_CC86 = _limits(86, threads=1536, blocks=16, shared_kib=100)
_CC89 = _limits(89, threads=1536, blocks=24, shared_kib=100)
_CC90 = _limits(90, threads=2048, blocks=32, shared_kib=228)
_CC100 = _limits(100, threads=2048, blocks=32, shared_kib=228)


class _Memory(TypedDict):
    """What follows from the kind and number of the DRAM packages."""

    dram_channels: int
    dram_banks: int


def _gddr6(packages: int) -> _Memory:
    """Two 16-bit channels a package, 16 banks each (JEDEC JESD250; GDDR6X keeps both)."""
    return {"dram_channels": 2 * packages, "dram_banks": 16}


def _hbm2e(stacks: int) -> _Memory:
    """8 channels of two pseudo channels a stack; eight dies high, 32 banks (JEDEC JESD235)."""
    return {"dram_channels": 16 * stacks, "dram_banks": 32}


def _hbm3(stacks: int) -> _Memory:
    """16 channels of two pseudo channels a stack; eight dies high, 32 banks (JEDEC JESD238)."""
    return {"dram_channels": 32 * stacks, "dram_banks": 32}


_KNOWN = (
    Device(
        slug="rtx4090",
        names=("NVIDIA GeForce RTX 4090",),
        sm_count=128,
        sm_clock_hz=2.52e9,
        tensor_flops_per_s=165.2e12,
        dram_bytes_per_s=1008e9,
        dram_bytes=24 * _GIB,
        l2_bytes=72 * _MIB,
        source="NVIDIA Ada GPU Architecture white paper, GeForce RTX 4090 table (boost clock)",
        **_gddr6(12),
        **_CC89,
    ),
    Device(
        slug="rtx3090",
        names=("NVIDIA GeForce RTX 3090", "GeForce RTX 3090"),
        sm_count=82,
        sm_clock_hz=1.695e9,
        tensor_flops_per_s=71e12,
        dram_bytes_per_s=936e9,
        dram_bytes=24 * _GIB,
        l2_bytes=6 * _MIB,
        source="NVIDIA Ampere GA102 GPU Architecture white paper, GeForce RTX 3090 (boost clock)",
        **_gddr6(24),
        **_CC86,
    ),
    Device(
        slug="a100",
        names=("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        sm_count=108,
        sm_clock_hz=1.41e9,
        tensor_flops_per_s=312e12,
        dram_bytes_per_s=2039e9,
        dram_bytes=80 * _GIB,
        l2_bytes=40 * _MIB,
        source="NVIDIA A100 80GB SXM data sheet; A100 architecture white paper (boost clock, L2)",
        **_hbm2e(5),
        **_CC80,
    ),
    Device(
        slug="a100-40gb",
        names=("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"),
        sm_count=108,
        sm_clock_hz=1.41e9,
        tensor_flops_per_s=312e12,
        dram_bytes_per_s=1555e9,
        dram_bytes=40 * _GIB,
        l2_bytes=40 * _MIB,
        source="NVIDIA A100 40GB SXM data sheet; A100 architecture white paper (boost clock, L2)",
        **_hbm2e(5),
        **_CC80,
    ),
    Device(
        slug="l40s",
        names=("NVIDIA L40S",),
        sm_count=142,
        sm_clock_hz=2.52e9,
        tensor_flops_per_s=362e12,
        dram_bytes_per_s=864e9,
        dram_bytes=48 * _GIB,
        l2_bytes=96 * _MIB,
        source="NVIDIA L40S data sheet; maximum clock and L2 as the driver reports them",
        **_gddr6(12),
        **_CC89,
    ),
    Device(
        slug="h100",
        names=("NVIDIA H100 80GB HBM3",),
        sm_count=132,
        sm_clock_hz=1.98e9,
        tensor_flops_per_s=989.4e12,
        dram_bytes_per_s=3.35e12,
        dram_bytes=80 * _GIB,
        l2_bytes=50 * _MIB,
        source="NVIDIA H100 data sheet, SXM5; the maximum boost clock, which its 67 TFLOPS imply",
        **_hbm3(5),
        **_CC90,
    ),
    Device(
        slug="h100-pcie",
        names=("NVIDIA H100 PCIe",),
        sm_count=114,
        sm_clock_hz=1.755e9,
        tensor_flops_per_s=756e12,
        dram_bytes_per_s=2039e9,
        dram_bytes=80 * _GIB,
        l2_bytes=50 * _MIB,
        source="NVIDIA H100 PCIe product brief: 1,755 MHz boost, memory 1,593 MHz on 5,120 bits",
        **_hbm2e(5),
        **_CC90,
    ),
    Device(
        slug="h200",
        names=("NVIDIA H200",),
        sm_count=132,
        sm_clock_hz=1.98e9,
        tensor_flops_per_s=989.4e12,
        dram_bytes_per_s=4.8e12,
        dram_bytes=141 * _GIB,
        l2_bytes=60 * _MIB,
        source="NVIDIA H200 data sheet, SXM; maximum boost clock and L2 as the driver reports them",
        **_hbm3(6),
        **_CC90,
    ),
    Device(
        slug="b200",
        names=("NVIDIA B200",),
        sm_count=148,
        sm_clock_hz=1.965e9,
        tensor_flops_per_s=2.25e15,
        dram_bytes_per_s=8e12,
        dram_bytes=180 * _GIB,
        l2_bytes=126 * _MIB,
        source="NVIDIA DGX B200 data sheet, one GPU of eight; L2: Blackwell Tuning Guide; "
        "maximum clock as the driver reports it",
        **_hbm3(8),
        **_CC100,
    ),
)

DEVICES: dict[str, Device] = {device.slug: device for device in _KNOWN}
"""The known GPU models by slug."""


def device_named(text: str) -> Device:
    """The known GPU a person means by `rtx4090`, `RTX 4090` or the driver's name.

    Case, spaces, dashes and underscores do not matter, nor does a leading `NVIDIA` or `GeForce`.

    Raises:
        UnknownDeviceError: no GPU of the table has that name.
    """
    spellings = {
        _compact(name): device for device in _KNOWN for name in (device.slug, *device.names)
    }
    wanted = _compact(text[:200])
    if wanted in spellings:
        return spellings[wanted]
    near = difflib.get_close_matches(wanted, spellings, n=1)
    hint = f"did you mean {spellings[near[0]].slug!r}? " if near else ""
    raise UnknownDeviceError(
        f"no GPU named {text!r:.100} in the device table: {hint}"
        "`tunekit devices` lists what is known"
    )


def device_of_driver(name: str) -> Device | None:
    """The known GPU that the driver calls exactly `name`, if there is one."""
    return next((device for device in _KNOWN if name in device.names), None)


def slug_of(driver_name: str) -> str:
    """A slug for a GPU by the driver's name: `NVIDIA GeForce RTX 4080` is `rtx4080`.

    A known GPU has the slug of the table, and no other GPU is ever given one of those.
    """
    known = device_of_driver(driver_name)
    if known is not None:
        return known.slug
    model = re.sub(r"\b(rtx|gtx) +(?=\d)", r"\1", _without_brand(driver_name))
    slug = re.sub(r"[^a-z0-9]+", "-", model).strip("-") or "unnamed"
    taken = {_compact(device.slug) for device in _KNOWN}
    return f"{slug}-other" if _compact(slug) in taken else slug


def _without_brand(name: str) -> str:
    return re.sub(r"^(nvidia[\s_-]+)?(geforce[\s_-]+)?", "", name.strip().lower())


def _compact(name: str) -> str:
    return re.sub(r"[\s_-]+", "", _without_brand(name))
