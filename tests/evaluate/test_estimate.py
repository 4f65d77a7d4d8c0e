"""The model of a kernel's time: how it must move, and how near it comes to what was measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.evaluation import Binary
from tunekit.evaluate.binary import BlockPath, Mix, full_block_path, parse_ptx
from tunekit.evaluate.compile import compile_launch
from tunekit.evaluate.estimate import CONSTANTS, Work, estimate_us

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

BINARY = Binary("beef", registers=32, spill_bytes=0, shared_bytes=0, load_bytes=16, store_bytes=16)
FLAT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
LOOP = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=2)
COPY = Mix(issued=40, loads=2, stores=2)
NOTHING = Mix()
RTX4090 = DEVICES["rtx4090"]


def stream(bytes_moved: int, repeats: float = 0.0, **more: Any) -> Work:
    """4 bytes in and 4 out for each of 1024 elements of a block."""
    return Work(bytes_moved, blocks=max(bytes_moved // 8192, 1), repeats=repeats, **more)


def time_us(
    work: Work,
    mix: Mix = COPY,
    config: Config = FLAT,
    device: Device = RTX4090,
    binary: Binary = BINARY,
    each: Mix = NOTHING,
) -> float:
    return estimate_us(work, binary, BlockPath(mix, each), config, device)


LARGE = stream(2**31)


def test_a_large_stream_takes_its_bytes_over_the_bandwidth() -> None:
    ideal_us = LARGE.bytes_moved / (RTX4090.dram_bytes_per_s * CONSTANTS.dram_efficiency) * 1e6
    assert time_us(LARGE) == pytest.approx(ideal_us, rel=0.01)


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())
def test_no_gpu_is_faster_than_its_tensor_cores(device: Device) -> None:
    flops = 2.0 * 8192**3
    fastest_us = flops / device.tensor_flops_per_s * 1e6
    found_us = time_us(stream(2**26, flops=flops), device=device)
    assert fastest_us < found_us < 1.1 * fastest_us


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())
def test_no_gpu_is_faster_than_its_memory(device: Device) -> None:
    fastest_us = LARGE.bytes_moved / device.dram_bytes_per_s * 1e6
    assert fastest_us < time_us(LARGE, device=device) < 1.5 * fastest_us


def test_half_the_bandwidth_takes_twice_as_long() -> None:
    half = replace(RTX4090, dram_bytes_per_s=RTX4090.dram_bytes_per_s / 2)
    assert time_us(LARGE, device=half) / time_us(LARGE) == pytest.approx(2.0, rel=0.02)


def test_special_functions_bind_where_there_are_many() -> None:
    many = Mix(issued=5000, special=4000, loads=2, stores=2)
    slow = time_us(LARGE, many)
    assert slow > 2 * time_us(LARGE)
    # The unit gives 16 results an SM and clock: 32 lanes of 4 warps a block take that many clocks.
    cycles = LARGE.blocks / RTX4090.sm_count * 4 * 4000 * 32 / 16
    assert slow == pytest.approx(cycles / RTX4090.sm_clock_hz * 1e6, rel=0.05)
    twice = replace(RTX4090, special_function_per_clock=32)
    assert time_us(LARGE, many, device=twice) == pytest.approx(slow / 2, rel=0.1)
    bandwidth = replace(RTX4090, dram_bytes_per_s=2 * RTX4090.dram_bytes_per_s)
    assert time_us(LARGE, many, device=bandwidth) == pytest.approx(slow, rel=0.02)


def test_issue_slots_bind_where_there_are_many_instructions() -> None:
    slow = time_us(LARGE, Mix(issued=8000, loads=2, stores=2))
    cycles = LARGE.blocks / RTX4090.sm_count * 4 * 8000 / RTX4090.schedulers_per_sm
    assert slow == pytest.approx(cycles / RTX4090.sm_clock_hz * 1e6, rel=0.05)


def test_a_tiny_launch_takes_a_launch_and_the_latency_of_memory() -> None:
    tiny = time_us(stream(8192))
    assert 1.0 < tiny < 4.0
    # Neither does bandwidth help, nor do sixteen blocks take longer than one.
    fast = replace(RTX4090, dram_bytes_per_s=10 * RTX4090.dram_bytes_per_s)
    assert time_us(stream(8192), device=fast) == pytest.approx(tiny, rel=0.02)
    assert time_us(stream(16 * 8192)) == pytest.approx(tiny, rel=0.1)


def test_short_runs_open_rows_and_cost_bandwidth() -> None:
    times = [time_us(replace(LARGE, run_bytes=run)) for run in (128, 256, 1024, 65536, math.inf)]
    assert times == sorted(times, reverse=True)
    assert times[0] > 1.5 * times[-1]
    assert times[-2] == pytest.approx(times[-1], rel=0.01)


def test_few_resident_blocks_leave_latency_bare() -> None:
    small_blocks = replace(LARGE, blocks=4 * LARGE.blocks)
    hungry = replace(BINARY, shared_bytes=RTX4090.shared_bytes_per_block)
    assert time_us(small_blocks, binary=hungry) > 2 * time_us(small_blocks)


def test_stages_hide_the_latency_of_a_loop() -> None:
    work = Work(bytes_moved=2**26, blocks=RTX4090.sm_count, repeats=64.0)
    stages = [LOOP, Config({**LOOP, "num_stages": 3}), Config({**LOOP, "num_stages": 4})]
    times = [time_us(work, Mix(issued=20), config, each=COPY) for config in stages]
    assert times[0] > times[1] > times[2]


works = st.builds(
    Work,
    bytes_moved=st.integers(1, 2**34),
    blocks=st.integers(1, 2**24),
    repeats=st.sampled_from([0.0, 1.0, 7.5]),
    run_bytes=st.sampled_from([64.0, 1024.0, math.inf]),
)
mixes = st.builds(Mix, issued=st.integers(1, 4000), special=st.integers(0, 500))
configs = st.sampled_from([FLAT, LOOP, Config({**FLAT, "num_warps": 16})])
devices = st.sampled_from(list(DEVICES.values()))


@given(works, mixes, configs, devices, st.integers(1, 2**32))
def test_more_bytes_are_never_faster(
    work: Work, mix: Mix, config: Config, device: Device, more: int
) -> None:
    heavier = replace(work, bytes_moved=work.bytes_moved + more)
    assert time_us(heavier, mix, config, device, each=mix) >= time_us(
        work, mix, config, device, each=mix
    )


@given(works, mixes, configs, devices, st.integers(1, 2**20))
def test_more_blocks_are_never_faster(
    work: Work, mix: Mix, config: Config, device: Device, more: int
) -> None:
    heavier = replace(work, blocks=work.blocks + more)
    assert time_us(heavier, mix, config, device) >= time_us(work, mix, config, device)


@given(works, mixes, configs, devices, st.integers(1, 200), st.integers(0, 50))
def test_more_instructions_are_never_faster(
    work: Work, mix: Mix, config: Config, device: Device, issued: int, special: int
) -> None:
    heavier = replace(mix, issued=mix.issued + issued, special=mix.special + special)
    assert time_us(work, heavier, config, device) >= time_us(work, mix, config, device)


@given(works, mixes, configs, devices, st.integers(1, 100))
def test_fewer_sms_are_never_faster(
    work: Work, mix: Mix, config: Config, device: Device, fewer: int
) -> None:
    smaller = replace(device, sm_count=max(device.sm_count - fewer, 1))
    assert time_us(work, mix, config, smaller) >= time_us(work, mix, config, device)


@given(works, mixes, configs, devices)
def test_a_time_is_more_than_a_launch_and_finite(
    work: Work, mix: Mix, config: Config, device: Device
) -> None:
    assert CONSTANTS.launch_s * 1e6 < time_us(work, mix, config, device, each=mix) < math.inf


PROFILED = {
    # Original: shape, ms on an RTX 4090.
    "mish_add_hardtanh_scale": ((128, 64, 256, 256), 9.80),
    "add_min_gelu_mul": ((128, 128, 130, 130), 2.36),
    "mish_mish": ((64, 128, 254, 254), 4.50),
}


@pytest.mark.parametrize("name", PROFILED)
def test_the_originals_take_about_what_they_were_profiled_to_take(
    name: str, compiling: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from originals import ORIGINALS

    shape, profiled_ms = PROFILED[name]
    original = ORIGINALS[name]
    config = original.configs[0]
    launch = original.launch(shape, "float32", compiling)
    compiled = compile_launch(launch, config, original.scalars)
    work = Work(
        bytes_moved=sum(meta.numel * meta.itemsize for meta in (*launch.inputs, *launch.outputs)),
        blocks=math.prod(launch.grid(config)),
        repeats=launch.repeats(config),
        run_bytes=launch.run_bytes(config),
    )
    path = full_block_path(parse_ptx(compiled.kernel.asm["ptx"]))
    estimated_ms = estimate_us(work, compiled.binary, path, config, compiling) / 1e3
    assert estimated_ms == pytest.approx(profiled_ms, rel=0.15)
