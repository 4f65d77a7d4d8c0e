"""`tunekit merge`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tunekit.cli.options import database_option
from tunekit.paths import user_database


@click.command()
@click.argument("others", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@database_option
def merge(others: Sequence[Path], database: Path | None) -> None:
    """Add what OTHER databases hold to yours."""
    from tunekit.store.database import Store

    with Store.open(database or user_database()) as store:
        for other in others:
            added = store.merge(other)
            click.echo(f"{other}: {added} into {store.path}")
