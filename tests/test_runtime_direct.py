"""What a direct launch hands to Triton's launcher."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import triton

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.evaluate.compile import compile_launch
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import Group, Input, Launch, Output, Scalar
from tunekit.runtime import direct
from tunekit.runtime.direct import direct_launch

CONFIG = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
KERNEL = KERNELS["add_min_gelu_mul"]
NAMES = tuple(KERNEL.scalars)
LAUNCH = KERNEL.launch_for((5000,), "float32", DEVICES["rtx4090"])
GRID = LAUNCH.grid(CONFIG)


@pytest.fixture(autouse=True)
def proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "PROVEN", (triton.__version__.rpartition(".")[0],))


@pytest.fixture
def launched() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def compiled(compiling: Device, launched: list[tuple[Any, ...]]) -> Any:
    """A kernel whose launcher keeps what it is given."""
    kernel = compile_launch(LAUNCH, CONFIG, KERNEL.scalars).kernel
    kernel.function = 123
    kernel._run = SimpleNamespace(
        launch=lambda *arguments: launched.append(arguments),
        launch_cooperative_grid=False,
        launch_pdl=False,
        global_scratch_size=0,
        profile_scratch_size=0,
    )
    return kernel


def test_everything_is_in_its_place(compiled: Any, launched: list[tuple[Any, ...]]) -> None:
    start = direct_launch(LAUNCH, CONFIG, GRID, compiled, NAMES)
    assert start is not None
    start(7, (1000, 2000), (0.5, 2.0))
    start(8, (3000, 4000), (0.25, 3.0))
    metadata, epilogue = compiled.packed_metadata, KERNEL.functions[1]
    before = (*GRID, 7, 123, False, False, None, None, metadata, None, None, None)
    assert launched[0] == (
        *before, (1000,), 2000, (0.5, 2.0), 5000, epilogue, False, 1024, 4, 1,
    )  # fmt: skip
    assert launched[1][3] == 8
    assert launched[1][len(before) : len(before) + 3] == ((3000,), 4000, (0.25, 3.0))


def test_every_kind_of_slot(compiled: Any, launched: list[tuple[Any, ...]]) -> None:
    arguments = {
        **LAUNCH.arguments,
        "inputs": Group((Input(1), Output(0), Scalar("multiply_value"))),
        "output": Scalar("add_value"),
        "scalars": Group(()),
    }
    launch = replace(LAUNCH, arguments=arguments, inputs=LAUNCH.inputs * 2)
    start = direct_launch(launch, CONFIG, GRID, compiled, NAMES)
    assert start is not None
    start(7, (10, 20, 30), (0.5, 2.0))
    assert launched[0][13:16] == ((20, 30, 2.0), 0.5, ())


def _with_default() -> Launch:
    return replace(LAUNCH, arguments={"inputs": Group((Input(0),))})


def test_what_stays_ordinary(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    function = LAUNCH.function

    def start(launch: Launch = LAUNCH, kernel: Any = compiled) -> object:
        return direct_launch(launch, CONFIG, GRID, kernel, NAMES)

    assert start() is not None
    assert start(kernel=None) is None
    assert start(_with_default()) is None
    assert start(replace(LAUNCH, function=triton.heuristics({})(function))) is None
    compiled._run.global_scratch_size = 128
    assert start() is None
    compiled._run.global_scratch_size = 0
    monkeypatch.setattr(function, "pre_run_hooks", [print])
    assert start() is None
    monkeypatch.setattr(function, "pre_run_hooks", [])
    monkeypatch.setattr(function, "used_global_vals", {("SIZE", 1): (3, {})})
    assert start() is None
    monkeypatch.setattr(function, "used_global_vals", {})
    assert start() is not None
    monkeypatch.setattr(direct, "PROVEN", ("1.0",))
    assert start() is None


@pytest.mark.parametrize(
    ("version", "proven"), [("3.6.0", True), ("3.6.1", True), ("3.60.0", False), ("3.5.1", False)]
)
def test_versions(version: str, proven: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "PROVEN", ("3.6",))
    monkeypatch.setattr(triton, "__version__", version)
    assert direct.is_proven() is proven
