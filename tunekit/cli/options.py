"""Options that several commands have."""

from __future__ import annotations

import math
from pathlib import Path

import click


def not_nan(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    """Refuse what is in every range because it is in none."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number.", context, parameter)
    return value


database_option = click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your database [default: $TUNEKIT_DB, else a file in your data folder].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
dim_option = click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=N",
    help="A size of a kernel whose sizes have names: M=4096; M=1,16 is two. Repeatable.",
)
device_option = click.option(
    "--device", help="GPU to measure on, such as cuda:0 [default: cuda:0 if there is one]."
)
recorded_option = click.option(
    "--recorded",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the problems that a program launched (TUNEKIT_RECORD, tunekit.record).",
)
target_option = click.option(
    "--target",
    help="GPU model to compile and estimate for instead of measuring, such as rtx4090.",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Print on standard error what is going on, line by line."
)
