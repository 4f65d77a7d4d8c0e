"""The command line: parse, call, print; a file a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from tunekit._version import __version__
from tunekit.cli import (
    check,
    confirm,
    devices,
    doctor,
    evaluate,
    explain,
    export,
    importing,
    kernels,
    merge,
    precompile,
    profile,
    prune,
    replay,
    show,
    signals,
    tune,
)
from tunekit.cli.output import plain_words, say_error
from tunekit.errors import TunekitError, UsageError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunekit")
def cli() -> None:
    """Find, verify and cache the best configuration of fused Triton kernels."""


for command in (
    check.check,
    confirm.confirm,
    devices.devices,
    doctor.doctor,
    evaluate.evaluate,
    explain.explain,
    export.export,
    importing.import_,
    kernels.kernels,
    merge.merge,
    precompile.precompile,
    profile.profile,
    prune.prune,
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
    with plain_words(), signals.caught() as caught:
        return _run(argv, caught)


def _run(argv: Sequence[str] | None, caught: signals.Signals) -> int:
    try:
        arguments = list(sys.argv[1:] if argv is None else argv)
        for argument in arguments:
            # What is typed comes back in messages, and a file may have been named by anybody.
            if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in argument):
                raise UsageError(f"{argument!r:.100}: an argument has no control characters")
        cli.main(args=arguments, prog_name="tunekit", standalone_mode=False)
    except BaseException as error:
        # Whatever an interrupt becomes on its way, as an import that fails of it, it is that.
        if caught.first or isinstance(error, KeyboardInterrupt | click.Abort):
            caught.ignore()
            click.echo(signals.INTERRUPTED, err=True)
            return caught.exit_status
        return _status_of(error)
    return 0


def _status_of(error: BaseException) -> int:
    """The exit status of a command that raised; what a person can do something about is said."""
    match error:
        case TunekitError():
            say_error(error)
            return error.exit_status
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.ClickException():
            say_error(click.ClickException(error.format_message()))
            return 2
        case BrokenPipeError():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader went away
            return 1
    raise error
