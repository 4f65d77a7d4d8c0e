"""`tunekit kernels`."""

from __future__ import annotations

import click

from tunekit import report, report_json
from tunekit.cli.options import json_option
from tunekit.cli.output import print_json


@click.command()
@json_option
def kernels(as_json: bool) -> None:
    """List the library's kernels."""
    from tunekit.kernels.registry import library_kernels

    if as_json:
        print_json([report_json.kernel_to_json(k) for k in library_kernels().values()])
    else:
        report.Console().print_kernels(library_kernels().values())
