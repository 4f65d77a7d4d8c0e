from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import examples
from examples import COMPILE, COPY, DEFAULT, EAGER, QUICK, TUNED, WIDE, Row
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.gpu import PresentGpu
from tunekit.kernels.plan import Launch

H100 = PresentGpu(0, "NVIDIA H100 80GB HBM3", "580.1", DEVICES["h100"])


class FakeTimer:
    """Launches once, and says that everything takes 5 µs."""

    def __init__(self, launch: Callable[[int], Any], rotation: Any) -> None:
        launch(0)

    def sample_us(self) -> float:
        return 5.0


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "DEVICE", "cpu")
    monkeypatch.setattr(examples, "Timer", FakeTimer)
    # One buffer set is enough.
    monkeypatch.setattr("tunekit.evaluate.rotation.SPAN_CACHES", 0)
    monkeypatch.setattr("tunekit.evaluate.rotation._COLD_CACHES", 0)


def rows() -> list[Row]:
    found = [Row(case) for case in examples.cases(QUICK, ["float16"])]
    for row in found:
        launch = row.case.kernel.launch_for(row.case.shape, "float16", H100.device)
        default = row.case.kernel.default(launch, H100.device)
        row.config, row.bytes_moved = Config({**default, "num_warps": 8}), 4096
    return found


def by_reference(
    kernel: Any, launch: Launch, rotation: Any, config: Config
) -> Callable[[int], object]:
    """Stands for a kernel: it writes what the reference gives."""

    def run(index: int) -> None:
        given = kernel.by_reference(rotation.inputs[index], kernel.scalar_values())
        results = given if isinstance(given, tuple) else (given,)
        for output, values in zip(rotation.outputs[index], results, strict=True):
            output.copy_(values)

    return run


@pytest.mark.usefixtures("on_the_cpu")
def test_every_contender_is_checked_and_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "kernel_run", by_reference)
    for row in rows():
        examples.time_case(row, H100, with_compile=False)
        expected = {COPY, EAGER, DEFAULT, TUNED}
        assert row.samples_us.keys() - {WIDE} == expected
        assert (WIDE in row.samples_us) == (row.case.kernel.name == "int8_linear")
        assert set(row.samples_us.values()) == {(5.0,) * 21}
        assert row.errors[TUNED] == row.errors[EAGER] < 4
        assert "did not run" not in row.note


@pytest.mark.usefixtures("on_the_cpu")
def test_what_writes_nothing_is_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "kernel_run", lambda *given: lambda index: None)
    row = rows()[0]
    examples.time_case(row, H100, with_compile=False)
    assert row.note == "tuned is WRONG; default is WRONG"


def test_the_page_shows_medians_ratios_and_what_is_missing() -> None:
    softmax, norm, *_ = rows()
    for row, factor in ((softmax, 1.0), (norm, 2.0)):
        row.samples_us = dict.fromkeys(
            (COPY, EAGER, COMPILE, DEFAULT), (10.0 * factor, 10.0 * factor)
        )
        row.samples_us[TUNED] = (5.0, 5.0)
        row.evaluated, row.tuning_s = (12, 21), 1.25
    norm.add_note("torch.compile left out: no time left")
    page = examples.as_text([softmax, norm], {"GPU": "an H100"})
    assert "- GPU: an H100" in page
    assert (
        "| softmax | rows=64 columns=256 | 10.00 ± 0.0% | 10.00 ± 0.0% | 10.00 ± 0.0% "
        "| 10.00 ± 0.0% | 5.00 ± 0.0% | 2.000 | 2.000 | 2.000 | 2.000 | – | – |" in page
    )
    assert "| geometric mean |  |  |  |  |  |  | 2.828 | 2.828 | 2.828 | 2.828 |  |  |" in page
    assert "| 12 of 21 | 1.2 |" in page
    assert "- add_rms_norm rows=64 columns=256 float16: torch.compile left out" in page


def test_real_shapes_are_of_the_kernels_sizes() -> None:
    for case in examples.cases(examples.SHAPES, examples.DTYPES):
        launch = case.kernel.launch_for(case.shape, case.dtype, H100.device)
        assert case.kernel.default(launch, H100.device)
        assert torch.finfo(getattr(torch, case.dtype)).bits == 16
