"""Counters of a real GPU, read by the Nsight Compute that is there, as a person reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunekit import cli
from tunekit.profile import counters

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::tunekit.TunekitWarning"),
]

SHAPE = "64,1000,1000"
ELEMENTS = 64_000_000
REMEDIES = ("NVreg_RestrictProfilingToAdminUsers=0", "--ncu PATH", "Nsight Compute says")
"""What is said where counters cannot be read; there is nothing to read then."""


def run(capsys: pytest.CaptureFixture[str], *command: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main([str(each) for each in command])
    return status, *capsys.readouterr()


def test_winner_and_default_are_profiled_and_shown_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "mine.db"
    tune = ("tune", "add_min_gelu_mul", "--shape", SHAPE, "--trials", 6, "--db", database)
    status, _, err = run(capsys, *tune, "--json")
    assert status == 0, err

    further = "sm__inst_executed_pipe_fma.sum"
    command = ("profile", "add_min_gelu_mul", "--shape", SHAPE, "--db", database, "--set", further)
    status, out, err = run(capsys, *command, "--json")
    if status:
        assert err.count("\n") == 1, err
        assert any(remedy in err for remedy in REMEDIES), err
        return
    profiles = json.loads(out)["profiles"]
    assert [each["role"] for each in profiles] in (["winner", "default"], ["both"])
    for each in profiles:
        read = {name: counter["value"] for name, counter in each["counters"].items()}
        assert each["stored"]
        assert further in read
        for percentage in (counters.SM, counters.DRAM, counters.WARPS, counters.L2_HITS):
            assert 0.0 < read[percentage.name] <= 100.0, percentage
        assert read[counters.GRID.name] == each["grid"][0]
        assert read[counters.REGISTERS.name] >= 16
        assert read["dram__bytes_read.sum"] == pytest.approx(4 * ELEMENTS, rel=0.1)
        duration_us = read[counters.DURATION.name] / 1e3
        assert duration_us == pytest.approx(each["time_us"], rel=0.5)

    status, out, err = run(capsys, "show", "add_min_gelu_mul", "--metrics", "--db", database)
    assert (status, err) == (0, "")
    assert "sm %" in out
    assert "winner" in out


@pytest.mark.parametrize(
    ("name", "sizes", "read_bytes"),
    [
        ("column_sums", ("rows=8192", "columns=8192"), 4 * 8192 * 8192),
        ("add_to", (f"n={2**26}",), 2 * 4 * 2**26),
    ],
)
def test_kernels_that_add_up_or_work_in_place_are_profiled(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    sizes: tuple[str, ...],
    read_bytes: int,
) -> None:
    """Each pass of the profiler finds what a launch has to find."""
    kernel = f"{Path(__file__).with_name('planned_kernels.py')}:{name}"
    dims = [word for size in sizes for word in ("--dim", size)]
    common = (kernel, *dims, "--db", tmp_path / "mine.db", "--json")
    status, _, err = run(capsys, "tune", *common, "--trials", 2)
    assert status == 0, err
    status, out, err = run(capsys, "profile", *common)
    if status:
        assert any(remedy in err for remedy in REMEDIES), err
        return
    for each in json.loads(out)["profiles"]:
        assert each["stored"]
        assert each["counters"]["dram__bytes_read.sum"]["value"] == pytest.approx(
            read_bytes, rel=0.1
        )
