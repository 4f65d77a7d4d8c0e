"""`tunekit replay`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tunekit import report, report_json
from tunekit.cli.options import json_option
from tunekit.cli.output import print_json
from tunekit.errors import UsageError
from tunekit.paths import shipped_landscapes


@click.command()
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
@json_option
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
        print_json([report_json.replayed_to_json(each) for each in replayed])
    else:
        console.print_replayed(replayed)
