from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from triton.runtime import driver

from tunekit.core.device import DEVICES, Device
from tunekit.evaluate.compile import CompileOnlyDriver

ROOT = Path(__file__).resolve().parents[2]

# Runs every case in Triton's interpreter, which cannot share a process with the compiler: on one
# SM that holds two blocks, so that grid-stride loops go round, into an output full of nan.
INTERPRET = """
import dataclasses, sys
import torch
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.kernels.plan import TensorMeta
from tunekit.kernels.registry import find_kernel

device = dataclasses.replace(DEVICES["rtx4090"], sm_count=1, max_blocks_per_sm=2)
results = []
for case in torch.load(sys.argv[1]):
    kernel, config = find_kernel(case["kernel"]), Config(case["config"])
    launch = kernel.plan([TensorMeta.of(x) for x in case["inputs"]], device)
    output = torch.full_like(case["inputs"][0], float("nan"))
    scalars = kernel.scalar_values(case.get("scalars"))
    arguments = launch.bind(case["inputs"], [output], scalars, config)
    launch.function[launch.grid(config)](**arguments)
    results.append(output)
torch.save(results, sys.argv[2])
"""

Case = dict[str, Any]
Interpret = Callable[[Sequence[Case]], list[torch.Tensor]]


@pytest.fixture(scope="session")
def interpret(tmp_path_factory: pytest.TempPathFactory) -> Interpret:
    """Runs cases (kernel, config, inputs, scalars) in one interpreter process."""

    def run(cases: Sequence[Case]) -> list[torch.Tensor]:
        folder = tmp_path_factory.mktemp("interpret")
        torch.save(list(cases), folder / "cases")
        done = subprocess.run(
            [sys.executable, "-c", INTERPRET, folder / "cases", folder / "results"],
            cwd=folder,
            env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results: list[torch.Tensor] = torch.load(folder / "results")
        return results

    return run


@pytest.fixture(scope="module")
def compiling() -> Iterator[Device]:
    """Triton compiles for an RTX 4090, whatever this machine has."""
    device = DEVICES["rtx4090"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_active", CompileOnlyDriver(device))
        yield device


@pytest.fixture
def write_module(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Python file, as a person who has a kernel of their own would."""

    def write(source: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write
