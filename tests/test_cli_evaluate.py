"""From a run's log alone each failure is repeated, by workers that compile and interpret."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunekit import cli, gpu, hosts
from tunekit.core.device import DEVICES
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Outcome
from tunekit.evaluate.job_file import read_job
from tunekit.search import tune as tuning

# Triton in an epilogue knows the size of a block, so what fails can depend on it.
FAILING = """
import triton
import triton.language as tl
import tunekit

@triton.jit
def double(x):
    size: tl.constexpr = x.numel
    tl.static_assert(size != 1024, "no block of 1024 is to be compiled")
    if size == 512:
        x += 1.0
    if size == 256:
        x = tl.inline_asm_elementwise(
            "mov.b32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return 2.0 * x

DOUBLE = tunekit.pointwise("doubled", epilogue=double, reference=lambda x: 2.0 * x)
"""


@dataclass(frozen=True)
class Ended:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str


def run(*command: object) -> Ended:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = cli.main([str(each) for each in command])
    return Ended(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Failing:
    """A run of which some configurations fail, and its log."""

    ended: Ended
    log: Path

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def first(self, status: str) -> tuple[int, dict[str, Any]]:
        """The number of the first line of an evaluation that ended so, and the line."""
        return next(
            (number, line)
            for number, line in enumerate(self.lines, start=1)
            if line["event"] == "evaluated" and line["outcome"]["status"] == status
        )


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, triton_cache: Path) -> Failing:
    folder = tmp_path_factory.mktemp("failing")
    (folder / "failing.py").write_text(FAILING)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TUNEKIT_LOG", str(folder / "logs"))
        patch.setenv("TUNEKIT_DB", str(folder / "mine.db"))
        patch.setenv("TRITON_CACHE_DIR", str(triton_cache))
        patch.setattr(gpu, "gpu_count", lambda: 0)
        patch.setattr(cli.tune, "shipped_landscapes", lambda: folder / "no-landscapes")
        patch.setattr(tuning, "project_study", lambda session: None)
        ended = run("tune", "failing.py:DOUBLE", "--shape", 4096, "--trials", 24)
    (log,) = (folder / "logs").iterdir()
    return Failing(ended, log)


@pytest.fixture(scope="module")
def another_day(triton_cache: Path) -> Iterator[Host]:
    """Workers that know nothing of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(triton_cache))
        with Host.estimating(DEVICES["rtx4090"]) as host:
            yield host


@pytest.fixture
def repeat(
    another_day: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ended]:
    """Runs `tunekit evaluate` in another folder, without the database of the run."""
    monkeypatch.setattr(Host, "__exit__", lambda *how: None)  # the next test needs the workers
    monkeypatch.setattr(Host, "estimating", lambda device: another_day)
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    monkeypatch.chdir(tmp_path)

    def evaluate(*command: object) -> Ended:
        return run("evaluate", *command)

    return evaluate


def test_what_failed_is_said_in_one_line(failing: Failing) -> None:
    assert (failing.ended.status, failing.ended.err) == (0, "")
    log = re.escape(str(failing.log))
    found = re.fullmatch(
        r"(\d+) of 24 configurations failed \((\d+) compile_error, (\d+) error, (\d+) wrong\): "
        rf"{log}; repeat one with `tunekit evaluate {log}:(\d+)`",
        failing.ended.out.splitlines()[-1],
    )
    assert found, failing.ended.out
    statuses = [line["outcome"]["status"] for line in failing.lines if "outcome" in line]
    for status, number in zip(
        ("compile_error", "error", "wrong"), found.groups()[1:], strict=False
    ):
        assert statuses.count(status) == int(number) > 0
    assert int(found[1]) == len(statuses) - statuses.count("ok")
    assert failing.lines[int(found[5]) - 1]["outcome"]["status"] != "ok"


def test_the_log_says_where_and_how_it_ran(failing: Failing) -> None:
    first, *_, last = failing.lines
    assert (first["command"], first["device"]) == ("tunekit tune", "rtx4090")
    assert (first["given"]["kernel"], first["given"]["trials"]) == ("failing.py:DOUBLE", 24)
    assert first.keys() >= {"tunekit", "triton", "torch", "driver", "protocol", "folder"}
    assert (last["event"], last["status"]) == ("end", "done")
    workers = {line["worker"] for line in failing.lines if line["event"] == "ready"}
    assert workers == {"compile", "interpret"}


SAID = {
    "compile_error": "no block of 1024 is to be compiled",
    "error": "Traceback (most recent call last):",
    "wrong": "",
    "ok": "",
}


