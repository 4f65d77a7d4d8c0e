"""What a device cannot hold."""

from __future__ import annotations

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Binary


def resident_blocks(binary: Binary, num_warps: int, device: Device) -> int:
    """Blocks of the kernel an SM holds at once, by registers, shared memory, threads and slots.

    Registers are given to a warp in units of 256 out of its scheduler's share of the SM's, shared
    memory to a block in units of 128 bytes plus 1 KB the system keeps (compute capability 8.0 and
    up; CUDA occupancy calculator).
    """
    warp_registers = -(-max(binary.registers, 1) * device.warp_size // 256) * 256
    scheduler_registers = device.registers_per_sm // device.schedulers_per_sm
    warps_by_registers = scheduler_registers // warp_registers * device.schedulers_per_sm
    by_registers = warps_by_registers // num_warps
    block_shared = -(-binary.shared_bytes // 128) * 128 + 1024
    by_shared = device.shared_bytes_per_sm // block_shared
    by_warps = device.max_warps_per_sm // num_warps
    return min(by_registers, by_shared, by_warps, device.max_blocks_per_sm)


def unfit_reason(binary: Binary, config: Config, device: Device) -> str:
    """Which limit of the device the configuration exceeds; empty if none."""
    if binary.shared_bytes > device.shared_bytes_per_block:
        return (
            f"shared memory: a block needs {binary.shared_bytes} bytes and {device.slug} "
            f"has {device.shared_bytes_per_block}"
        )
    if binary.registers > device.max_registers_per_thread:
        return (
            f"registers: a thread needs {binary.registers} and {device.slug} "
            f"has {device.max_registers_per_thread}"
        )
    threads = config.get("num_warps", 4) * device.warp_size
    if threads > device.max_threads_per_block:
        return (
            f"threads: a block has {threads} and {device.slug} "
            f"allows {device.max_threads_per_block}"
        )
    if resident_blocks(binary, config.get("num_warps", 4), device) < 1:
        return f"occupancy: no block fits on an SM of {device.slug}"
    return ""
