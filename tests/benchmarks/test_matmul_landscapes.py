from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import matmul_landscapes
import pytest
import torch
from matmul_landscapes import (
    BFLOAT16_SHAPES,
    FIRST_SAMPLES,
    HOPELESS,
    RACE_ROUNDS,
    SHAPES,
    SHARED_BYTES,
    Judge,
    MatmulProblem,
    binary_class,
    compile_one,
    is_valid,
    load,
    problems,
    read,
    reference,
    relative_spread,
    row_of,
    sample_all,
    space,
    stage_bytes,
    write,
)

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.evaluation import Binary, Status
from tunekit.gpu import PresentGpu

BENCHMARKS = Path(matmul_landscapes.__file__).parent
PROBLEM = MatmulProblem((16, 4096, 4096), "float16")
SMALL = Config(BLOCK_M=16, BLOCK_N=64, BLOCK_K=32, GROUP_M=1, num_warps=2, num_stages=4)
HUGE = Config(BLOCK_M=128, BLOCK_N=256, BLOCK_K=64, GROUP_M=1, num_warps=8, num_stages=4)
BINARY = Binary("hash", 128, 8, 49152, 16, 16)
ORIGIN = {
    "device": "h100",
    "gpu_name": "NVIDIA H100 80GB HBM3",
    "driver": "580.95",
    "torch": "2.11.0",
    "triton": "3.6.0",
    "protocol": "graph-cold-2",
    "created_at": "2026-01-31T12:00:00+00:00",
}

# Odd sizes: every edge ends in a part of a block, the last band of 8 is lower than the others, and
# K is smaller than a block, several blocks, and no whole number of them. In float16 alone: the
# interpreter's dot takes the bits of bfloat16 for integers.
INTERPRETED = """
import itertools, json
from matmul_landscapes import Judge, MatmulProblem, make_inputs, matmul_bias_gelu, reference
import torch
blocks = [(16, 64, 32, 1), (32, 32, 64, 1), (16, 32, 32, 8), (32, 64, 128, 8)]
wrong = []
for shape in [(17, 65, 33), (1, 7, 5), (300, 70, 50), (64, 64, 64), (45, 130, 131)]:
    problem = MatmulProblem(shape, "float16")
    a, b, bias = make_inputs(problem, "cpu")
    # Past the end lies nan: what a mask lets through shows.
    surrounded = [torch.full((x.numel() + 4096,), float("nan"), dtype=x.dtype)
                  for x in (a, b, bias)]
    for around, x in zip(surrounded, (a, b, bias)):
        around[: x.numel()] = x.flatten()
    judge = Judge(reference(a, b, bias), "float16")
    for m, n, k, group in blocks:
        out = torch.empty(shape[:2], dtype=a.dtype)
        grid = (-(-shape[0] // m) * -(-shape[1] // n),)
        def run():
            matmul_bias_gelu[grid](*surrounded, out, *shape,
                BLOCK_M=m, BLOCK_N=n, BLOCK_K=k, GROUP_M=group, num_warps=4)
        if not judge.is_right(run, out):
            wrong.append([shape, m, n, k, group])
print(json.dumps(wrong))
"""


class _FakeTimer:
    """Gives a time, after the first samples a slowed one, and writes down that it was asked."""

    def __init__(self, name: str, time_us: float, asked: list[str], slowed: float) -> None:
        self.name, self.time_us, self.asked, self.slowed = name, time_us, asked, slowed

    def sample_us(self) -> float:
        self.asked.append(self.name)
        late = self.asked.count(self.name) > FIRST_SAMPLES
        return self.time_us * (self.slowed if late else 1.0)


def _sampled(
    times: Sequence[float], slowed: Sequence[float] | None = None
) -> tuple[list[tuple[float, ...]], list[str]]:
    asked: list[str] = []
    configs = [Config(BLOCK_M=index) for index in range(len(times))]
    timers = [
        (config, _FakeTimer(str(config["BLOCK_M"]), time_us, asked, factor))
        for config, time_us, factor in zip(
            configs, times, slowed or [1.0] * len(times), strict=True
        )
    ]
    found = sample_all(timers, settle_s=0.0)
    return [found[config] for config in configs], asked


def test_the_space_has_about_300_configurations() -> None:
    configs = space()
    assert len(configs) == len(set(configs)) == 304
    assert len({tuple(config) for config in configs}) == 1


def test_the_space_keeps_its_constraints() -> None:
    for config in space():
        block_m, block_n, warps = config["BLOCK_M"], config["BLOCK_N"], config["num_warps"]
        assert 16 <= block_m * block_n / (32 * warps) <= 128
        assert stage_bytes(config) * (config["num_stages"] - 1) <= SHARED_BYTES
        assert warps != 2 or block_m <= 32
        assert warps != 8 or block_m >= 64
        assert config["GROUP_M"] == 1 or block_m >= 128


