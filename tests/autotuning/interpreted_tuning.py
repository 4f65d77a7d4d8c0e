"""Tuning on a miss; `test_interpreter.py` runs it in Triton's interpreter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import triton

from tests.autotuning.conftest import DEVICE, Clock, Made
from tunekit.autotuning import autotuned, here, tuning
from tunekit.autotuning.live import GpuLostError, Live
from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Status, VerifiedBy
from tunekit.errors import KernelError
from tunekit.evaluate.job import Outcome
from tunekit.evaluate.trial import NO_REFERENCE
from tunekit.gpu import PresentGpu
from tunekit.notices import TunekitWarning
from tunekit.store.cache import read_cache
from tunekit.store.claims import claim
from tunekit.store.database import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.usefixtures("tunes"),
]

BEYOND = """x = tl.load(x_ptr + at, mask=mask)
    y = tl.load(y_ptr + at, mask=mask)
    tl.store(out_ptr + at, x, mask=mask | (BLOCK > 16))"""


def named(block: int) -> Config:
    return Config(BLOCK=block, num_warps=4, num_stages=3)


def evaluations(database: Path) -> list[Evaluation]:
    with Store.open(database, readonly=True) as store:
        return store.evaluations()


def ends(rows: list[Evaluation]) -> dict[int, Status]:
    """Of each block what became of it in the search."""
    return {
        row.config["BLOCK"]: row.status for row in rows if "race" not in row.provenance.protocol
    }


def test_every_configuration_is_measured_and_the_fastest_wins(
    adding: Made, clock: Clock, database: Path
) -> None:
    made = adding(16, 32, 64)
    made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 64}
    assert clock.measured_configs == [named(16), named(32), named(64)]
    (row,) = read_cache(database)
    assert (row.config, row.default_config) == (named(64), named(16))
    assert row.problem.kernel == "theirs:add_kernel"
    assert dict(row.problem.dims) == {"n": 60}
    assert row.provenance.protocol == "clock-1-race"
    assert row.reason.endswith("the output of the first was the reference")
    found = [each for each in evaluations(database) if each.config == named(32)]
    assert [each.reason for each in found] == [NO_REFERENCE]
    assert found[0].verified_by is VerifiedBy.DEVICE
    assert found[0].max_error == 0.0


def test_a_configuration_more_is_one_measurement_more(
    adding: Made, clock: Clock, database: Path
) -> None:
    adding(16, 32).add()
    clock.measured_configs.clear()
    made = adding(16, 32, 64)
    autotuned.forget_all()
    made.add()
    assert clock.measured_configs == [named(64)]
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 64}
    autotuned.forget_all()
    clock.measured_configs.clear()
    adding(64, 16).add()  # fewer, in another order
    assert clock.measured_configs == []


def test_another_size_is_another_problem(adding: Made, clock: Clock, database: Path) -> None:
    made = adding(16, 32)
    made.add(60)
    made.add(30)
    assert len(clock.measured_configs) == 4
    made.add(60)
    assert len(clock.measured_configs) == 4
    assert len(read_cache(database)) == 2


def test_what_is_wrong_for_one_block_is_never_served(
    adding: Made, clock: Clock, database: Path
) -> None:
    # The fastest leaves the last element of each block out.
    made = adding(16, 32, 64, mask="mask & ((BLOCK < 64) | (tl.arange(0, BLOCK) < BLOCK - 30))")
    made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}
    assert ends(evaluations(database))[64] is Status.WRONG
    (wrong,) = [row for row in evaluations(database) if row.status is Status.WRONG]
    assert "out_ptr differs from what the first configuration leaves" in wrong.reason
    assert clock.measured_configs == [named(16), named(32)]


def test_what_writes_beside_its_tensors_is_wrong_and_harms_nobody(
    adding: Made, clock: Clock, database: Path
) -> None:
    made = adding(16, 32, body=BEYOND)
    memory = torch.arange(64.0)
    x, out = torch.ones(40), memory[:40].clone()
    made.add_kernel[lambda meta: (triton.cdiv(40, meta["BLOCK"]),)](x, x, out, 40)
    assert torch.equal(out, x + x)
    rows = evaluations(database)
    assert ends(rows)[32] is Status.WRONG
    assert "writes beside its tensors" in {row.status: row.reason for row in rows}[Status.WRONG]


def test_what_changes_an_input_is_wrong_and_spoils_nothing_for_the_others(
    adding: Made, clock: Clock, database: Path
) -> None:
    body = """x = tl.load(x_ptr + at, mask=mask)
    y = tl.load(y_ptr + at, mask=mask)
    tl.store(x_ptr + at, x + 1, mask=mask & (BLOCK == 32))"""
    made = adding(16, 32, 64, body=body)
    made.add()
    rows = evaluations(database)
    assert ends(rows) == {16: Status.OK, 32: Status.WRONG, 64: Status.OK}
    (wrong,) = [row for row in rows if row.status is Status.WRONG]
    assert wrong.reason == "changes x_ptr, which the first configuration does not"


def test_what_cannot_be_run_is_an_evaluation(adding: Made, clock: Clock, database: Path) -> None:
    made = adding(16, 24, 32)  # 24 is no power of two
    made.add()
    assert ends(evaluations(database)) == {
        16: Status.OK,
        24: Status.COMPILE_ERROR,
        32: Status.OK,
    }
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}


def test_where_the_first_cannot_be_run_the_next_is_the_reference(
    adding: Made, clock: Clock, database: Path
) -> None:
    made = adding(24, 16, 32)
    made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}
    (row,) = read_cache(database)
    assert row.default_config is None


def test_where_none_can_be_run_the_first_one_says_why(
    adding: Made, clock: Clock, database: Path
) -> None:
    with (
        pytest.warns(TunekitWarning, match="none of 2 configurations can be launched"),
        pytest.raises(triton.runtime.errors.InterpreterError, match="power of 2"),
    ):
        adding(24, 40).add()


def test_the_callers_tensors_are_as_one_launch_leaves_them(
    usual: Callable[[str], ModuleType], clock: Clock, database: Path
) -> None:
    made = usual("tunekit")
    x = torch.arange(50.0)
    made.scale_kernel[lambda meta: (triton.cdiv(50, meta["BLOCK"]),)](x, 50, 3.0)
    assert torch.equal(x, 3 * torch.arange(50.0))
    assert len(clock.measured_configs) == 2
    out = torch.full((40,), 5.0)  # what is accumulated into it stays, as in every other call
    x = torch.ones(3, 40)
    grid = lambda meta: (triton.cdiv(40, meta["BLOCK"]), meta["SPLIT"])  # noqa: E731
    for total in (8.0, 11.0):
        made.column_sums_kernel[grid](x, out, 3, 40)
        assert torch.equal(out, torch.full((40,), total))


def test_views_of_one_memory_stay_views_of_one_memory(
    clock: Clock, database: Path, module: Made
) -> None:
    made = module(
        """
