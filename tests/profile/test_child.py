"""The program that is profiled: what it launches, in which order, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.cuda import profiler

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.errors import DeviceMemoryError
from tunekit.evaluate.guards import Buffers
from tunekit.evaluate.job import Job
from tunekit.profile import child
from tunekit.profile.folder import Folder, Launched

SIZES = (512, 1024)


@pytest.fixture
def jobs() -> list[Job]:
    return [
        Job(
            kernel="mish_mish",
            shape=(8, 1000),
            dtype="float32",
            scalars={},
            config=Config(BLOCK_SIZE=size, VEC=4, num_warps=4, num_stages=1),
            target="h100",
        )
        for size in SIZES
    ]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens, in order, where tensors are on the CPU and a launch fills the output with 1."""
    happened: list[Any] = []

    class Compiled:
        def __init__(self, size: int) -> None:
            self.binary = SimpleNamespace(hash=f"binary of {size}")
            self._size = size

        def launch(self, grid: tuple[int, int, int], arguments: dict[str, Any]) -> None:
            inputs, output = arguments["inputs"], arguments["output"]
            assert all(x.isfinite().any() for x in inputs)
            assert output.isnan().all(), "the output holds what the launch before it left"
            output.fill_(1.0)
            happened.append((self._size, grid))

    of = Buffers.of
    gpu = SimpleNamespace(device=DEVICES["h100"])
    monkeypatch.setattr(child, "select_gpu", {3: gpu}.__getitem__)
    monkeypatch.setattr(Buffers, "of", lambda launch, device: of(launch, "cpu"))
    monkeypatch.setattr(
        child, "compile_launch", lambda launch, config, scalars: Compiled(config["BLOCK_SIZE"])
    )
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(profiler, "start", lambda: happened.append("start"))
    monkeypatch.setattr(profiler, "stop", lambda: happened.append("stop"))
    return happened


def test_each_is_launched_once_before_it_is_profiled(jobs: list[Job], events: list[Any]) -> None:
    first, second = (512, (16, 1, 1)), (1024, (8, 1, 1))
    assert child.launch_all(jobs, 3) == [
        Launched("binary of 512", (16, 1, 1)),
        Launched("binary of 1024", (8, 1, 1)),
    ]
    assert events == [first, "start", first, "stop", second, "start", second, "stop"]


@pytest.mark.usefixtures("events")
def test_what_was_launched_is_left_in_the_folder(jobs: list[Job], tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_jobs(jobs)
    assert child.main(folder, 3) == 0
    assert [each.binary for each in folder.read_launched()] == ["binary of 512", "binary of 1024"]


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "does not fit in the GPU's free memory"),
        (DeviceMemoryError("no\nroom"), "no room"),
        (RuntimeError("Triton Error [CUDA]: an illegal\naccess"), "RuntimeError: Triton Error"),
        (SystemExit("a kernel's module ends"), "SystemExit: a kernel's module ends"),
    ],
)
def test_why_nothing_was_launched_is_left_in_the_folder(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any, said: str
) -> None:
    def fail(*arguments: object) -> None:
        raise failure

    monkeypatch.setattr(child, "compile_launch", fail)
    folder = Folder(tmp_path)
    folder.write_jobs(jobs)
    assert child.main(folder, 3) == 1
    assert said in folder.error()
    assert "\n" not in folder.error()
    assert folder.read_launched() == []


def test_what_is_no_job_is_said(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text("{}\n")
    assert child.main(Folder(tmp_path), 0) == 1
    assert "jobs.jsonl line 1" in Folder(tmp_path).error()
