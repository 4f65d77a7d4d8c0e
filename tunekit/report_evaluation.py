"""An evaluation as a line, for who watches a run, and in full, for who repeats one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tunekit.core.evaluation import Source, Status
from tunekit.report import Console, shape_text, sizes_text
from tunekit.search.events import (
    Asked,
    Began,
    Decided,
    Evaluated,
    Event,
    Offered,
    Raced,
    Ready,
    Shared,
)

if TYPE_CHECKING:
    from tunekit.core.config import Config
    from tunekit.core.evaluation import Binary
    from tunekit.evaluate.host import Host
    from tunekit.evaluate.job import Job, Outcome

_LABEL = 15
"""Characters of the first column."""


class EventLines:
    """Makes a line of each event."""

    def __init__(self) -> None:
        self._done = self._total = 0

    def line(self, event: Event) -> str:
        """What happened, in words."""
        match event:
            case Ready(worker, import_s):
                return f"the {worker} worker is ready; its imports took {import_s:.2f} s"
            case Began(problem, shape, total, known):
                self._done, self._total = known, total
                return (
                    f"{problem.kernel} {sizes_text(problem, shape)} {problem.dtype} on "
                    f"{problem.device}: up to {total} configurations, {known} known"
                )
            case Offered(count, off_list):
                return f"first {count} imported ones, {off_list} with values off the space's lists"
            case Asked(configs):
                return f"next {len(configs)}: {'; '.join(map(str, configs))}"
            case Evaluated(job, outcome):
                said = outcome.reason or outcome.disturbance
                return self._evaluated(job.config, outcome.status, outcome.time_us, said)
            case Shared(job, row):
                return self._evaluated(job.config, row.status, row.time_us, row.reason)
            case Raced(configs, race):
                rounds = len(race.copy_us)
                more = f"; {race.disturbance}" if race.disturbance else ""
                return f"raced {len(configs)} configurations and a copy for {rounds} rounds{more}"
            case Decided(winner, decision, stopped):
                why = f"stopped: {stopped}; " if stopped else ""
                return f"{why}winner {winner.config}: {decision.reason}"

    def _evaluated(self, config: Config, status: Status, time_us: float | None, said: str) -> str:
        self._done += 1
        time = f" {time_us:.2f} µs" if time_us is not None else ""
        more = f"; {said}" if said else ""
        return f"{self._done}/{self._total} {status}{time}: {config}{more}"


def print_outcome(console: Console, job: Job, outcome: Outcome, host: Host) -> None:
    """What became of one job, and what was said of it in full."""
    how = "measured" if host.source is Source.MEASURED else "compiled, interpreted, estimated"
    console.say(
        f"{job.kernel}  {shape_text(job.shape)}  {job.dtype}  on {host.device.names[0]}, {how}"
    )
    for name, value in _rows(job, outcome):
        console.say(f"  {name:<{_LABEL}}{value}")
    if outcome.details:
        console.say("")
        for line in outcome.details.expandtabs().splitlines():
            console.say(line)


def _rows(job: Job, outcome: Outcome) -> Iterator[tuple[str, str]]:
    yield "configuration", str(job.config)
    yield "status", str(outcome.status)
    if outcome.reason:
        yield "reason", outcome.reason
    if outcome.time_us is not None:
        count = len(outcome.samples_us)
        yield "time", f"{outcome.time_us:.2f} µs" + (f", median of {count}" if count else "")
    if outcome.max_error is not None:
        yield "error", f"{outcome.max_error:.3g} × what is allowed"
    if outcome.disturbance:
        yield "disturbed", outcome.disturbance
    if outcome.binary is not None:
        yield "binary", _binary(outcome.binary)
    if outcome.grid is not None:
        yield "grid", shape_text(outcome.grid)


def _binary(binary: Binary) -> str:
    return (
        f"{binary.registers} registers and {binary.spill_bytes} bytes of spills a thread, "
        f"{binary.shared_bytes} bytes of shared memory a block, loads of {binary.load_bytes} and "
        f"stores of {binary.store_bytes} bytes"
    )