import torch, triton, tunekit
import triton.language as tl

@tunekit.autotune(configs=[triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 32})], key=["n"])
@triton.jit
def shift_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) + 1, mask=at < n)
"""
    )
    memory = torch.arange(80.0)
    made.shift_kernel[lambda meta: (triton.cdiv(40, meta["BLOCK"]),)](memory[:40], memory[40:], 40)
    assert torch.equal(memory, torch.cat([torch.arange(40.0), torch.arange(40.0) + 1]))
    assert len(read_cache(database)) == 1


def test_hooks_are_called_around_what_is_evaluated_and_not_around_the_call(
    usual: Callable[[str], ModuleType], clock: Clock, database: Path
) -> None:
    made = usual("tunekit")
    found, expected = made.hooked()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert made.HOOKED.count("before") == made.HOOKED.count("after") > 4
    made.HOOKED.clear()
    made.hooked()
    assert made.HOOKED == []  # that problem is known


def test_pruned_configurations_are_not_measured(
    usual: Callable[[str], ModuleType], clock: Clock, database: Path
) -> None:
    made = usual("tunekit")
    made.pruned()
    assert {config["BLOCK"] for config in clock.measured_configs} == {256, 128}  # two by the model
    assert made.PRUNED[0] == (4, 3, ["grid", "warmup"])


def test_the_default_is_kept_where_nothing_is_clearly_faster(
    adding: Made, clock: Clock, database: Path
) -> None:
    clock.table = lambda config: 5.0 - config["BLOCK"] / 1e5
    made = adding(16, 32)
    made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 16}


def test_what_is_found_wrong_after_the_race_does_not_win(
    adding: Made, clock: Clock, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Live.fault
    monkeypatch.setattr(
        Live, "fault", lambda self, config: "keeps a result" if config == named(64)
        else fault(self, config),
    )  # fmt: skip
    made = adding(16, 32, 64)
    made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 16}
    assert Status.WRONG in {row.status for row in evaluations(database)}


def test_a_result_that_differs_from_launch_to_launch_cannot_be_verified(
    adding: Made, clock: Clock, database: Path, module: Made
) -> None:
    source = """
