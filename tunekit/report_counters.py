"""What `tunekit profile` and `tunekit show --metrics` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.profile import counters
from tunekit.profile.counters import Reading
from tunekit.report import Console, sizes_text

if TYPE_CHECKING:
    from tunekit.profile.problem import Profile
    from tunekit.profile.stored import Counted

_SHOWN = (
    counters.SM,
    counters.DRAM,
    counters.WARPS,
    counters.L2_HITS,
    counters.GRID,
    counters.REGISTERS,
)
"""Columns of `show --metrics`."""


def print_profiles(
    console: Console, profiles: Sequence[Profile], title: str, tool: str, more: Sequence[str]
) -> None:
    """The counters of one problem, a line each, the winner beside the default.

    Args:
        console: where to.
        profiles: of one problem.
        title: kernel, shape, dtype and GPU.
        tool: what read them.
        more: full names of counters asked for besides.
    """
    console.say(f"{title}: counters by {tool}, L2 cache cold")
    for each in profiles:
        console.say(f"{each.role}: {each.evaluation.config}, {each.evaluation.time_us:.2f} µs")
    names = counters.ordered({name for each in profiles for name in each.launch.counters})
    cells = [[_cell(each.launch.counters, name) for name in names] for each in profiles]
    widths = [max(map(len, column)) for column in cells]
    rows = [
        [
            counters.title_of(name),
            *(column[line].rjust(width) for column, width in zip(cells, widths, strict=True)),
        ]
        for line, name in enumerate(names)
    ]
    console.print_table(["counter", *(str(each.role) for each in profiles)], rows, wraps="counter")
    if missing := sorted({name for each in profiles for name in each.missing(more)}):
        console.say(f"not read on this GPU: {', '.join(missing)}")


def profiles_to_json(
    profiles: Sequence[Profile], tool: str, more: Sequence[str], database: Path
) -> dict[str, Any]:
    """The same for scripts; each counter in the unit that is named."""
    first = profiles[0].evaluation
    return {
        "kernel": first.problem.kernel,
        "shape": list(first.shape),
        "dims": dict(first.problem.dims),
        "dtype": first.problem.dtype,
        "device": first.problem.device,
        "tool": tool,
        "database": str(database),
        "profiles": [
            {
                "role": each.role.name.lower(),
                "evaluation": each.evaluation.uid,
                "config": dict(each.evaluation.config),
                "time_us": each.evaluation.time_us,
                "grid": list(each.launch.grid),
                "stored": each.same_binary,
                "counters": _to_json(each.launch.counters),
                "not_read": each.missing(more),
            }
            for each in profiles
        ],
    }


def print_metrics(console: Console, counted: Sequence[Counted]) -> None:
    """A line a configuration, the default of a problem below its winner."""
    columns = (
        "kernel", "device", "dtype", "shape", "which", "configuration", "time µs",
        *(each.title for each in _SHOWN),
    )  # fmt: skip
    rows = [
        [
            each.row.problem.kernel,
            each.row.problem.device,
            each.row.problem.dtype,
            sizes_text(each.row.problem, each.row.shape),
            str(each.role),
            str(each.config),
            f"{each.time_us:.2f}",
            *(_cell(each.counters, shown.name) for shown in _SHOWN),
        ]
        for each in counted
    ]
    console.print_table(columns, rows, wraps="configuration")
    tools = sorted({counter.tool for each in counted for counter in each.counters.values()})
    console.say(f"counters by {', '.join(tools)}; --json has all of them")


def metrics_to_json(counted: Sequence[Counted]) -> list[dict[str, Any]]:
    """The same for scripts, with every counter that is stored."""
    return [
        {
            "kernel": each.row.problem.kernel,
            "device": each.row.problem.device,
            "dtype": each.row.problem.dtype,
            "dims": dict(each.row.problem.dims),
            "shape": list(each.row.shape),
            "role": each.role.name.lower(),
            "config": dict(each.config),
            "time_us": each.time_us,
            "counters": {
                name: {
                    "value": counter.value,
                    "unit": counter.unit,
                    "tool": counter.tool,
                    "created_at": counter.created_at,
                }
                for name, counter in each.counters.items()
            },
        }
        for each in counted
    ]


def _cell(read: Mapping[str, Reading], name: str) -> str:
    return counters.text_of(name, read[name]) if name in read else ""


def _to_json(read: Mapping[str, Reading]) -> dict[str, dict[str, Any]]:
    return {name: {"value": each.value, "unit": each.unit} for name, each in read.items()}
