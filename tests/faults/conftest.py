from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(autouse=True)
def misdeeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Worker processes can import the misdeeds, and a `sitecustomize` that a test writes."""
    path = [str(tmp_path), str(HERE), str(ROOT)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.fixture
def remaining(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Asks which processes remain of those that workers started, however deep, in any session.

    They are known by a variable of the environment that they began with.
    """
    mark = f"TUNEKIT_TEST_MARK={uuid4()}"
    name, _, value = mark.partition("=")
    monkeypatch.setenv(name, value)

    def living() -> list[str]:
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and process.name != str(os.getpid()):
                try:
                    if mark.encode() in (process / "environ").read_bytes():
                        found.append(f"{process.name}: {(process / 'stat').read_text()}")
                except OSError:
                    continue
        return found

    def remain() -> list[str]:
        until = time.monotonic() + 10
        while (found := living()) and time.monotonic() < until:
            time.sleep(0.02)
        return found

    yield remain
    assert not remain()
