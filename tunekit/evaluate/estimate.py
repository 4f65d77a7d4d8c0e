"""An analytic model of a kernel's time, from its binary and its launch alone.

Nothing is measured here. A launch begins, its first blocks wait for memory and compute, and the
rest follow at the pace of whatever is slowest on an SM: DRAM, issue slots, special-function units,
the hardware that hands out blocks, or the latency that too few resident blocks leave bare.
benchmarks/estimate.py scores it against measurements; docs/architecture.md gives the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Binary
from tunekit.evaluate.binary import BlockPath, Mix
from tunekit.evaluate.limits import resident_blocks


@dataclass(frozen=True, slots=True)
class Constants:
    """What the data sheets do not say, the same for every GPU; benchmarks/estimate.py checks them.

    Attributes:
        dram_efficiency: share of the data sheet's bandwidth that a stream reaches. The RTX 4090's
            profile shows 0.931 and 0.933, the H100 0.90.
        loop_efficiency: the same again for a grid-stride loop instead of one block a program.
        launch_s: from one kernel of a graph to the next.
        memory_latency_s: of a load from DRAM with the memory system busy.
        block_cycles: start and end of a block on an SM.
        blocks_per_cycle: blocks the GPU hands out to its SMs in a clock.
        warp_cycles: clocks an SM takes to start one warp of a block.
        row_s: time a bank is kept by opening a row for a short visit to read and one to write, two
            row cycles; a channel's banks share it.
        sharpness: exponent of the norm that joins the bounds; infinite would be their maximum.
    """

    dram_efficiency: float = 0.92
    loop_efficiency: float = 0.92
    launch_s: float = 1.0e-6
    memory_latency_s: float = 0.7e-6
    block_cycles: float = 300.0
    blocks_per_cycle: float = 0.9
    warp_cycles: float = 4.0
    row_s: float = 87e-9
    sharpness: float = 6.0


CONSTANTS = Constants()


@dataclass(frozen=True, slots=True)
class Work:
    """What the launch does, besides its binary.

    Attributes:
        bytes_moved: DRAM traffic, at least.
        blocks: programs launched.
        repeats: times each runs the loop's body; 0 for a kernel without one.
        run_bytes: contiguous bytes touched in one place; infinite for a stream.
        flops: operations of matrix products, one of TF32 counted as two.
    """

    bytes_moved: int
    blocks: int
    repeats: float
    run_bytes: float = math.inf
    flops: float = 0.0


def estimate_us(
    work: Work,
    binary: Binary,
    path: BlockPath,
    config: Config,
    device: Device,
    constants: Constants = CONSTANTS,
) -> float:
    """Estimated time of one launch in µs."""
    warps = config.get("num_warps", 4)
    clock = device.sm_clock_hz
    issued = _of_warp(path, work.repeats, lambda mix: mix.issued)
    special = _of_warp(path, work.repeats, lambda mix: mix.special)
    special_cycles = device.warp_size * device.schedulers_per_sm / device.special_function_per_clock
    busiest = -(-work.blocks // device.sm_count)  # blocks on the SM that has most
    resident = min(max(resident_blocks(binary, warps, device), 1), busiest)

    # A block alone: its busiest scheduler issues everything in turn, nothing overlaps.
    in_turn = -(-warps // device.schedulers_per_sm)
    waits = 1.0 + max(work.repeats - 1.0, 0.0) / max(config.get("num_stages", 1) - 1, 1)
    alone_s = (
        waits * constants.memory_latency_s
        + (constants.block_cycles + in_turn * (issued + special_cycles * special)) / clock
    )
    # All blocks, by each bound.
    efficiency = constants.dram_efficiency * (constants.loop_efficiency if work.repeats else 1.0)
    dram_bytes_per_s = (
        device.dram_bytes_per_s * efficiency * _open_row_share(work, device, constants)
    )
    bounds = (
        work.bytes_moved / dram_bytes_per_s,
        busiest * warps * issued / device.schedulers_per_sm / clock,
        busiest * warps * special * special_cycles / device.schedulers_per_sm / clock,
        work.blocks / constants.blocks_per_cycle / clock,
        busiest * warps * constants.warp_cycles / clock,
        busiest / resident * alone_s - constants.memory_latency_s,
        work.flops / device.tensor_flops_per_s if device.tensor_flops_per_s else 0.0,
    )
    power = constants.sharpness
    slowest_s: float = sum(bound**power for bound in bounds) ** (1 / power)
    return (constants.launch_s + constants.memory_latency_s + slowest_s) * 1e6


def _open_row_share(work: Work, device: Device, constants: Constants) -> float:
    """Share of the time a DRAM channel transfers, when each visit of a row is short."""
    lost_bytes = (
        constants.row_s / device.dram_banks * device.dram_bytes_per_s / device.dram_channels
    )
    return 1.0 / (1.0 + lost_bytes / work.run_bytes)


def _of_warp(path: BlockPath, repeats: float, count: Callable[[Mix], int]) -> float:
    """Instructions of a kind that one warp issues in its life."""
    return count(path.once) + repeats * count(path.each)
