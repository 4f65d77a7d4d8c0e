"""The command line: parse, call, print; a file a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from tunekit._version import __version__
from tunekit.cli import (
    confirm,
    devices,
    explain,
    export,
    importing,
    kernels,
    merge,
    precompile,
    replay,
    show,
    tune,
)
from tunekit.cli.output import plain_words, say_error
from tunekit.errors import TunekitError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunekit")
def cli() -> None:
    """Find, verify and cache the best configuration of fused Triton kernels."""


for command in (
    confirm.confirm,
    devices.devices,
    explain.explain,
    export.export,
    importing.import_,
    kernels.kernels,
    merge.merge,
    precompile.precompile,
    replay.replay,
    show.show,
    tune.tune,
):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    # As under `python -m`: a worker looks for package.module:NAME in the current folder first.
    if "" not in sys.path:
        sys.path.insert(0, "")
    with plain_words():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        cli.main(args=argv, prog_name="tunekit", standalone_mode=False)
    except TunekitError as error:
        say_error(error)
        return error.exit_status
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        say_error(click.ClickException(error.format_message()))
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
