"""Timing on the GPU that is present."""

from __future__ import annotations

import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import pytest
import torch

from tunekit.core.device import Device
from tunekit.evaluate.measure import interleaved, measure
from tunekit.evaluate.noise import OTHER_PROCESS, Watch
from tunekit.evaluate.rotation import rotation_of
from tunekit.evaluate.timer import Timer, settle
from tunekit.gpu import select_gpu

pytestmark = pytest.mark.gpu

FIRST_TIMERS = """
    import torch
    from tunekit.evaluate.measure import measure, median_us
    from tunekit.evaluate.noise import Watch
    from tunekit.evaluate.rotation import rotation_of
    from tunekit.evaluate.timer import Timer
    from tunekit.gpu import select_gpu

    device = select_gpu(0).device
    x = torch.randn(4096, device="cuda")
    rotation = rotation_of([x], [torch.empty_like(x)], device.l2_bytes)

    def copy(index):
        torch.add(rotation.inputs[index][0], 1.0, out=rotation.outputs[index][0])

    watch = Watch(0)
    for _ in range(8):
        print(median_us(measure(Timer(copy, rotation), watch).samples_us))
"""

OTHER = """
    import sys, torch
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    print("there", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def gpu() -> Device:
    return select_gpu(0).device


@pytest.fixture
def adding(gpu: Device) -> Callable[..., Timer]:
    def make(elements: int, warm: bool = False, repeat: int = 1) -> Timer:
        x = torch.randn(elements, device="cuda")
        rotation = rotation_of([x], [torch.empty_like(x)], gpu.l2_bytes, warm)

        def launch(index: int) -> None:
            for _ in range(repeat):
                torch.add(rotation.inputs[index][0], 1.0, out=rotation.outputs[index][0])

        return Timer(launch, rotation)

    return make


def _python(source: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_first_timers_of_a_process_are_no_faster_than_later_ones() -> None:
    """The first three were, by a fifth, until streams were given work before."""
    out, _ = _python(FIRST_TIMERS).communicate(timeout=120)
    times_us = [float(line) for line in out.split()]
    assert len(times_us) == 8
    assert max(times_us) < 1.06 * min(times_us)


def test_another_process_changes_no_time_once_settled(adding: Callable[..., Timer]) -> None:
    watch = Watch(0)
    timer = adding(4096)
    alone_us = statistics.median(measure(timer, watch).samples_us)
    with _python(OTHER) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        beside = measure(timer, watch)
        other.communicate("\n", timeout=60)
    after = measure(timer, watch)
    assert statistics.median(beside.samples_us) == pytest.approx(alone_us, rel=0.05)
    assert statistics.median(after.samples_us) == pytest.approx(alone_us, rel=0.05)
    assert beside.disturbance in ("", OTHER_PROCESS)  # some containers list no process
    assert after.disturbance != OTHER_PROCESS


def test_a_measurement_alone_is_undisturbed(adding: Callable[..., Timer]) -> None:
    found = measure(adding(2**20), Watch(0))
    assert found.disturbance == ""
    assert 5 <= len(found.samples_us) <= 25


def test_warm_beats_cold_where_it_fits(adding: Callable[..., Timer], gpu: Device) -> None:
    watch = Watch(0)

    def time_us(elements: int, warm: bool) -> float:
        return statistics.median(measure(adding(elements, warm), watch).samples_us)

    fits = gpu.l2_bytes // 32  # input and output take a quarter of the cache
    assert time_us(fits, warm=True) < 0.9 * time_us(fits, warm=False)
    large = 4 * gpu.l2_bytes  # 32 times the cache
    assert time_us(large, warm=True) == pytest.approx(time_us(large, warm=False), rel=0.1)


def test_the_longer_takes_longer(adding: Callable[..., Timer]) -> None:
    timers = [adding(2**20), adding(2**20, repeat=2)]
    (once, twice), said = interleaved(timers, 9, Watch(0))
    assert len(once) == len(twice) == 9
    assert said == ""
    # The second launch on the same buffers finds them in the cache.
    assert 1.2 < statistics.median(twice) / statistics.median(once) < 2.5


def test_launches_go_round_the_buffers_and_are_replayed(gpu: Device) -> None:
    x = torch.arange(2**20, device="cuda", dtype=torch.float32)
    rotation = rotation_of([x], [torch.empty_like(x)], gpu.l2_bytes)
    for (output,) in rotation.outputs:
        output.fill_(torch.nan)
    launched: list[int] = []

    def copy(index: int) -> None:
        launched.append(index)
        rotation.outputs[index][0].copy_(rotation.inputs[index][0])

    timer = Timer(copy, rotation)
    captured = launched[1:]  # one comes first, to load the kernel
    assert captured == [index % rotation.sets for index in range(timer.launches)]
    assert set(captured) == set(range(rotation.sets))
    assert timer.sample_us() > 0
    assert len(launched) == 1 + len(captured)
    assert all(torch.equal(output, x) for (output,) in rotation.outputs)


def test_a_graph_that_would_last_too_long_is_shortened(gpu: Device) -> None:
    x = torch.randn(2**20, device="cuda")
    rotation = rotation_of([x], [torch.empty_like(x)], gpu.l2_bytes)

    def slow(index: int) -> None:
        torch.cuda._sleep(1_000_000)  # half a millisecond or so

    timer = Timer(slow, rotation)
    assert timer.launches == rotation.fewest_launches < rotation.launches


def test_what_runs_out_of_memory_while_capturing_leaves_the_stream_usable(gpu: Device) -> None:
    x = torch.randn(2**20, device="cuda")
    rotation = rotation_of([x], [torch.empty_like(x)], gpu.l2_bytes)
    launched: list[int] = []

    def too_big(index: int) -> None:
        launched.append(index)
        x.add_(1.0)
        if len(launched) > 1:
            torch.empty(2**44, dtype=torch.int8, device="cuda")

    with pytest.raises(torch.OutOfMemoryError):
        Timer(too_big, rotation)
    x.add_(1.0)
    torch.cuda.synchronize()


def test_the_watch_reads_this_gpu_in_well_below_a_millisecond() -> None:
    watch = Watch(0)
    settle()
    watch.read()
    start = time.perf_counter()
    readings = [watch.read() for _ in range(20)]
    assert (time.perf_counter() - start) / 20 < 5e-4
    assert not watch.unable, watch.unable
    assert all(0 < reading.sm_clock_mhz <= reading.sm_clock_max_mhz for reading in readings)
    assert all(10 < reading.temperature_c < 110 for reading in readings)
    assert not any(reading.others for reading in readings)
