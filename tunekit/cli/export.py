"""`tunekit export`."""

from __future__ import annotations

from pathlib import Path

import click

from tunekit import arguments
from tunekit.cli.options import database_option
from tunekit.errors import TunekitError, UsageError


@click.command()
@click.argument("kernel", required=False)
@click.option("--device", help="Only this GPU model, such as h100.")
@click.option("--format", "form", type=click.Choice(["python", "json"]), default="python")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File.")
@click.option("--check", is_flag=True, help="Write nothing; fail if the file is out of date.")
@click.option(
    "--portfolio",
    "count",
    metavar="K",
    type=click.IntRange(min=1),
    help="Instead of each problem's winner the K configurations of a kernel on a GPU that serve "
    "all its problems with the least worst-case loss.",
)
@database_option
def export(
    kernel: str | None,
    device: str | None,
    form: str,
    output: Path | None,
    check: bool,
    count: int | None,
    database: Path | None,
) -> None:
    """Write what is tuned as a table of triton.Config, or as JSON."""
    from tunekit import export as exporting
    from tunekit.portfolio import render

    if check and output is None:
        raise UsageError("--check needs -o FILE: the file to compare")
    if count is None:
        rows = arguments.cached_rows(kernel, device, database)
        text = exporting.render([row for row in rows if not row.config.is_memory_format], form)
    else:
        known = arguments.known_evaluations(kernel, device, database)
        launched = [row for row in known if not row.config.is_memory_format]
        found = render.portfolios(launched, count)
        text = render.render(found, count, form)
        if output is not None and not check:
            for each in found:
                click.echo(each.summary)
    if output is None:
        click.echo(text, nl=False)
    elif not check:
        exporting.write(output, text)
    elif not exporting.check(output, text):
        raise TunekitError(f"{output} is out of date; export it again without --check")
