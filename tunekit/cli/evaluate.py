"""`tunekit evaluate`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from tunekit import hosts, report
from tunekit.cli.options import json_option, target_option, verbose_option
from tunekit.cli.output import print_json
from tunekit.core.evaluation import Status
from tunekit.errors import TunekitError
from tunekit.report_json import outcome_to_json

if TYPE_CHECKING:
    from tunekit.evaluate.host import Host
    from tunekit.evaluate.job import Job, Outcome


@click.command()
@click.argument("job")
@click.option("--device", help="GPU to run on, such as cuda:0 [default: one of the job's model].")
@target_option
@verbose_option
@json_option
def evaluate(
    job: str, device: str | None, target: str | None, verbose: bool, as_json: bool
) -> None:
    """Repeat one JOB of a run's log: LOG.jsonl:23.

    It runs as it did in the run, on a GPU of the model that it names if there is one, and nothing
    is stored. What the compiler, CUDA or Python said is printed in full. JOB may also be a file
    that holds one job. The kernel's module is imported as the job names it.
    """
    from tunekit.evaluate.job_file import read_job
    from tunekit.report_evaluation import print_outcome

    found = read_job(job)
    with hosts.job_host(found, device, target) as host:
        if verbose:
            host.pool.on_ready = _say_ready
        outcome = _outcome(replace(found, target=host.device.slug), host)
    if as_json:
        print_json(outcome_to_json(outcome))
    else:
        print_outcome(report.Console(), found, outcome, host)
    if outcome.status is not Status.OK:
        raise TunekitError(f"{outcome.status}: {outcome.reason}")


def _outcome(job: Job, host: Host) -> Outcome:
    (outcome,) = (outcome for _, outcome in host.pool.evaluate([job]))
    return outcome


def _say_ready(worker: str, import_s: float) -> None:
    click.echo(f"the {worker} worker is ready; its imports took {import_s:.2f} s", err=True)
