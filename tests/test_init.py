from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tunekit
from tunekit._version import __version__

ROOT = Path(__file__).resolve().parent.parent


def run(script: str) -> list[str]:
    """What a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_tunekit_loads_nothing_heavy() -> None:
    script = (
        "import sys, tunekit\n"
        "tunekit.TunekitError, tunekit.TunekitWarning, tunekit.__version__, tunekit.Config, dir()\n"
        "heavy = {'torch', 'triton', 'optuna', 'sqlite3', 'sqlite_utils', 'numpy', 'click'}\n"
        "print(*heavy & set(sys.modules))"
    )
    assert run(script) == []


@pytest.mark.parametrize("name", tunekit.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(tunekit, name) is not None
    assert name in dir(tunekit)


def test_the_names_are_those_of_their_modules() -> None:
    from tunekit import Kernel, ops, pointwise
    from tunekit.errors import TunekitError
    from tunekit.runtime.call import reload
    from tunekit.runtime.lookup import lookup

    assert tunekit.ops is ops
    assert tunekit.lookup is lookup
    assert tunekit.reload is reload
    assert tunekit.TunekitError is TunekitError
    assert tunekit.__version__ == __version__
    assert isinstance(ops.library.mish_mish, Kernel)
    assert callable(pointwise)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tunekit' has no attribute 'opps'"):
        _ = tunekit.opps
