"""What a wheel carries: an installed tunekit needs nothing of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

USES_WHAT_IS_SHIPPED = """
import pathlib, sys

checkout, installed = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
# An editable install would put the checkout back behind our backs.
sys.path = [entry for entry in sys.path if pathlib.Path(entry).resolve() != checkout]

import tunekit
from tunekit.core.space import Space
from tunekit.paths import shipped_database

assert pathlib.Path(tunekit.__file__).resolve().is_relative_to(installed), tunekit.__file__
assert Space.load("pointwise") is not None
database = shipped_database().resolve()
assert database.is_file(), database
assert database.is_relative_to(installed), database
"""


def _run(*command: str | Path, cwd: Path, **variables: str) -> None:
    """Run a command, and show what it printed when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist, so that what the sdist lacks is noticed."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_the_spaces_and_the_database(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "tunekit").rglob("*.py")}
    spaces = {f"tunekit/spaces/{path.name}" for path in (ROOT / "spaces").glob("*.toml")}
    assert spaces
    assert sources | spaces | {"tunekit/py.typed", "tunekit/studies.db"} <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tunekit"}


def test_an_installed_tunekit_finds_its_spaces_and_its_database(
    wheel: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    _run(*pip, "--target", installed, wheel, cwd=tmp_path)
    _run(
        *(sys.executable, "-P", "-c", USES_WHAT_IS_SHIPPED, ROOT, installed),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
