"""`tunekit devices`."""

from __future__ import annotations

import click

from tunekit import report, report_json
from tunekit.cli.options import json_option
from tunekit.cli.output import print_json
from tunekit.core.device import DEVICES


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List the GPUs in this machine and the models tunekit knows."""
    from tunekit.gpu import gpu_count, present_gpu

    present = [present_gpu(index) for index in range(gpu_count())]
    if as_json:
        print_json(report_json.devices_to_json(present, DEVICES.values()))
    else:
        report.Console().print_devices(present, DEVICES.values())
