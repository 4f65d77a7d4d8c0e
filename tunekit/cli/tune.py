"""`tunekit tune`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunekit import arguments, hosts, report, report_json
from tunekit.cli.options import (
    database_option,
    device_option,
    dim_option,
    json_option,
    not_nan,
    recorded_option,
    target_option,
    verbose_option,
)
from tunekit.cli.output import say_error
from tunekit.cli.watch import watching
from tunekit.core.evaluation import Source
from tunekit.errors import ClaimedError, StoreError, TunekitError, UsageError, WorkerError
from tunekit.paths import shipped_landscapes, user_database

if TYPE_CHECKING:
    from tunekit.search.task import Result, Task

_DEFAULT_TRIALS = 60


@click.command()
@click.argument("kernel", required=False)
@click.option("--shape", "shapes", multiple=True, help="Input shape: 64,128,254,254. Repeatable.")
@dim_option
@click.option(
    "--shapes",
    "shapes_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with one shape a line; # starts a comment.",
)
@click.option(
    "--dtype", "dtypes", multiple=True, help="Repeatable [default: the kernel's first, float32]."
)
@recorded_option
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Configurations to evaluate at most, earlier runs counted [default: 60; all when "
    "estimating].",
)
@click.option("--exhaustive", is_flag=True, help="Evaluate the complete space.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    callback=not_nan,
    help="Seconds a problem, after which no further configuration is begun.",
)
@click.option(
    "--warm",
    is_flag=True,
    help="Measure with inputs still in the L2 cache, as after another op, not with a cold one.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**32 - 1),
    default=0,
    help="Of the search and the inputs.",
)
@click.option("--param", "params", multiple=True, help="A scalar's value: scale=2.0. Repeatable.")
@device_option
@target_option
@database_option
@verbose_option
@json_option
def tune(
    kernel: str | None,
    shapes: Sequence[str],
    dims: Sequence[str],
    shapes_file: Path | None,
    dtypes: Sequence[str],
    recorded: Path | None,
    trials: int | None,
    exhaustive: bool,
    timeout_s: float | None,
    warm: bool,
    seed: int,
    params: Sequence[str],
    device: str | None,
    target: str | None,
    database: Path | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Tune KERNEL: a library name, package.module:NAME, or path/file.py:NAME.

    On a host with a GPU configurations are measured on it, those first that serve neighbouring
    problems, until no gain is expected of the rest. On a host with none they are compiled for
    --target, checked in Triton's interpreter and ranked by an analytic model.

    With --recorded: what a program launched, most expensive first, by count × time × expected
    gain; of KERNEL alone if it is given. The kernels' modules are imported as recorded.
    """
    from dataclasses import replace

    from tunekit.search.knowledge import Knowledge
    from tunekit.search.tune import tune as tune_problem
    from tunekit.search.workload import workload
    from tunekit.search.worth import Tuned
    from tunekit.store.database import Store

    if recorded is None:
        tasks = arguments.shape_tasks(kernel, shapes, dims, shapes_file, dtypes, params)
    elif shapes or dims or shapes_file or dtypes:
        raise UsageError(
            "--recorded has shapes and dtypes: leave --shape, --dim, --shapes, --dtype away"
        )
    else:
        launched, scalars = arguments.read_recorded(recorded, kernel, params)
    console = report.Console(quiet=as_json, plain=verbose)
    results: list[Result] = []
    failures: list[TunekitError] = []
    with ExitStack() as stack:
        host = stack.enter_context(hosts.make_host(device, target, warm, console.say))
        store = stack.enter_context(Store.open(database or user_database()))
        watch = stack.enter_context(watching(host, store.path, verbose=verbose, quiet=as_json))
        knowledge = Knowledge(shipped_landscapes(), [store])
        if recorded is not None:
            tuned = Tuned(arguments.cached_rows(None, None, database))
            found = workload(launched, tuned, host.device, scalars)
            tasks, failures = found.tasks, found.failures
            for failure in failures:
                watch.failed(failure)
            for note in found.notes:
                click.echo(f"tunekit: {note}", err=True)
            if not tasks:
                console.say(f"nothing to tune is left of {recorded}")
        if trials is None and host.source is Source.MEASURED:
            trials = _DEFAULT_TRIALS
        taken: list[Task] = []  # what another process is at comes last, when it may be through
        for number, each in enumerate(chain(tasks, taken)):
            task = replace(
                each, trials=None if exhaustive else trials, timeout_s=timeout_s, seed=seed
            )
            title = f"{task.kernel.name} {task.kernel.shape_text(task.shape)} {task.dtype}"
            try:
                with console.progress(title) as bar:
                    results.append(
                        tune_problem(task, host, store, bar, knowledge=knowledge, tell=watch.tell)
                    )
            except (StoreError, WorkerError):
                raise  # the next problem would fail of it too
            except ClaimedError as error:
                if number < len(tasks):
                    taken.append(each)
                else:
                    failures.append(error)
                    watch.failed(error)
            except TunekitError as error:
                failures.append(error)
                watch.failed(error)
        if as_json:
            click.echo(
                json.dumps([report_json.result_to_json(result) for result in results], indent=2)
            )
        else:
            console.print_results(results, store.path)
    for failure in failures[:-1]:
        say_error(failure)
    if failures:
        raise failures[-1]
