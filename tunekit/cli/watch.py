"""What a run that evaluates leaves for people besides its result: a log, and lines on request."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunekit.core.evaluation import Status
from tunekit.errors import TunekitError
from tunekit.paths import log_folder
from tunekit.printable import printable

if TYPE_CHECKING:
    from tunekit.evaluate.host import Host
    from tunekit.runlog import RunLog
    from tunekit.search.events import Event

_NO_FAILURES = (Status.OK, Status.REJECTED)
"""What a GPU cannot hold was to be expected of a space."""


class Watch:
    """Follows one run.

    Args:
        log: takes every event.
        verbose: print every event on standard error.
    """

    def __init__(self, log: RunLog, verbose: bool) -> None:
        from tunekit.report_evaluation import EventLines

        self._log = log
        self._lines = EventLines() if verbose else None
        self._evaluated = self._first_failed = 0
        self._failed: Counter[Status] = Counter()
        self._problems_failed = 0
        self._began = time.monotonic()
        if verbose:
            click.echo(f"log: {log.path or 'none'}", err=True)

    def tell(self, event: Event) -> None:
        """Log what happened, print it if asked, count what failed."""
        from tunekit.search.events import Evaluated, Shared

        self._log.tell(event)
        status = None
        if isinstance(event, Evaluated):
            status = event.outcome.status
        elif isinstance(event, Shared):
            status = event.evaluation.status
        where = ""
        if status is not None:
            self._evaluated += 1
            if status not in _NO_FAILURES:
                self._failed[status] += 1
                if self._log.is_open:
                    self._first_failed = self._first_failed or self._log.lines
                    where = f" (line {self._log.lines} of the log)"
        if self._lines is not None:
            click.echo(printable(f"{self._lines.line(event)}{where}"), err=True)

    def failed(self, error: TunekitError) -> None:
        """A problem could not be tuned."""
        self._problems_failed += 1
        self._log.write("failed", _said(error))

    def failures(self) -> str:
        """How many configurations failed, and how to repeat one; empty if none did."""
        if not self._failed:
            return ""
        what = ", ".join(f"{count} {status}" for status, count in sorted(self._failed.items()))
        failed = f"{self._failed.total()} of {self._evaluated} configurations failed ({what})"
        if not self._first_failed:
            return failed
        return (
            f"{failed}: {self._log.path}; repeat one with "
            f"`tunekit evaluate {self._log.path}:{self._first_failed}`"
        )

    def end(self, error: BaseException | None) -> None:
        """The run is over."""
        status = "done"
        said = {}
        if error is not None:
            known = isinstance(error, TunekitError)
            status = "failed" if isinstance(error, Exception) else "interrupted"
            said = _said(error) if known else _said(error) | _details(error)
        elif self._problems_failed:
            status = "failed"
        elapsed_s = round(time.monotonic() - self._began, 3)
        self._log.write("end", {"status": status, "elapsed_s": elapsed_s, **said})
        self._log.close()


@contextmanager
def watching(host: Host, database: Path, *, verbose: bool, quiet: bool) -> Iterator[Watch]:
    """Follow a run until the context ends, and then say what failed.

    Args:
        host: where it evaluates.
        database: what takes its results.
        verbose: print every event on standard error.
        quiet: nothing may be printed on standard output.
    """
    from tunekit.runlog import RunLog
    from tunekit.search.events import Ready

    log = RunLog(log_folder(), _about(host, database))
    watch = Watch(log, verbose)
    host.pool.on_ready = lambda worker, import_s: watch.tell(Ready(worker, import_s))
    ended: BaseException | None = None
    try:
        with _warnings_in(log):
            yield watch
    except BaseException as error:
        ended = error
        raise
    finally:
        watch.end(ended)
        if said := watch.failures():
            click.echo(said, err=quiet)


def _about(host: Host, database: Path) -> dict[str, Any]:
    context = click.get_current_context()
    given = {
        name: value for name, value in context.params.items() if value not in (None, (), False)
    }
    provenance = asdict(host.provenance(""))
    del provenance["created_at"]
    return {
        "command": context.command_path,
        "given": given,
        "folder": os.getcwd(),
        "database": os.path.abspath(database),
        "device": host.device.slug,
        "source": host.source,
        "python": platform.python_version(),
        **provenance,
    }


@contextmanager
def _warnings_in(log: RunLog) -> Iterator[None]:
    """What is warned of goes to the log, too."""
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        log.write("warning", {"message": str(message), "category": category.__name__})
        shown(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def _said(error: BaseException) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def _details(error: BaseException) -> dict[str, str]:
    from tunekit.evaluate.text import full_text

    return {"details": full_text(error)}
