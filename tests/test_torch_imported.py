"""Programs that fork from a Python with PyTorch are as those that `python` runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tunekit import __version__

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]

PROGRAM = """
import atexit, os, sys
atexit.register(print, "the end")
print(__name__, *sys.argv[1:], os.environ.get("MINE"), sys.stdin.read() == "", flush=True)
print(sorted({"torch", "triton", "tunekit"} & sys.modules.keys()), flush=True)
print(os.getcwd(), file=sys.stderr)
"""


def test_a_program(run_python: RunPython, tmp_path: Path) -> None:
    said = "__main__ a b=c 1 True\n['torch']\n"
    done = run_python("-c", PROGRAM, "a", "b=c", cwd=tmp_path, MINE="1")
    assert (done.returncode, done.stdout) == (0, f"{said}the end\n")
    assert done.stderr == f"{tmp_path}\n"
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    done = run_python(file, "a", "b=c", cwd=tmp_path, merged=True, MINE="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{said}{tmp_path}\nthe end\n"


def test_a_module(run_python: RunPython) -> None:
    done = run_python("-m", "tunekit", "--version")
    assert (done.returncode, done.stdout) == (0, f"tunekit, version {__version__}\n")


def test_how_it_ends(run_python: RunPython) -> None:
    assert run_python("-c", "import sys; sys.exit(3)").returncode == 3
    assert run_python("-c", "import os; os.kill(os.getpid(), 9)").returncode == -9
    done = run_python("-c", "nothing")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "NameError: name 'nothing' is not defined"


def test_what_lies_beside_a_program_is_found_and_one_leaves_nothing_to_the_next(
    run_python: RunPython, tmp_path: Path
) -> None:
    (tmp_path / "beside.py").write_text("print('imported')")
    (tmp_path / "program.py").write_text("import beside")
    assert run_python(tmp_path / "program.py").stdout == "imported\n"
    assert run_python("-m", "beside", cwd=tmp_path).stdout == "imported\n"
    assert run_python("-c", "import beside", PYTHONPATH=str(tmp_path)).stdout == "imported\n"
    assert run_python("-c", "import beside").returncode == 1
