"""`tunekit show`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from tunekit import arguments, report, report_json
from tunekit.cli.options import database_option, json_option, recorded_option
from tunekit.cli.output import print_json
from tunekit.errors import UsageError
from tunekit.here import Here


@click.command()
@click.argument("kernel", required=False)
@click.option("--device", "device", help="Only this GPU model, such as h100.")
@recorded_option
@click.option(
    "--metrics", is_flag=True, help="Show the hardware counters that `tunekit profile` read."
)
@database_option
@json_option
def show(
    kernel: str | None,
    device: str | None,
    recorded: Path | None,
    metrics: bool,
    database: Path | None,
    as_json: bool,
) -> None:
    """Show what is tuned, for KERNEL or for all.

    With --recorded: what a program launched and what it was served, most expensive first, by count
    × time × the gain expected of tuning.
    """
    if recorded is not None and metrics:
        raise UsageError("--recorded is of what a program launched, --metrics of what is tuned")
    if metrics:
        _show_metrics(kernel, device, database, as_json)
        return
    if recorded is not None:
        _show_recorded(recorded, kernel, device, database, as_json)
        return
    rows = arguments.cached_rows(kernel, device, database)
    here = Here.found()
    if as_json:
        print_json([report_json.row_to_json(row, here) for row in rows])
    elif rows:
        report.Console().print_rows(rows, here)
    else:
        what = " on ".join(filter(None, [kernel, device])) or "anything"
        command = f"tunekit tune {kernel or 'KERNEL'} --shape S"
        click.echo(f"nothing is tuned yet for {what}; `{command}` does it")


def _show_metrics(
    kernel: str | None, device: str | None, database: Path | None, as_json: bool
) -> None:
    from tunekit import report_counters
    from tunekit.paths import user_database
    from tunekit.profile.stored import counted
    from tunekit.store.database import Store

    rows = arguments.cached_rows(kernel, device, database)
    person = database or user_database()
    with ExitStack() as stack:
        stores = arguments.open_shipped(stack)
        if person.exists():
            stores.insert(0, stack.enter_context(Store.open(person, readonly=True)))
        found = counted(rows, stores)
    if as_json:
        print_json(report_counters.metrics_to_json(found))
    elif found:
        report_counters.print_metrics(report.Console(), found)
    else:
        what = " on ".join(filter(None, [kernel, device])) or "anything"
        command = f"tunekit profile {kernel or 'KERNEL'} --shape S"
        click.echo(f"no counters are stored yet of {what}; `{command}` reads them")


def _show_recorded(
    path: Path, kernel: str | None, device: str | None, database: Path | None, as_json: bool
) -> None:
    from tunekit.report_recorded import print_recorded

    weighed = arguments.weighed_problems(path, kernel, device, database)
    if as_json:
        print_json([report_json.weighed_to_json(each) for each in weighed])
    elif weighed:
        print_recorded(report.Console(), weighed, path)
    else:
        what = " on ".join(filter(None, [kernel, device])) or "launch"
        click.echo(f"{path}: no {what} was recorded")
