from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from tunekit.core.device import DEVICES, Device

# How long one example takes says more about the machine than about the code.
settings.register_profile("tunekit", deadline=None)
settings.load_profile("tunekit")


@pytest.fixture(scope="session")
def triton_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One compile cache for the session: a cold one for each test would cost seconds a test."""
    return tmp_path_factory.mktemp("triton-cache")


@pytest.fixture(autouse=True)
def isolated_home(
    tmp_path_factory: pytest.TempPathFactory, triton_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A home of the test's own, so that nobody's results are read and none are left behind."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(triton_cache))
    monkeypatch.delenv("TUNEKIT_DB", raising=False)
    return home


@pytest.fixture
def write_module(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Python file, as a person does who has a kernel of their own."""

    def write(source: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write


@pytest.fixture(scope="module")
def compiling() -> Iterator[Device]:
    """Triton compiles for an RTX 4090, whatever this machine has."""
    from triton.runtime import driver

    from tunekit.evaluate.compile import CompileOnlyDriver

    device = DEVICES["rtx4090"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_active", CompileOnlyDriver(device))
        yield device


NO_GPU = "tests marked `gpu` were asked for, but torch finds no CUDA GPU"


@cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop, rather than skip, when GPU tests were asked for and there is no GPU."""
    # An xdist worker that stops here is reported as a crash: there, each test fails instead.
    in_worker = hasattr(config, "workerinput")
    wanted = any(item.get_closest_marker("gpu") for item in items)
    if wanted and not in_worker and not _has_gpu():
        raise pytest.UsageError(NO_GPU)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not _has_gpu():
        pytest.fail(NO_GPU, pytrace=False)
