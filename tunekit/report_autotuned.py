"""What `tunekit explain` prints of a kernel that `@tunekit.autotune` tunes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunekit.here import Here
from tunekit.report import Console

if TYPE_CHECKING:
    from tunekit.store.cache import CacheRow

_LABEL = 13
"""Characters of the first column, as in the explanation of a call."""


def print_autotuned(console: Console, rows: Sequence[CacheRow]) -> None:
    """Each row with what a call has to have so that it is served it.

    The call itself is not at hand: what a database names is never imported.
    """
    name = rows[0].problem.kernel
    console.say(
        f"{name}: {len(rows)} {'row' if len(rows) == 1 else 'rows'} of @tunekit.autotune; a call "
        "is served the one that it has every field of, else what its on_miss says"
    )
    here = Here.found()
    for row in rows:
        console.say("")
        console.say(str(row.config))
        for label, value in _fields(row, here):
            console.say(f"  {label:<{_LABEL}}{value}")


def _fields(row: CacheRow, here: Here) -> Iterator[tuple[str, str]]:
    problem = row.problem
    yield "key", " ".join(f"{name}={size}" for name, size in problem.dims)
    yield "dtype", problem.dtype
    yield "alignment", problem.alignment
    yield "device", problem.device
    yield "kernel_hash", problem.kernel_hash
    against = f", the default's {row.default_time_us:.2f} µs" if row.default_time_us else ""
    yield "time", f"{row.time_us:.2f} µs{against}"
    yield "why", row.reason
    if other := here.other_versions(row):
        yield "found under", f"{other}; here it is served all the same"