import torch, triton, tunekit
import triton.language as tl

@tunekit.autotune(configs=[triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 32})], key=["n"]
                  BUFFERS)
@triton.jit
def noisy_kernel(x_ptr, out_ptr, scratch_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) + 1, mask=at < n)
    tl.store(scratch_ptr + tl.program_id(0), BLOCK * 1.0)
"""
    x, out = torch.ones(40), torch.empty(40)
    grid = lambda meta: (triton.cdiv(40, meta["BLOCK"]),)  # noqa: E731
    made = module(source.replace("BUFFERS", ""))
    made.noisy_kernel[grid](x, out, torch.zeros(8), 40)
    assert made.noisy_kernel.best_config.kwargs == {"BLOCK": 16}
    assert ends(evaluations(database))[32] is Status.WRONG
    made = module(source.replace("BUFFERS", ', buffers=["scratch_ptr"]'), "others")
    made.noisy_kernel[grid](x, out, torch.zeros(8), 40)
    assert made.noisy_kernel.best_config.kwargs == {"BLOCK": 32}


def test_a_result_that_is_there_already_is_found_by_other_values(
    adding: Made, clock: Clock, database: Path
) -> None:
    made = adding(16, 32)
    x, y = torch.arange(60.0), torch.ones(60)
    out = x + y
    made.add_kernel[lambda meta: (triton.cdiv(60, meta["BLOCK"]),)](x, y, out, 60)
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}
    assert torch.equal(x, torch.arange(60.0))


def test_what_changes_nothing_is_served_its_first(
    adding: Made, clock: Clock, database: Path
) -> None:
    made = adding(16, 32, mask="mask & (at < 0)")
    x, out = torch.ones(60), torch.empty(60)
    with pytest.warns(TunekitWarning, match="changes none of its tensors"):
        made.add_kernel[(4,)](x, x, out, 60)
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 16}
    assert read_cache(database) == []


def test_another_process_that_tunes_is_waited_for(
    adding: Made, clock: Clock, database: Path
) -> None:
    adding(16, 32).add()  # what the other one will have found
    (row,) = read_cache(database)
    with Store.open(database) as store:
        rows, decisions = store.evaluations(), store.decisions()
    for path in database.parent.glob("mine.db*"):
        path.unlink()
    autotuned.forget_all()
    clock.measured_configs.clear()
    Store.open(database).close()
    holding, done = threading.Event(), threading.Event()

    def other() -> None:
        with claim(database, f"{row.problem.key} clock-1", "theirs"):
            holding.set()
            done.wait(0.5)
            with Store.open(database) as store:
                store.add(rows)
                store.decide(decisions[0])

    thread = threading.Thread(target=other)
    thread.start()
    holding.wait()
    made = adding(16, 32)
    made.add()
    thread.join()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}
    assert clock.measured_configs == []


def test_one_that_takes_too_long_is_not(
    adding: Made, clock: Clock, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = adding(16, 32)
    made.add()
    (row,) = read_cache(database)
    autotuned.forget_all()
    monkeypatch.setattr(tuning, "_PATIENCE_S", 0.0)
    made = adding(16, 32, 64)
    with (
        claim(database, f"{row.problem.key} clock-1", "theirs"),
        pytest.warns(TunekitWarning, match="is being tuned by another process"),
    ):
        made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}  # as far as it is known


def test_a_database_that_cannot_be_written_keeps_nothing(
    adding: Made, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEKIT_DB", str(tmp_path / "file" / "mine.db"))
    (tmp_path / "file").write_text("no folder")
    made = adding(16, 32)
    with pytest.warns(TunekitWarning, match="what is measured is not kept"):
        made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}


def test_a_source_that_cannot_be_read_is_served_its_first(
    adding: Made, clock: Clock, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(function: object) -> str:
        raise KernelError("add_kernel: its source cannot be read; define it in a file")

    monkeypatch.setattr(autotuned, "kernel_hash", unreadable)
    made = adding(16, 32)
    with pytest.warns(TunekitWarning, match="cannot be read; define it in a file; nothing can be"):
        made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 16}


def test_values_that_no_database_holds_are_measured_and_not_kept(
    clock: Clock, database: Path, module: Made
) -> None:
    made = module(
        """
import torch, triton, tunekit
import triton.language as tl

