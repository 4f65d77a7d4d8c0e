from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import tunekit
from tunekit.notices import warn


def test_a_warning_names_the_line_of_whoever_called_tunekit() -> None:
    source = "def inner(text): warn(text)\ndef outer(text): inner(text)\n"
    own = {"__name__": "tunekit.made.up", "warn": warn}
    exec(source, own)
    line = inspect.currentframe().f_lineno + 2
    with pytest.warns(tunekit.TunekitWarning, match="do this") as all:
        own["outer"]("do this")
    assert (Path(all[0].filename), all[0].lineno) == (Path(__file__), line)


def test_a_package_with_a_longer_name_is_not_tunekit() -> None:
    theirs = {"__name__": "tunekit_extras.model", "warn": warn}
    exec(compile("def layer(): warn('x')", "model.py", "exec"), theirs)
    with pytest.warns(tunekit.TunekitWarning) as all:
        theirs["layer"]()
    assert all[0].filename == "model.py"
