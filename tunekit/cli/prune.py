"""`tunekit prune`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from tunekit.cli.options import database_option, json_option, not_nan
from tunekit.cli.output import print_json
from tunekit.paths import user_database


@click.command()
@click.argument("kernel", required=False)
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0, max=1_000_000),
    callback=not_nan,
    default=0.0,
    metavar="DAYS",
    help="Only what was evaluated and decided so long ago [default: whenever].",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@database_option
@json_option
def prune(
    kernel: str | None, days: float, dry_run: bool, database: Path | None, as_json: bool
) -> None:
    """Drop what no decision rests on from your database, of KERNEL or of all.

    What is served stays the same: for each problem the last decision and its evaluations are kept.
    The others no longer begin a search of that problem or of its neighbours, and are measured
    again where it goes on.
    """
    from tunekit.doctor.check import size_text
    from tunekit.store.prune import prune as prune_database
    from tunekit.store.prune import would_prune

    path = database or user_database()
    how = would_prune if dry_run else prune_database
    pruned = how(path, kernel=kernel, older_than_days=days)
    if as_json:
        print_json({"path": str(path), "dry_run": dry_run, **asdict(pruned)})
        return
    dropped, kept = pruned.dropped, pruned.kept
    verb = "would drop" if dry_run else "dropped"
    click.echo(
        f"{path}: {verb} {dropped['evaluations']} of "
        f"{dropped['evaluations'] + kept['evaluations']} evaluations, {dropped['decisions']} of "
        f"{dropped['decisions'] + kept['decisions']} decisions and {dropped['problems']} of "
        f"{dropped['problems'] + kept['problems']} problems"
    )
    before, after = size_text(pruned.before_bytes), size_text(pruned.after_bytes)
    if pruned.compacted:
        click.echo(f"{before} before, {after} after")
    else:
        click.echo(
            f"the file is not smaller yet: another process has it open; run it again ({before})"
        )
    if pruned.studies:
        click.echo(
            f"{pruned.studies} Optuna studies went with them, and are written again when the "
            "problem is next tuned"
        )