def test_the_space_has_every_value_of_its_axes() -> None:
    values = {axis: {config[axis] for config in space()} for axis in SMALL}
    assert values == {
        "BLOCK_M": {16, 32, 64, 128, 256},
        "BLOCK_N": {32, 64, 128, 256},
        "BLOCK_K": {32, 64, 128},
        "GROUP_M": {1, 8},
        "num_warps": {2, 4, 8},
        "num_stages": {2, 3, 4, 5},
    }


def test_some_of_the_space_may_not_fit() -> None:
    assert any(stage_bytes(config) * config["num_stages"] > SHARED_BYTES for config in space())


@pytest.mark.parametrize(
    "changes",
    [
        {"num_stages": 2},  # 64 values of K in flight
        {"BLOCK_K": 128, "num_stages": 4},  # 512
        {"GROUP_M": 8},
        {"num_warps": 8},
        {"BLOCK_N": 32, "num_warps": 4},  # 4 accumulators a thread
        {"BLOCK_M": 256, "BLOCK_N": 256, "num_warps": 8},
        {"BLOCK_M": 256, "BLOCK_N": 32, "num_warps": 4},
    ],
)
def test_what_the_space_leaves_out(changes: dict[str, int]) -> None:
    assert is_valid(SMALL)
    assert not is_valid(Config({**SMALL, **changes}))


def test_the_plan_of_shapes() -> None:
    planned = problems()
    assert len(planned) == len(set(planned)) == 20
    assert set(BFLOAT16_SHAPES) <= set(SHAPES)
    assert all(min(problem.shape) >= 16 for problem in planned)
    assert MatmulProblem((1000, 1000, 1000), "float16") in planned


def test_problems_that_share_binaries_are_neighbours() -> None:
    classes = [each for each, _ in groupby(problems(), binary_class)]
    assert len(classes) == len(set(classes)) == 3


def test_offsets_stay_within_32_bits() -> None:
    for problem in problems():
        m, n, k = (size + 256 for size in problem.shape)
        assert max(m * n, m * k, n * k) < 2**31


def test_the_kernel_is_right_at_odd_shapes_in_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), str(BENCHMARKS)]),
        },
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_judge_lets_rounding_pass_and_nothing_else(dtype: str) -> None:
    problem = MatmulProblem((32, 48, 256), dtype)
    a, b, bias = matmul_landscapes.make_inputs(problem, "cpu")
    expected = reference(a, b, bias)
    judge = Judge(expected, dtype)
    output = torch.empty((32, 48), dtype=a.dtype)
    assert judge.is_right(lambda: output.copy_(expected), output)
    assert not judge.is_right(lambda: output[:-1].copy_(expected[:-1]), output)
    without_last = reference(a[:, :-1], b[:-1], bias)
    assert not judge.is_right(lambda: output.copy_(without_last), output)
    tanh = torch.nn.functional.gelu(torch.full((1,), -2.0), approximate="tanh")
    exact = torch.nn.functional.gelu(torch.full((1,), -2.0))
    assert abs(float(tanh - exact)) < 1e-3  # the other GELU is nearer than what is allowed


def test_a_binary_that_does_not_fit_is_rejected(compiling: Device) -> None:
    results = {config: compile_one(PROBLEM, config) for config in (SMALL, HUGE)}
    built = load(PROBLEM, results, compiling)
    assert built[SMALL].status is Status.OK
    assert built[SMALL].compiled is not None
    assert built[HUGE].status is Status.REJECTED
    assert built[HUGE].compiled is None
    assert built[HUGE].binary is not None
    assert built[HUGE].binary.shared_bytes > compiling.shared_bytes_per_block


