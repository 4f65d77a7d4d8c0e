"""Which rows were found under versions that are not those of this machine, and that it shows."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from tunekit import here, report_json
from tunekit.driver import Driver, Gpu
from tunekit.here import Here
from tunekit.paths import shipped_database
from tunekit.report import Console
from tunekit.store.cache import CacheRow, read_cache

MACHINE = Here("3.7.1", {"h100": "590.1"})


@pytest.fixture
def row() -> CacheRow:
    """Of an H100, under exactly those versions."""
    found = next(
        row
        for row in read_cache(shipped_database(), immutable=True)
        if row.problem.device == "h100"
    )
    return _under(found, "3.7.1", "590.1")


def _under(row: CacheRow, triton: str, driver: str) -> CacheRow:
    return replace(row, provenance=replace(row.provenance, triton=triton, driver=driver))


@pytest.mark.parametrize(
    ("triton", "driver", "expected"),
    [
        ("3.7.1", "590.1", ""),
        ("3.7.1", "", ""),  # an estimate
        ("3.6.0", "590.1", "Triton 3.6.0"),
        ("3.7.1", "580.1", "driver 580.1"),
        ("3.6.0", "580.1", "Triton 3.6.0, driver 580.1"),
    ],
)
def test_versions(row: CacheRow, triton: str, driver: str, expected: str) -> None:
    assert MACHINE.other_versions(_under(row, triton, driver)) == expected


def test_a_driver_counts_where_the_gpu_is_here(row: CacheRow) -> None:
    assert Here("3.7.1", {"h200": "590.1"}).other_versions(_under(row, "3.7.1", "580.1")) == ""
    assert Here("", {}).other_versions(_under(row, "3.6.0", "580.1")) == ""


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("NVIDIA H100 80GB HBM3", "", None, None, None, None)
    monkeypatch.setattr(here, "read_driver", lambda: Driver("590.1", None, (gpu, gpu)))
    monkeypatch.setattr(here, "version", lambda package: "3.7.1")
    assert Here.found() == MACHINE
    assert str(MACHINE) == "Triton 3.7.1, driver 590.1"


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(here, "version", absent)
    assert Here.found().triton == ""


def test_the_table_shows_it(row: CacheRow, capsys: pytest.CaptureFixture[str]) -> None:
    other = _under(row, "3.6.0", "580.1")
    Console().print_rows([row, other], MACHINE)
    head, _, *body = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["found", "under"]
    assert sorted(line.rstrip().endswith("Triton 3.6.0, driver 580.1") for line in body[:2]) == [
        False, True,
    ]  # fmt: skip
    assert body[-1].startswith(
        "found under: not the Triton 3.7.1, driver 590.1 of here; `tunekit c"
    )


def test_the_table_has_no_such_column_where_all_are_of_here(
    row: CacheRow, capsys: pytest.CaptureFixture[str]
) -> None:
    Console().print_rows([row], MACHINE)
    assert "found under" not in capsys.readouterr().out


def test_scripts_see_it(row: CacheRow) -> None:
    assert report_json.row_to_json(row, MACHINE)["found_under_other"] == ""
    other = report_json.row_to_json(_under(row, "3.6.0", "590.1"), MACHINE)
    assert other["found_under_other"] == "Triton 3.6.0"
    assert "found_under_other" not in report_json.row_to_json(row)
