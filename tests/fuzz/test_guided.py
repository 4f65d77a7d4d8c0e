"""Fuzzing that is guided by coverage: Atheris, which is libFuzzer over instrumented bytecode.

Each parser is fuzzed in a process of its own, of bounded memory, for some seconds, beginning with
valid inputs; two at a time.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 14
NAMED = (
    "expressions",
    "space files",
    "shapes",
    "dtypes and devices",
    "evaluation and decision lines",
    "evaluation files",
    "configurations of other tools",
    "recorded lines",
    "recorded files",
    "landscapes",
    "landscape files",
    "job lines",
    "job files",
    "databases",
)


def fuzz(name: str, seconds: int, folder: Path) -> int:
    """Fuzz a parser; returns how many inputs were tried, none of which broke the property."""
    ran = subprocess.run(
        [sys.executable, HERE / "guided.py", name, str(seconds), folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + 120,
    )
    found = sorted(folder.glob("found-*"))
    inputs = "".join(f"\n{base64.b64encode(path.read_bytes()).decode()}" for path in found)
    said = ran.stdout[-3_000:]
    assert ran.returncode == 0, f"{name}: broken by (base64):{inputs}\n{said}"
    tried = re.search(r"number_of_executed_units: (\d+)", ran.stdout)
    assert tried is not None, said
    return int(tried[1])


def test_every_parser_is_named() -> None:
    text = (HERE / "targets.py").read_text()
    assert re.findall(r'^    "([^"]+)": Target\(', text, re.MULTILINE) == list(NAMED)


def test_a_parser_that_breaks_the_property_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        fuzz("what is broken", 20, tmp_path / "broken")
    assert "not one printable line" in str(caught.value)
    assert b"TOML" in base64.b64decode(str(caught.value).split("\n")[1])


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_each_parser_for_some_seconds(
    tmp_path: Path, tally: Callable[[str, str, int], None]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        started = {
            name: pool.submit(fuzz, name, SECONDS, tmp_path / str(number))
            for number, name in enumerate(NAMED)
        }
    for name, counted in started.items():
        tally("Fuzzing", f"{name}: guided by coverage", counted.result())
