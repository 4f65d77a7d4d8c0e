from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunekit.errors import UsageError
from tunekit.kernels.library import KERNELS
from tunekit.testing import cases, check_kernel


def test_what_it_finds_in_tritons_interpreter(pass_interpreted: Callable[..., None]) -> None:
    pass_interpreted(Path(__file__).with_name("interpreted.py"))


def test_without_a_gpu_and_the_interpreter_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunekit.testing.place.gpu_count", lambda: 0)
    for device in (None, "cpu"):
        with pytest.raises(UsageError, match=r"run TRITON_INTERPRET=1 pytest …$") as refused:
            check_kernel(KERNELS["mish_mish"], device=device)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda:0", "device cuda:0: this machine has 0 CUDA GPUs"),
        ("cuda", "device cuda:0: this machine has 0 CUDA GPUs"),
        ("cuda:x", "device 'cuda:x': expected cuda, cuda:1 and so on, or cpu"),
        ("tpu", "device 'tpu': expected cuda, cuda:1 and so on, or cpu"),
    ],
)
def test_a_gpu_that_is_not_there(device: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.testing.place.gpu_count", lambda: 0)
    with pytest.raises(UsageError) as refused:
        check_kernel(KERNELS["mish_mish"], device=device)
    assert str(refused.value) == said


def test_cases_are_listed_where_nothing_can_run() -> None:
    """Collecting tests does not fail; running them does."""
    found = [str(case) for case in cases(KERNELS["mish_mish"], dtypes=["float16"])]
    assert "float16-61" in found
    assert "float16-3x5x7" in found
