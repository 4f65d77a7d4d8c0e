"""What commands print, besides tables."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from tunekit.notices import TunekitWarning
from tunekit.printable import one_line


def print_json(data: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(data, indent=2))


def say_error(error: object) -> None:
    """One line on standard error."""
    click.echo(f"tunekit: {one_line(str(error))}", err=True)


@contextmanager
def plain_words() -> Iterator[None]:
    """Warnings of tunekit's as one line each, and no character that cannot be printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, TunekitWarning):
                say_error(message)
            else:
                show_others(message, category, *where, **more)

        warnings.showwarning = show
        warnings.simplefilter("always", TunekitWarning)
        yield
