"""`tunekit profile` and `tunekit show --metrics`, end to end but for the GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tuned_problem import DEFAULT, WINNER, decision_of, evaluations, launched_json

from tunekit import arguments, cli, gpu
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Source
from tunekit.gpu import PresentGpu
from tunekit.profile import find
from tunekit.profile.counters import SM
from tunekit.store.database import Store

DATA = Path(__file__).parent / "data"
PROBLEM = ("mish_add_hardtanh_scale", "--shape", "128,64,256,256")
MakeNcu = Callable[..., Any]


@dataclass(frozen=True)
class Ended:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def words(self) -> list[str]:
        """The lines of a table, one space between words."""
        return [" ".join(line.split()) for line in self.out.splitlines()]


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command where there is an H100 and nothing was shipped."""
    h100 = PresentGpu(0, "NVIDIA H100 80GB HBM3", "580.159.04", DEVICES["h100"])
    monkeypatch.setattr(gpu, "gpu_count", lambda: 1)
    monkeypatch.setattr(gpu, "present_gpu", {0: h100}.__getitem__)
    monkeypatch.setattr(arguments, "shipped_database", lambda: tmp_path / "shipped.db")
    monkeypatch.setenv("TUNEKIT_DB", str(tmp_path / "mine.db"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def command(*given: object) -> Ended:
        capsys.readouterr()
        status = cli.main([str(each) for each in given])
        return Ended(status, *capsys.readouterr())

    return command


@pytest.fixture
def profile(run: Run, make_ncu: MakeNcu, tuned: Path) -> Callable[..., Ended]:
    """Profiles the problem that is tuned; what is given says how Nsight Compute answers."""

    def profiled(*given: object, **answer: Any) -> Ended:
        return run("profile", *PROBLEM, "--ncu", make_ncu(**answer).path, *given)

    return profiled


@pytest.mark.usefixtures("tuned")
def test_winner_beside_default(profile: Callable[..., Ended], tmp_path: Path) -> None:
    ended = profile()
    assert (ended.status, ended.err) == (0, "")
    assert ended.words[:3] == [
        "mish_add_hardtanh_scale 128,64,256,256 float32 on NVIDIA H100 80GB HBM3: counters by "
        "Nsight Compute 2025.3.1.0, L2 cache cold",
        f"winner: {WINNER}, 1410.02 µs",
        f"default: {DEFAULT}, 1421.94 µs",
    ]
    assert ended.words[3] == "counter winner default"
    for line in (
        "duration µs 1,410.37 1,418.40",
        "sm % 30.0 17.7",
        "dram % 90.4 89.9",
        "warps active % 95.1 84.8",
        "L2 hit % 50.7 51.1",
        "grid 524,288 524,288",
        "registers 32 30",
    ):
        assert line in ended.words
    assert ended.words[-1] == (
        f"stored in {tmp_path / 'mine.db'}; `tunekit show --metrics` shows it again"
    )


def test_they_are_stored_beside_the_evaluations(profile: Callable[..., Ended], tuned: Path) -> None:
    assert profile().status == 0
    with Store.open(tuned, readonly=True) as store:
        read = {each.config: store.counters(each.uid) for each in store.evaluations()}
    assert read[WINNER][SM.name].value == 30.02
    assert read[DEFAULT][SM.name].value == 17.72
    assert {each.tool for each in read[WINNER].values()} == {"Nsight Compute 2025.3.1.0"}


def test_json(profile: Callable[..., Ended], tuned: Path) -> None:
    ended = profile("--json", "--set", "bogus__metric.sum")
    assert (ended.status, ended.err) == (0, "")
    data = ended.data
    assert (data["kernel"], data["shape"], data["dtype"], data["device"]) == (
        "mish_add_hardtanh_scale",
        [128, 64, 256, 256],
        "float32",
        "h100",
    )
    assert (data["tool"], data["database"]) == ("Nsight Compute 2025.3.1.0", str(tuned))
    winner, default = data["profiles"]
    assert (winner["role"], default["role"]) == ("winner", "default")
    assert (winner["config"], default["config"]) == (dict(WINNER), dict(DEFAULT))
    assert winner["counters"][SM.name] == {"value": 30.02, "unit": "%"}
    assert winner["not_read"] == ["bogus__metric.sum"]
    assert winner["grid"] == [524288, 1, 1]
    assert winner["stored"] is default["stored"] is True


def test_a_counter_that_is_not_there_is_named(profile: Callable[..., Ended]) -> None:
    ended = profile("--set", "bogus__metric.sum", "--set", "dram__bytes_read.avg")
    assert ended.status == 0
    assert "not read on this GPU: bogus__metric.sum" in ended.words
    assert "dram__bytes_read.avg 53,687,340.8 byte 53,687,712 byte" in ended.words


def test_show_metrics(run: Run, profile: Callable[..., Ended]) -> None:
    assert profile().status == 0
    ended = run("show", "--metrics")
    assert (ended.status, ended.err) == (0, "")
    assert ended.words[0] == (
        "kernel device dtype shape which configuration time µs sm % dram % warps active % "
        "L2 hit % grid registers"
    )
    problem = "mish_add_hardtanh_scale h100 float32 128,64,256,256"
    assert ended.words[2:4] == [
        f"{problem} winner {WINNER} 1410.02 30.0 90.4 95.1 50.7 524,288 32",
        f"{problem} default {DEFAULT} 1421.94 17.7 89.9 84.8 51.1 524,288 30",
    ]
    assert ended.words[-1] == "counters by Nsight Compute 2025.3.1.0; --json has all of them"
    assert run("show", "mish_add_hardtanh_scale", "--metrics", "--device", "h100").out == ended.out


def test_show_metrics_as_json(run: Run, profile: Callable[..., Ended]) -> None:
    assert profile().status == 0
    winner, default = run("show", "--metrics", "--json").data
    assert (winner["role"], default["role"]) == ("winner", "default")
    assert winner["config"] == dict(WINNER)
    assert winner["time_us"] == 1410.02
    assert winner["counters"][SM.name]["value"] == 30.02
    assert winner["counters"][SM.name]["tool"] == "Nsight Compute 2025.3.1.0"


def test_show_metrics_where_there_are_none(run: Run, tuned: Path) -> None:
    assert run("show", "--metrics", "--json").data == []
    ended = run("show", "mish_add_hardtanh_scale", "--metrics")
    assert (ended.status, ended.out) == (
        0,
        "no counters are stored yet of mish_add_hardtanh_scale; "
        "`tunekit profile mish_add_hardtanh_scale --shape S` reads them\n",
    )
    tuned.unlink()
    assert run("show", "--metrics").out.startswith("no counters are stored yet of anything; ")


def test_shipped_rows_are_profiled_and_their_counters_are_the_persons(
    run: Run, make_ncu: MakeNcu, tuned: Path
) -> None:
    shipped = tuned.with_name("shipped.db")
    with Store.open(tuned) as store:
        store.publish(shipped)
    tuned.unlink()
    for _ in range(2):
        ended = run("profile", *PROBLEM, "--ncu", make_ncu().path, "--json")
        assert [each["role"] for each in ended.data["profiles"]] == ["winner", "default"]
    assert len(run("show", "--metrics", "--json").data) == 2
    with Store.open(shipped, readonly=True, immutable=True) as store:
        assert store.all_counters() == []


def test_what_runs_here_may_be_another_binary(profile: Callable[..., Ended], tuned: Path) -> None:
    ended = profile(launched=launched_json(["other", "ca2069c66c6433c5"]))
    assert ended.status == 0
    assert "sm % 30.0 17.7" in ended.words
    assert ended.err == (
        "tunekit: not stored: of the winner another binary was compiled here than was measured "
        "under Triton 3.6.0; `tunekit confirm mish_add_hardtanh_scale` measures it again\n"
    )
    with Store.open(tuned, readonly=True) as store:
        assert {each.evaluation for each in store.all_counters()} == {evaluations()[1].uid}
    ended = profile(launched=launched_json(["other", "other"]))
    assert "stored in" not in ended.out


def refused(ended: Ended, status: int = 1) -> str:
    """What is said: one line, and nothing else."""
    assert (ended.status, ended.out) == (status, "")
    assert ended.err.startswith("tunekit: ")
    assert ended.err.count("\n") == 1
    return ended.err.removeprefix("tunekit: ").rstrip("\n")


PERMISSION = (
    "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU "
    "Performance Counters on the target device 0.\n"
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"log": PERMISSION, "launched": {"error": "CUDA error"}, "status": 1},
            "NVreg_RestrictProfilingToAdminUsers=0",
        ),
        (
            {"log": "==ERROR== Cuda driver is not compatible with Nsight Compute.\n"},
            "update the driver",
        ),
        ({"log": (DATA / "unknown-metric.log").read_text()}, "--set takes the full name"),
        ({"log": (DATA / "no-kernels.log").read_text()}, "tells of no launch where 2 ran"),
        ({"log": b"\xff\x00garbage"}, "tells of no launch"),
        ({"log": None, "launched": {}, "status": 1}, "ended with exit status 1"),
        ({"launched": {"error": "it does not fit\non the GPU"}}, "it does not fit on the GPU"),
        ({"version": "hello"}, "is not Nsight Compute"),
    ],
)
def test_where_nothing_is_counted_it_says_why_in_one_line(
    profile: Callable[..., Ended], tuned: Path, answer: dict[str, Any], said: str
) -> None:
    assert said in refused(profile(**answer))
    assert said in refused(profile("--json", **answer))
    with Store.open(tuned, readonly=True) as store:
        assert store.all_counters() == []


