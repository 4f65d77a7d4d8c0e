"""Compiling what is tuned, ahead of the first call."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import tunekit
from tunekit.core.config import FORMAT_AXIS, Config
from tunekit.core.device import DEVICES, Device
from tunekit.errors import UsageError
from tunekit.kernels.library import KERNELS
from tunekit.kernels.registry import find_kernel
from tunekit.paths import shipped_database
from tunekit.runtime import binaries
from tunekit.runtime.precompile import precompile_rows
from tunekit.store.cache import CacheRow, read_cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def rows() -> list[CacheRow]:
    """Three shipped rows of an RTX 4090, two of one size class and configuration or not."""
    found = read_cache(shipped_database(), kernel="mish_mish", device="rtx4090", immutable=True)
    return [row for row in found if row.problem.dtype == "float32"][:3]


def test_each_binary_is_compiled_once_and_remembered(
    rows: list[CacheRow], compiling: Device, folder: Path
) -> None:
    made = precompile_rows(rows + rows, compiling, None)
    kernel = KERNELS["mish_mish"]
    kinds = {(row.problem.alignment, row.config) for row in rows}
    assert (made.problems, made.binaries, made.stale, made.failures) == (6, len(kinds), 0, ())
    assert len(list((folder / "binaries").iterdir())) == len(kinds)
    for row in rows:
        launch = kernel.launch_for(row.shape, "float32", compiling)
        found = binaries.load(kernel, launch, row.config, compiling)
        assert found.metadata.num_warps == row.config["num_warps"]


def test_rows_of_other_code_are_left_out(rows: list[CacheRow], compiling: Device) -> None:
    problem = replace(rows[0].problem, kernel_hash="0" * 12)
    unknown = replace(rows[0].problem, kernel="nobody_knows")
    stale = [replace(rows[0], problem=each) for each in (problem, unknown)]
    made = precompile_rows([*stale, rows[0]], compiling, None)
    assert (made.problems, made.binaries, made.stale) == (1, 1, 2)


def test_what_does_not_compile_is_told_and_costs_itself(
    rows: list[CacheRow], compiling: Device
) -> None:
    config = Config({**rows[0].config, "BLOCK_SIZE": 1000})
    made = precompile_rows([replace(rows[0], config=config), rows[0]], compiling, None)
    assert (made.problems, made.binaries) == (1, 1)
    (failure,) = made.failures
    assert failure.startswith("mish_mish float32 BLOCK_SIZE=1000")
    assert "compile_error" in failure
    assert "\n" not in failure


def test_shapes_in_a_program(
    compiling: Device, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(64, 128, 254, 254), (4096,), (8192,)]
    served = tunekit.precompile("mish_mish", shapes, "float16", device="rtx4090")
    kernel = KERNELS["mish_mish"]
    for shape, choice in zip(shapes, served, strict=True):
        assert choice == tunekit.lookup(kernel, shape, "float16", device="rtx4090")
        launch = kernel.launch_for(shape, "float16", compiling)
        assert binaries.load(kernel, launch, choice.config, compiling) is not None
    assert len(list((folder / "binaries").iterdir())) == len({each.config for each in served})


def test_a_process_with_a_gpu_compiles_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.runtime.precompile.gpu_count", lambda: 1)
    with pytest.raises(UsageError, match="tunekit precompile --target h100"):
        tunekit.precompile("mish_mish", [(4096,)], device="h100")


def test_a_process_without_one_has_to_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.runtime.precompile.gpu_count", lambda: 0)
    with pytest.raises(UsageError, match="no CUDA GPU"):
        tunekit.precompile("mish_mish", [(4096,)])


RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


def test_on_the_command_line_with_no_gpu(run_python: RunPython) -> None:
    ran = run_python("-m", "tunekit", "precompile", "identity", "--target", "h200", "--json")
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    tuned = read_cache(shipped_database(), kernel="identity", device="h200", immutable=True)
    assert said["device"] == "h200"
    assert said["problems"] == len(tuned) > 0
    assert 0 < said["binaries"] <= said["problems"]


def test_mistakes_on_the_command_line(run_python: RunPython) -> None:
    for arguments, message in (
        (["nope", "--target", "h100"], "unknown kernel 'nope'"),
        (["--target", "h99"], "no GPU named 'h99'"),
    ):
        ran = run_python("-m", "tunekit", "precompile", *arguments)
        assert ran.returncode != 0
        assert message in ran.stderr
        assert "Traceback" not in ran.stderr


def test_devices_differ(rows: list[CacheRow], compiling: Device) -> None:
    assert compiling == DEVICES["rtx4090"]
    precompile_rows(rows[:1], compiling, None)
    kernel = KERNELS["mish_mish"]
    launch = kernel.launch_for(rows[0].shape, "float32", DEVICES["h100"])
    assert binaries.load(kernel, launch, rows[0].config, DEVICES["h100"]) is None


def test_derived_kernels_are_found_and_formats_of_modules_passed_over(
    rows: list[CacheRow], compiling: Device
) -> None:
    kernel = find_kernel("mish_mish+bias/channels_last")
    shape = (2, 16, 3, 5)
    problem = kernel.problem_of(kernel.launch_for(shape, "float32", compiling), compiling)
    config = Config(BLOCK_C=16, BLOCK_P=64, num_warps=4)
    derived = replace(rows[0], problem=problem, config=config, shape=shape)
    module = replace(
        rows[0],
        problem=replace(problem, kernel="Conv2d+mish_mish"),
        config=Config({FORMAT_AXIS: 1}),
    )
    made = precompile_rows([derived, module], compiling, None)
    assert (made.problems, made.binaries, made.stale, made.failures) == (1, 1, 0, ())
