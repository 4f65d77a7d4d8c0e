"""Kernels of plans on a GPU: tuned, served and compared; tests/gpu/planned_kernels.py has them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tunekit
from tunekit.core.evaluation import Evaluation, Status
from tunekit.errors import KernelError, NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.kernels.registry import find_kernel
from tunekit.runtime import outputs
from tunekit.search.task import Progress, Result, Task
from tunekit.search.tune import tune
from tunekit.store.database import Store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::tunekit.notices.TunekitWarning"),
]

FILE = Path(__file__).with_name("planned_kernels.py")
planned: Any = sys.modules[find_kernel(f"{FILE}:statistics").functions[0].__module__]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("db") / "mine.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def served(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls are served what these tests tune."""
    monkeypatch.setenv("TUNEKIT_DB", str(store.path))
    tunekit.reload()
    yield
    tunekit.reload()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host.on_gpu(0) as made:
        yield made


def _tuned(kernel: Any, shape: tuple[int, ...], dtype: str, host: Host, store: Store) -> Result:
    name = next(name for name, value in vars(planned).items() if value is kernel)
    task = Task(kernel, f"{FILE}:{name}", shape, dtype, dict(kernel.scalars), trials=None)
    return tune(task, host, store, Progress(), write_study=False)


def _rows(kernel: Any, store: Store) -> list[Evaluation]:
    return store.evaluations(kernel=kernel.name)


CASES = [
    (planned.statistics, (1000, 500), "float16"),
    (planned.statistics, (64, 4096), "bfloat16"),
    (planned.add_to, (100_003,), "float32"),
    (planned.add_to, (1 << 20,), "bfloat16"),
    (planned.column_sums, (700, 300), "float32"),
    (planned.column_sums, (4096, 512), "float16"),
    (planned.gather, (1000, 300, 77), "float16"),
    (planned.through_buffer, (10_007,), "float32"),
]


@pytest.mark.parametrize(("kernel", "shape", "dtype"), CASES)
def test_what_is_tuned_is_served_and_right(
    kernel: Any, shape: tuple[int, ...], dtype: str, host: Host, store: Store
) -> None:
    result = _tuned(kernel, shape, dtype, host, store)
    assert result.winner.verified
    rows = [row for row in _rows(kernel, store) if row.shape == shape]
    assert {row.status for row in rows} == {Status.OK}
    said = {row.reason for row in rows}
    none = "compared with the default configuration: the kernel has no reference"
    assert said == ({""} if kernel.reference else {none})
    served = tunekit.lookup(kernel, shape, dtype)
    assert (str(served.served), served.config) == ("exact", result.winner.config)
    metas = kernel.input_metas(shape, dtype)
    for call in range(3):  # the first plans, the others go the short way
        torch.manual_seed(call)
        inputs = [
            torch.empty(meta.shape, dtype=getattr(torch, meta.dtype), device="cuda")
            for meta in metas
        ]
        if kernel.draw:
            kernel.draw(inputs, shape, dtype)
        else:
            for x in inputs:
                x.normal_()
        reference = kernel.reference or (lambda x: 2 * x + 1)
        doubles = [x.double() if x.is_floating_point() else x for x in inputs]
        wanted = reference(*doubles, **kernel.scalars)
        got = kernel(*inputs)
        pairs = [(got, wanted)] if isinstance(got, torch.Tensor) else zip(got, wanted, strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other.to(one.dtype), rtol=2e-2, atol=2e-2)
        if kernel is planned.add_to:
            assert got is inputs[0]
    assert any(key[0] == id(kernel) for key in outputs._kinds), "calls take the long way"


def test_descriptors(host: Host, store: Store) -> None:
    if torch.cuda.get_device_capability() < (9, 0):
        with pytest.raises(NothingTunedError):
            _tuned(planned.doubled_by_descriptors, (200, 96), "float16", host, store)
        return
    result = _tuned(planned.doubled_by_descriptors, (200, 96), "float16", host, store)
    assert result.winner.verified
    for _ in range(3):
        x = torch.randn(200, 96, device="cuda", dtype=torch.float16)
        assert torch.equal(planned.doubled_by_descriptors(x), 2 * x)
    assert any(key[0] == id(planned.doubled_by_descriptors) for key in outputs._kinds)


def test_who_adds_to_what_was_there_is_wrong(host: Host, store: Store) -> None:
    with pytest.raises(NothingTunedError, match="none of 4 configurations can be used"):
        _tuned(planned.unzeroed_sums, (700, 300), "float32", host, store)


def test_an_in_place_output_is_reset_before_each_sample(host: Host, store: Store) -> None:
    """Or it would grow without bound: 0.5 y, thousands of times."""
    result = _tuned(planned.add_to, (1 << 22,), "float32", host, store)
    assert result.winner.verified
    assert result.winner.max_error is not None
    assert result.winner.max_error <= 1.0


def test_the_short_way_is_taken_and_left() -> None:
    x = torch.randn(1000, 500, device="cuda", dtype=torch.float16)
    first = planned.statistics(x)
    again = planned.statistics(x)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    wide = torch.randn(1000, 512, device="cuda", dtype=torch.float16)[:, :500]
    mean, largest = planned.statistics(wide)
    torch.testing.assert_close(mean, wide.float().mean(-1), rtol=1e-3, atol=1e-3)
    assert torch.equal(largest, wide.float().amax(-1))
    shifted = torch.randn(500 * 1000 + 1, device="cuda", dtype=torch.float16)[1:].view(1000, 500)
    mean, largest = planned.statistics(shifted)
    assert torch.equal(largest, shifted.float().amax(-1))


def test_autograd_is_told() -> None:
    x = torch.randn(10, 500, device="cuda", requires_grad=True)
    with pytest.raises(KernelError, match="no backward"):
        planned.statistics(x)
    with torch.no_grad():
        planned.statistics(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_compile_gives_the_same() -> None:
    x = torch.randn(64, 500, device="cuda", dtype=torch.float16)

    def model(x: torch.Tensor) -> torch.Tensor:
        mean, largest = planned.statistics(x * 2)
        return mean + largest

    with torch.no_grad():
        compiled = torch.compile(model)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-3, atol=1e-3)
