"""The hardware counters that are read, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Known:
    """A counter that tunekit asks for.

    Attributes:
        name: Nsight Compute's full name of it, under which it is stored.
        title: what tables call it.
        unit: in which it is stored.
        decimals: that tables show.
        divisor: of the stored value, for tables: their unit is the title's.
    """

    name: str
    title: str
    unit: str
    decimals: int = 1
    divisor: float = 1.0

    def text(self, value: float) -> str:
        """The value as tables show it."""
        return f"{value / self.divisor:,.{self.decimals}f}"


DURATION = Known("gpu__time_duration.sum", "duration µs", "ns", 2, 1e3)
SM = Known("sm__throughput.avg.pct_of_peak_sustained_elapsed", "sm %", "%")
DRAM = Known("dram__throughput.avg.pct_of_peak_sustained_elapsed", "dram %", "%")
WARPS = Known("sm__warps_active.avg.pct_of_peak_sustained_active", "warps active %", "%")
L2_HITS = Known("lts__t_sector_hit_rate.pct", "L2 hit %", "%")
GRID = Known("launch__grid_size", "grid", "", 0)
REGISTERS = Known("launch__registers_per_thread", "registers", "register/thread", 0)

KNOWN = (
    DURATION,
    SM,
    DRAM,
    WARPS,
    L2_HITS,
    GRID,
    REGISTERS,
    Known("sm__maximum_warps_per_active_cycle_pct", "warps possible %", "%"),
    Known("smsp__issue_active.avg.pct_of_peak_sustained_active", "issue slots used %", "%"),
    Known(
        "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active",
        "special-function unit %",
        "%",
    ),
    Known("sm__inst_executed.sum", "instructions of warps, millions", "inst", 1, 1e6),
    Known("dram__bytes_read.sum", "read from DRAM, MB", "byte", 1, 1e6),
    Known("dram__bytes_write.sum", "written to DRAM, MB", "byte", 1, 1e6),
    Known("launch__block_size", "threads of a block", "", 0),
    Known(
        "launch__shared_mem_per_block_dynamic", "shared memory of a block, bytes", "byte/block", 0
    ),
    Known("launch__waves_per_multiprocessor", "waves", "", 2),
)
"""In the order of tables."""

BY_NAME: Mapping[str, Known] = {each.name: each for each in KNOWN}

_BASE_UNITS: Mapping[str, tuple[str, float]] = {
    "nsecond": ("ns", 1.0),
    "usecond": ("ns", 1e3),
    "us": ("ns", 1e3),
    "msecond": ("ns", 1e6),
    "ms": ("ns", 1e6),
    "second": ("ns", 1e9),
    "s": ("ns", 1e9),
    "thread": ("", 1.0),
    "block": ("", 1.0),
}
"""What versions of Nsight Compute call the same."""


class Reading(Protocol):
    """A value and its unit: read just now, or stored."""

    @property
    def value(self) -> float:
        """Of the counter."""

    @property
    def unit(self) -> str:
        """Empty for a bare number."""


def in_base_unit(value: float, unit: str) -> tuple[float, str]:
    """The value in the unit it is stored in: times in ns."""
    base, factor = _BASE_UNITS.get(unit, (unit, 1.0))
    return value * factor, base


def title_of(name: str) -> str:
    """What tables call a counter; its full name where tunekit does not ask for it by itself."""
    return BY_NAME[name].title if name in BY_NAME else name


def text_of(name: str, reading: Reading) -> str:
    """A value as tables show it."""
    known = BY_NAME.get(name)
    if known is not None and known.unit == reading.unit:
        return known.text(reading.value)
    number = f"{reading.value:,.2f}".removesuffix("0").removesuffix("0").removesuffix(".")
    return f"{number} {reading.unit}".strip()


def ordered(names: set[str]) -> list[str]:
    """Those tunekit asks for in the order of tables, then others by name."""
    known = [each.name for each in KNOWN if each.name in names]
    return known + sorted(names - set(known))
