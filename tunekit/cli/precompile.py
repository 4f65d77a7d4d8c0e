"""`tunekit precompile`."""

from __future__ import annotations

from pathlib import Path

import click

from tunekit import arguments, hosts
from tunekit.cli.options import database_option, json_option
from tunekit.cli.output import print_json


@click.command()
@click.argument("kernel", required=False)
@click.option("--target", help="GPU model to compile for [default: that of cuda:0].")
@database_option
@json_option
def precompile(
    kernel: str | None, target: str | None, database: Path | None, as_json: bool
) -> None:
    """Compile what is tuned, so that no first call has to.

    Without KERNEL: everything in the library that is tuned for that GPU model. It needs no GPU: run
    it where the image is built, with the caches that the deployed process will see.
    """
    from dataclasses import asdict

    from tunekit.runtime.precompile import precompile_rows

    device = hosts.compile_device(target)
    rows = arguments.cached_rows(kernel, device.slug, database)
    reference = kernel if kernel and ":" in kernel else None
    made = precompile_rows(rows, device, reference)
    if as_json:
        print_json({"device": device.slug, **asdict(made)})
    else:
        click.echo(
            f"{made.binaries} binaries for {made.problems} problems on {device.slug} are ready, "
            f"in {made.elapsed_s:.1f} s"
        )
        if made.stale:
            click.echo(f"tunekit: skipped {made.stale} rows of kernels that changed", err=True)
    for failure in made.failures:
        click.echo(f"tunekit: {failure}", err=True)
    if made.failures:
        raise SystemExit(1)
