from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import kernels
import kernels_report
import pytest
import torch
from kernels_report import (
    COPY,
    EAGER,
    IDENTITY,
    MAX_AUTOTUNE,
    ORIGINAL,
    TUNED,
    Contest,
    OddPair,
    Report,
    Row,
    as_data,
    as_text,
    goals,
)

from tunekit.core.config import Config
from tunekit.core.device import device_named
from tunekit.core.evaluation import Status
from tunekit.core.space import context
from tunekit.errors import DeviceMemoryError, NothingTunedError
from tunekit.evaluate import inputs
from tunekit.evaluate.job import Job, Outcome, Race
from tunekit.evaluate.rotation import Rotation
from tunekit.gpu import PresentGpu
from tunekit.kernels.library import KERNELS

QUICK_FLOAT32 = ["--quick", "--dtypes", "float32"]
TIMES = {COPY: 100.0, IDENTITY: 98.0, ORIGINAL: 180.0, EAGER: 300.0, MAX_AUTOTUNE: 120.0}


def _row(contender: str, us: float, **fields: object) -> Row:
    return Row(contender, (us,) * 5, **{"error": 0.5, "right": True, **fields})


def _contest(tuned: float = 99.0, dtype: str = "float32", **others: Row) -> Contest:
    rows = {name: _row(name, us) for name, us in (TIMES | {TUNED: tuned}).items()}
    rows |= {row.contender: row for row in others.values()}
    config = Config(BLOCK_SIZE=1024)
    return Contest("mish_mish", (4, 4), dtype, 800_000_000, tuple(rows.values()), {TUNED: config})


def _report(*contests: Contest, slug: str = "h100", pairs: Sequence[OddPair] = ()) -> Report:
    return Report({"GPU": "a GPU"}, slug, True, list(contests), list(pairs))


def _verdicts(report: Report) -> list[bool | None]:
    return [goal.passed for goal in goals(report)]


@pytest.mark.parametrize(
    ("slug", "dtype", "tuned", "passed"),
    [
        ("h100", "float32", 99.9, True),
        ("h100", "float32", 100.1, False),
        ("h100", "float16", 102.8, True),
        ("h100", "float16", 103.0, False),
        ("h200", "float32", 100.1, False),
        ("h200", "bfloat16", 107.7, True),
        ("h200", "bfloat16", 108.0, False),
        ("rtx4090", "float32", 99.0, None),
    ],
)
def test_the_copy_goal_is_over_the_faster_copy(
    slug: str, dtype: str, tuned: float, passed: bool | None
) -> None:
    assert _verdicts(_report(_contest(tuned, dtype), slug=slug))[0] is passed


@pytest.mark.parametrize(("tuned", "passed"), [(120.5, True), (120.7, False)])
def test_half_a_percent_over_max_autotune_is_noise(tuned: float, passed: bool) -> None:
    assert _verdicts(_report(_contest(tuned)))[1] is passed


@pytest.mark.parametrize(("tuned", "passed"), [(105.8, True), (106.0, False)])
def test_the_original_has_to_be_beaten_where_arithmetic_bound_it(
    tuned: float, passed: bool
) -> None:
    assert _verdicts(_report(_contest(tuned)))[2] is passed
    assert len(goals(_report(_contest(tuned, "float16")))) == 2
    assert len(goals(_report(_contest(tuned), slug="h200"))) == 2


def test_a_wrong_tuned_result_passes_no_goal() -> None:
    wrong = _row(TUNED, 10.0, right=False, error=9.0)
    assert _verdicts(_report(_contest(tuned_row=wrong))) == [False, False, False]


def test_a_contender_that_is_missing_or_wrong_is_not_judged_against() -> None:
    missing = Row(MAX_AUTOTUNE, note="did not run: no compiler")
    wrong = _row(ORIGINAL, 1.0, right=False)
    report = _report(_contest(auto=missing, original=wrong))
    assert _verdicts(report) == [True, None, None]
    assert "WRONG RESULT" in as_text(report)
    assert "did not run: no compiler" in as_text(report)


def test_a_copy_that_is_wrong_is_no_copy() -> None:
    report = _report(_contest(identity=_row(IDENTITY, 1.0, right=False)))
    assert report.contests[0].copy_us == TIMES[COPY]


