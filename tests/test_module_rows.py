"""The memory format of a module is kept beside the kernels, and never taken for one of them."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tunekit.cli import main
from tunekit.core.config import FORMAT_AXIS, Config
from tunekit.core.evaluation import (
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.store.database import Store

PROVENANCE = Provenance(
    "NVIDIA H100 80GB HBM3",
    132,
    "580",
    "2.11.0",
    "3.6.0",
    "0.1",
    "module-stream-1",
    "2026-01-01T00:00:00+00:00",
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    problem = Problem.of(
        "Conv2d+mish_mish",
        "0123456789ab",
        {"images": 2, "size_0": 8},
        "float16",
        "contiguous, 64->128",
        "h100",
    )
    with Store.open(tmp_path / "modules.db") as store:
        rows = [
            Evaluation(
                problem,
                (2, 64, 8, 8),
                Config({FORMAT_AXIS: last}),
                Status.OK,
                Source.MEASURED,
                PROVENANCE,
                verified_by=VerifiedBy.DEVICE,
                time_us=5.0 - last,
                samples_us=(5.0 - last,),
                max_error=0.1,
            )
            for last in (0, 1)
        ]
        store.add(rows)
        store.decide(
            Decision(
                problem,
                Source.MEASURED,
                rows[1].uid,
                rows[0].uid,
                "faster",
                PROVENANCE.created_at,
                tuple(row.uid for row in rows),
                1.25,
            )
        )
        return store.path


def test_which_configurations_are_formats() -> None:
    assert Config({FORMAT_AXIS: 0}).is_memory_format
    assert not Config(BLOCK_SIZE=128, num_warps=4).is_memory_format
    assert not Config({FORMAT_AXIS: 1, "num_warps": 4}).is_memory_format


def test_show_lists_it(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "Conv2d+mish_mish", "--db", str(database), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["config"] == {FORMAT_AXIS: 1}


@pytest.mark.parametrize("options", [[], ["--format", "json"], ["--portfolio", "2"]])
def test_tables_of_configurations_leave_it_out(
    options: list[str], database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--db", str(database), *options]) == 0
    table = capsys.readouterr().out
    assert "mish_mish" in table
    assert FORMAT_AXIS not in table
    assert "Conv2d" not in table
    if "--format" not in options:
        ast.parse(table)
