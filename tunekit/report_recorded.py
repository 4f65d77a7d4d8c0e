"""What `tunekit show --recorded` prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.recorded import Timed
from tunekit.report import Console, shape_text

if TYPE_CHECKING:
    from tunekit.search.worth import Weighed

_COLUMNS = (
    "kernel", "shape", "dtype", "device", "served", "calls", "a call, µs", "all, ms", "share",
    "expected gain",
)  # fmt: skip
_MARKS = {Timed.MEASURED: "", Timed.SCALED: "≈ ", Timed.BOUND: "≥ ", Timed.UNKNOWN: ""}
_LEGEND = {
    Timed.SCALED: "≈: scaled from the size whose configuration served",
    Timed.BOUND: "≥: at least, by its bytes and the bandwidth of DRAM",
}


def print_recorded(console: Console, weighed: Sequence[Weighed], path: Path) -> None:
    """A line a problem, in the order given; what the marks mean; the command that tunes them."""
    console.print_table(_COLUMNS, map(_cells, weighed), wraps="kernel")
    calls = sum(each.recorded.count for each in weighed)
    total_us = sum(each.total_us for each in weighed)
    worth_us = sum(each.worth_us for each in weighed)
    problems = "1 problem" if len(weighed) == 1 else f"{len(weighed)} problems"
    console.say(
        f"{problems}, {calls} calls, {total_us / 1e3:.2f} ms; tuning is expected to gain "
        f"{worth_us / 1e3:.2f} ms"
    )
    marks = {each.timed for each in weighed}
    for timed, meaning in _LEGEND.items():
        if timed in marks:
            console.say(meaning)
    if not all(each.is_aligned for each in weighed):
        console.say(
            "unaligned: a tensor starts at no multiple of 16 bytes, as x[1:] does; tuning "
            "allocates none that do"
        )
    if any(each.gain for each in weighed):
        console.say(f"`tunekit tune --recorded {shlex.quote(str(path))}` tunes them in this order")


def _cells(weighed: Weighed) -> list[str]:
    recorded = weighed.recorded
    changed = weighed.served != recorded.served
    known = weighed.time_us is not None
    return [
        recorded.problem.kernel,
        shape_text(recorded.shape),
        recorded.problem.dtype,
        recorded.problem.device,
        f"{recorded.served}, now {weighed.served}" if changed else str(recorded.served),
        str(recorded.count),
        f"{_MARKS[weighed.timed]}{weighed.time_us:.2f}" if known else "",
        f"{weighed.total_us / 1e3:.2f}" if known else "",
        f"{weighed.share:.1%}" if known else "",
        f"{weighed.gain:.1%}" if weighed.is_aligned else "unaligned",
    ]