@pytest.mark.parametrize(("second", "passed"), [(10.4, True), (10.6, False)])
def test_an_odd_size_may_cost_a_twentieth_more_an_element(second: float, passed: bool) -> None:
    samples = ((10.0,) * 3, (second,) * 3)
    pair = OddPair("mish_mish", "float16", (10**6, 10**6 + 1), samples, (Config(), Config()))
    assert _verdicts(_report(pairs=[pair])) == [passed]
    assert "1,000,001" in as_text(_report(pairs=[pair]))


def test_what_did_not_fit_is_not_judged_and_said() -> None:
    report = _report()
    report.skipped.append("mish_mish float32: needs 99 GB")
    assert _verdicts(report) == [None]
    assert "SKIP  left out: mish_mish float32: needs 99 GB" in as_text(report)


def test_the_table_gives_every_ratio() -> None:
    lines = as_text(_report(_contest())).splitlines()
    tuned = next(line for line in lines if TUNED in line and line.startswith("|"))
    cells = [cell.strip() for cell in tuned.strip("|").split("|")]
    assert cells[2:9] == ["99.0", "0.0 %", "8081", "1.010", "1.82", "1.21", "0.50"]
    assert len({len(line) for line in lines if line.startswith("|")}) == 1


def test_spread_is_half_the_range_of_the_middle_eight_tenths() -> None:
    row = Row(COPY, tuple(float(us) for us in range(90, 111)))
    assert row.us == 100.0
    assert row.spread == pytest.approx(0.08)


def test_data_is_json_whatever_failed() -> None:
    failed = Row(MAX_AUTOTUNE, note="did not run")
    wrong = _row(EAGER, 1.0, right=False, error=float("inf"))
    data = as_data(_report(_contest(auto=failed, eager=wrong)))
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again["contests"][0]["configs"][TUNED] == {"BLOCK_SIZE": 1024}
    assert {row["contender"]: row["us"] for row in again["contests"][0]["rows"]}[COPY] == 100.0
    assert [goal["passed"] for goal in again["goals"]] == [True, None, True]


class _FakeEvaluator:
    """Knows one configuration to be fast, one to be wrong, and says so."""

    fits = True
    correct = True

    def __init__(self, device: object) -> None:
        self.prepared: list[Job] = []

    def prepare(self, jobs: Sequence[Job]) -> None:
        self.prepared = list(jobs)

    def evaluate(self, job: Job) -> Outcome:
        if not self.fits:
            raise DeviceMemoryError("needs more")
        if not self.correct or job == self.prepared[0]:
            return Outcome(Status.WRONG, reason="differs")
        if job == self.prepared[1]:
            raise RuntimeError("out of resources")
        return Outcome(Status.OK, time_us=float(self.prepared.index(job)))

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        return Race([(10.0 - place,) * rounds for place in range(len(jobs))], (1.0,) * rounds)


class _FakeTimer:
    """Launches once, as the real one does, and takes its own time for it."""

    def __init__(self, launch: Callable[[int], None], rotation: Rotation) -> None:
        launch(rotation.sets - 1)

    def sample_us(self) -> float:
        return 2.0


