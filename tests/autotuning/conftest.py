"""`@tunekit.autotune` without a GPU: everything is real but the GPU and its clock."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import triton

from tunekit.autotuning import autotuned, here, tuning
from tunekit.autotuning.rotating import Sets
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.evaluate.measure import Measurement
from tunekit.evaluate.timer import Launch
from tunekit.gpu import PresentGpu

SOURCE = Path(__file__).with_name("usual_kernels.py")
DEVICE = DEVICES["h100"]

Made = Callable[..., ModuleType]


class Clock:
    """Says how long a configuration takes instead of measuring it.

    Attributes:
        table: from a configuration to µs.
        measured: what was asked for, in order; races are not among it.
    """

    protocol = "clock-1"

    def __init__(self) -> None:
        self.table: Callable[[Config], float] = lambda config: 100.0 / config.get("BLOCK", 1)
        self.measured_configs: list[Config] = []
        self.raced_configs: list[Config] = []

    def measured(
        self, config: Config, launch: Launch, sets: Sets, hopeless_us: float | None
    ) -> Measurement:
        self.measured_configs.append(config)
        sets.reset()
        launch(0)
        return Measurement((self.table(config),) * 5)

    def raced(
        self, launches: Mapping[Config, Launch], sets: Sets, rounds: int
    ) -> tuple[list[tuple[float, ...]], str]:
        self.raced_configs += launches
        return [(self.table(config),) * rounds for config in launches], ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """An H100 whose times are looked up."""
    found = Clock()
    gpu = PresentGpu(0, DEVICE.names[0], "580.1", DEVICE)
    monkeypatch.setattr(here, "gpu_here", lambda: gpu)
    monkeypatch.setattr(here, "device_here", lambda: DEVICE.slug)
    monkeypatch.setattr(tuning, "timing_of", lambda request: found)
    return found


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    autotuned._said.clear()
    autotuned.forget_all()
    yield
    autotuned.forget_all()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine.db"
    monkeypatch.setenv("TUNEKIT_DB", str(path))
    return path


ADD = """
import torch
import triton
import triton.language as tl

import tunekit


@tunekit.autotune(configs=[{configs}], key=["n"]{more})
@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    {body}
    tl.store(out_ptr + at, x + y, mask={mask})


def add(n=60, dtype=torch.float32):
    x, y = torch.arange(n, dtype=dtype), torch.ones(n, dtype=dtype)
    out = torch.empty(n, dtype=dtype)
    add_kernel[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](x, y, out, n)
    assert torch.equal(out, x + y), out
    return out
"""
_LOADS = """x = tl.load(x_ptr + at, mask=mask)
    y = tl.load(y_ptr + at, mask=mask)"""


@pytest.fixture
def adding(module: Made) -> Made:
    """A module of a vector add with these block sizes: `adding(64, 128)`."""

    def make(
        *blocks: int, more: str = "", body: str = _LOADS, mask: str = "mask", name: str = "theirs"
    ) -> ModuleType:
        configs = ", ".join(f'triton.Config({{"BLOCK": {block}}})' for block in blocks)
        source = ADD.replace("{configs}", configs).replace("{more}", more)
        return module(source.replace("{body}", body).replace("{mask}", mask), name)

    return make


@pytest.fixture
def tunes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEKIT_ON_MISS", "tune")


@pytest.fixture
def module(tmp_path: Path) -> Made:
    """Imports a source as a module of that name, from a file of its own."""

    def make(source: str, name: str = "theirs") -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made

    return make


@pytest.fixture
def usual(module: Made, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The module of usual kernels under one decorator, nothing but an import changed."""

    def make(package: str) -> ModuleType:
        source = SOURCE.read_text()
        assert source.count("from triton import autotune\n") == 1
        changed = source.replace(
            "from triton import autotune\n", f"from {package} import autotune\n"
        )
        return module(changed, f"usual_{package}")

    # Triton's own needs a driver to ask for a benchmark.
    times = iter(range(1, 10_000))

    def bench(call: Callable[[], object], quantiles: object) -> list[float]:
        call()
        return [float(next(times))] * 3

    driver = SimpleNamespace(get_benchmarker=lambda: bench)
    monkeypatch.setattr(triton.runtime.driver, "_active", driver)
    return make
