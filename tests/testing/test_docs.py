"""docs/testing.md, as a reader pastes it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REFUSAL = """    if x.stride(1) != 1:
        raise ValueError("the elements of a row have to lie side by side")
"""


@pytest.fixture
def pasted(tmp_path: Path) -> Path:
    for block in _PYTHON.findall(PAGE):
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    return tmp_path


@pytest.fixture
def run_tests(
    pasted: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    options = ["-q", "--disable-plugin-autoload", "-p", "no:cacheprovider", "-W", "error"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"{ROOT}{os.pathsep}{pasted}"
        return run_python(
            *("-m", "pytest", *options, *arguments),
            cwd=pasted, TRITON_INTERPRET="1", PYTHONPATH=path,
        )  # fmt: skip

    return run


RunTests = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_pages_tests_pass(run_tests: RunTests) -> None:
    done = run_tests("-s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
    assert "centre in Triton's interpreter: " in done.stdout


def test_the_message_is_what_becomes_of_it_without_the_refusal(
    pasted: Path, run_tests: RunTests
) -> None:
    kernel = pasted / "centre.py"
    source = kernel.read_text()
    assert REFUSAL in source
    kernel.write_text(source.replace(REFUSAL, ""))
    done = run_tests("-k", "13x61")
    assert done.returncode == 1
    (message,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    said = [line.removeprefix("E").strip() for line in done.stdout.splitlines()]
    for line in message.splitlines():
        assert any(told.endswith(line.strip()) for told in said), done.stdout
