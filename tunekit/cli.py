"""The command line: parse, call, print."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunekit import report
from tunekit._version import __version__
from tunekit.core.device import DEVICES, device_named
from tunekit.core.evaluation import Source
from tunekit.core.problem import parse_dtype, parse_shape
from tunekit.errors import (
    KernelError,
    NothingTunedError,
    ShapeError,
    StoreError,
    TunekitError,
    UnknownDeviceError,
    UnknownKernelError,
    UsageError,
    WorkerError,
)
from tunekit.notices import TunekitWarning
from tunekit.paths import shipped_database, user_database

if TYPE_CHECKING:
    from tunekit.core.device import Device
    from tunekit.evaluate.host import Host
    from tunekit.kernels.kernel import Kernel
    from tunekit.search.confirm import Confirmed
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
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds a problem, after which no further configuration is begun.",
)
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
    scalars = _scalar_values(found, params)
    names = dict.fromkeys(map(parse_dtype, dtypes))
    problems = [(shape, dtype) for shape in _read_shapes(shapes, shapes_file) for dtype in names]
    console = report.Console(quiet=as_json)
    results: list[Result] = []
    failures: list[TunekitError] = []
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
            except (StoreError, WorkerError):
                raise  # the next problem would fail of it too
            except TunekitError as error:
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
        host = stack.enter_context(_gpu_host(device))
        store = stack.enter_context(Store.open(database or user_database()))
        for item in pending([store, *_open_shipped(stack)], host, only):
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
            click.echo(json.dumps([report.confirmed_to_json(each) for each in confirmed], indent=2))
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
        what = " on ".join(filter(None, [kernel, device])) or "anything"
        command = f"tunekit tune {kernel or 'KERNEL'} --shape S"
        click.echo(f"nothing is tuned yet for {what}; `{command}` does it")


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
    from tunekit.runtime.lookup import choose, forget

    found = find_kernel(kernel)
    model = _device_model(device, target)
    launch = found.launch_for(parse_shape(shape), parse_dtype(dtype), model)
    rows = _cached(kernel, None, database)
    if database is not None:
        os.environ["TUNEKIT_DB"] = str(database)
        forget()
    explained = report.explain(choose(found, launch, model), rows)
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
    from tunekit.gpu import gpu_count

    index = _gpu_index(device)
    if not gpu_count():
        raise UnknownDeviceError(
            f"--device {device or 'cuda:0'}: this machine has no CUDA GPU to measure on; "
            "`tunekit tune --target rtx4090` estimates for one"
        )
    return Host.on_gpu(index)


def _gpu_index(device: str | None) -> int:
    kind, _, index = (device or "cuda:0").partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        raise UsageError(f"--device {device!r}: expected cuda or cuda:N; --target names a model")
    return int(index or 0)


def _device_model(device: str | None, target: str | None) -> Device:
    from tunekit.gpu import gpu_count, present_gpu, select_gpu

    if device is not None and target is not None:
        raise UsageError("--device is a GPU here and --target a model: give one of them")
    if device is not None:
        return select_gpu(_gpu_index(device)).device
    if target is None and gpu_count():
        return present_gpu(0).device
    return device_named(target or _DEFAULT_TARGET)


def _read_shapes(shapes: Iterable[str], file: Path | None) -> list[tuple[int, ...]]:
    found = [parse_shape(text) for text in shapes]
    if file is not None:
        found += _shapes_in(file)
    if not found:
        raise UsageError("give at least one --shape, such as --shape 64,128,254,254")
    return list(dict.fromkeys(found))


def _shapes_in(file: Path) -> Iterator[tuple[int, ...]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"--shapes {file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--shapes {file}: expected UTF-8 text, byte {error.start} is none"
        ) from None
    for number, line in enumerate(lines, start=1):
        if text := line.partition("#")[0].strip():
            try:
                yield parse_shape(text)
            except ShapeError as error:
                raise ShapeError(f"--shapes {file}, line {number}: {error}") from None


def _scalar_values(kernel: Kernel, params: Iterable[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for text in params:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"--param {text!r}: expected NAME=NUMBER, such as scale=2.0")
        values[name.strip()] = value
    try:
        return kernel.scalar_values(values)
    except KernelError as error:
        raise UsageError(f"--param: {error}") from None


def _cached(kernel: str | None, device: str | None, database: Path | None) -> list[CacheRow]:
    """Rows of the person's database, and of the shipped one where that knows better."""
    from tunekit.runtime.known import merged_rows
    from tunekit.store.cache import read_cache

    if database is not None and not os.path.exists(database):
        raise UsageError(f"--db {database}: no such file")
    name = _find_name(kernel) if kernel and ":" in kernel else kernel
    person = read_cache(database or user_database(), kernel=name)
    shipped = read_cache(shipped_database(), kernel=name, immutable=True)
    rows = merged_rows(person, shipped)
    if kernel and not rows:
        _find_name(kernel)  # a name that nothing has is a mistake: it says so
    if device is None:
        return rows
    # A GPU that is not in the table is known by its rows alone.
    known = any(row.problem.device == device for row in rows)
    slug = device if known else device_named(device).slug
    return [row for row in rows if row.problem.device == slug]


def _find_name(kernel: str) -> str:
    from tunekit.kernels.registry import find_kernel

    return find_kernel(kernel).name


def _open_shipped(stack: ExitStack) -> list[Any]:
    from tunekit.store.database import Store

    path = shipped_database()
    if not path.exists():
        return []
    return [stack.enter_context(Store.open(path, readonly=True, immutable=True))]


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