@pytest.fixture
def no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script's own steps, with everything that needs a GPU replaced."""
    device = dataclasses.replace(device_named("h100"), l2_bytes=2**16)
    gpu = PresentGpu(0, "NVIDIA H100 80GB HBM3", "CUDA 13.0", device)

    def on_cpu(shape: Sequence[int], dtype: str, seed: int, device: str) -> torch.Tensor:
        return inputs.random_input(shape, dtype, seed, "cpu")

    def tuned_run(case: kernels.Case, config: Config, gpu: PresentGpu) -> kernels.Run:
        reference, scalars = case.kernel.reference, case.kernel.scalars
        return lambda x, out: out.copy_(reference(x.double(), **scalars))

    def original_run(name: str) -> kernels.Run:
        original = kernels.ORIGINALS[name]
        return lambda x, out: out.copy_(original.computes(x.double(), **original.scalars))

    def compiled_run(kernel: kernels.Kernel, mode: str) -> kernels.Run:
        if mode == "default":
            return lambda x, out: out  # an output never written is all nan
        return lambda x, out: 1 // 0

    fakes = {
        "select_gpu": lambda index: gpu,
        "DeviceEvaluator": _FakeEvaluator,
        "Timer": _FakeTimer,
        "random_input": on_cpu,
        "tuned_run": tuned_run,
        "original_run": original_run,
        "compiled_run": compiled_run,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(kernels, name, fake)


@pytest.mark.usefixtures("no_gpu_needed")
def test_a_run_measures_all_contenders_and_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, data = tmp_path / "report.md", tmp_path / "report.json"
    assert kernels.main([*QUICK_FLOAT32, "-o", str(text), "--json", str(data)]) == 0
    assert capsys.readouterr().out == text.read_text(encoding="utf-8")
    found = json.loads(data.read_text(encoding="utf-8"))
    assert len(found["contests"]) == len(found["odd_pairs"]) == 3
    for contest in found["contests"]:
        rows = {row["contender"]: row for row in contest["rows"]}
        right = {name for name, row in rows.items() if row["right"]}
        assert right == {COPY, IDENTITY, ORIGINAL, EAGER, TUNED}
        assert rows[kernels_report.COMPILE]["error"] is None
        assert rows[MAX_AUTOTUNE]["note"].startswith("did not run: ZeroDivisionError")
        assert {len(row["samples_us"]) for row in rows.values()} == {0, kernels.QUICK.rounds}
    assert "Not judged at these sizes" in text.read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_gpu_needed")
def test_the_command_line_narrows_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--no-odd", "--ops", "mish_mish", "--dtypes", "float16"]
    assert kernels.main([*arguments, "--rounds", "3"]) == 0
    printed = capsys.readouterr().out
    assert "## float16" in printed
    assert "3 samples each" in printed
    assert not any(word in printed for word in ("float32", "gelu", "not divisible"))


@pytest.mark.usefixtures("no_gpu_needed")
def test_what_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_FakeEvaluator, "fits", False)
    data = tmp_path / "report.json"
    assert kernels.main(["--quick", "--json", str(data)]) == 0
    found = json.loads(data.read_text(encoding="utf-8"))
    assert found["contests"] == []
    assert found["skipped"][0] == "mish_add_hardtanh_scale float32: DeviceMemoryError: needs more"


@pytest.mark.usefixtures("no_gpu_needed")
def test_tuning_takes_the_winner_of_the_race(capsys: pytest.CaptureFixture[str]) -> None:
    case = kernels.Case(KERNELS["mish_mish"], (2**28,), "float32")
    gpu = kernels.select_gpu(0)
    known = context({"n": 2**28}, 4, gpu.device)
    configs = case.kernel.load_space().configs(known)
    # The first is wrong and the second fails; of the eight that follow the last wins.
    assert kernels.tune(case, gpu, 1) == configs[9]
    flat = [config for config in configs if config["num_stages"] == 1]
    assert kernels.tune(case, gpu, 1, flat_only=True) == flat[9]
    said = capsys.readouterr().err
    assert f"{len(configs) - 2} of {len(configs)} configurations verified" in said


@pytest.mark.usefixtures("no_gpu_needed")
def test_an_op_of_which_nothing_is_right_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_FakeEvaluator, "correct", False)
    assert kernels.main(["--quick"]) == NothingTunedError.exit_status
    assert "error: identity float32: differs" in capsys.readouterr().err


def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert kernels.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", kernels.FULL.shapes)
def test_the_eager_chain_is_one_graph(name: str) -> None:
    kernel = KERNELS[name]
    scalars = dict(kernel.scalars)
    chain = torch.compile(
        lambda x: kernel.reference(x, **scalars), backend="eager", fullgraph=True, dynamic=False
    )
    x = torch.randn(3, 5)
    torch.testing.assert_close(chain(x), kernels.eager_run(kernel)(x, x))


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # what torch.compile warns of is its own affair
def test_a_quick_run_on_the_gpu(tmp_path: Path) -> None:
    data = tmp_path / "report.json"
    assert kernels.main(["--quick", "--json", str(data)]) == 0
    found = json.loads(data.read_text(encoding="utf-8"))
    for contest in found["contests"]:
        assert all(row["right"] and row["samples_us"] for row in contest["rows"]), contest
