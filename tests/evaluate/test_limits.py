from __future__ import annotations

from dataclasses import replace

import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Binary
from tunekit.evaluate.limits import resident_blocks, unfit_reason

BINARY = Binary("", registers=32, spill_bytes=0, shared_bytes=0, load_bytes=16, store_bytes=16)
SM80, SM86, SM89, SM90 = (DEVICES[name] for name in ("a100", "rtx3090", "rtx4090", "h100"))


# Worked out with NVIDIA's own occupancy calculator (cuda_occupancy.h): a block's warps, registers
# a thread, bytes of shared memory a block, and the blocks an SM holds.
@pytest.mark.parametrize(
    ("device", "warps", "registers", "shared", "blocks"),
    [
        (SM90, 4, 32, 0, 16),  # 64 warps, and registers for just as many
        (SM90, 4, 16, 0, 16),  # warps
        (SM90, 1, 16, 0, 32),  # slots for blocks
        (SM90, 4, 33, 0, 12),  # 1280 registers a warp: 12 a scheduler, 48 in all
        (SM90, 4, 40, 0, 12),
        (SM90, 4, 41, 0, 10),
        (SM90, 4, 64, 0, 8),
        (SM90, 4, 128, 0, 4),
        (SM90, 4, 255, 0, 2),
        (SM90, 8, 255, 0, 1),
        (SM90, 16, 255, 0, 0),  # 16 warps and registers for 8
        (SM90, 32, 64, 0, 1),
        (SM90, 32, 65, 0, 0),
        (SM90, 1, 255, 0, 8),
        (SM90, 1, 200, 0, 8),  # 2 warps for each of 4 schedulers, although 10 would fit in all
        (SM90, 2, 200, 0, 4),
        (SM90, 1, 168, 0, 12),
        (SM90, 4, 32, 227 * 1024, 1),
        (SM90, 4, 32, 100 * 1024, 2),
        (SM90, 4, 32, 13 * 1024, 16),  # 14 KB with the system's own: 16.3
        (SM90, 4, 32, 13 * 1024 + 257, 15),  # 384 bytes more, in units of 128
        (SM89, 4, 32, 0, 12),  # 48 warps
        (SM89, 1, 32, 0, 24),
        (SM89, 4, 32, 99 * 1024, 1),
        (SM89, 4, 32, 24 * 1024, 4),
        (SM86, 1, 32, 0, 16),
        (SM80, 4, 32, 0, 16),
        (SM80, 4, 32, 40 * 1024, 4),
    ],
)
def test_resident_blocks(
    device: object, warps: int, registers: int, shared: int, blocks: int
) -> None:
    binary = replace(BINARY, registers=registers, shared_bytes=shared)
    assert resident_blocks(binary, warps, device) == blocks  # type: ignore[arg-type]


def test_a_kernel_without_registers_is_bound_by_warps() -> None:
    assert resident_blocks(replace(BINARY, registers=0), 4, SM90) == 16


@pytest.mark.parametrize(
    ("changes", "warps", "reason"),
    [
        ({}, 4, ""),
        ({"registers": 255}, 8, ""),
        ({"shared_bytes": 99 * 1024}, 4, ""),
        (
            {"shared_bytes": 99 * 1024 + 1},
            4,
            "shared memory: a block needs 101377 bytes and rtx4090 has 101376",
        ),
        ({"registers": 256}, 4, "registers: a thread needs 256 and rtx4090 has 255"),
        ({}, 32, ""),
        ({}, 64, "threads: a block has 2048 and rtx4090 allows 1024"),
        ({"registers": 255}, 16, "occupancy: no block fits on an SM of rtx4090"),
    ],
)
def test_unfit_reason(changes: dict[str, int], warps: int, reason: str) -> None:
    config = Config(BLOCK_SIZE=1024, num_warps=warps)
    assert unfit_reason(replace(BINARY, **changes), config, SM89) == reason  # type: ignore[arg-type]


def test_without_an_axis_for_it_triton_launches_four_warps() -> None:
    tight = replace(SM89, max_threads_per_block=127)
    assert unfit_reason(BINARY, Config(BLOCK_SIZE=64), tight).startswith("threads: a block has 128")
