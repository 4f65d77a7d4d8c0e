from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from triton.runtime import driver

from tunekit.core.config import Config
from tunekit.core.device import DEVICES, Device
from tunekit.core.evaluation import Status
from tunekit.errors import KernelError, UnknownKernelError, WorkerError
from tunekit.evaluate import compile_only
from tunekit.evaluate.compile_only import CompileOnlyEvaluator
from tunekit.evaluate.job import Job

RTX4090 = DEVICES["rtx4090"]
FLAT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)

BROKEN = """
    import triton
    import triton.language as tl
    from tunekit.kernels.kernel import pointwise

    @triton.jit
    def broken(x):
        return tl.no_such_thing(x)

    kernel = pointwise("broken", epilogue=broken, reference=lambda x: x)
"""


@pytest.fixture(autouse=True)
def driver_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_active", None)


def _job(config: Config = FLAT, **changes: object) -> Job:
    job = Job("mish_mish", (2**20,), "float32", {}, config, RTX4090.slug)
    return replace(job, **changes)  # type: ignore[arg-type]


def _evaluator(**changes: int) -> CompileOnlyEvaluator:
    device: Device = replace(RTX4090, **changes)  # type: ignore[arg-type]
    return CompileOnlyEvaluator(device)


def test_an_estimate_is_a_time_and_a_binary_verified_by_nobody() -> None:
    outcome = _evaluator().evaluate(_job())
    assert outcome.status is Status.OK
    assert outcome.verified_by is None
    assert outcome.samples_us == ()
    assert outcome.time_us is not None
    assert outcome.time_us > 2 * 4 * 2**20 / RTX4090.dram_bytes_per_s * 1e6  # cannot beat DRAM
    assert outcome.binary is not None
    assert outcome.binary.load_bytes == 16


def test_more_work_takes_longer() -> None:
    evaluator = _evaluator()
    times = [evaluator.evaluate(_job(shape=(2**power,))).time_us or 0 for power in (20, 24, 28)]
    assert times == sorted(times)
    assert times[2] > 8 * times[1]


def test_what_the_device_cannot_hold_is_rejected_with_its_binary() -> None:
    outcome = _evaluator(shared_bytes_per_block=1000).evaluate(_job(Config(FLAT, num_stages=3)))
    assert outcome.status is Status.REJECTED
    assert outcome.reason.startswith("shared memory: a block needs")
    assert outcome.time_us is None
    assert outcome.binary is not None
    assert outcome.binary.shared_bytes > 1000


def test_what_does_not_compile_says_why(write_module: Callable[..., Path]) -> None:
    outcome = _evaluator().evaluate(_job(kernel=f"{write_module(BROKEN)}:kernel"))
    assert outcome.status is Status.COMPILE_ERROR
    assert "no attribute 'no_such_thing'" in outcome.reason
    assert "\n" not in outcome.reason


def test_what_is_the_callers_mistake_is_raised() -> None:
    with pytest.raises(UnknownKernelError):
        _evaluator().evaluate(_job(kernel="mish_mis"))
    with pytest.raises(KernelError, match="no scalar"):
        _evaluator().evaluate(_job(scalars={"scale": 1.0}))


def test_a_broken_installation_is_not_taken_for_a_broken_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*arguments: object) -> None:
        raise WorkerError("no cubin")

    monkeypatch.setattr(compile_only, "compile_launch", broken)
    with pytest.raises(WorkerError, match="no cubin"):
        _evaluator().evaluate(_job())


def test_jobs_are_compiled_ahead_and_failures_wait_for_their_turn(
    write_module: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    evaluator = _evaluator()
    jobs = [
        _job(kernel=f"{write_module(BROKEN)}:kernel"),
        _job(Config(FLAT, num_warps=2), kernel="identity"),
        _job(Config(FLAT, num_warps=1), kernel="identity"),
    ]
    evaluator.prepare(jobs)
    statuses = [evaluator.evaluate(job).status for job in jobs]
    assert statuses == [Status.COMPILE_ERROR, Status.OK, Status.OK]
    assert len(list((tmp_path / "cache").rglob("*.cubin"))) == 2


def test_a_job_may_only_be_compiled(write_module: Callable[..., Path]) -> None:
    evaluator = _evaluator()
    jobs = [_job(), _job(kernel=f"{write_module(BROKEN)}:kernel"), _job(Config(FLAT, VEC=2))]
    compiled = dict(evaluator.compile(jobs))
    assert sorted(compiled) == [0, 1, 2]
    assert [compiled[index].status for index in range(3)] == [
        Status.OK,
        Status.COMPILE_ERROR,
        Status.OK,
    ]
    assert compiled[0].time_us is None
    evaluated = evaluator.evaluate(jobs[0])
    assert (evaluated.binary, evaluated.grid) == (compiled[0].binary, (1024, 1, 1))
