"""`tunekit import`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunekit import arguments, hosts
from tunekit.cli.options import database_option, dim_option
from tunekit.errors import ImportFormatError, UsageError
from tunekit.paths import user_database
from tunekit.printable import printable

if TYPE_CHECKING:
    from tunekit.candidates.fit import Fit
    from tunekit.candidates.listed import Contents
    from tunekit.candidates.problems import Offered
    from tunekit.search.task import Task

_MOST_CANDIDATES = 200_000
_MOST_LISTS = 6


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--kernel", metavar="KERNEL", help="What the configurations of FILE are for.")
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
@click.option("--list", "group", metavar="NAME", help="Of several lists in FILE this one alone.")
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="THEIRS=OURS",
    help="The space's name for a name of FILE's; THEIRS= leaves that value out. Repeatable.",
)
@click.option(
    "--size-name",
    metavar="NAME",
    help="The kernel's size that a table is keyed by: the nearest entries are taken.",
)
@click.option(
    "--device", help="GPU of this machine they are for [default: cuda:0 if there is one]."
)
@click.option("--target", help="GPU model they are for, such as rtx4090.")
@database_option
def import_(
    file: Path,
    kernel: str | None,
    shapes: Sequence[str],
    dims: Sequence[str],
    shapes_file: Path | None,
    dtypes: Sequence[str],
    group: str | None,
    renames: Sequence[str],
    size_name: str | None,
    device: str | None,
    target: str | None,
    database: Path | None,
) -> None:
    """Add what FILE holds to your database: evaluations, or configurations to be measured.

    Evaluations are lines of JSON (docs/evaluations-format.md), plain or compressed by gzip.

    With --kernel: configurations that `tunekit tune` evaluates first, out of a Python file with
    lists of triton.Config, which is never run; Triton's own NAME.autotune.json; a table of
    configurations by size, as inference engines have them; or what `tunekit export` wrote
    (docs/importing.md).
    """
    if kernel is None:
        if shapes or dims or shapes_file or dtypes or group or renames or size_name:
            raise UsageError("--shape, --dim, --list and what else says what for go with --kernel")
        if device or target:
            raise UsageError("--device and --target go with --kernel")
        _add_lines(file, database)
        return
    from tunekit.candidates.fit import fit
    from tunekit.candidates.reading import read_configs

    tasks = arguments.shape_tasks(kernel, shapes, dims, shapes_file, dtypes, ())
    contents = read_configs(file)
    space = tasks[0].kernel.load_space()
    fitted = fit(contents, space, _renamed(renames), group)
    _say_contents(file, contents)
    if not fitted.fitting:
        raise ImportFormatError(
            f"{file}: no configuration has the axes of the space {space.name}: "
            f"{_counted(fitted.refused)}; --rename THEIRS=OURS gives one another name"
        )
    for reason, count in fitted.refused.items():
        click.echo(f"  {count} left out: {reason}")
    offered = _offer(file, fitted, tasks, size_name, device, target)
    _store(file, offered, tasks, database)


def _add_lines(file: Path, database: Path | None) -> None:
    from tunekit.store.database import Store

    with Store.open(database or user_database()) as store:
        try:
            added = store.import_lines(file)
        except ImportFormatError as error:
            _refuse_configs(file, error)
            raise
        click.echo(f"{file}: {added} into {store.path}")


def _refuse_configs(file: Path, error: ImportFormatError) -> None:
    """Say what to do with a file that holds no evaluations but configurations."""
    from tunekit.candidates.reading import read_configs

    if not file.is_file():  # a pipe is read once
        return
    try:
        contents = read_configs(file)
    except ImportFormatError:
        return
    raise UsageError(
        f"{file}: {len(contents.listed)} configurations ({contents.kind}): say what they are for "
        "with --kernel and --shape or --dim"
    ) from error


def _renamed(renames: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in renames:
        theirs, equals, ours = (part.strip() for part in text.partition("="))
        if not theirs or not equals or (ours and not ours.isidentifier()):
            raise UsageError(
                f"--rename {text!r:.100}: expected THEIRS=OURS, such as BLOCK_M=BLOCK_SIZE_M"
            )
        found[theirs] = ours
    return found


def _offer(
    file: Path,
    fitted: Fit,
    tasks: Sequence[Task],
    size_name: str | None,
    device: str | None,
    target: str | None,
) -> list[Offered]:
    from tunekit.candidates.problems import offer

    keyed = any(each.listed.near and each.listed.near.size for each in fitted.fitting)
    if keyed and size_name is None:
        click.echo("  all its sizes are taken: --size-name NAME takes the nearest of a problem's")
    if size_name is not None and not keyed:
        raise UsageError(f"--size-name: what {file} holds is not keyed by a size")
    model = hosts.device_model(device, target)
    offered = [
        offer(
            fitted,
            task.kernel,
            task.shape,
            task.dtype,
            model,
            file_name=file.name,
            size_name=size_name,
        )
        for task in tasks
    ]
    if not any(each.candidates for each in offered):
        raise ImportFormatError(
            f"{file}: every configuration violates a constraint of the space "
            f"{tasks[0].kernel.load_space().name}: {_counted(offered[0].chosen.violated)}"
        )
    if sum(len(each.candidates) for each in offered) > _MOST_CANDIDATES:
        raise UsageError(f"more than {_MOST_CANDIDATES} candidates: give fewer problems at once")
    return offered


def _store(
    file: Path, offered: Sequence[Offered], tasks: Sequence[Task], database: Path | None
) -> None:
    from tunekit.store.database import Store

    with Store.open(database or user_database()) as store:
        added = store.add_candidates(candidate for each in offered for candidate in each.candidates)
        for task, each in zip(tasks, offered, strict=True):
            off_list = each.chosen.off_list
            parts = [f"{len(each.candidates)} candidates"]
            parts += [f"{off_list} with values off the space's lists"] if off_list else []
            violated = _counted(each.chosen.violated)
            parts += [f"left out as they violate a constraint: {violated}"] if violated else []
            click.echo(
                f"{task.kernel.name} {task.kernel.shape_text(task.shape)} {task.dtype} on "
                f"{each.problem.device}: {', '.join(parts)}"
            )
        click.echo(
            f"{added} new candidates of {file} into {store.path}: `tunekit tune` evaluates them "
            "first"
        )


def _say_contents(file: Path, contents: Contents) -> None:
    groups = [
        f"{count} in {name}" if name else str(count) for name, count in contents.groups.items()
    ]
    more = f" and {len(groups) - _MOST_LISTS} more lists" if len(groups) > _MOST_LISTS else ""
    lists = ", ".join(groups[:_MOST_LISTS])
    click.echo(printable(f"{file}: {contents.kind}, configurations: {lists}{more}"))
    for note in contents.notes:
        click.echo(printable(f"tunekit: {file} {note}"), err=True)


def _counted(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{count} × {reason}" for reason, count in list(reasons.items())[:5])
