from __future__ import annotations

import json
from pathlib import Path

import pytest
import reliability

CPU = {
    "passed": True,
    "gpu": "",
    "python": "3.11.7",
    "torch": "2.13.0",
    "triton": "3.7.1",
    "counts": [["Kills", "tuners killed", 1234], ["Fuzzing", "lines", 5]],
}
GPU = {**CPU, "gpu": "NVIDIA H100", "counts": [["Kills", "tuners killed", 6]]}


def _files(folder: Path, *reports: dict[str, object]) -> list[str]:
    paths = [folder / f"{number}.json" for number in range(len(reports))]
    for path, report in zip(paths, reports, strict=True):
        path.write_text(json.dumps(report))
    return list(map(str, paths))


def test_counts_are_a_table_a_section_with_where_each_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reliability.main(_files(tmp_path, CPU, GPU)) == 0
    lines = capsys.readouterr().out.splitlines()
    kills = lines.index("## Kills")
    assert lines[kills + 4 : kills + 6] == [
        "| tuners killed | 1,234 | no GPU |",
        "| tuners killed | 6 | NVIDIA H100 |",
    ]
    assert "| lines | 5 | no GPU |" in lines[lines.index("## Fuzzing") :]
    assert sum("all passed" in line for line in lines) == 2


def test_what_failed_is_said_and_is_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reliability.main(_files(tmp_path, CPU, {**GPU, "passed": False})) == 1
    assert "NVIDIA H100: Python 3.11.7, torch 2.13.0, Triton 3.7.1: SOME FAILED" in (
        capsys.readouterr().out
    )


def test_without_a_report_there_is_nothing_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert reliability.main([]) == 2
    assert "make soak" in capsys.readouterr().err
