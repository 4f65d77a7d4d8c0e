"""An analytic model of a kernel's time, from its binary and its launch alone.

Nothing is measured here. The time is what the slowest of four resources needs (DRAM, issue slots,
special-function units, latency that too few bytes in flight leave bare), plus what starts and ends
a launch. docs/architecture.md gives the constants' sources and how far off the model was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Binary
from tunekit.evaluate.limits import resident_blocks
from tunekit.evaluate.binary import BlockPath, Mix

_DRAM_EFFICIENCY = 0.93
"""Share of the data sheet's bandwidth a stream reaches (the RTX 4090 profile: 93.1 and 93.3 %)."""
_DRAM_LATENCY_S = 0.65e-6
_LAUNCH_S = 2.0e-6
_BLOCK_START_CYCLES = 250.0
_ISSUE_EFFICIENCY = 0.85


@dataclass(frozen=True, slots=True)
class Workload:
    """What the launch does, besides its binary.

    Attributes:
        bytes_moved: DRAM traffic, at least.
        blocks: programs launched.
        repeats: times each runs the loop's body; 0 for a kernel without one.
    """

    bytes_moved: int
    blocks: int
    repeats: float


def estimate_us(
    workload: Workload, binary: Binary, path: BlockPath, config: Config, device: Device
) -> float:
    """Estimated time of one launch in µs."""
    num_warps = config.get("num_warps", 4)
    resident = max(resident_blocks(binary, num_warps, device), 1)
    issued = _per_block(path, workload, num_warps, _issued)
    special = _per_block(path, workload, num_warps, _special)
    cycles_per_s = device.sm_clock_hz
    issue_s = issued / (device.schedulers_per_sm * _ISSUE_EFFICIENCY * cycles_per_s)
    special_s = special * device.warp_size / (device.special_function_per_clock * cycles_per_s)
    dram_bytes_per_s = device.dram_bytes_per_s * _DRAM_EFFICIENCY / device.sm_count
    block_bytes = workload.bytes_moved / workload.blocks
    dram_s = block_bytes / dram_bytes_per_s
    busy_s = max(issue_s, special_s, dram_s)
    alone_s = (
        _DRAM_LATENCY_S + _BLOCK_START_CYCLES / cycles_per_s + issue_s + special_s
    )
    per_sm = workload.blocks / device.sm_count
    concurrent = min(resident, max(per_sm, 1.0))
    block_s = max(busy_s, alone_s / concurrent)
    return (_LAUNCH_S + alone_s + max(math.ceil(per_sm) - 1, 0) * block_s) * 1e6


def _issued(mix: Mix) -> int:
    return mix.issued


def _special(mix: Mix) -> int:
    return mix.special


def _per_block(path, workload, num_warps, count):
    return num_warps * (count(path.once) + workload.repeats * count(path.each))
