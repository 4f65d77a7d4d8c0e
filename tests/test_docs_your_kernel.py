"""docs/your-kernel.md does what it says: its files are written, its commands run, in order."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "your-kernel.md"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANYTHING = "…"

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


def _blocks() -> list[tuple[str, str]]:
    return _BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def _plain(line: str) -> str:
    """A line without what differs from run to run: measured numbers, widths."""
    line = re.sub(r"\d+\.\d+|\d+(?= GB/s|%)", "#", line)
    return re.sub(r"─+", "─", re.sub(r"\s+", " ", line)).strip()


def _pattern(shown: str) -> str:
    """What has to be printed where this is shown: … is anything in a line, or any lines."""
    parts = []
    for line in shown.splitlines():
        if line.strip() == _ANYTHING:
            parts.append(r"(?:.*\n)*?")
        else:
            pieces = map(re.escape, _plain(line).split(_ANYTHING))
            parts.append(f"{'.*'.join(pieces)}\n")
    return "".join(parts)


def test_the_page_has_no_other_blocks() -> None:
    languages = {language for language, _ in _blocks()}
    assert languages == {"python", "toml", "console"}
    for language, text in _blocks():
        first = text.splitlines()[0]
        assert first.startswith("$ " if language == "console" else "# "), first


PROGRAMS = {"python": [], "tunekit": ["-m", "tunekit"]}
"""What a line of the page begins with, after variables, as arguments of Python."""


def _run(command: str, folder: Path, run_python: RunPython) -> str:
    words = shlex.split(command)
    variables = {"COLUMNS": "200"}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    arguments = PROGRAMS[words[0]] + words[1:]
    done = run_python(*arguments, cwd=folder, merged=True, **variables)
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


@pytest.mark.timeout(900)  # a dozen processes
def test_the_page_from_top_to_bottom(tmp_path: Path, run_python: RunPython) -> None:
    for language, text in _blocks():
        if language != "console":
            name = text.splitlines()[0].removeprefix("# ")
            with (tmp_path / name).open("a", encoding="utf-8") as file:
                file.write(text)
            continue
        for typed in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = typed.partition("\n")
            said = _run(command, tmp_path, run_python)
            printed = "".join(f"{_plain(line)}\n" for line in said.splitlines())
            assert re.fullmatch(_pattern(shown), printed), f"$ {command}\n{printed}"