@pytest.mark.parametrize("status", SAID)
def test_each_is_repeated_from_the_log_alone(
    status: str, failing: Failing, repeat: Callable[..., Ended]
) -> None:
    number, line = failing.first(status)
    again = repeat(f"{failing.log}:{number}", "--json")
    outcome = json.loads(again.out)
    assert {key: outcome[key] for key in line["outcome"]} == line["outcome"]
    assert SAID[status] in outcome["details"]
    assert set(outcome) == set(Outcome.__slots__)
    if status == "ok":
        assert (again.status, again.err) == (0, "")
    else:
        assert (again.status, again.err) == (1, f"tunekit: {status}: {outcome['reason']}\n")


def test_a_person_sees_the_compiler_s_own_message(
    failing: Failing, repeat: Callable[..., Ended], tmp_path: Path
) -> None:
    job = tmp_path / "job.json"
    job.write_text(json.dumps(failing.first("compile_error")[1]["job"], indent=1))
    ended = repeat(job)
    assert ended.status == 1
    head, _, details = ended.out.partition("\n\n")
    assert "4096  float32  on NVIDIA GeForce RTX 4090, compiled, interpreted, estimated" in head
    assert re.search(r"^  configuration +BLOCK_SIZE=1024, ", head, re.MULTILINE)
    assert re.search(r"^  status +compile_error$", head, re.MULTILINE)
    # The source, and where in it.
    assert "size: tl.constexpr = x.numel" in details
    assert "no block of 1024 is to be compiled" in details


def test_what_is_well_is_shown_with_its_numbers(
    failing: Failing, repeat: Callable[..., Ended]
) -> None:
    ended = repeat(f"{failing.log}:{failing.first('ok')[0]}")
    assert (ended.status, ended.err) == (0, "")
    for row in (
        r"status +ok",
        r"time +\d\.\d\d µs",
        r"error +\d\S* × what is allowed",
        r"binary +\d+ registers and 0 bytes of spills a thread, \d+ bytes of shared memory .*",
        r"grid +\d+,1,1",
    ):
        assert re.search(rf"^  {row}$", ended.out, re.MULTILINE), row


# Where a job is repeated.


def test_a_gpu_of_the_model_is_measured_on(failing: Failing, monkeypatch: Any) -> None:
    job = read_job(f"{failing.log}:{failing.first('ok')[0]}")
    models = [DEVICES["h100"], DEVICES["rtx4090"]]
    monkeypatch.setattr(gpu, "gpu_count", lambda: len(models))
    monkeypatch.setattr(gpu, "present_gpu", lambda i: gpu.PresentGpu(i, "", "", models[i]))
    monkeypatch.setattr(Host, "on_gpu", lambda index, warm=False: index)
    assert hosts.job_host(job, None, None) == 1
    assert hosts.job_host(job, "cuda:0", None) == 0
    monkeypatch.setattr(Host, "estimating", lambda device: device.slug)
    assert hosts.job_host(job, None, "h200") == "h200"
    models.pop()
    assert hosts.job_host(job, None, None) == "rtx4090"


@pytest.mark.parametrize(
    ("changes", "options", "status", "said"),
    [
        ({"target": "abacus"}, [], 2, "abacus"),
        ({"kernel": "mish_mush"}, [], 2, "did you mean 'mish_mish'?"),
        ({"kernel": "none.py:MISH"}, [], 2, "no such Python file"),
        ({"kernel": "..:x"}, [], 1, "cannot import"),
        ({"scalars": {"slope": 1}}, [], 1, "slope"),
        ({"shape": [2**48] * 8}, [], 1, "compile_error: "),
        ({"dtype": "int7"}, [], 1, "dtype: expected one of float32"),
        ({"config": {"BLOCK": 1}}, [], 1, "error"),
        ({}, ["--device", "cuda:0", "--target", "h100"], 2, "give one of them"),
        ({}, ["--device", "cuda:0"], 2, "no CUDA GPU"),
        ({}, ["--target", "abacus"], 2, "abacus"),
    ],
)
def test_what_cannot_be_repeated_is_said_in_one_line(
    changes: dict[str, Any],
    options: list[str],
    status: int,
    said: str,
    repeat: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    job = {
        "kernel": "mish_mish", "shape": [64], "dtype": "float32", "scalars": {}, "target": "h100",
        "config": {"BLOCK_SIZE": 1024, "VEC": 4, "num_warps": 4, "num_stages": 1},
    }  # fmt: skip
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job | changes))
    ended = repeat(path, *options)
    assert (ended.status, ended.err.count("\n")) == (status, 1), ended.err
    assert said in ended.err
    assert "Traceback" not in ended.err
