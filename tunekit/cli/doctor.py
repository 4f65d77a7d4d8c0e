"""`tunekit doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunekit.cli.options import json_option
from tunekit.cli.output import print_json
from tunekit.errors import TunekitError
from tunekit.paths import user_database

if TYPE_CHECKING:
    from tunekit.doctor.check import Check


@click.command()
@click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path),
    help="Your database [default: $TUNEKIT_DB, else a file in your data folder].",
)
@click.option(
    "--salvage",
    type=click.Path(path_type=Path),
    metavar="NEW.db",
    help="Check nothing: write what can be saved of a damaged database to a new one.",
)
@json_option
def doctor(database: Path | None, salvage: Path | None, as_json: bool) -> None:
    """Check versions, GPU, compiler, worker, folders and databases; say what to do.

    With --salvage: of a damaged database every evaluation and decision that can still be read,
    and is what was written, goes to a new one; the damaged file is left as it is.
    """
    if salvage is not None:
        _salvage(database or user_database(), salvage, as_json)
        return
    from tunekit.doctor.check import State, guarded

    found: list[Check] = []
    # Packages may be missing: what needs them is imported where that is told like the rest.
    for check in guarded("installation", lambda: _checks(database)):
        found.append(check)
        if not as_json:
            click.echo(f"{check.state:8} {check.name}: {check.says}")
            if check.do:
                click.echo(f"{'':8} → {check.do}")
    problems = sum(check.state is State.PROBLEM for check in found)
    if as_json:
        print_json({"problems": problems, "checks": [asdict(check) for check in found]})
    if problems:
        what = "1 problem" if problems == 1 else f"{problems} problems"
        raise TunekitError(f"{what}; what to do is said with each")


def _checks(database: Path | None) -> Iterator[Check]:
    from tunekit.doctor.versions import check_versions

    yield from check_versions()
    from tunekit.doctor.diagnosis import diagnose

    yield from diagnose(database or user_database())


def _salvage(damaged: Path, new: Path, as_json: bool) -> None:
    from tunekit.store.salvage import salvage, save

    found = salvage(damaged)
    save(found, new)
    if as_json:
        print_json(
            {
                "path": str(new),
                "evaluations": len(found.evaluations),
                "decisions": len(found.decisions),
                "candidates": len(found.candidates),
                "counters": len(found.counters),
                "refused": found.refused,
            }
        )
    else:
        click.echo(f"{new}: {found}, saved of {damaged}, which is as it was")
