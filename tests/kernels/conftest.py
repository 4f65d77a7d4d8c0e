from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

# Runs cases in Triton's interpreter, which cannot share a process with the compiler: on one SM that
# holds two blocks, so that grid-stride loops go round, into outputs full of nan.
INTERPRETER = """
import dataclasses, sys
import torch
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.kernels.plan import TensorMeta
from tunekit.kernels.registry import find_kernel

def outcome(case):
    kernel = find_kernel(case["kernel"])
    known = DEVICES[case.get("device", "rtx4090")]
    device = dataclasses.replace(known, sm_count=1, max_blocks_per_sm=2)
    if "config" not in case:
        return kernel.source_hash
    config = Config(case["config"])
    launch = kernel.plan([TensorMeta.of(x) for x in case["inputs"]], device)
    first = case["inputs"][0]
    meta = launch.outputs[0]
    made = torch.empty_strided(meta.shape, meta.strides, dtype=first.dtype).fill_(float("nan"))
    output = first if case.get("in_place") else made
    scalars = kernel.scalar_values(case.get("scalars"))
    buffers = [
        torch.full(meta.shape, 0 if launch.start_of(index) == 0 else float("nan"))
        .to(getattr(torch, meta.dtype))
        for index, meta in enumerate(launch.outputs) if index
    ]
    arguments = launch.bind(case["inputs"], [output, *buffers], scalars, config)
    arguments |= case.get("constants", {})
    launch.function[launch.grid(config)](**arguments)
    return output

for line in sys.stdin:
    folder = line.rstrip()
    torch.save([outcome(case) for case in torch.load(f"{folder}/cases")], f"{folder}/results")
    print("done", flush=True)
"""

Case = dict[str, Any]
Interpret = Callable[[Sequence[Case]], list[Any]]


@pytest.fixture(scope="session")
def interpret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpret]:
    """One process for all tests that gives the results of cases: kernel, config, inputs, scalars.

    The GPU it plans for is `device`, an RTX 4090 unless that says otherwise, with one SM.

    Of a case without a config it gives the kernel's source hash.
    """
    folder = tmp_path_factory.mktemp("interpreter")
    with (
        (folder / "stderr").open("w+") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", INTERPRETER],
            env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def run(cases: Sequence[Case]) -> list[torch.Tensor]:
            torch.save(list(cases), folder / "cases")
            requests.write(f"{folder}\n")
            requests.flush()
            assert answers.readline() == "done\n", (folder / "stderr").read_text()
            results: list[Any] = torch.load(folder / "results")
            return results

        yield run
        requests.close()