def test_timeout(profile: Callable[..., Ended]) -> None:
    said = refused(profile("--timeout", "1", sleep_s=60))
    assert "did not end within 1 s and was killed" in said


def test_no_profiler(run: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_candidates", lambda: iter(()))
    assert "install it, it comes with the CUDA toolkit, or name it by --ncu PATH" in refused(
        run("profile", *PROBLEM)
    )


def test_one_that_is_found(
    run: Run, tuned: Path, make_ncu: MakeNcu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(make_ncu().path.parent), prepend=":")
    assert run("profile", *PROBLEM).status == 0


def test_no_gpu(run: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    assert refused(run("profile", *PROBLEM), 2) == (
        "--device cuda:0: this machine has 0 CUDA GPUs, and hardware counters are read on one"
    )


@pytest.mark.usefixtures("tuned")
def test_a_problem_that_is_not_tuned(run: Run) -> None:
    for given, command in (
        (("mish_mish", "--shape", "64,64"), "mish_mish --shape 64,64 --dtype float32"),
        ((*PROBLEM, "--dtype", "bf16"), " ".join((*PROBLEM, "--dtype bfloat16"))),
    ):
        said = refused(run("profile", *given))
        assert said.endswith(f"is not tuned on h100: run `tunekit tune {command}` first")


def test_sizes_with_names(run: Run) -> None:
    kernel = f"{Path(__file__).parents[1] / 'gpu' / 'planned_kernels.py'}:column_sums"
    sizes = ("--dim", "rows=64", "--dim", "columns=256")
    assert refused(run("profile", kernel, *sizes)) == (
        f"column_sums rows=64 columns=256 float32 is not tuned on h100: run `tunekit tune {kernel} "
        f"{' '.join(sizes)} --dtype float32` first"
    )


def test_an_estimate_is_not_profiled(run: Run, tmp_path: Path) -> None:
    winner, default = evaluations(Source.ESTIMATED)
    with Store.open(tmp_path / "mine.db") as store:
        store.add([winner, default])
        store.decide(decision_of(winner, default))
    assert "is not tuned on h100" in refused(run("profile", *PROBLEM))


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--set", "sm throughput"), "--set 'sm throughput'"),
        (("--set", "--export"), "--set '--export'"),
        (("--ncu", "/nowhere/ncu"), "--ncu /nowhere/ncu: no such program"),
        (("--device", "cuda:7"), "--device cuda:7: this machine has 1 CUDA GPUs"),
        (("--device", "rtx4090"), "--device 'rtx4090'"),
        (("--dtype", "int3"), "--dtype 'int3'"),
        (("--timeout", "0"), "--timeout"),
        (("--timeout", "nan"), "--timeout"),
        (("--db", "/nowhere/mine.db"), "--db /nowhere/mine.db: no such file"),
    ],
)
def test_wrong_usage(run: Run, given: tuple[str, ...], said: str) -> None:
    assert said in refused(run("profile", *PROBLEM, *given), 2)


def test_wrong_kernels_and_shapes(run: Run) -> None:
    assert "unknown kernel 'mish'" in refused(run("profile", "mish", "--shape", "64"), 2)
    assert "--shape" in refused(run("profile", "mish_mish"), 2)
    assert "--shape 'x'" in refused(run("profile", "mish_mish", "--shape", "x"), 2)
    assert "--recorded is of" in refused(run("show", "--metrics", "--recorded", "calls.jsonl"), 2)
    assert "unknown kernel" in refused(run("show", "mish", "--metrics"), 2)