def test_a_configuration_that_does_not_compile_says_so(
    compiling: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Config({**SMALL, "BLOCK_N": 48})
    built = load(PROBLEM, {odd: compile_one(PROBLEM, odd)}, compiling)
    assert built[odd].status is Status.COMPILE_ERROR
    assert built[odd].binary is None
    assert "BLOCK_N=48" in capsys.readouterr().err


def test_those_near_the_best_are_raced_in_turn() -> None:
    samples, asked = _sampled([10.0, 11.0, 20.0])
    assert [len(each) for each in samples] == [RACE_ROUNDS, RACE_ROUNDS, FIRST_SAMPLES]
    assert asked[-2 * RACE_ROUNDS :] == ["0", "1"] * RACE_ROUNDS


def test_the_hopeless_are_sampled_once() -> None:
    samples, _ = _sampled([10.0, 10.0 * HOPELESS + 1.0])
    assert [len(each) for each in samples] == [RACE_ROUNDS, 1]


def test_one_that_a_later_one_beats_is_not_raced() -> None:
    samples, _ = _sampled([100.0, 110.0, 50.0])
    assert [len(each) for each in samples] == [FIRST_SAMPLES, FIRST_SAMPLES, RACE_ROUNDS]


def test_what_is_near_once_the_gpu_has_slowed_down_is_raced_too() -> None:
    # The first one was sampled at a clock that does not last.
    samples, asked = _sampled([10.0, 12.5, 13.5, 20.0], slowed=[1.2, 1.0, 1.0, 1.0])
    assert [len(each) for each in samples] == [RACE_ROUNDS] * 3 + [FIRST_SAMPLES]
    assert asked[-3 * RACE_ROUNDS :] == ["0", "1", "2"] * RACE_ROUNDS
    assert samples[0][0] == pytest.approx(12.0)


def test_a_race_waits_for_the_clocks_to_settle() -> None:
    asked: list[str] = []
    timer = _FakeTimer("0", 10.0, asked, 1.0)
    samples = sample_all([(SMALL, timer)], settle_s=0.01)
    assert len(samples[SMALL]) == RACE_ROUNDS
    assert len(asked) > FIRST_SAMPLES + RACE_ROUNDS


def test_a_row_has_what_an_import_needs() -> None:
    row = row_of(PROBLEM, SMALL, Status.OK, [12.34567, 1234.567], BINARY, ORIGIN)
    assert row == {
        "kernel": "matmul_bias_gelu",
        "dims": {"M": 16, "N": 4096, "K": 4096},
        "dtype": "float16",
        "config": dict(SMALL),
        "status": "ok",
        "samples_us": [12.35, 1235.0],
        "registers": 128,
        "spill_bytes": 8,
        "shared_bytes": 49152,
        **ORIGIN,
    }


def test_a_row_without_a_binary_has_no_resources() -> None:
    row = row_of(PROBLEM, SMALL, Status.COMPILE_ERROR, (), None, ORIGIN)
    assert row["samples_us"] == []
    assert row["registers"] is row["spill_bytes"] is row["shared_bytes"] is None


def test_the_origin_names_gpu_and_versions() -> None:
    gpu = PresentGpu(0, "NVIDIA H100 80GB HBM3", "580.95", DEVICES["h100"])
    origin = matmul_landscapes.origin_of(gpu)
    assert list(origin) == list(ORIGIN)
    assert origin["device"] == "h100"
    assert "+" not in origin["torch"]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [row_of(PROBLEM, config, Status.OK, [1.5], BINARY, ORIGIN) for config in space()]
    write(rows, tmp_path / "new" / "a.jsonl.gz")
    write(rows, tmp_path / "b.jsonl.gz")
    assert read(tmp_path / "b.jsonl.gz") == rows
    same = (tmp_path / "new" / "a.jsonl.gz", tmp_path / "b.jsonl.gz")
    assert same[0].read_bytes() == same[1].read_bytes()


def test_the_report_names_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raced = [10.0 + index / 100 for index in range(RACE_ROUNDS)]
    rows = [
        row_of(PROBLEM, SMALL, Status.OK, raced, BINARY, ORIGIN),
        row_of(PROBLEM, HUGE, Status.OK, [100.0], BINARY, ORIGIN),
        row_of(MatmulProblem((32, 32, 32), "bfloat16"), SMALL, Status.WRONG, (), BINARY, ORIGIN),
    ]
    write(rows, tmp_path / "a.jsonl.gz")
    matmul_landscapes.report(tmp_path / "a.jsonl.gz")
    header, first, second, last = capsys.readouterr().out.splitlines()
    assert "NVIDIA H100" in header
    assert "16x4096x4096 float16" in first
    assert "53.3 TFLOP/s" in first
    assert "nothing ran" in second
    assert last == "2 problems, {'ok': 2, 'wrong': 1}"


def test_relative_spread_is_that_of_the_middle_half() -> None:
    assert relative_spread([9.0, 10.0, 10.0, 10.0, 10.0, 10.0, 50.0]) == 0.0
    assert relative_spread([9.0, 10.0, 11.0]) == pytest.approx(0.2)


def test_what_drifts_for_all_is_no_paired_spread() -> None:
    drifting = [[10.0, 11.0, 12.0], [20.0, 22.0, 24.0]]
    for samples in matmul_landscapes.without_drift(drifting):
        assert relative_spread(samples) == pytest.approx(0.0)


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "landscapes").glob("matmul-*.jsonl.gz")))
def test_what_is_committed_is_complete(path: Path) -> None:
    rows = read(path)
    found = {}
    for row in rows:
        key = MatmulProblem(tuple(row["dims"].values()), row["dtype"])
        found.setdefault(key, []).append(row)
    assert set(found) == set(problems())
    for landscape in found.values():
        assert [Config(row["config"]) for row in landscape] == space()
        assert all(bool(row["samples_us"]) == (row["status"] == "ok") for row in landscape)
    assert {row["status"] for row in rows} >= {"ok", "rejected"}
    assert f"matmul-{rows[0]['device']}.jsonl.gz" == path.name
