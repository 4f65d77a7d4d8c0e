"""`tunekit explain`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from tunekit import hosts, report, report_json
from tunekit.arguments import read_dtype, rows_named
from tunekit.cli.options import database_option, dim_option, json_option
from tunekit.cli.output import print_json
from tunekit.errors import StoreError, UsageError
from tunekit.here import Here
from tunekit.shapes import read_shape


@click.command()
@click.argument("kernel")
@click.option("--shape", help="Input shape: 64,128,254,254.")
@dim_option
@click.option("--dtype", help="[default: the kernel's first, float32]")
@click.option(
    "--offset",
    type=click.IntRange(min=0),
    default=0,
    metavar="BYTES",
    help="Where the inputs start after a multiple of 16 bytes, as x[1:] does.",
)
@click.option("--target", help="GPU model a call would run on, such as rtx4090.")
@click.option("--device", help="GPU a call would run on [default: cuda:0 if there is one].")
@database_option
@json_option
def explain(
    kernel: str,
    shape: str | None,
    dims: Sequence[str],
    dtype: str | None,
    offset: int,
    target: str | None,
    device: str | None,
    database: Path | None,
    as_json: bool,
) -> None:
    """Say what a call of KERNEL is served and why, and of each other row why not."""
    from dataclasses import replace

    from tunekit import report_explain
    from tunekit.kernels.registry import find_kernel
    from tunekit.runtime.explanation import explain as explain_launch

    if database is not None and not os.path.exists(database):
        raise UsageError(f"--db {database}: no such file")
    if ":" in kernel and (rows := rows_named(kernel, database)):
        from tunekit.report_autotuned import print_autotuned

        if shape or dims:
            raise UsageError(
                f"{kernel} is tuned by @tunekit.autotune, which tells calls apart by its key: "
                "leave --shape and --dim out to see its rows"
            )
        print_autotuned(report.Console(quiet=as_json), rows)
        if as_json:
            print_json([report_json.row_to_json(row, Here.found()) for row in rows])
        return
    found = find_kernel(kernel)
    model = hosts.device_model(device, target)
    metas = found.input_metas(read_shape(found, shape, dims), read_dtype(found, dtype))
    launch = found.plan([replace(meta, misalignment=offset % 16) for meta in metas], model)
    explained = explain_launch(found, launch, model, database)
    if database is not None and explained.databases[0].trouble:
        raise StoreError(f"{database}: {explained.databases[0].trouble}")
    if as_json:
        print_json(report_json.explanation_to_json(explained))
    else:
        report_explain.print_explained(report.Console(), explained)
