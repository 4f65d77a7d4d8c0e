"""`tunekit import`."""

from __future__ import annotations

from pathlib import Path

import click

from tunekit.cli.options import database_option
from tunekit.paths import user_database


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@database_option
def import_(file: Path, database: Path | None) -> None:
    """Add the evaluations of FILE.jsonl or FILE.jsonl.gz (docs/evaluations-format.md)."""
    from tunekit.store.database import Store

    with Store.open(database or user_database()) as store:
        added = store.import_lines(file)
        click.echo(
            f"{file}: {added.evaluations} new evaluations and {added.decisions} new decisions "
            f"into {store.path}"
        )
