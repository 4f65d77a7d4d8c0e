"""`tunekit confirm`."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunekit import arguments, hosts, report, report_json
from tunekit.cli.options import database_option, device_option, json_option, verbose_option
from tunekit.cli.watch import watching
from tunekit.errors import (
    NothingTunedError,
    StoreError,
    TunekitError,
    UnknownKernelError,
    WorkerError,
)
from tunekit.paths import user_database

if TYPE_CHECKING:
    from tunekit.search.confirm import Confirmed


@click.command()
@click.argument("kernel", required=False)
@device_option
@database_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write what was measured to this .jsonl file, to be imported elsewhere.",
)
@verbose_option
@json_option
def confirm(
    kernel: str | None,
    device: str | None,
    database: Path | None,
    output: Path | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Measure here the top few of what was estimated or measured under other versions.

    Without KERNEL: of everything in the library. A kernel of your own is named as for `tune`.
    """
    from tunekit import records
    from tunekit.kernels.registry import find_kernel, find_library_kernel
    from tunekit.search.confirm import confirm as confirm_problem
    from tunekit.search.confirm import pending
    from tunekit.store.database import Store

    only = None if kernel is None else find_kernel(kernel).name
    console = report.Console(quiet=as_json, plain=verbose)
    confirmed: list[Confirmed] = []
    skipped: Counter[str] = Counter()
    failures: list[str] = []
    with ExitStack() as stack:
        host = stack.enter_context(hosts.gpu_host(device))
        store = stack.enter_context(Store.open(database or user_database()))
        watch = stack.enter_context(watching(host, store.path, verbose=verbose, quiet=as_json))
        for item in pending([store, *arguments.open_shipped(stack)], host, only):
            name, title = item.row.problem.kernel, report.problem_text(item.row)
            reference = kernel or name
            try:
                found = find_kernel(kernel) if kernel else find_library_kernel(name)
                if found.source_hash != item.row.problem.kernel_hash:
                    skipped[f"{name}, whose source changed since: tune it again"] += 1
                    continue
                with console.progress(title) as bar:
                    confirmed.append(
                        confirm_problem(item, found, reference, host, store, bar, tell=watch.tell)
                    )
            except UnknownKernelError:
                if ":" in name:
                    skipped[f"{name}, which @tunekit.autotune tunes where it is called"] += 1
                    continue
                skipped[f"{name}, not of the library: `tunekit confirm path/file.py:{name}`"] += 1
            except (StoreError, WorkerError):
                raise  # the next problem would fail of it too
            except TunekitError as error:
                watch.failed(error)
                failures.append(f"{title}: {error}")
        if as_json:
            click.echo(
                json.dumps([report_json.confirmed_to_json(each) for each in confirmed], indent=2)
            )
        else:
            console.print_confirmed(confirmed, host.device)
        if output is not None:
            problems = {each.result.problem for each in confirmed}
            rows = [row for problem in problems for row in store.evaluations(problem)]
            decisions = [row for problem in problems for row in store.decisions(problem)]
            records.write_lines(output, [*rows, *decisions])
    for what, count in skipped.items():
        click.echo(f"tunekit: skipped {count} of {what}", err=True)
    for failure in failures:
        click.echo(f"tunekit: {failure}", err=True)
    if failures and not confirmed:
        raise NothingTunedError(f"none of {len(failures)} problems could be confirmed")
