"""The command line: parse, call, print."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunekit import arguments, report, report_json
from tunekit._version import __version__
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Source
from tunekit.core.problem import parse_dtype, parse_shape
from tunekit.errors import (
    NothingTunedError,
    StoreError,
    TunekitError,
    UnknownKernelError,
    UsageError,
    WorkerError,
)
from tunekit.notices import TunekitWarning
from tunekit.paths import shipped_landscapes, user_database

if TYPE_CHECKING:
    from tunekit.search.confirm import Confirmed
    from tunekit.search.task import Result

_DEFAULT_TRIALS = 60

_database_option = click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your database [default: $TUNEKIT_DB, else a file in your data folder].",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
_device_option = click.option(
    "--device", help="GPU to measure on, such as cuda:0 [default: cuda:0 if there is one]."
)
_recorded_option = click.option(
    "--recorded",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the problems that a program launched (TUNEKIT_RECORD, tunekit.record).",
)
_target_option = click.option(
    "--target",
    help="GPU model to compile and estimate for instead of measuring, such as rtx4090.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunekit")
def cli() -> None:
    """Find, verify and cache the best configuration of fused Triton kernels."""


@cli.command()
@click.argument("kernel", required=False)
@click.option("--shape", "shapes", multiple=True, help="Input shape: 64,128,254,254. Repeatable.")
@click.option(
    "--shapes",
    "shapes_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with one shape a line; # starts a comment.",
)
@click.option("--dtype", "dtypes", multiple=True, help="Repeatable [default: float32].")
@_recorded_option
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
    help="Seconds a problem, after which no further configuration is begun.",
)
@click.option(
    "--warm",
    is_flag=True,
    help="Measure with inputs still in the L2 cache, as after another op, not with a cold one.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the search and the inputs.")
@click.option("--param", "params", multiple=True, help="A scalar's value: scale=2.0. Repeatable.")
@_device_option
@_target_option
@_database_option
@_json_option
def tune(
    kernel: str | None,
    shapes: Sequence[str],
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
        tasks = arguments.shape_tasks(kernel, shapes, shapes_file, dtypes, params)
    elif shapes or shapes_file or dtypes:
        raise UsageError("--recorded has shapes and dtypes: leave --shape, --shapes, --dtype away")
    else:
        launched, scalars = arguments.read_recorded(recorded, kernel, params)
    console = report.Console(quiet=as_json)
    results: list[Result] = []
    failures: list[TunekitError] = []
    with ExitStack() as stack:
        host = stack.enter_context(arguments.make_host(device, target, warm, console.say))
        store = stack.enter_context(Store.open(database or user_database()))
        knowledge = Knowledge(shipped_landscapes(), [store])
        if recorded is not None:
            tuned = Tuned(arguments.cached_rows(None, None, database))
            found = workload(launched, tuned, host.device, scalars)
            tasks, failures = found.tasks, found.failures
            for note in found.notes:
                click.echo(f"tunekit: {note}", err=True)
            if not tasks:
                console.say(f"nothing to tune is left of {recorded}")
        if trials is None and host.source is Source.MEASURED:
            trials = _DEFAULT_TRIALS
        for each in tasks:
            task = replace(
                each, trials=None if exhaustive else trials, timeout_s=timeout_s, seed=seed
            )
            title = f"{task.kernel.name} {report.shape_text(task.shape)} {task.dtype}"
            try:
                with console.progress(title) as bar:
                    results.append(tune_problem(task, host, store, bar, knowledge=knowledge))
            except (StoreError, WorkerError):
                raise  # the next problem would fail of it too
            except TunekitError as error:
                failures.append(error)
        if as_json:
            click.echo(
                json.dumps([report_json.result_to_json(result) for result in results], indent=2)
            )
        else:
            console.print_results(results, store.path)
    for failure in failures[:-1]:
        _say_error(failure)
    if failures:
        raise failures[-1]


@cli.command()
@click.argument("kernel", required=False)
@_device_option
@_database_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write what was measured to this .jsonl file, to be imported elsewhere.",
)
@_json_option
def confirm(
    kernel: str | None,
    device: str | None,
    database: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure here the top few of what was estimated or measured under other versions.

    Without KERNEL: of everything in the library. A kernel of your own is named as for `tune`.
    """
    from tunekit import records
    from tunekit.kernels.registry import find_kernel
    from tunekit.search.confirm import confirm as confirm_problem
    from tunekit.search.confirm import pending
    from tunekit.store.database import Store

    only = None if kernel is None else find_kernel(kernel).name
    console = report.Console(quiet=as_json)
    confirmed: list[Confirmed] = []
    skipped: Counter[str] = Counter()
    failures: list[str] = []
    with ExitStack() as stack:
        host = stack.enter_context(arguments.gpu_host(device))
        store = stack.enter_context(Store.open(database or user_database()))
        for item in pending([store, *arguments.open_shipped(stack)], host, only):
            name, title = item.row.problem.kernel, report.problem_text(item.row)
            reference = kernel or name
            try:
                found = find_kernel(reference)
                if found.source_hash != item.row.problem.kernel_hash:
                    skipped[f"{name}, whose source changed since: tune it again"] += 1
                    continue
                with console.progress(title) as bar:
                    confirmed.append(confirm_problem(item, found, reference, host, store, bar))
            except UnknownKernelError:
                skipped[f"{name}, not of the library: `tunekit confirm path/file.py:{name}`"] += 1
            except (StoreError, WorkerError):
                raise  # the next problem would fail of it too
            except TunekitError as error:
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


