"""The command line end to end, and what it says to every mistake.

Most searches here look their times up in a table; the few at the top compile, and run the
interpreter, in worker processes.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tunekit import arguments, cli, gpu, notices, recorded
from tunekit._version import __version__
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Binary, Status
from tunekit.errors import ClaimedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Outcome
from tunekit.kernels.library import KERNELS
from tunekit.recorded import Recorded, Served, Timed
from tunekit.runtime import explanation, known, lookup
from tunekit.search import confirm as confirming
from tunekit.search import tune as tuning
from tunekit.store import connection, schema
from tunekit.store.database import Store

MakeHost = Callable[..., Host]
WriteModule = Callable[..., Path]

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)


PROJECT_STUDY = tuning.project_study


def time_us(config: Config) -> float:
    """The smaller the block the faster; the default is not the fastest."""
    return 5.0 + math.log2(config["BLOCK_SIZE"]) + config["num_warps"] / 1e3 + config["VEC"] / 1e4


@dataclass(frozen=True)
class Ended:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Run]:
    """Runs a command, where nothing shipped with tunekit and there is no GPU."""
    absent = tmp_path / "nothing-shipped.db"
    monkeypatch.setattr(arguments, "shipped_database", lambda: absent)
    monkeypatch.setattr(known, "shipped_database", lambda: absent)
    monkeypatch.setattr(explanation, "shipped_database", lambda: absent)
    for module in (cli.tune, cli.replay):
        monkeypatch.setattr(module, "shipped_landscapes", lambda: tmp_path / "no-landscapes")
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TUNEKIT_DB", str(tmp_path / "mine.db"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for module in (tuning, confirming):  # the study takes longer than the search
        monkeypatch.setattr(module, "project_study", lambda session: None)

    def command(*arguments: object) -> Ended:
        capsys.readouterr()
        status = cli.main([str(each) for each in arguments])
        return Ended(status, *capsys.readouterr())

    yield command
    lookup.forget()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The person's own."""
    return tmp_path / "mine.db"


@pytest.fixture
def estimates(
    estimate_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Config], Any]], Host]:
    """From here on `tune` estimates for an H100, from a table."""

    def use(table: Callable[[Config], Any]) -> Host:
        host = estimate_host(table)
        monkeypatch.setattr(Host, "estimating", lambda device: host)
        return host

    return use


@pytest.fixture
def measurements(
    gpu_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Config], Any]], Host]:
    """From here on there is an H100, whose times are from a table."""

    def use(table: Callable[[Config], Any], **more: Any) -> Host:
        host = gpu_host(table, **more)
        monkeypatch.setattr(gpu, "gpu_count", lambda: 1)
        monkeypatch.setattr(Host, "on_gpu", lambda index, warm: {0: host}[index])
        return host

    return use


@pytest.fixture
def tuned(run: Run, estimates: Callable[..., Host], database: Path) -> Path:
    """A database with one estimate."""
    estimates(time_us)
    assert run("tune", "mish_mish", "--shape", "64,64", "--trials", 5).status == 0
    return database


GELU = """
    import torch.nn.functional as F
    import triton
    import triton.language as tl
    import tunekit

    @triton.jit
    def {name}(x):
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476)) {more}

    GELU = tunekit.pointwise("my_gelu", epilogue={name}, reference=F.gelu)
"""


# Real workers.


