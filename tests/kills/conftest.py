from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Calls a function of server.py, where everything is imported and nothing runs in threads."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, HERE / "server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(function: str, *arguments: object) -> Any:
            folder = tmp_path_factory.mktemp(function)
            print(json.dumps([function, *arguments, str(folder)]), file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            assert "failed" not in answer, answer["failed"]
            return answer["counted"]

        yield ask
        process.stdin.close()