@tunekit.autotune(configs=[triton.Config({"BLOCK": 16, "HOW": "plus"}),
                           triton.Config({"BLOCK": 32, "HOW": "plus"})], key=["n"])
@triton.jit
def how_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr, HOW: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    if HOW == "plus":
        x = x + 1
    tl.store(out_ptr + at, x, mask=at < n)
"""
    )
    clock.table = lambda config: 5.0 - config["CHOICE"]
    x, out = torch.ones(40), torch.empty(40)
    with pytest.warns(TunekitWarning, match="a database holds whole numbers"):
        made.how_kernel[lambda meta: (triton.cdiv(40, meta["BLOCK"]),)](x, out, 40)
    assert made.how_kernel.best_config.kwargs["BLOCK"] == 32
    assert torch.equal(out, x + 1)
    assert not database.exists()


def test_a_space_takes_the_place_of_a_list(clock: Clock, database: Path, module: Made) -> None:
    source = """
import torch, triton, tunekit
import triton.language as tl

@tunekit.autotune(space=SPACE, key=["n"])
@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) + 1, mask=at < n)
"""
    inline = '{"BLOCK": [32, 16, 64], "num_warps": [4]}'
    whole = (
        '{"axes": {"BLOCK": [16, 32, 64], "num_warps": [4]}, '
        '"default": {"BLOCK": 32, "num_warps": 4}, "constraints": {"fits": "BLOCK <= n"}}'
    )
    x, out = torch.ones(40), torch.empty(40)
    for place, (space, best, count) in enumerate([(inline, 64, 3), (whole, 32, 2)]):
        clock.measured_configs.clear()
        made = module(source.replace("SPACE", space), f"spacious{place}")
        made.kernel[lambda meta: (triton.cdiv(40, meta["BLOCK"]),)](x, out, 40)
        assert made.kernel.best_config.kwargs == {"BLOCK": best}
        assert clock.measured_configs[0] == Config(BLOCK=32, num_warps=4)
        assert len(clock.measured_configs) == count
        autotuned.forget_all()
        made.kernel[lambda meta: (triton.cdiv(40, meta["BLOCK"]),)](x, out, 40)
        assert made.kernel.best_config.kwargs == {"BLOCK": best}
        assert len(clock.measured_configs) == count


def test_a_benchmark_of_ones_own_takes_the_times(
    adding: Made, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = PresentGpu(0, DEVICE.names[0], "580.1", DEVICE)
    monkeypatch.setattr(here, "gpu_here", lambda: gpu)
    monkeypatch.setattr(here, "device_here", lambda: DEVICE.slug)
    asked = []

    def do_bench(call: Callable[[], object], quantiles: tuple[float, ...]) -> list[float]:
        call()
        asked.append(quantiles)
        return [3.0 - len(asked), 0.0, 9.0]

    monkeypatch.setattr(triton.testing, "do_bench", do_bench)
    made = adding(16, 32, more=", do_bench=triton.testing.do_bench")
    made.add()
    assert asked == [(0.5, 0.2, 0.8)] * 2
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 32}
    (row,) = read_cache(database)
    assert (row.time_us, row.provenance.protocol) == (1000.0, "autotune-do_bench")


def test_what_takes_the_process_down_is_passed_over_by_the_next(
    adding: Made, clock: Clock, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Live.evaluate

    def lost(self: Live, config: Config, made: Outcome, hopeless_us: float | None) -> Outcome:
        if config == named(32):
            raise GpuLostError("theirs: illegal memory access", config)
        return evaluate(self, config, made, hopeless_us)

    monkeypatch.setattr(Live, "evaluate", lost)
    with pytest.raises(GpuLostError, match="illegal memory access"):
        adding(16, 32, 64).add()
    assert ends(evaluations(database)) == {16: Status.OK, 32: Status.CRASHED}
    autotuned.forget_all()
    made = adding(16, 32, 64)
    made.add()
    assert made.add_kernel.best_config.kwargs == {"BLOCK": 64}


def test_times_and_the_duration_are_there_as_after_tritons_tuning(
    adding: Made, clock: Clock, database: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(triton.knobs, "autotuning", SimpleNamespace(print=True, cache=False))
    made = adding(16, 32)
    made.add()
    kernel = made.add_kernel
    assert kernel.bench_time > 0
    assert {each.kwargs["BLOCK"] for each in kernel.configs_timings} == {16, 32}
    printed = capsys.readouterr().out
    assert "Triton autotuning for function add_kernel" in printed
    assert "best config selected: BLOCK: 32" in printed
