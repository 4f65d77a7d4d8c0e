"""What crosses between who profiles and the program that is profiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.errors import ImportFormatError, ProfileError
from tunekit.evaluate.job import Job
from tunekit.profile.folder import Folder, Launched

JOB = Job(
    kernel="mish_mish",
    shape=(64, 64),
    dtype="bfloat16",
    scalars={},
    config=Config(BLOCK_SIZE=1024, num_warps=4),
    target="h100",
)


def test_jobs_arrive_as_they_were_sent(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    other = Job(**{**JOB.to_json(), "shape": (4,), "config": Config(BLOCK_SIZE=512)})
    folder.write_jobs([JOB, other])
    assert folder.read_jobs() == [JOB, other]


def test_what_is_no_job_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"kernel": "mish_mish"}\n')
    with pytest.raises(ImportFormatError, match=r"jobs\.jsonl line 1"):
        Folder(tmp_path).read_jobs()


def test_what_was_launched_or_why_not(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert (folder.read_launched(), folder.error()) == ([], "")
    folder.write_launched([Launched("abc", (4, 2, 1))])
    assert (folder.read_launched(), folder.error()) == ([Launched("abc", (4, 2, 1))], "")
    folder.write_error("it is\nnot there\x1b[31m")
    assert (folder.read_launched(), folder.error()) == ([], r"it is not there\x1b[31m")


@pytest.mark.parametrize(
    "report",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        '{"launched": []}',
        '{"error": 7}',
        "[" * 100_000,
        " " * 2_000_000,
    ],
)
def test_a_report_that_says_nothing(tmp_path: Path, report: str) -> None:
    (tmp_path / "launched.json").write_text(report)
    assert (Folder(tmp_path).read_launched(), Folder(tmp_path).error()) == ([], "")


@pytest.mark.parametrize(
    "launched", ["7", "[7]", '["ab"]', '[{"binary": "a"}]', '[{"binary": "a", "grid": [1, 2]}]']
)
def test_a_report_that_says_something_else(tmp_path: Path, launched: str) -> None:
    (tmp_path / "launched.json").write_text(f'{{"launched": {launched}}}')
    with pytest.raises(ProfileError, match="cannot be read"):
        Folder(tmp_path).read_launched()
