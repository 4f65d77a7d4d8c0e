"""Which binaries are remembered between processes, and for what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.evaluate.compile import compile_launch
from tunekit.kernels.library import KERNELS
from tunekit.runtime import binaries

CONFIG = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
OTHER = Config(BLOCK_SIZE=512, VEC=4, num_warps=4, num_stages=1)
DEVICE = DEVICES["rtx4090"]
KERNEL = KERNELS["add_min_gelu_mul"]
LAUNCH = KERNEL.launch_for((4096,), "float32", DEVICE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def saved(compiling: Device) -> bytes:
    """The machine code that was saved for the launch."""
    compiled = compile_launch(LAUNCH, CONFIG, KERNEL.scalars).kernel
    binaries.save(KERNEL, LAUNCH, CONFIG, DEVICE, compiled)
    code: bytes = compiled.asm["cubin"]
    return code


def test_what_was_saved_is_found(saved: bytes, folder: Path) -> None:
    found = binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE)
    assert found.asm["cubin"] == saved
    assert found.metadata.num_warps == 4
    assert found.src.signature == {
        "inputs": ("*fp32",),
        "output": "*fp32",
        "scalars": ("fp32", "fp32"),
        "n": "i32",
        **dict.fromkeys(("epilogue", "WIDE", "BLOCK_SIZE", "VEC", "num_stages"), "constexpr"),
    }
    assert [path.suffix for path in (folder / "binaries").iterdir()] == [".json"]


def test_another_size_of_the_alignment_class_runs_the_same(saved: bytes) -> None:
    launch = KERNEL.launch_for((8192,), "float32", DEVICE)
    assert binaries.load(KERNEL, launch, CONFIG, DEVICE).asm["cubin"] == saved


def test_anything_else_is_unknown(saved: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(kernel=KERNEL, launch=LAUNCH, config=CONFIG, device=DEVICE) -> bool:  # type: ignore[no-untyped-def]
        return binaries.load(kernel, launch, config, device) is not None

    assert known()
    assert not known(config=OTHER)
    assert not known(device=DEVICES["h100"])
    assert not known(launch=KERNEL.launch_for((4097,), "float32", DEVICE))
    assert not known(launch=KERNEL.launch_for((4096,), "float16", DEVICE))
    assert not known(launch=KERNEL.launch_for((2**31,), "float32", DEVICE))
    assert not known(kernel=KERNELS["mish_add_hardtanh_scale"])
    assert not known(kernel=replace(KERNEL, functions=KERNELS["mish_mish"].functions))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "0")
    assert not known()
    monkeypatch.delenv("TRITON_DEFAULT_FP_FUSION")
    monkeypatch.setattr(binaries, "_installation", lambda: "another")
    assert not known()


def test_a_kernel_with_globals_is_not_remembered(
    compiling: Device, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compile_launch(LAUNCH, CONFIG, KERNEL.scalars).kernel
    monkeypatch.setattr(LAUNCH.function, "used_global_vals", {("SIZE", 1): (3, {})})
    binaries.save(KERNEL, LAUNCH, CONFIG, DEVICE, compiled)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"files": 3}', '{"files": {}}', '"x"'])
def test_a_damaged_entry_is_unknown(saved: bytes, folder: Path, text: str) -> None:
    (entry,) = (folder / "binaries").iterdir()
    entry.write_text(text)
    assert binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE) is None


def test_files_outside_of_tritons_cache_are_not_launched(
    saved: bytes, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("elsewhere")))
    assert binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE) is None


def test_a_path_that_leads_out_of_tritons_cache_is_not_followed(
    saved: bytes, folder: Path, triton_cache: Path
) -> None:
    (entry,) = (folder / "binaries").iterdir()
    data = json.loads(entry.read_text())
    name, path = next(iter(data["files"].items()))
    outside = triton_cache.parent / name
    outside.write_bytes(Path(path).read_bytes())
    data["files"][name] = f"{triton_cache}/../{name}"
    entry.write_text(json.dumps(data))
    assert binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE) is None


def test_an_entry_is_read_within_bounds(saved: bytes, folder: Path) -> None:
    (entry,) = (folder / "binaries").iterdir()
    deep = "[" * 100_000
    entry.write_text(deep + "]" * 100_000)
    assert binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE) is None
    entry.unlink()
    entry.symlink_to("/dev/zero")
    assert binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE) is None


def test_files_that_are_gone_are_unknown(saved: bytes, folder: Path) -> None:
    (entry,) = (folder / "binaries").iterdir()
    entry.write_text(entry.read_text().replace('.cubin"', '.gone"'))
    assert binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE) is None


def test_a_folder_that_cannot_be_written_is_left_alone(compiling: Device, folder: Path) -> None:
    (folder / "binaries").write_text("a file")
    compiled = compile_launch(LAUNCH, CONFIG, KERNEL.scalars).kernel
    binaries.save(KERNEL, LAUNCH, CONFIG, DEVICE, compiled)
    assert binaries.load(KERNEL, LAUNCH, CONFIG, DEVICE) is None
    assert (folder / "binaries").read_text() == "a file"
