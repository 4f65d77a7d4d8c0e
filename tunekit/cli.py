"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunekit import report
from tunekit._version import __version__
from tunekit.core.device import DEVICES, device_named
from tunekit.core.evaluation import Source
from tunekit.core.problem import parse_dtype, parse_shape
from tunekit.errors import NothingTunedError, TunekitError, UsageError
from tunekit.paths import shipped_database, user_database

if TYPE_CHECKING:
    from tunekit.evaluate.host import Host
    from tunekit.search.session import Result
    from tunekit.store.cache import CacheRow

_DEFAULT_TARGET = "rtx4090"
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
_target_option = click.option(
    "--target",
    help="GPU model to compile and estimate for instead of measuring, such as rtx4090.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunekit")
def cli() -> None:
    """Find, verify and cache the best configuration of fused Triton kernels."""


@cli.command()
@click.argument("kernel")
@click.option("--shape", "shapes", multiple=True, help="Input shape: 64,128,254,254. Repeatable.")
@click.option(
    "--shapes",
    "shapes_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with one shape a line; # starts a comment.",
)
@click.option("--dtype", "dtypes", multiple=True, default=["float32"], help="Repeatable.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Configurations to evaluate, earlier runs counted [default: 60; all when estimating].",
)
@click.option("--exhaustive", is_flag=True, help="Evaluate the complete space.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Seconds a problem.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the search and the inputs.")
@click.option("--param", "params", multiple=True, help="A scalar's value: scale=2.0. Repeatable.")
@_device_option
@_target_option
@_database_option
@_json_option
def tune(
    kernel: str,
    shapes: Sequence[str],
    shapes_file: Path | None,
    dtypes: Sequence[str],
    trials: int | None,
    exhaustive: bool,
    timeout_s: float | None,
    seed: int,
    params: Sequence[str],
    device: str | None,
    target: str | None,
    database: Path | None,
    as_json: bool,
) -> None:
    """Tune KERNEL: a library name, package.module:NAME, or path/file.py:NAME.

    On a host with a GPU configurations are measured on it. On a host with none they are compiled
    for --target, checked in Triton's interpreter and ranked by an analytic model.
    """
    from tunekit.kernels.registry import find_kernel
    from tunekit.search.session import Task
    from tunekit.search.tune import tune as tune_problem
    from tunekit.store.database import Store

    found = find_kernel(kernel)
    scalars = found.scalar_values(_parse_params(params))
    problems = [
        (shape, parse_dtype(dtype))
        for shape in _read_shapes(shapes, shapes_file)
        for dtype in dtypes
    ]
    console = report.Console(quiet=as_json)
    results: list[Result] = []
    failures: list[NothingTunedError] = []
    with ExitStack() as stack:
        host = stack.enter_context(_host(device, target, console))
        store = stack.enter_context(Store.open(database or user_database()))
        if trials is None and host.source is Source.MEASURED:
            trials = _DEFAULT_TRIALS
        for shape, dtype in problems:
            task = Task(
                kernel=found,
                reference=kernel,
                shape=shape,
                dtype=dtype,
                scalars=scalars,
                trials=None if exhaustive else trials,
                timeout_s=timeout_s,
                seed=seed,
            )
            try:
                with console.progress(f"{found.name} {report.shape_text(shape)} {dtype}") as bar:
                    results.append(tune_problem(task, host, store, bar))
            except NothingTunedError as error:
                failures.append(error)
        if as_json:
            click.echo(json.dumps([report.result_to_json(result) for result in results], indent=2))
        else:
            console.print_results(results, store.path)
    for failure in failures[:-1]:
        _say_error(failure)
    if failures:
        raise failures[-1]