@cli.command()
@click.argument("kernel", required=False)
@click.option("--device", "device", help="Only this GPU model, such as h100.")
@_recorded_option
@_database_option
@_json_option
def show(
    kernel: str | None,
    device: str | None,
    recorded: Path | None,
    database: Path | None,
    as_json: bool,
) -> None:
    """Show what is tuned, for KERNEL or for all.

    With --recorded: what a program launched and what it was served, most expensive first, by count
    × time × the gain expected of tuning.
    """
    if recorded is not None:
        _show_recorded(recorded, kernel, device, database, as_json)
        return
    rows = arguments.cached_rows(kernel, device, database)
    if as_json:
        _print_json([report_json.row_to_json(row) for row in rows])
    elif rows:
        report.Console().print_rows(rows)
    else:
        what = " on ".join(filter(None, [kernel, device])) or "anything"
        command = f"tunekit tune {kernel or 'KERNEL'} --shape S"
        click.echo(f"nothing is tuned yet for {what}; `{command}` does it")


def _show_recorded(
    path: Path, kernel: str | None, device: str | None, database: Path | None, as_json: bool
) -> None:
    from tunekit.report_recorded import print_recorded

    weighed = arguments.weighed_problems(path, kernel, device, database)
    if as_json:
        _print_json([report_json.weighed_to_json(each) for each in weighed])
    elif weighed:
        print_recorded(report.Console(), weighed, path)
    else:
        what = " on ".join(filter(None, [kernel, device])) or "launch"
        click.echo(f"{path}: no {what} was recorded")