@pytest.fixture(scope="module")
def really_tuned(
    tmp_path_factory: pytest.TempPathFactory, triton_cache: Path, run_python: Callable[..., Any]
) -> tuple[list[Any], Path]:
    """What `tune --json` printed of one shape in two dtypes, and the database."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "shapes.txt").write_text("# of a model\n64,66  # odd\n\n")
    command = (
        "tune mish_add_hardtanh_scale --target h200 --shapes shapes.txt --dtype float32 "
        "--dtype bf16 --param scale=3 --trials 2 --json --db tuned.db"
    )
    done = run_python(
        *("-m", "tunekit", *command.split()), cwd=folder, TRITON_CACHE_DIR=str(triton_cache)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout), folder / "tuned.db"


def test_tuning_for_a_gpu_that_is_not_here(really_tuned: tuple[list[Any], Path]) -> None:
    results, _ = really_tuned
    assert [(each["shape"], each["dtype"]) for each in results] == [
        ([64, 66], "float32"),
        ([64, 66], "bfloat16"),
    ]
    for each in results:
        assert (each["device"], each["source"]) == ("h200", "estimated")
        assert each["verified_by"] == "interpreter"
        assert each["statuses"] == {"ok": 2}
        assert (each["evaluated"], each["known_before"]) == (2, 0)
        assert each["default_config"]["BLOCK_SIZE"] == 1024
        assert 1.0 < each["time_us"] < 10.0
        assert each["copy_us"] is None


def test_the_same_command_again_finds_it_all_known(
    really_tuned: tuple[list[Any], Path], run: Run
) -> None:
    results, path = really_tuned
    again = run(
        "tune", "mish_add_hardtanh_scale", "--target", "h200", "--shape", "64,66", "--param",
        "scale=3", "--trials", 2, "--json", "--db", path,
    )  # fmt: skip
    (result,) = again.data
    assert (result["evaluated"], result["known_before"]) == (0, 2)
    assert result["config"] == results[0]["config"]


def test_what_is_tuned_is_shown_explained_and_exported(
    really_tuned: tuple[list[Any], Path], run: Run, tmp_path: Path
) -> None:
    results, path = really_tuned
    shown = run("show", "mish_add_hardtanh_scale", "--json", "--db", path).data
    assert {(row["dims"]["n"], row["dtype"]) for row in shown} == {
        (64 * 66, "float32"),
        (64 * 66, "bfloat16"),
    }
    explained = run(
        "explain", "mish_add_hardtanh_scale", "--shape", "64,66", "--dtype", "bfloat16",
        "--target", "h200", "--json", "--db", path,
    ).data  # fmt: skip
    assert explained["served"] == "estimated"
    assert explained["config"] == results[1]["config"]

    table = tmp_path / "table.py"
    assert run("export", "-o", table, "--db", path).status == 0
    exported: dict[str, Any] = {}
    exec(table.read_text(), exported)
    assert exported["MEASURED"] == {}
    config = exported["lookup"]("mish_add_hardtanh_scale", "h200", "bfloat16", {"n": 4224})
    assert {**config.kwargs, "num_warps": config.num_warps, "num_stages": config.num_stages} == (
        results[1]["config"]
    )


def test_a_gelu_times_x_once_too_often_is_not_cached(
    run: Run, write_module: WriteModule, database: Path
) -> None:
    path = write_module(GELU.format(name="squared_gelu", more="* x"), "squared.py")
    ended = run("tune", f"{path}:GELU", "--shape", 4096, "--trials", 2)
    assert ended.status == 1
    assert re.fullmatch(
        r"tunekit: my_gelu: none of 2 configurations can be used \(2 wrong\), nothing is cached; "
        r"differs from the reference in the interpreter at 2064: \d\.\d+e\+\d\d times the allowed "
        r"error \(2,049 of 2,064 elements, such as \S+ for \S+\)\n",
        ended.err,
    )
    assert "nothing is tuned yet" in run("show", f"{path}:GELU").out
    assert run("show", "--json").data == []
    with Store.open(database, readonly=True) as store:
        assert [row.status for row in store.evaluations()] == [Status.WRONG] * 2


# The commands.


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"tunekit, version {__version__}\n"
    ended = run("--help")
    assert (ended.status, ended.err) == (0, "")
    for name in cli.cli.commands:
        assert re.search(rf"^  {name} ", ended.out, re.MULTILINE)
        helped = run(name, "-h")
        assert (helped.status, helped.err) == (0, "")
        assert helped.out.startswith(f"Usage: tunekit {name} ")


def test_no_command_is_wrong_usage_and_shows_the_help(run: Run) -> None:
    ended = run()
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("Usage: tunekit")


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunekit", "kernels", "--jso"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tunekit: No such option")


def test_help_and_show_load_neither_torch_nor_optuna(database: Path) -> None:
    script = (
        "import sys; from tunekit.cli import main; main(['tune', '--help']); main(['show']); "
        "print({'torch', 'triton', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_tuning_says_that_nothing_is_measured(run: Run, estimates: Callable[..., Host]) -> None:
    estimates(time_us)
    ended = run("tune", "mish_mish", "--shape", "64,64", "--trials", 3)
    assert ended.out.startswith("No CUDA GPU in this machine: compiling for NVIDIA GeForce RTX")
    assert "This is an estimate" in ended.out
    ended = run("tune", "mish_mish", "--shape", "64,64", "--trials", 3, "--target", "h100")
    assert ended.out.startswith("compiling for NVIDIA H100 80GB HBM3, checking in Triton's")


def test_every_configuration_is_estimated_unless_told_otherwise(
    run: Run, estimates: Callable[..., Host]
) -> None:
    host = estimates(time_us)
    (result,) = run("tune", "mish_mish", "--shape", 4096, "--json").data
    assert result["evaluated"] == result["space_size"] == len(host.pool.jobs)


def test_measuring_ends_when_no_gain_is_expected_unless_told_otherwise(
    run: Run, measurements: Callable[..., Host]
) -> None:
    measurements(time_us)
    (result,) = run("tune", "mish_mish", "--shape", "4096,4096", "--json").data
    assert result["source"] == "measured"
    assert result["stopped"].startswith("expected gain 0.")
    assert (evaluated := result["evaluated"]) < 60
    assert result["copy_us"] == pytest.approx(5.0, rel=0.05)
    (result,) = run("tune", "mish_mish", "--shape", "4096,4096", "--json", "--exhaustive").data
    assert result["stopped"] == "every configuration evaluated"
    assert result["known_before"] == evaluated
    assert result["evaluated"] == result["space_size"] - evaluated


def test_a_warm_cache_is_another_protocol(run: Run, measurements: Callable[..., Host]) -> None:
    host = measurements(time_us)
    host.warm = True
    run("tune", "mish_mish", "--shape", "4096,4096", "--warm", "--trials", "2")
    assert all(job.warm for job in host.pool.jobs)


def test_an_estimate_has_no_warm_cache(run: Run) -> None:
    ended = run("tune", "mish_mish", "--shape", "64", "--warm")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "--warm is about measuring" in ended.err


def test_options_reach_the_jobs(run: Run, estimates: Callable[..., Host]) -> None:
    host = estimates(time_us)
    run(
        "tune", "add_min_gelu_mul", "--shape", "8x8", "--shape", "(8,8)", "--dtype", "half",
        "--dtype", "float16", "--param", "add_value=-0.25", "--seed", 7, "--trials", 1,
    )  # fmt: skip
    (job,) = host.pool.jobs  # the same shape and the same dtype twice are one problem
    assert (job.shape, job.dtype, job.seed) == ((8, 8), "float16", 7)
    assert job.scalars == {"add_value": -0.25, "multiply_value": 2.0}


def test_several_problems_are_a_table(run: Run, estimates: Callable[..., Host]) -> None:
    estimates(time_us)
    ended = run("tune", "mish_mish", "--shape", 16, "--shape", 32, "--trials", 2)
    assert [line.split()[:3] for line in ended.out.splitlines()[-3:-1]] == [
        ["mish_mish", "16", "float32"],
        ["mish_mish", "32", "float32"],
    ]


def test_a_problem_that_fails_leaves_the_others(run: Run, estimates: Callable[..., Host]) -> None:
    estimates(time_us)
    ended = run(
        "tune", "mish_mish", "--shape", 2**40, "--shape", 16, "--shape", 2**41, "--trials", 2,
        "--json",
    )  # fmt: skip
    assert ended.status == 1
    assert [each["shape"] for each in ended.data] == [[16]]
    assert [line.partition(" float32")[0] for line in ended.err.splitlines()] == [
        f"tunekit: mish_mish at {2**40}",
        f"tunekit: mish_mish at {2**41}",
    ]


@pytest.mark.parametrize(("times", "shapes"), [(1, [[8], [16]]), (2, [[8]])])
def test_what_another_process_tunes_comes_last_or_is_left_to_it(
    times: int,
    shapes: list[list[int]],
    run: Run,
    estimates: Callable[..., Host],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    @contextmanager
    def claim(path: Path, work: str, told: str) -> Iterator[None]:
        asked.append(told)
        if asked.count(told) <= times and told.startswith("mish_mish at 16 float32"):
            raise ClaimedError(f"{told} is being tuned by another process")
        yield

    monkeypatch.setattr(tuning, "claim", claim)
    estimates(time_us)
    ended = run("tune", "mish_mish", "--shape", 16, "--shape", 8, "--trials", 2, "--json")
    assert [each["shape"] for each in ended.data] == shapes
    if len(shapes) == 2:
        assert (ended.status, ended.err) == (0, "")
    else:
        assert ended.status == 1
        told = "mish_mish at 16 float32 for h100"
        assert ended.err == f"tunekit: {told} is being tuned by another process\n"


def test_an_interrupt_keeps_what_was_evaluated(
    run: Run, estimates: Callable[..., Host], database: Path
) -> None:
    host = estimates(lambda c: KeyboardInterrupt() if len(host.pool.jobs) == 3 else time_us(c))
    ended = run("tune", "mish_mish", "--shape", 4096, "--trials", 5)
    assert ended.status == 130
    assert ended.err.strip() == (
        "tunekit: interrupted; every finished evaluation is stored, and the same command goes on "
        "from there"
    )
    assert host.pool.closed
    estimates(time_us)
    (result,) = run("tune", "mish_mish", "--shape", 4096, "--trials", 5, "--json").data
    assert (result["evaluated"], result["known_before"]) == (2, 3)


def test_a_study_that_cannot_be_written_is_a_line(
    run: Run, estimates: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise connection.StoreError("x.db: its Optuna tables are of another Optuna version")

    monkeypatch.setattr(tuning, "project", refuse)
    monkeypatch.setattr(tuning, "project_study", PROJECT_STUDY)
    estimates(time_us)
    ended = run("tune", "mish_mish", "--shape", 4096, "--trials", 2)
    assert ended.status == 0
    assert ended.err == (
        "tunekit: the Optuna study is not up to date: x.db: its Optuna tables are of another "
        "Optuna version\n"
    )


def test_a_kernel_of_one_s_own_by_file_and_by_module(
    run: Run, write_module: WriteModule, estimates: Callable[..., Host],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    path = write_module(GELU.format(name="exact_gelu", more=""), "exact_kernels.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/")  # forgets what was looked for before
    estimates(time_us)
    for reference in (f"{path}:GELU", "exact_kernels.py:GELU", "exact_kernels:GELU"):
        (result,) = run("tune", reference, "--shape", 16, "--trials", 1, "--json").data
        assert result["kernel"] == "my_gelu"
        assert {row["kernel"] for row in run("show", reference, "--json").data} == {"my_gelu"}
    assert run("show", "my_gelu", "--json").data == run("show", "--json").data
    assert f"nothing is tuned yet for {path}:GELU on rtx3090" in run(
        "show", f"{path}:GELU", "--device", "rtx3090"
    ).out  # fmt: skip


def test_show(run: Run, tuned: Path) -> None:
    for options in ([], ["mish_mish"], ["--device", "H100"], ["--db", tuned]):
        out = run("show", *options).out
        assert "mish_mish" in out
        assert "n=4096" in out
        assert "estimated" in out
    assert "nothing is tuned yet for identity;" in run("show", "identity").out
    assert run("show", "--device", "b200", "--json").data == []


def test_a_gpu_that_is_not_in_the_table_is_known_by_its_rows(
    run: Run, measurements: Callable[..., Host]
) -> None:
    host = measurements(time_us)
    host.device = replace(host.device, slug="rtx4080")
    run("tune", "mish_mish", "--shape", 64, "--trials", 2)
    assert [row["device"] for row in run("show", "--device", "rtx4080", "--json").data] == [
        "rtx4080"
    ]


def test_what_shipped_is_shown_too(
    run: Run, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "shipped_database", lambda: tuned)
    monkeypatch.setenv("TUNEKIT_DB", str(tmp_path / "none-yet.db"))
    assert len(run("show", "--json").data) == 1


def recorded_at(path: Path, *shapes: tuple[int, ...], device: str = "h100", **more: Any) -> Path:
    """A recording: the further on a shape the oftener it was launched."""
    for number, shape in enumerate(shapes, start=1):
        kernel, model = KERNELS["mish_mish"], DEVICES[device]
        launch = kernel.launch_for(shape, "float32", model)
        found = Recorded(
            "mish_mish", kernel.problem_of(launch, model), shape, Served.DEFAULT, DEFAULT,
            10**number, kernel.bytes_moved(launch), 2.0, Timed.BOUND, "0.1.0",
        )  # fmt: skip
        with path.open("a") as file:
            file.write(f"{recorded.to_line(replace(found, **more))}\n")
    return path


def test_what_was_recorded_is_shown_tuned_and_then_left_alone(
    run: Run, measurements: Callable[..., Host], tmp_path: Path
) -> None:
    path = recorded_at(tmp_path / "calls.jsonl", (64, 64), (4096, 32))
    shown = run("show", "--recorded", path, "--json").data
    assert [(each["shape"], each["count"]) for each in shown] == [([4096, 32], 100), ([64, 64], 10)]
    assert [each["served_now"] for each in shown] == ["default", "default"]
    assert f"`tunekit tune --recorded {path}` tunes them" in run("show", "--recorded", path).out

    measurements(time_us)
    ended = run("tune", "--recorded", path, "--trials", 3, "--json")
    assert (ended.status, ended.err) == (0, "")
    assert [each["shape"] for each in ended.data] == [[4096, 32], [64, 64]]
    assert all(each["evaluated"] == 3 for each in ended.data)

    shown = run("show", "--recorded", path, "--json").data
    assert [(each["served"], each["served_now"]) for each in shown] == [("default", "exact")] * 2
    assert [each["expected_gain"] for each in shown] == [0, 0]
    ended = run("tune", "--recorded", path)
    assert (ended.status, ended.out) == (0, f"nothing to tune is left of {path}\n")
    assert ended.err == "tunekit: skipped 2 already measured on h100\n"


def test_one_kernel_of_a_recording_with_its_scalars(
    run: Run, estimates: Callable[..., Host], tmp_path: Path, write_module: WriteModule
) -> None:
    path = recorded_at(tmp_path / "calls.jsonl", (16,), device="h200")
    problem = replace(recorded.read(path)[0].problem, kernel="my_gelu")
    recorded_at(path, (32,), problem=problem, reference="my_gelu")
    host = estimates(time_us)
    ended = run("tune", "--recorded", path, "--trials", 1, "--json")
    assert ended.status == 2
    assert [(each["kernel"], each["shape"]) for each in ended.data] == [("mish_mish", [16])]
    assert "1 of 1 problems: recorded on h200, tuned for their shapes on h100" in ended.err
    assert "recorded of my_gelu: unknown kernel 'my_gelu'" in ended.err

    mine = write_module(GELU.format(name="exact_gelu", more=""))
    problem = replace(problem, alignment="p16,p16,i32x16", dims=(("n", 32),))
    other = recorded_at(tmp_path / "mine.jsonl", (32,), problem=problem, reference="my_gelu")
    host = estimates(time_us)
    ended = run("tune", f"{mine}:GELU", "--recorded", other, "--trials", 1, "--json")
    assert [(each["kernel"], each["shape"]) for each in ended.data] == [("my_gelu", [32])]
    assert host.pool.jobs[0].kernel == f"{mine}:GELU"

    shown = run("show", f"{mine}:GELU", "--recorded", other, "--device", "h200", "--json")
    assert [each["kernel"] for each in shown.data] == ["my_gelu"]
    assert run("show", "--recorded", other, "--device", "h100", "--json").data == []
    ended = run("show", "mish_mish", "--recorded", other)
    assert ended.out == f"{other}: no mish_mish was recorded\n"


def test_showing_a_recording_loads_neither_torch_nor_optuna(tmp_path: Path) -> None:
    path = recorded_at(tmp_path / "calls.jsonl", (64, 64))
    script = (
        f"import sys; from tunekit.cli import main; main(['show', '--recorded', {str(path)!r}]); "
        "print({'torch', 'triton', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"
    assert "mish_mish" in done.stdout


@pytest.mark.parametrize("command", ["tune", "show"])
def test_what_is_no_recording(command: str, run: Run, tmp_path: Path) -> None:
    refused(run(command, "--recorded", tmp_path / "none.jsonl"), 1, "cannot read: No such file")
    path = tmp_path / "calls.jsonl"
    path.write_text('{"record": "evaluation"}')
    said = f"{path} line 1: record: expected calls, as of a recording, got 'evaluation'; take that"
    refused(run(command, "--recorded", path), 1, said)


def test_a_recording_has_shapes_and_dtypes_of_its_own(run: Run, tmp_path: Path) -> None:
    path = recorded_at(tmp_path / "calls.jsonl", (64, 64))
    for option in (["--shape", 64], ["--shapes", path], ["--dtype", "float16"]):
        refused(run("tune", "--recorded", path, *option), 2, "--recorded has shapes and dtypes")
    refused(run("tune", "--recorded", path, "--param", "scale=2"), 2, "name the KERNEL whose")
    said = "no call of add_min_gelu_mul was recorded there"
    refused(run("tune", "add_min_gelu_mul", "--recorded", path), 2, said)


def test_explain(run: Run, tuned: Path) -> None:
    at = ("explain", "mish_mish", "--target", "h100", "--shape")
    exact = run(*at, "4096").out
    assert exact.startswith("estimated: BLOCK_SIZE=")
    assert "estimated for this very size" in exact
    assert f"{tuned}: 1 row of mish_mish (named by TUNEKIT_DB)" in exact
    default = run(*at, "4099").out.splitlines()
    assert default[0].startswith("default: ")
    assert any("(a size of the call is no multiple of 16)" in line for line in default)
    assert default[-1] == "  tunekit tune mish_mish --shape 4099 --dtype float32"
    half = run(*at, "4096", "--dtype", "half", "--json").data
    assert (half["served"], half["dims"], half["dtype"]) == ("default", {"n": 4096}, "float16")
    assert [each["field"] for each in half["rows"][0]["differs"]] == ["dtype"]


def test_explain_of_tensors_that_are_not_aligned(run: Run, tuned: Path) -> None:
    at = ("explain", "mish_mish", "--target", "h100", "--shape", "4096", "--json", "--offset")
    assert run(*at, 4).data["alignment"] == "p1,p16,i32x16"
    assert run(*at, 32).data["served"] == "estimated"


def test_explain_reads_the_database_it_is_given(run: Run, tuned: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    at = ("explain", "mish_mish", "--target", "h100", "--shape", "4096", "--json")
    assert run(*at, "--db", tuned).data["served"] == "estimated"
    assert run(*at, "--db", empty).data["served"] == "default"
    assert run(*at).data["served"] == "estimated"
    assert os.environ["TUNEKIT_DB"] == str(tuned)


def test_explain_goes_on_where_the_persons_database_cannot_be_read(
    run: Run, database: Path
) -> None:
    database.write_bytes(b"no database at all " * 100)
    ended = run("explain", "mish_mish", "--target", "h100", "--shape", "4096")
    assert (ended.status, ended.err) == (0, "")
    assert f"{database}: not a database; " in ended.out


def test_export_and_check(run: Run, tuned: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.py"
    assert run("export", "-o", table).out == ""
    assert run("export").out == table.read_text()
    assert run("export", "-o", table, "--check").status == 0
    text = table.read_text()
    table.write_text(text + "\n")
    ended = run("export", "-o", table, "--check")
    assert (ended.status, ended.out) == (1, "")
    assert f"{table} is out of date" in ended.err
    assert table.read_text() == text + "\n"
    assert run("export", "-o", tmp_path / "none.py", "--check").status == 1
    (entry,) = run("export", "mish_mish", "--format", "json").data["entries"]
    assert entry["source"] == "estimated"


def test_kernels_and_devices(run: Run) -> None:
    assert "mish(mish(x))" in run("kernels").out
    assert {"mish_mish", "identity"} <= {each["name"] for each in run("kernels", "--json").data}
    assert "no CUDA GPU in this machine" in run("devices").out
    listed = run("devices", "--json").data
    assert listed["present"] == []
    assert [each["target"] for each in listed["known"]] == list(DEVICES)


def test_import_and_merge(
    run: Run, tuned: Path, measurements: Callable[..., Host], tmp_path: Path
) -> None:
    measurements(time_us)
    lines, other = tmp_path / "measured.jsonl", tmp_path / "other.db"
    assert run("confirm", "-o", lines).status == 0

    imported = run("import", lines, "--db", other)
    assert re.search(r"measured\.jsonl: \d+ new evaluations and 2 new decisions into", imported.out)
    assert " 0 new evaluations and 0 new decisions" in run("import", lines, "--db", other).out
    assert run("show", "--db", other, "--json").data == run("show", "--json").data

    third = tmp_path / "third.db"
    assert run("merge", other, tuned, "--db", third).out.count("new evaluations") == 2
    assert run("show", "--db", third, "--json").data == run("show", "--json").data


# Confirming.


def test_confirm_measures_what_was_estimated(
    run: Run, tuned: Path, measurements: Callable[..., Host]
) -> None:
    host = measurements(lambda config: 30.0 - time_us(config))
    ended = run("confirm")
    assert ended.status == 0
    assert "1 confirmed on NVIDIA H100 80GB HBM3" in ended.out
    (row,) = run("show", "--json").data
    assert (row["source"], row["copy_us"]) == ("measured", pytest.approx(5.0, rel=0.05))
    assert DEFAULT in host.pool.configs
    assert run("confirm").out == "nothing to confirm on NVIDIA H100 80GB HBM3\n"
    assert run("confirm", "--json").data == []


def test_confirm_as_data(run: Run, tuned: Path, measurements: Callable[..., Host]) -> None:
    measurements(time_us)
    (item,) = run("confirm", "mish_mish", "--json").data
    assert item["before"]["source"] == "estimated"
    assert item["source"] == "measured"
    assert len(item["measured"]) == item["evaluated"]


def test_a_kernel_of_one_s_own_is_confirmed_by_its_reference(
    run: Run, write_module: WriteModule, estimates: Callable[..., Host],
    measurements: Callable[..., Host],
) -> None:  # fmt: skip
    path = write_module(GELU.format(name="own_gelu", more=""), "own.py")
    estimates(time_us)
    run("tune", f"{path}:GELU", "--shape", 16, "--trials", 2)
    host = measurements(time_us)
    ended = run("confirm")
    assert ended.status == 0
    assert ended.err == (
        "tunekit: skipped 1 of my_gelu, not of the library: `tunekit confirm "
        "path/file.py:my_gelu`\n"
    )
    assert host.pool.jobs == []
    assert run("confirm", f"{path}:GELU").status == 0
    assert {job.kernel for job in host.pool.jobs} == {f"{path}:GELU"}


def test_what_the_source_of_a_kernel_has_outgrown_is_not_confirmed(
    run: Run, write_module: WriteModule, estimates: Callable[..., Host],
    measurements: Callable[..., Host],
) -> None:  # fmt: skip
    old = write_module(GELU.format(name="gelu_1", more=""), "old.py")
    new = write_module(GELU.format(name="gelu_2", more="* 1.0"), "new.py")
    estimates(time_us)
    run("tune", f"{old}:GELU", "--shape", 16, "--trials", 2)
    measurements(time_us)
    ended = run("confirm", f"{new}:GELU")
    assert (ended.status, ended.out) == (0, "nothing to confirm on NVIDIA H100 80GB HBM3\n")
    assert "skipped 1 of my_gelu, whose source changed since: tune it again" in ended.err


def test_what_cannot_be_confirmed_is_said(
    run: Run, tuned: Path, measurements: Callable[..., Host]
) -> None:
    measurements(lambda config: Outcome(Status.CRASHED, reason="signal 11"))
    ended = run("confirm")
    assert ended.status == 1
    first, last = ended.err.splitlines()
    assert first.startswith("tunekit: mish_mish 64,64 float32: mish_mish: none of ")
    assert last == "tunekit: none of 1 problems could be confirmed"
    (row,) = run("show", "--json").data
    assert row["source"] == "estimated"


# Mistakes.


def refused(ended: Ended, status: int, *said: str) -> None:
    """It ended with that status and one line, which says all of that."""
    assert ended.status == status, ended
    assert ended.err.startswith("tunekit: ")
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("\n")
    for each in said:
        assert each in ended.err


TUNE = ("tune", "mish_mish", "--shape", "64")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tunes"], "'tune'"),
        (["tune"], "KERNEL"),
        (["tune", "mish_mish"], "give at least one --shape, such as"),
        (["tune", "mish_mihs", "--shape", "64"], "did you mean 'mish_mish'?"),
        (["tune", "xxxxxxxx", "--shape", "64"], "`tunekit kernels` lists them"),
        (["tune", "nowhere.py:GELU", "--shape", "64"], "nowhere.py: no such Python file"),
        (["tune", f"{'a' * 300}.py:GELU", "--shape", "64"], "no such Python file"),
        (["tune", "mish_mish", "--shape", ""], "expected positive integers separated by commas"),
        (["tune", "mish_mish", "--shape", "64,,2"], "expected positive integers"),
        (["tune", "mish_mish", "--shape", "1e6"], "expected positive integers"),
        (["tune", "mish_mish", "--shape", "9" * 5000], "expected positive integers"),
        (["tune", "mish_mish", "--shape", "64,0"], "every dim must be at least 1"),
        (["tune", "mish_mish", "--shape", "-64"], "every dim must be at least 1"),
        ([*TUNE, "--dtype", "int8"], "mish_mish is tuned in float32, float16, bfloat16"),
        ([*TUNE, "--target", "rtx409"], "did you mean 'rtx4090'?"),
        ([*TUNE, "--device", "h100"], "expected cuda or cuda:N; --target names a model"),
        ([*TUNE, "--device", "cuda:-1"], "expected cuda or cuda:N"),
        ([*TUNE, "--device", "cuda:9"], "--device cuda:9: this machine has no CUDA GPU"),
        ([*TUNE, "--device", "cuda", "--target", "h100"], "give one of them"),
        ([*TUNE, "--trials", "0"], "'--trials': 0 is not in the range"),
        ([*TUNE, "--trials", "many"], "'--trials': 'many' is not a valid integer"),
        ([*TUNE, "--timeout", "0"], "'--timeout'"),
        ([*TUNE, "--seed", "-1"], "'--seed'"),
        ([*TUNE, "--param", "scale=2"], "mish_mish has no scalar 'scale'; it has: none"),
        ([*TUNE, "--param", "scale"], "'scale': expected NAME=NUMBER, such as scale=2.0"),
        ([*TUNE, "--param", "=2"], "has no scalar ''"),
        ([*TUNE, "--param", "scale=big"], "expected NAME=NUMBER"),
        ([*TUNE, "--param", "scale=nan"], "expected NAME=NUMBER"),
        ([*TUNE, "--shapes", "none.txt"], "--shapes none.txt: cannot be read: No such file"),
        ([*TUNE, "--shapes", "."], "is a directory"),
        ([*TUNE, "--db", "."], "is a directory"),
        (["confirm"], "this machine has no CUDA GPU to measure on"),
        (["show", "mish_mihs"], "did you mean 'mish_mish'?"),
        (["show", "--device", "h999"], "`tunekit devices` lists what is known"),
        (["show", "--db", "none.db"], "--db none.db: no such file"),
        (["show", "--db", "a" * 300], "no such file"),
        (["explain", "mish_mish", "--shape", "64", "--db", "a" * 300], "no such file"),
        (["explain", "mish_mish", "--shape", "64", "--offset", "-4"], "--offset"),
        (["explain", "mish_mish"], "--shape"),
        (["explain", "mish_mish", "--shape", "64", "--target", "h999"], "h999"),
        (["explain", "mish_mish", "--shape", "64", "--device", "cuda:9"], "cuda:9"),
        (["explain", "mish_mish", "--shape", "6", "--target", "h1", "--device", "cuda"], "one of"),
        (["export", "--check"], "--check needs -o FILE"),
        (["export", "--format", "xml"], "'xml' is not one of 'python', 'json'"),
        (["export", "mish_mihs"], "did you mean 'mish_mish'?"),
        (["merge"], "OTHERS"),
        (["import"], "FILE"),
    ],
)  # fmt: skip
def test_wrong_usage(
    arguments: list[str], said: str, run: Run, database: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    refused(run(*arguments), 2, said)
    assert not database.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "mish_mish", "--shape", 2**40], "take 8796 GB and rtx4090 has 25.77 GB"),
        (["tune", "mish_mish", "--shape", "99999,99999", "--dtype", "half"], "a smaller --shape"),
        (["tune", "no_such_package.module:GELU", "--shape", "64"], "cannot import"),
        ([*TUNE, "--db", "/proc/none/x.db"], "/proc/none/x.db: cannot create its folder"),
        ([*TUNE, "--db", "a-file/x.db"], "a-file/x.db: cannot create its folder"),
        ([*TUNE, "--db", "a" * 300], "cannot open the file"),
        ([*TUNE, "--db", "a-file"], "a-file: not a database; use another --db"),
        (["show", "--db", "a-file"], "a-file: not a database"),
        (["explain", "mish_mish", "--shape", "64", "--db", "a-file"], "a-file: not a database"),
        (["export", "-o", "none/x.py"], "none/x.py: cannot write: No such file"),
        (["import", "none.jsonl"], "none.jsonl: cannot read: No such file"),
        (["import", "a-file"], "a-file line 1: not JSON"),
        (["merge", "none.db"], "none.db: no such database"),
        (["merge", "a-file"], "a-file: not a database"),
    ],
)
def test_what_cannot_be_done(
    arguments: list[object], said: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("neither a database nor JSON\n" * 9)
    refused(run(*arguments), 1, said)
    assert (tmp_path / "a-file").read_text() == "neither a database nor JSON\n" * 9


def test_a_gpu_that_only_others_have(
    run: Run, measurements: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    from_the_start = Host.on_gpu
    measurements(time_us)
    monkeypatch.setattr(Host, "on_gpu", from_the_start)
    refused(run(*TUNE, "--device", "cuda:9"), 2, "cuda:9: this machine has 1 CUDA GPUs")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe6\x004\x00", "expected UTF-8 text, byte 0 is none"),
        (b"64,64\nwide,high\n", "line 2: --shape 'wide,high': expected positive integers"),
        (b"64,64\n\n0 # none\n", "line 3: --shape '0': every dim must be at least 1"),
        (b"# nothing\n", "give at least one --shape"),
    ],
)
def test_a_file_of_shapes_that_is_wrong(
    content: bytes, said: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "shapes.txt"
    path.write_bytes(content)
    refused(run("tune", "mish_mish", "--shapes", path), 2, said)


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("def broken(:\n", 1, "SyntaxError"),
        ("raise RuntimeError('two\\nlines')", 1, "RuntimeError: two lines"),
        ("import sys; sys.exit(3)", 1, "SystemExit: 3"),
        ("import tunekit\ntunekit.pointwise('x', epilogue=abs, reference=abs)", 1, "@triton.jit"),
        ("KERNEL = 1", 2, "has no tunekit kernel 'GELU'; it has: none"),
    ],
)
def test_a_kernel_file_that_is_wrong(
    source: str, status: int, said: str, run: Run, write_module: WriteModule
) -> None:
    path = write_module(source, "broken.py")
    refused(run("tune", f"{path}:GELU", "--shape", 64), status, "broken.py", said)


def test_a_space_that_leaves_nothing(
    run: Run, write_module: WriteModule, tmp_path: Path, estimates: Callable[..., Host]
) -> None:
    space = (ROOT / "spaces" / "pointwise.toml").read_text() + 'never = "BLOCK_SIZE > n"\n'
    (tmp_path / "tight.toml").write_text(space)
    source = GELU.replace("reference=F.gelu", f"reference=F.gelu, space='{tmp_path}/tight.toml'")
    path = write_module(source.format(name="tight_gelu", more=""), "tight.py")
    estimates(time_us)
    refused(
        run("tune", f"{path}:GELU", "--shape", 10**6),
        1,
        "tight.toml: constraints leave no configuration of",
        "never rejected",
    )


def _rows(path: Path) -> list[Any]:
    with Store.open(path, readonly=True) as store:
        return [*store.evaluations(), *store.decisions()]


def test_a_database_that_another_process_holds(
    run: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.01)
    before = _rows(tuned)
    with closing(sqlite3.connect(tuned, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(run("tune", "mish_mish", "--shape", 32), 1, "another process holds the database")
        assert run("show").status == 0  # reading goes on
    assert _rows(tuned) == before


def test_a_database_of_another_program(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    content = path.read_bytes()
    for command in (TUNE, ["show"], ["export"]):
        refused(run(*command, "--db", path), 1, "a database of another program, not of tunekit")
    assert path.read_bytes() == content


def test_a_database_of_a_newer_tunekit(run: Run, tuned: Path) -> None:
    newer = len(schema.MIGRATIONS) + 1
    with closing(sqlite3.connect(tuned)) as other:
        other.execute(f"PRAGMA user_version = {newer}")
    for command in (TUNE, ["show"], ["export"], ["merge", tuned]):
        refused(run(*command), 1, f"has version {newer}", "upgrade tunekit")
    with closing(sqlite3.connect(tuned)) as other:
        assert other.execute("SELECT count(*) FROM evaluations").fetchone() == (5,)


def test_a_damaged_database(run: Run, tuned: Path) -> None:
    with closing(sqlite3.connect(tuned)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    content = bytearray(tuned.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    tuned.write_bytes(content)
    refused(run("show"), 1, f"the database is damaged; `tunekit doctor --db {tuned}` says")
    refused(run(*TUNE), 1, "the database is damaged")


def test_a_folder_as_the_person_s_database(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEKIT_DB", str(tmp_path))
    refused(run(*TUNE), 1, f"{tmp_path}: cannot open the file")
    refused(run("import", ROOT / "README.md"), 1, f"{tmp_path}: cannot open the file")


def test_a_line_that_is_no_evaluation_imports_nothing(
    run: Run, tuned: Path, measurements: Callable[..., Host], tmp_path: Path
) -> None:
    measurements(time_us)
    lines = tmp_path / "measured.jsonl"
    run("confirm", "-o", lines)
    lines.write_text(lines.read_text() + '{"record": "evaluation"}\n')
    other = tmp_path / "other.db"
    refused(run("import", lines, "--db", other), 1, "measured.jsonl line ", "missing format")
    assert _rows(other) == []


def test_characters_that_cannot_be_printed_are_escaped(
    run: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert cli.main(["show"]) == 0
    sys.stdout.flush()
    assert b"mish_mish" in printed.getvalue()
    assert rb"time \xb5s" in printed.getvalue()


# Evaluations made elsewhere, and portfolios.


SHORT = {
    "kernel": "fp8_matmul", "dims": {"m": 512}, "dtype": "float8_e4m3fn", "device": "mi300x",
    "config": {"BLOCK_M": 64}, "status": "ok", "time_us": 12.5,
}  # fmt: skip


def test_evaluations_of_a_kernel_that_is_not_here(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "elsewhere.jsonl"
    others = [SHORT | {"time_us": 9.5}, SHORT | {"dtype": "int8"}]
    lines.write_text("".join(json.dumps(line) + "\n" for line in [SHORT, *others]))
    assert " 3 new evaluations and 0 new decisions" in run("import", lines).out
    assert " 0 new evaluations" in run("import", lines).out
    assert run("show", "--json").data == []
    for command in (["export"], ["export", "--portfolio", 2], ["show"]):
        assert run(*command).status == 0
    assert run("explain", "mish_mish", "--shape", "64", "--target", "h100").status == 0
    assert "unknown kernel" in run("show", "matmul_of_nobody").err


def test_a_bad_line_of_the_short_form_imports_nothing(
    run: Run, tmp_path: Path, database: Path
) -> None:
    lines = tmp_path / "elsewhere.jsonl"
    lines.write_text(json.dumps(SHORT) + "\n" + json.dumps(SHORT | {"status": "good"}) + "\n")
    refused(run("import", lines), 1, "elsewhere.jsonl line 2: status: expected one of ok, ")
    with Store.open(database) as store:
        assert store.evaluations() == []


def test_a_portfolio(run: Run, tuned: Path, tmp_path: Path) -> None:
    table = tmp_path / "portfolio.py"
    ended = run("export", "--portfolio", 2, "-o", table)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("mish_mish on h100: 1 configuration for 1 problem, worst-case ")
    assert run("export", "--portfolio", 2).out == table.read_text()
    assert run("export", "--portfolio", 2, "-o", table, "--check").out == ""
    refused(run("export", "--portfolio", 3, "-o", table, "--check"), 1, "is out of date")
    data = run("export", "mish_mish", "--portfolio", 2, "--format", "json", "--device", "h100").data
    (entry,) = data["portfolios"]
    assert entry["problems"][0]["source"] == "estimated"
    assert entry["worst_loss"] == 0.0
    assert run("export", "--portfolio", 2, "--device", "h200", "--format", "json").data[
        "portfolios"
    ] == []  # fmt: skip


def test_portfolios_that_cannot_be(run: Run, tuned: Path) -> None:
    refused(run("export", "--portfolio", 0), 2, "--portfolio")
    refused(run("export", "--portfolio", "many"), 2, "--portfolio")
    refused(run("export", "nope", "--portfolio", 2), 2, "unknown kernel 'nope'")
    refused(run("export", "--portfolio", 2, "--db", "none.db"), 2, "none.db: no such file")


# What a run leaves and shows besides its result.


def log_of(home: Path) -> list[dict[str, Any]]:
    """The lines of the only log."""
    (path,) = (home / ".local" / "state" / "tunekit").rglob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def failing(config: Config) -> float | Outcome:
    """Blocks of 512 are wrong, those of 256 do not fit."""
    wrong = Outcome(Status.WRONG, reason="differs", max_error=math.inf, details="said\nin full")
    unfit = Outcome(Status.REJECTED, reason="too big")
    return {512: wrong, 256: unfit}.get(config["BLOCK_SIZE"], time_us(config))


def test_a_run_leaves_a_log(run: Run, estimates: Callable[..., Host], isolated_home: Path) -> None:
    estimates(time_us)
    ended = run("tune", "mish_mish", "--shape", 16, "--shape", 32, "--trials", 2)
    assert "failed" not in ended.out
    lines = log_of(isolated_home)
    problem = ["began", "asked", "evaluated", "evaluated", "decided"]
    assert [line["event"] for line in lines] == ["run", *problem, *problem, "end"]
    assert lines[0]["given"] == {"kernel": "mish_mish", "shapes": ["16", "32"], "trials": 2}
    assert (lines[0]["device"], lines[0]["source"]) == ("h100", "estimated")
    assert [lines[1]["shape"], lines[6]["shape"]] == [[16], [32]]
    assert lines[-1]["status"] == "done"
    # The environment is nobody's business.
    assert not {"HOME", "PATH", "env", "environment"} & lines[0].keys()


def test_the_log_of_a_gpu_has_the_race(
    run: Run, measurements: Callable[..., Host], isolated_home: Path
) -> None:
    measurements(time_us)
    run("tune", "mish_mish", "--shape", 4096, "--trials", 4)
    lines = log_of(isolated_home)
    raced = [line for line in lines if line["event"] == "raced"]
    assert raced[0]["rounds"] == 8
    assert len(raced[0]["medians_us"]) == len(raced[0]["configs"]) > 1
    assert raced[0]["copy_us"] == pytest.approx(5.0, rel=0.05)
    assert [line["event"] for line in lines[-2:]] == ["decided", "end"]


def test_what_is_the_same_binary_is_in_the_log_too(
    run: Run, measurements: Callable[..., Host], isolated_home: Path
) -> None:
    host = measurements(lambda config: Outcome(Status.WRONG, reason="differs"))
    same = Outcome(Status.OK, binary=Binary("beef", 32, 0, 0, 16, 16), grid=(1, 1, 1))
    host.pool.binaries = lambda config: same
    ended = run("tune", "mish_mish", "--shape", "4096,4096", "--exhaustive")
    assert re.match(r"(\d+) of \1 configurations failed \(\1 wrong\): ",
                    ended.out.splitlines()[-1])  # fmt: skip
    shared = [line for line in log_of(isolated_home) if line["event"] == "shared"]
    assert shared
    for line in shared:
        assert line["outcome"]["status"] == "wrong"
        assert line["outcome"]["reason"].startswith("differs; not measured again")
        assert line["job"]["kernel"] == "mish_mish"


def test_failures_are_a_line_with_what_repeats_one(
    run: Run, estimates: Callable[..., Host], isolated_home: Path
) -> None:
    estimates(failing)
    ended = run("tune", "mish_mish", "--shape", 4096)
    lines = log_of(isolated_home)
    wrong = [
        number
        for number, line in enumerate(lines, start=1)
        if line["event"] == "evaluated" and line["outcome"]["status"] == "wrong"
    ]
    total = sum(line["event"] == "evaluated" for line in lines)
    said = ended.out.splitlines()[-1]
    # What the GPU cannot hold was to be expected.
    assert said.startswith(f"{len(wrong)} of {total} configurations failed ({len(wrong)} wrong): ")
    assert said.endswith(f".jsonl:{wrong[0]}`")
    outcome = lines[wrong[0] - 1]["outcome"]
    assert (outcome["max_error"], outcome["details"]) == ("inf", "said\nin full")


def test_of_data_for_a_script_failures_are_no_part(
    run: Run, estimates: Callable[..., Host]
) -> None:
    estimates(failing)
    ended = run("tune", "mish_mish", "--shape", 4096, "--json")
    assert ended.data[0]["statuses"]["wrong"] > 0
    assert re.fullmatch(r"\d+ of \d+ configurations failed .*\n", ended.err)


def test_verbose_is_a_line_an_event(
    run: Run, measurements: Callable[..., Host], isolated_home: Path
) -> None:
    host = measurements(failing)
    host.pool.compile_ahead = lambda jobs: host.pool.on_ready("device:0", 2.345)
    ended = run("tune", "mish_mish", "--shape", 4096, "--exhaustive", "--verbose", "--json")
    assert len(ended.data) == 1
    log, began, asked, *lines = ended.err.splitlines()
    assert log.startswith(f"log: {isolated_home}")
    assert re.fullmatch(r"mish_mish 4096 float32 on h100: up to \d+ configurations, 0 known", began)
    assert re.match(r"next \d+: BLOCK_SIZE=1024, ", asked)
    assert lines[0] == "the device:0 worker is ready; its imports took 2.35 s"
    assert any(re.fullmatch(r"1/\d+ ok 15\.00 µs: BLOCK_SIZE=1024, .*", line) for line in lines)
    wrong = [line for line in lines if re.match(r"\d+/\d+ wrong: BLOCK_SIZE=512, ", line)]
    number = re.search(r"; differs \(line (\d+) of the log\)$", wrong[0])
    assert number
    assert log_of(isolated_home)[int(number[1]) - 1]["outcome"]["status"] == "wrong"
    assert any(re.match(r"\d+/\d+ rejected: .*; too big$", line) for line in lines)
    assert any(re.match(r"raced \d+ configurations and a copy for 12 rounds", e) for e in lines)
    assert re.match(r"stopped: every configuration evaluated; winner BLOCK_SIZE", lines[-2])
    assert "configurations failed" in lines[-1]


@pytest.mark.parametrize("command", ["tune", "confirm"])
def test_a_log_that_cannot_be_written_stops_nothing(
    command: str,
    run: Run,
    tuned: Path,
    measurements: Callable[..., Host],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNEKIT_LOG", str(tmp_path / "file" / "logs"))
    measurements(failing)
    options = ["mish_mish", "--shape", 4096, "--exhaustive"] if command == "tune" else ["--verbose"]
    ended = run(command, *options)
    assert ended.status == 0
    assert ended.err.startswith(f"tunekit: {tmp_path}/file/logs: no log is written: ")
    assert ended.err.count("no log is written") == 1
    if command == "tune":
        assert re.fullmatch(r"\d+ of \d+ configurations failed \(\d+ wrong\)",
                            ended.out.splitlines()[-1])  # fmt: skip


def test_no_log_where_none_is_wanted(
    run: Run, estimates: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, isolated_home: Path
) -> None:
    monkeypatch.setenv("TUNEKIT_LOG", "/dev/null")
    estimates(time_us)
    ended = run("tune", "mish_mish", "--shape", 16, "--trials", 1, "--verbose")
    assert (ended.status, ended.err.splitlines()[0]) == (0, "log: none")
    assert not any(isolated_home.iterdir())


def test_confirming_is_logged_too(
    run: Run, tuned: Path, measurements: Callable[..., Host], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("TUNEKIT_LOG", str(tmp_path / "logs"))
    measurements(time_us)
    assert run("confirm").status == 0
    (path,) = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["command"] == "tunekit confirm"
    assert {"began", "evaluated", "raced", "decided", "end"} <= {line["event"] for line in lines}


def test_a_problem_that_cannot_be_tuned_a_warning_and_an_interrupt_are_in_the_log(
    run: Run,
    estimates: Callable[..., Host],
    isolated_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def warn(session: object) -> None:
        notices.warn("the study is not up to date")

    monkeypatch.setattr(tuning, "project_study", warn)
    host = estimates(lambda c: KeyboardInterrupt() if len(host.pool.jobs) == 3 else time_us(c))
    ended = run("tune", "mish_mish", "--shape", 2**40, "--shape", 16, "--shape", 32, "--trials", 2)
    assert ended.status == 130
    lines = log_of(isolated_home)
    (failed,) = (line for line in lines if line["event"] == "failed")
    assert failed["error"] == "DeviceMemoryError"
    assert failed["message"].startswith(f"mish_mish at {2**40}")
    warned = [line["message"] for line in lines if line["event"] == "warning"]
    assert warned[0] == "the study is not up to date"
    end = lines[-1]
    assert (end["event"], end["status"], end["error"]) == (
        "end",
        "interrupted",
        "KeyboardInterrupt",
    )


def test_a_mistake_of_tunekit_s_own_is_in_the_log_in_full(
    run: Run, estimates: Callable[..., Host], isolated_home: Path
) -> None:
    estimates(lambda config: ZeroDivisionError("of tunekit's"))
    with pytest.raises(ZeroDivisionError):
        run("tune", "mish_mish", "--shape", 16)
    end = log_of(isolated_home)[-1]
    assert (end["status"], end["error"], end["message"]) == (
        "failed", "ZeroDivisionError", "of tunekit's",
    )  # fmt: skip
    assert end["details"].startswith("Traceback")
