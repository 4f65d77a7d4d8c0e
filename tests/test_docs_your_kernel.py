"""docs/your-kernel.md does what it says: its files are written, its commands run, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "your-kernel.md"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANYTHING = "…"


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader works, with a `tunekit` on the path that is this one."""
    made = tmp_path_factory.mktemp("your-kernel")
    for name, module in (("tunekit", "-m tunekit"), ("python", "")):
        command = made / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        command.chmod(0o755)
    return made


def _run(command: str, folder: Path) -> str:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    done = subprocess.run(
        command,
        shell=True,
        cwd=work,
        env={
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder / "home"),
            "XDG_DATA_HOME": str(folder / "home" / "data"),
            "COLUMNS": "200",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


@pytest.mark.timeout(900)  # a dozen processes that import PyTorch
def test_the_page_from_top_to_bottom(folder: Path) -> None:
    (folder / "work").mkdir(exist_ok=True)
    for language, text in _blocks():
        if language != "console":
            name = text.splitlines()[0].removeprefix("# ")
            with (folder / "work" / name).open("a", encoding="utf-8") as file:
                file.write(text)
            continue
        for typed in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = typed.partition("\n")
            printed = "".join(f"{_plain(line)}\n" for line in _run(command, folder).splitlines())
            assert re.fullmatch(_pattern(shown), printed), f"$ {command}\n{printed}"