@cli.command()
@click.argument("kernel")
@click.option("--shape", required=True, help="Input shape: 64,128,254,254.")
@click.option("--dtype", default="float32")
@click.option(
    "--offset",
    type=click.IntRange(min=0),
    default=0,
    metavar="BYTES",
    help="Where the inputs start after a multiple of 16 bytes, as x[1:] does.",
)
@click.option("--target", help="GPU model a call would run on, such as rtx4090.")
@click.option("--device", help="GPU a call would run on [default: cuda:0 if there is one].")
@_database_option
@_json_option
def explain(
    kernel: str,
    shape: str,
    dtype: str,
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
    found = find_kernel(kernel)
    model = arguments.device_model(device, target)
    metas = found.input_metas(parse_shape(shape), parse_dtype(dtype))
    launch = found.plan([replace(meta, misalignment=offset % 16) for meta in metas], model)
    explained = explain_launch(found, launch, model, database)
    if database is not None and explained.databases[0].trouble:
        raise StoreError(f"{database}: {explained.databases[0].trouble}")
    if as_json:
        _print_json(report_json.explanation_to_json(explained))
    else:
        report_explain.print_explained(report.Console(), explained)


@cli.command()
@click.argument("kernel", required=False)
@click.option("--target", help="GPU model to compile for [default: that of cuda:0].")
@_database_option
@_json_option
def precompile(
    kernel: str | None, target: str | None, database: Path | None, as_json: bool
) -> None:
    """Compile what is tuned, so that no first call has to.

    Without KERNEL: everything in the library that is tuned for that GPU model. It needs no GPU: run
    it where the image is built, with the caches that the deployed process will see.
    """
    from dataclasses import asdict

    from tunekit.runtime.precompile import precompile_rows

    device = arguments.compile_device(target)
    rows = arguments.cached_rows(kernel, device.slug, database)
    reference = kernel if kernel and ":" in kernel else None
    made = precompile_rows(rows, device, reference)
    if as_json:
        _print_json({"device": device.slug, **asdict(made)})
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


@cli.command()
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
@_database_option
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


@cli.command()
@_json_option
def kernels(as_json: bool) -> None:
    """List the library's kernels."""
    from tunekit.kernels.library import KERNELS

    if as_json:
        _print_json([report_json.kernel_to_json(k) for k in KERNELS.values()])
    else:
        report.Console().print_kernels(KERNELS.values())


@cli.command()
@_json_option
def devices(as_json: bool) -> None:
    """List the GPUs in this machine and the models tunekit knows."""
    from tunekit.gpu import gpu_count, present_gpu

    present = [present_gpu(index) for index in range(gpu_count())]
    if as_json:
        _print_json(report_json.devices_to_json(present, DEVICES.values()))
    else:
        report.Console().print_devices(present, DEVICES.values())


@cli.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    default=["transfer", "tpe", "random"],
    show_default=True,
    help="transfer is what `tune` uses; also transfer-tpe, tpe, gp, random. Repeatable.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--leave-out",
    type=click.Choice(["problem", "size", "kernel", "kernel-and-size", "device", "everything"]),
    default="size",
    show_default=True,
    help="What the search may not know: recorded problems of the same size, kernel, GPU, ….",
)
@click.option("--kernel", help="Replay this kernel's problems only.")
@click.option("--device", help="Replay this GPU model's problems only.")
@click.option("--dtype", help="Replay this dtype's problems only.")
@_json_option
def replay(
    files: Sequence[Path],
    strategies: Sequence[str],
    seeds: int,
    leave_out: str,
    kernel: str | None,
    device: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    """Search over the recorded evaluations of FILES, with no GPU.

    FILES are recorded landscapes (.csv.gz), evaluations (.jsonl, .jsonl.gz) or databases (.db); by
    default the landscapes that come with tunekit. Regret is the time of the best configuration
    found so far over the exhaustive best, less one.
    """
    from tunekit.search.knowledge import read_landscapes
    from tunekit.search.replay import replay_all

    paths = list(files) or sorted(shipped_landscapes().glob("*.csv.gz"))
    landscapes = [landscape for path in paths for landscape in read_landscapes(path)]
    wanted = {"kernel": kernel, "device": device, "dtype": dtype}
    chosen = [
        landscape
        for landscape in landscapes
        if all(value in (None, getattr(landscape.problem, name)) for name, value in wanted.items())
    ]
    if not chosen:
        raise UsageError("no problem was recorded there that fits what was asked for")
    console = report.Console(quiet=as_json)
    replayed = replay_all(chosen, landscapes, strategies, leave_out, seeds)
    if as_json:
        _print_json([report_json.replayed_to_json(each) for each in replayed])
    else:
        console.print_replayed(replayed)


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_database_option
def import_(file: Path, database: Path | None) -> None:
    """Add the evaluations of FILE.jsonl or FILE.jsonl.gz (docs/evaluations-format.md)."""
    from tunekit.store.database import Store

    with Store.open(database or user_database()) as store:
        added = store.import_lines(file)
        click.echo(
            f"{file}: {added.evaluations} new evaluations and {added.decisions} new decisions "
            f"into {store.path}"
        )


@cli.command()
@click.argument("others", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@_database_option
def merge(others: Sequence[Path], database: Path | None) -> None:
    """Add what OTHER databases hold to yours."""
    from tunekit.store.database import Store

    with Store.open(database or user_database()) as store:
        for other in others:
            added = store.merge(other)
            click.echo(
                f"{other}: {added.evaluations} new evaluations and {added.decisions} new "
                f"decisions into {store.path}"
            )


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))


def _say_error(error: BaseException) -> None:
    click.echo(f"tunekit: {' '.join(str(error).split())}", err=True)


@contextmanager
def _plain_words() -> Iterator[None]:
    """Warnings of tunekit's as one line each, and no character that cannot be printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, TunekitWarning):
                _say_error(message)
            else:
                show_others(message, category, *where, **more)

        warnings.showwarning = show
        warnings.simplefilter("always", TunekitWarning)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    # As under `python -m`: a worker looks for package.module:NAME in the current folder first.
    if "" not in sys.path:
        sys.path.insert(0, "")
    with _plain_words():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        cli.main(args=argv, prog_name="tunekit", standalone_mode=False)
    except TunekitError as error:
        _say_error(error)
        return error.exit_status
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        _say_error(click.ClickException(error.format_message()))
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "tunekit: interrupted; every finished evaluation is stored, and the same command "
            "goes on from there",
            err=True,
        )
        return 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader went away
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
