"""What counts as disturbed, and what the watch reads: with an NVML made of Python."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tunekit.evaluate import noise
from tunekit.evaluate.noise import (
    OTHER_PROCESS,
    Reading,
    Watch,
    disturbance_of,
    spread_limit,
    spread_of,
)

SHIPPED = Path(__file__).resolve().parents[2] / "studies.db"
CALM = (10.0,) * 8
WELL = Reading(sm_clock_mhz=1980, sm_clock_max_mhz=1980, temperature_c=40)
IDLE, LOCKED, POWER, HARDWARE, SYNC, DRIVER_HEAT, HEAT, BRAKE = (
    0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80,
)  # fmt: skip


def reading(clock: int = 1980, reasons: int = 0, *others: int, heat: int = 40) -> Reading:
    return Reading(clock, 1980, reasons, heat, frozenset(others))


class TestSpread:
    def test_it_is_the_interquartile_range_over_the_median(self) -> None:
        assert spread_of([9.0, 9.5, 10.0, 10.0, 10.0, 10.0, 10.5, 50.0]) == pytest.approx(0.0)
        assert spread_of([9.0, 9.5, 9.5, 10.0, 10.0, 10.5, 10.5, 50.0]) == pytest.approx(0.1)
        assert spread_of([4.0, 1.0, 3.0, 2.0]) == pytest.approx(1.0 / 2.5)

    def test_few_samples_have_none(self) -> None:
        assert spread_of([]) == spread_of([1.0, 9.0, 20.0]) == 0.0

    def test_one_outlier_is_not_a_spread(self) -> None:
        assert disturbance_of([10.0] * 9 + [900.0], WELL, WELL) == ""

    @pytest.mark.parametrize(
        ("time_us", "normal", "far"), [(5.0, 0.055, 0.07), (50.0, 0.025, 0.04)]
    )
    def test_it_disturbs_when_far_above_normal(
        self, time_us: float, normal: float, far: float
    ) -> None:
        def samples(spread: float) -> list[float]:
            return [time_us * (1 + side * spread / 2) for side in (-1, -1, -1, 0, 1, 1, 1)]

        assert disturbance_of(samples(normal), WELL, WELL) == ""
        said = disturbance_of(samples(far), WELL, WELL)
        assert (
            said
            == f"samples spread by {far:.0%} of their median, {spread_limit(time_us):.0%} is normal"
        )

    def test_the_limits_flag_few_of_what_was_recorded(self) -> None:
        """Fewer than one in 200, but some: limits that flag nothing would watch nothing."""
        with closing(sqlite3.connect(f"file:{SHIPPED}?immutable=1", uri=True)) as database:
            rows = database.execute(
                "SELECT samples_us FROM evaluations WHERE source = 'measured' AND status = 'ok'"
            ).fetchall()
        sets = [json.loads(samples_us) for (samples_us,) in rows]
        flagged = [spread_of(each) > spread_limit(statistics.median(each)) for each in sets]
        assert len(sets) > 1000
        assert 0 < sum(flagged) < len(sets) / 200


class TestState:
    @pytest.mark.parametrize(
        ("bits", "said"),
        [
            (POWER, "clocks throttled: power cap"),
            (HARDWARE, "clocks throttled: hardware slowdown"),
            (BRAKE, "clocks throttled: power brake"),
            (BRAKE | HARDWARE | POWER, "clocks throttled: power brake"),
            (HEAT, "clocks throttled: temperature 88 °C"),
            (DRIVER_HEAT, "clocks throttled: temperature 88 °C"),
            (IDLE | LOCKED | SYNC, ""),
        ],
    )
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_reasons_for_a_low_clock(self, bits: int, said: str, when: str) -> None:
        low, same = reading(1700, bits, heat=88), reading(1700)
        pair = (low, same) if when == "before" else (same, low)
        assert disturbance_of(CALM, *pair) == said

    def test_a_power_cap_at_full_clock_is_past(self) -> None:
        """Its bit stays for a while when the load is over."""
        assert disturbance_of(CALM, reading(1965, POWER), reading(1980, POWER)) == ""
        assert "power cap" in disturbance_of(CALM, reading(1980, POWER), reading(1440, POWER))

    def test_a_power_cap_where_the_full_clock_is_not_known(self) -> None:
        assert "power cap" in disturbance_of(CALM, Reading(reasons=POWER), Reading(1980))

    def test_heat_counts_at_full_clock_too(self) -> None:
        assert "temperature" in disturbance_of(CALM, reading(reasons=HEAT), reading())

    @pytest.mark.parametrize(
        ("before", "after", "said"),
        [
            (1980, 1965, ""),
            (1980, 1455, "clock changed from 1980 to 1455 MHz"),
            (1455, 1980, "clock changed from 1455 to 1980 MHz"),
            (0, 1980, ""),
        ],
    )
    def test_a_clock_that_changes(self, before: int, after: int, said: str) -> None:
        assert disturbance_of(CALM, reading(before), reading(after)) == said

    def test_the_clock_of_an_idle_gpu_says_nothing(self) -> None:
        assert disturbance_of(CALM, reading(345, IDLE), reading(1980)) == ""

    def test_another_process_comes_first(self) -> None:
        wild = [1.0, 2.0, 3.0, 4.0, 5.0]
        assert disturbance_of(wild, reading(1980, 0, 7), reading(1455, HEAT)) == OTHER_PROCESS
        assert disturbance_of(wild, WELL, reading(1980, 0, 7)) == OTHER_PROCESS
        assert disturbance_of(wild, WELL, reading(1980, HEAT)).startswith("clocks throttled")
        assert disturbance_of(wild, WELL, WELL).startswith("samples spread")

    def test_what_is_not_known_disturbs_nothing(self) -> None:
        assert disturbance_of(CALM, Reading(), Reading()) == ""


class FakeNvml:
    """Functions as the C library has them: they fill what a pointer points at, and return 0."""

    def __init__(self) -> None:
        self.pids: list[int] = [os.getpid()]
        self.clock_mhz, self.reasons, self.uuid = 1755, HEAT, b""
        self.calls: list[str] = []

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        self.uuid = uuid
        return 0

    def _fill(self, name: str, what: int, pointer: Any, values: dict[int, int]) -> int:
        self.calls.append(name)
        pointer._obj.value = values[what]
        return 0

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, what: int, pointer: Any) -> int:  # noqa: N802
        return self._fill("max", what, pointer, {1: 1980})

    def nvmlDeviceGetClockInfo(self, handle: Any, what: int, pointer: Any) -> int:  # noqa: N802
        return self._fill("clock", what, pointer, {1: self.clock_mhz})

    def nvmlDeviceGetTemperature(self, handle: Any, what: int, pointer: Any) -> int:  # noqa: N802
        return self._fill("temperature", what, pointer, {0: 71})

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, pointer: Any) -> int:  # noqa: N802
        return self._fill("reasons", 0, pointer, {0: self.reasons})

    def nvmlDeviceGetComputeRunningProcesses_v3(  # noqa: N802
        self, handle: Any, count: Any, processes: Any
    ) -> int:
        if len(self.pids) > count._obj.value:
            return 7
        count._obj.value = len(self.pids)
        for slot, pid in zip(processes, self.pids, strict=False):
            slot.pid = pid
        return 0


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setattr(noise, "_load_nvml", lambda: fake)
    monkeypatch.setattr(noise, "_uuid_of", lambda index: f"uuid-of-{index}")
    return fake


class TestWatch:
    def test_it_reads_what_the_driver_says(self, nvml: FakeNvml) -> None:
        watch = Watch(3)
        assert watch.unable == ""
        assert nvml.uuid == b"GPU-uuid-of-3"
        assert watch.read() == Reading(1755, 1980, HEAT, 71, frozenset())

    def test_the_maximum_is_read_once(self, nvml: FakeNvml) -> None:
        watch = Watch(0)
        for _ in range(3):
            watch.read()
        assert nvml.calls.count("max") == 1
        assert nvml.calls.count("clock") == 3

    def test_the_newer_name_of_the_reasons_is_asked_first(
        self, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def newer(handle: Any, pointer: Any) -> int:
            pointer._obj.value = BRAKE
            return 0

        monkeypatch.setattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", newer, raising=False)
        assert Watch(0).read().reasons == BRAKE

    def test_other_processes(self, nvml: FakeNvml) -> None:
        watch = Watch(0)
        nvml.pids = [os.getpid(), os.getppid(), 4_000_001, 0]
        assert watch.read().others == {4_000_001}
        nvml.pids = [os.getpid()]
        assert watch.read().others == frozenset()

    def test_what_was_there_first_is_another_where_this_one_is_listed(self, nvml: FakeNvml) -> None:
        nvml.pids = [4_000_001, os.getpid()]
        assert Watch(0).read().others == {4_000_001}

    def test_pids_of_another_namespace(self, nvml: FakeNvml) -> None:
        """This process is among them under a number that it does not know."""
        nvml.pids = [4_000_001]
        watch = Watch(0)
        assert watch.read().others == frozenset()
        nvml.pids = [4_000_001, 4_000_002]
        assert watch.read().others == {4_000_002}

    def test_more_processes_than_there_is_room_for(self, nvml: FakeNvml) -> None:
        nvml.pids = list(range(1, 1000))
        assert Watch(0).read().others == frozenset()

    @pytest.mark.parametrize(
        "missing",
        ["ClockInfo", "Temperature", "CurrentClocksThrottleReasons", "ComputeRunningProcesses_v3"],
    )
    @pytest.mark.parametrize("how", ["fails", "absent"])
    def test_what_a_driver_cannot_say_is_not_known(
        self, nvml: FakeNvml, missing: str, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nvml.pids.append(4_000_001)
        name = f"nvmlDeviceGet{missing}"
        if how == "fails":
            monkeypatch.setattr(nvml, name, lambda *arguments: 3)
        else:
            monkeypatch.delattr(FakeNvml, name)
        said = Watch(0).read()
        known = {
            "ClockInfo": said.sm_clock_mhz,
            "Temperature": said.temperature_c,
            "CurrentClocksThrottleReasons": said.reasons,
            "ComputeRunningProcesses_v3": len(said.others),
        }
        assert known.pop(missing) == 0
        assert all(known.values())


class TestUnable:
    @pytest.mark.parametrize(
        ("what", "how"),
        [
            ("_load_nvml", OSError("libnvidia-ml.so.1: cannot open shared object file")),
            ("_uuid_of", AttributeError("no uuid")),
            ("_uuid_of", AssertionError("Torch not compiled with CUDA enabled")),
        ],
    )
    def test_it_says_why_and_reads_nothing(
        self, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, what: str, how: Exception
    ) -> None:
        def fail(*arguments: object) -> None:
            raise how

        monkeypatch.setattr(noise, what, fail)
        watch = Watch(0)
        assert str(how) in watch.unable
        assert watch.read() == Reading()

    @pytest.mark.parametrize("function", ["nvmlInit_v2", "nvmlDeviceGetHandleByUUID"])
    def test_an_nvml_that_refuses(
        self, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, function: str
    ) -> None:
        monkeypatch.setattr(nvml, function, lambda *arguments: 9)
        watch = Watch(0)
        assert "NVML" in watch.unable
        assert watch.read() == Reading()

    def test_this_machine_is_read_or_the_watch_says_why_not(self) -> None:
        watch = Watch(0)
        assert bool(watch.unable) == (watch.read() == Reading())
        assert watch.unable or Path("/dev/nvidiactl").exists()


def test_the_family_goes_up_to_the_first_process() -> None:
    family = noise._family()
    assert {os.getpid(), os.getppid()} <= family
    if Path("/proc/self/stat").exists():
        assert 1 in family


def test_reading_costs_little(nvml: FakeNvml) -> None:
    watch = Watch(0)
    start = time.perf_counter()
    for _ in itertools.repeat(None, 100):
        watch.read()
    assert time.perf_counter() - start < 0.1  # 1 ms each, and NVML's own share is small
