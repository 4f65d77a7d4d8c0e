from __future__ import annotations

import json
import math

import matmul
import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.space import context

HEADER = {"GPU": "a GPU"}
ONE, OTHER = (Config(BLOCK_M=size, num_warps=4) for size in (64, 128))


def _row(shape: str, tuned_us: float, union: dict[Config, float]) -> matmul.Row:
    samples = {
        matmul.COMPILE: (12.0, 12.0, 12.0),
        matmul.EAGER: (11.0, 11.0, 11.0),
        matmul.TUNED: (tuned_us,) * 3,
        matmul.DEFAULT: (20.0,) * 3,
    }
    errors = dict.fromkeys(samples, 0.5)
    return matmul.Row(shape, "", "float16", samples, errors, ONE, OTHER, 4, 9, 1.0, union)


def test_the_ratio_is_against_the_faster_of_pytorchs_two() -> None:
    row = _row("a", 10.0, {})
    assert row.ratio == pytest.approx(1.1)
    row.errors[matmul.EAGER] = matmul.OTHERS_ALLOWED * 2
    assert row.ratio == pytest.approx(1.1)  # it is what one has without tunekit
    assert matmul._cell(row, matmul.EAGER).endswith(" (error 16 ×)")
    row.errors[matmul.TUNED] = math.nan
    assert row.ratio == 0.0


def test_one_for_all_is_best_on_average_and_runs_everywhere() -> None:
    third = Config(BLOCK_M=16, num_warps=4)
    rows = [
        _row("a", 10.0, {ONE: 10.0, OTHER: 11.0, third: 1.0}),
        _row("b", 10.0, {ONE: 20.0, OTHER: 10.0, third: math.inf}),
    ]
    found = matmul.one_for_all(rows)
    assert found is not None
    config, losses = found
    assert config == OTHER
    assert losses == {"a": 11.0, "b": 1.0}
    assert matmul.one_for_all([_row("a", 10.0, {})]) is None


def test_the_report_judges_and_tells_all() -> None:
    rows = [_row("a", 10.0, {ONE: 10.0, OTHER: 11.0}), _row("b", 13.0, {ONE: 13.0, OTHER: 26.0})]
    text = matmul.as_text(rows, HEADER)
    assert "PASS" not in text
    assert "FAIL  float16: geometric mean" in text
    assert "FAIL  float16: worst 0.846" in text
    assert "One for all shapes: BLOCK_M=64" in text
    assert (
        json.loads(json.dumps(matmul.as_data(rows, HEADER)))["rows"][1]["union_us"][1]["us"] == 26
    )


@pytest.mark.parametrize("case", matmul.CASES + matmul.QUICK, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_case_has_a_launch_and_a_space(case: matmul.Case, dtype: str) -> None:
    device = DEVICES["h100"]
    launch = case.kernel.launch_for(case.shape, dtype, device)
    assert case.kernel.default(launch, device)
    pitch = launch.inputs[0].strides[0]
    assert (pitch % 2 == 1) is (case.reference == matmul.ODD)
    names = context(launch.dims, 2, device)
    default = case.kernel.default(launch, device)
    assert matmul._runs_here(case.kernel, default, names)


def test_the_shapes_are_what_was_promised() -> None:
    shapes = [case.shape for case in matmul.CASES]
    assert len(shapes) == 16
    cubes = {(2048, 2048, 2048), (1000, 1000, 1000)}
    assert set(shapes[:6]) == cubes | {(16, 4096, 4096), (4096, 11008, 4096), (512, 512, 4096)}