@cli.command()
@_device_option
@_database_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write what was measured to this .jsonl file, to be imported elsewhere.",
)
@_json_option
def confirm(device: str | None, database: Path | None, output: Path | None, as_json: bool) -> None:
    """Measure here the top few of what was estimated or measured under other versions."""
    from tunekit import records
    from tunekit.kernels.registry import find_kernel
    from tunekit.search.confirm import confirm as confirm_problem
    from tunekit.search.confirm import pending
    from tunekit.store.database import Store

    console = report.Console(quiet=as_json)
    with ExitStack() as stack:
        host = stack.enter_context(_gpu_host(device))
        store = stack.enter_context(Store.open(database or user_database()))
        stores = [store, *_open_shipped(stack)]
        confirmed, skipped = [], []
        for item in pending(stores, host):
            problem = item.row.problem
            try:
                found = find_kernel(problem.kernel)
                if found.source_hash != problem.kernel_hash:
                    raise UsageError(f"{problem.kernel}: the source changed since; tune it again")
                title = f"{problem.kernel} {report.shape_text(item.row.shape)} {problem.dtype}"
                with console.progress(title) as bar:
                    confirmed.append(confirm_problem(item, found, host, store, bar))
            except TunekitError as error:
                skipped.append(str(error))
        if output is not None:
            problems = {item.result.problem for item in confirmed}
            rows = [row for problem in problems for row in store.evaluations(problem)]
            decisions = [row for problem in problems for row in store.decisions(problem)]
            records.write_lines(output, [*rows, *decisions])
    if as_json:
        click.echo(json.dumps([report.confirmed_to_json(item) for item in confirmed], indent=2))
    else:
        console.print_confirmed(confirmed, host.device)
    for reason in skipped:
        click.echo(f"skipped: {reason}", err=True)
    if skipped and not confirmed:
        raise NothingTunedError(f"none of {len(skipped)} problems could be confirmed")


@cli.command()
@click.argument("kernel", required=False)
@click.option("--device", "device", help="Only this GPU model, such as h100.")
@_database_option
@_json_option
def show(kernel: str | None, device: str | None, database: Path | None, as_json: bool) -> None:
    """Show what is tuned, for KERNEL or for all."""
    rows = _cached(kernel, device, database)
    if as_json:
        click.echo(json.dumps([report.row_to_json(row) for row in rows], indent=2))
    elif rows:
        report.Console().print_rows(rows)
    else:
        what = " ".join(filter(None, [kernel, device])) or "anything"
        click.echo(f"nothing is tuned yet for {what}; `tunekit tune KERNEL --shape S` does it")


@cli.command()
@click.argument("kernel")
@click.option("--shape", required=True, help="Input shape: 64,128,254,254.")
@click.option("--dtype", default="float32")
@_target_option
@click.option("--device", help="GPU a call would run on [default: cuda:0 if there is one].")
@_database_option
@_json_option
def explain(
    kernel: str,
    shape: str,
    dtype: str,
    target: str | None,
    device: str | None,
    database: Path | None,
    as_json: bool,
) -> None:
    """Say which row a call of KERNEL would use and why."""
    from tunekit.kernels.registry import find_kernel
    from tunekit.runtime.lookup import choose

    if database is not None:
        os.environ["TUNEKIT_DB"] = str(database)
    found = find_kernel(kernel)
    model = _device_model(device, target)
    launch = found.launch_for(parse_shape(shape), parse_dtype(dtype), model)
    choice = choose(found, launch, model)
    rows = _cached(found.name, None, database)
    explained = report.explain(choice, rows)
    if as_json:
        click.echo(json.dumps(explained, indent=2))
    else:
        report.Console().print_explained(explained)


