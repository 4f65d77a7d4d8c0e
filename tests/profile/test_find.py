"""Where Nsight Compute is looked for, and what is said where it is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunekit.errors import ProfileError, UsageError
from tunekit.profile import find
from tunekit.profile.find import find_ncu

MakeNcu = Callable[..., Any]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing installed; what is there is where a test puts it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    places = (f"{tmp_path}/local/cuda/bin", f"{tmp_path}/local/cuda*/bin", f"{tmp_path}/opt/*")
    monkeypatch.setattr(find, "_PLACES", places)
    return tmp_path


@pytest.fixture
def install(bare: Path, make_ncu: MakeNcu) -> Callable[..., Path]:
    """Puts Nsight Compute into a folder."""

    def put(folder: str, version: str = "Version 2025.3.1.0 (build 1)") -> Path:
        fake = make_ncu(version=version).path
        (bare / folder).mkdir(parents=True, exist_ok=True)
        there = bare / folder / "ncu"
        for suffix in ("", ".json"):
            Path(f"{fake}{suffix}").rename(f"{there}{suffix}")
        return there

    return put


def test_one_that_is_named_is_taken(install: Callable[..., Path]) -> None:
    install("bin")
    named = install("elsewhere", "Version 2024.1.0.0")
    found = find_ncu(named)
    assert (found.path, found.version) == (named, "2024.1.0.0")
    assert found.tool == "Nsight Compute 2024.1.0.0"


def test_the_folders_in_order(
    bare: Path, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = ["opt/2022.1", "opt/2025.3.1", "local/cuda-9.2/bin", "local/cuda-13.0/bin"]
    folders += ["local/cuda/bin", "path/bin", "home/bin", "environment/bin", "bin"]
    monkeypatch.setenv("CUDA_PATH", str(bare / "path"))
    monkeypatch.setenv("CUDA_HOME", str(bare / "home"))
    for folder in folders:
        there = install(folder)
        # Each comes before those installed before it: the newest of several versions too.
        assert find_ncu().path == there, folder


def test_what_is_no_program_is_passed_over(bare: Path, install: Callable[..., Path]) -> None:
    (bare / "bin" / "ncu").mkdir(parents=True)
    (bare / "environment" / "bin").mkdir(parents=True)
    (bare / "environment" / "bin" / "ncu").write_text("not to be run")
    there = install("opt/2025.3.1")
    assert find_ncu().path == there


@pytest.mark.usefixtures("bare")
def test_none_is_said_with_where_it_was_looked_for() -> None:
    with pytest.raises(ProfileError) as refused:
        find_ncu()
    said = str(refused.value)
    assert "\n" not in said
    for place in ("PATH", "$CUDA_HOME/bin", "/usr/local/cuda*/bin", "/opt/nvidia/nsight-compute"):
        assert place in said
    assert "--ncu PATH" in said


@pytest.mark.parametrize("name", ["absent", "folder", "text"])
def test_what_is_named_has_to_be_a_program(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not to be run")
    with pytest.raises(UsageError, match=f"--ncu .*{name}: no such program"):
        find_ncu(tmp_path / name)


@pytest.mark.parametrize(
    ("version", "status", "said"),
    [
        ("hello", 0, "is not Nsight Compute"),
        ("", 0, "is not Nsight Compute"),
        ("Version 2025.3.1.0", 1, "is not Nsight Compute"),
        ("ERROR : nsight-compute directory is not found under /opt.", 1, "directory is not found"),
    ],
)
def test_one_that_tells_no_version(make_ncu: MakeNcu, version: str, status: int, said: str) -> None:
    fake = make_ncu(version=version, version_status=status)
    with pytest.raises(ProfileError, match=said) as refused:
        find_ncu(fake.path)
    assert str(refused.value).startswith(f"{fake.path}: ")


def test_one_that_does_not_answer(make_ncu: MakeNcu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_VERSION_DEADLINE_S", 0.2)
    with pytest.raises(ProfileError, match=r"tells no version within 0\.2 s"):
        find_ncu(make_ncu(version_s=30).path)


def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    path = tmp_path / "ncu"
    path.write_text("#!/nowhere/interpreter\n")
    os.chmod(path, 0o755)
    with pytest.raises(ProfileError, match="cannot be run: No such file"):
        find_ncu(path)
