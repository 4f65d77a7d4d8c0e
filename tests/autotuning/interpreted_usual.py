"""Usual kernels under both decorators; `test_interpreter.py` runs it in Triton's interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.autotuning.conftest import Clock, Made
from tunekit.notices import TunekitWarning
from tunekit.store.cache import read_cache

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.usefixtures("clock"),
]

CASES = [
    "vector_add", "softmax", "layer_norm", "matmul", "column_sums", "scaled_in_place", "pruned",
    "hooked", "heuristics_above",
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "miss"),
    [*((case, "tune") for case in CASES), *((case, "default") for case in CASES[3:8])],
)
def test_a_usual_kernel_gives_what_it_gives_under_tritons_decorator(
    case: str,
    miss: str,
    usual: Callable[[str], ModuleType],
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNEKIT_ON_MISS", miss)
    theirs, expected = getattr(usual("triton"), case)()
    torch.testing.assert_close(theirs, expected, rtol=1e-3, atol=1e-3)
    with warnings.catch_warnings():
        if miss != "tune":
            warnings.simplefilter("ignore", TunekitWarning)
        ours, _ = getattr(usual("tunekit"), case)()
    # Sums may be in another order: the two need not choose alike.
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    if miss == "tune" and case != "heuristics_above":
        rows = read_cache(database)
        assert rows
        assert {row.problem.kernel.partition(":")[0] for row in rows} == {"usual_tunekit"}


def test_every_case_is_tried(usual: Callable[[str], ModuleType]) -> None:
    assert [case.__name__ for case in usual("triton").CASES] == CASES


def test_the_documents_kernel_runs(module: Made, tunes: None, database: Path, clock: Clock) -> None:
    page = (Path(__file__).parents[2] / "docs" / "autotune.md").read_text(encoding="utf-8")
    source = page.split("```python\n")[1].split("```")[0]
    made = module(source, "documented")
    x = torch.arange(100.0)
    assert torch.equal(made.double(x), 2 * x)
    assert [row.problem.kernel for row in read_cache(database)] == ["documented:double_kernel"]
    assert len(clock.measured_configs) == 3