@cli.command()
@click.argument("kernel", required=False)
@click.option("--device", help="Only this GPU model, such as h100.")
@click.option("--format", "form", type=click.Choice(["python", "json"]), default="python")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File.")
@click.option("--check", is_flag=True, help="Write nothing; fail if the file is out of date.")
@_database_option
def export(
    kernel: str | None,
    device: str | None,
    form: str,
    output: Path | None,
    check: bool,
    database: Path | None,
) -> None:
    """Write what is tuned as a table of triton.Config, or as JSON."""
    from tunekit import export as exporting

    if check and output is None:
        raise UsageError("--check needs -o FILE: the file to compare")
    text = exporting.render(_cached(kernel, device, database), form)
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
        click.echo(json.dumps([report.kernel_to_json(k) for k in KERNELS.values()], indent=2))
    else:
        report.Console().print_kernels(KERNELS.values())


@cli.command()
@_json_option
def devices(as_json: bool) -> None:
    """List the GPUs in this machine and the models tunekit knows."""
    from tunekit.gpu import gpu_count, present_gpu

    present = [present_gpu(index) for index in range(gpu_count())]
    if as_json:
        click.echo(json.dumps(report.devices_to_json(present, DEVICES.values()), indent=2))
    else:
        report.Console().print_devices(present, DEVICES.values())


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_database_option
def import_(file: Path, database: Path | None) -> None:
    """Add the evaluations of FILE.jsonl (docs/evaluations-format.md)."""
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


def _host(device: str | None, target: str | None, console: report.Console) -> Host:
    from tunekit.evaluate.host import Host
    from tunekit.gpu import gpu_count

    if device is not None and target is not None:
        raise UsageError("--device measures and --target estimates: give one of them")
    if target is None and (device is not None or gpu_count()):
        return _gpu_host(device)
    model = device_named(target or _DEFAULT_TARGET)
    why = "" if target else "No CUDA GPU in this machine: "
    console.say(
        f"{why}compiling for {model.names[0]}, checking in Triton's interpreter, estimating the "
        "time. Nothing is measured."
    )
    return Host.estimating(model)


def _gpu_host(device: str | None) -> Host:
    from tunekit.evaluate.host import Host

    return Host.on_gpu(_gpu_index(device))


def _gpu_index(device: str | None) -> int:
    kind, _, index = (device or "cuda:0").partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        raise UsageError(f"--device {device!r}: expected cuda or cuda:N; --target names a model")
    return int(index or 0)


def _device_model(device: str | None, target: str | None) -> Any:
    from tunekit.gpu import gpu_count, present_gpu, select_gpu

    if target is None and device is None and not gpu_count():
        target = _DEFAULT_TARGET
    if target is not None:
        return device_named(target)
    return select_gpu(_gpu_index(device)).device if device else present_gpu(0).device


def _read_shapes(shapes: Iterable[str], file: Path | None) -> list[tuple[int, ...]]:
    texts = list(shapes)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--shapes {file}: cannot be read: {error}") from None
        texts += [text for line in lines if (text := line.partition("#")[0].strip())]
    if not texts:
        raise UsageError("give at least one --shape, such as --shape 64,128,254,254")
    return list(dict.fromkeys(parse_shape(text) for text in texts))


def _parse_params(params: Iterable[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for text in params:
        name, _, value = text.partition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError:
            raise UsageError(f"--param {text!r}: expected NAME=NUMBER, such as scale=2.0") from None
    return values


def _cached(kernel: str | None, device: str | None, database: Path | None) -> list[CacheRow]:
    """Rows of the person's database, and of the shipped one where that knows better."""
    from tunekit.runtime.lookup import merged_rows
    from tunekit.store.cache import read_cache

    slug = device_named(device).slug if device else None
    person = read_cache(database or user_database(), kernel=kernel, device=slug)
    shipped = read_cache(shipped_database(), kernel=kernel, device=slug, immutable=True)
    return merged_rows(person, shipped)


def _open_shipped(stack: ExitStack) -> list[Any]:
    from tunekit.store.database import Store

    path = shipped_database()
    if not path.exists():
        return []
    return [stack.enter_context(Store.open(path, readonly=True, immutable=True))]


def _say_error(error: BaseException) -> None:
    click.echo(f"tunekit: {' '.join(str(error).split())}", err=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
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
