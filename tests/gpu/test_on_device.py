"""Evaluating on the GPU that is present: what it measures, and what it refuses to."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.evaluation import Status, VerifiedBy
from tunekit.core.space import context
from tunekit.errors import DeviceMemoryError, UnknownDeviceError
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.on_device import DeviceEvaluator
from tunekit.evaluate.pool import Worker
from tunekit.gpu import select_gpu
from tunekit.kernels.library import KERNELS

pytestmark = pytest.mark.gpu

OPS = ("mish_mish", "mish_add_hardtanh_scale", "add_min_gelu_mul")
ITEMSIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
SMALL, MID, ODD = 1000, 2**22, 2**22 + 1
FLAT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
LOOP = Config(BLOCK_SIZE=1024, VEC=8, num_warps=4, num_stages=2)

PLANTED = """
    import dataclasses
    import torch.nn.functional as F
    import triton
    import triton.language as tl
    from tunekit.kernels.kernel import pointwise

    def gelu_reference(x):
        return F.gelu((x + 0.5).clamp(max=0.0)) * 2.0

    @triton.jit
    def squared_gelu(x):
        low = tl.minimum(x + 0.5, 0.0, propagate_nan=tl.PropagateNan.ALL)
        return 0.5 * low * (1.0 + tl.math.erf(low * 0.7071067811865476)) * low * 2.0

    @triton.jit
    def identity(x):
        return x + 0.0

    @triton.jit
    def gate(x, y, scale):
        return x * tl.sigmoid(x) * y * scale

    squared = pointwise("squared", epilogue=squared_gelu, reference=gelu_reference)
    unwritten = pointwise("unwritten", epilogue=identity, reference=lambda x: x)
    faulting = pointwise("faulting", epilogue=identity, reference=lambda x: x)
    gated = pointwise(
        "gated",
        epilogue=gate,
        reference=lambda x, y, scale: F.silu(x) * y * scale,
        scalars={"scale": 0.5},
        input_count=2,
    )

    def no_idea(x):
        raise ValueError("no idea")

    no_reference = pointwise("no_reference", epilogue=identity, reference=no_idea)

    def with_grid(kernel, grid):
        plan = kernel.plan

        def altered(metas, device):
            launch = plan(metas, device)
            return dataclasses.replace(launch, grid=lambda config: grid(launch.grid(config)))

        object.__setattr__(kernel, "plan", altered)

    # One block too few.
    with_grid(unwritten, lambda grid: (max(grid[0] - 1, 1), 1, 1))

    # Terabytes past the end, where nothing is mapped.
    @triton.jit
    def wild(inputs, output, scalars, n, epilogue: tl.constexpr, WIDE: tl.constexpr,
             BLOCK_SIZE: tl.constexpr, VEC: tl.constexpr, num_stages: tl.constexpr):
        offsets = tl.arange(0, BLOCK_SIZE).to(tl.int64) + (1 << 42)
        tl.store(output + offsets, tl.zeros((BLOCK_SIZE,), tl.float32))

    def out_of_bounds(kernel):
        plan = kernel.plan
        object.__setattr__(
            kernel,
            "plan",
            lambda metas, device: dataclasses.replace(plan(metas, device), function=wild),
        )

    out_of_bounds(faulting)
"""


@pytest.fixture(scope="module")
def gpu() -> Device:
    return select_gpu(0).device


@pytest.fixture(scope="module")
def evaluator(gpu: Device) -> Iterator[DeviceEvaluator]:
    yield DeviceEvaluator(gpu)
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("kernel") / "planted.py"
    path.write_text(textwrap.dedent(PLANTED))
    return str(path)


@pytest.fixture
def job(gpu: Device) -> Callable[..., Job]:
    def make(kernel: str = "mish_mish", n: int = SMALL, config: Config = FLAT, **more: object):  # type: ignore[no-untyped-def]
        return replace(Job(kernel, (n,), "float32", {}, config, gpu.slug), **more)  # type: ignore[arg-type]

    return make


def _assert_measured(outcome: Outcome) -> None:
    assert outcome.status is Status.OK, outcome
    assert outcome.verified_by is VerifiedBy.DEVICE
    assert len(outcome.samples_us) >= 5
    assert all(0 < sample < 1e6 for sample in outcome.samples_us)
    assert outcome.time_us == statistics.median(outcome.samples_us)
    assert outcome.max_error is not None
    assert 0 <= outcome.max_error <= 1
    assert outcome.binary is not None
    assert outcome.binary.registers > 0
    assert outcome.grid is not None


@pytest.mark.parametrize("n", [SMALL, MID, ODD])
@pytest.mark.parametrize("dtype", list(ITEMSIZES))
@pytest.mark.parametrize("op", OPS)
def test_an_op_is_verified_and_measured(
    op: str, dtype: str, n: int, evaluator: DeviceEvaluator, job: Callable[..., Job]
) -> None:
    outcome = evaluator.evaluate(job(op, n, Config(FLAT, VEC=16 // ITEMSIZES[dtype]), dtype=dtype))
    _assert_measured(outcome)
    assert outcome.binary is not None
    assert outcome.binary.load_bytes == outcome.binary.store_bytes == 16


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("dtype", list(ITEMSIZES))
def test_a_pipelined_loop(
    dtype: str, stages: int, evaluator: DeviceEvaluator, job: Callable[..., Job]
) -> None:
    config = Config(LOOP, num_stages=stages, VEC=16 // ITEMSIZES[dtype])
    outcome = evaluator.evaluate(job("mish_mish", 2**24 + 8, config, dtype=dtype))
    _assert_measured(outcome)
    assert outcome.binary is not None
    assert outcome.binary.shared_bytes > 0


@pytest.mark.parametrize("op", [*OPS, "identity"])
def test_one_element(op: str, evaluator: DeviceEvaluator, job: Callable[..., Job]) -> None:
    """Triton folds n = 1 into the binary, which is then right for no other size."""
    _assert_measured(evaluator.evaluate(job(op, 1)))


def test_shapes_scalars_and_several_inputs(
    evaluator: DeviceEvaluator, job: Callable[..., Job], planted: str
) -> None:
    _assert_measured(evaluator.evaluate(job(shape=(3, 5, 7))))
    scalars = {"add_value": -0.25, "multiply_value": 3.0}
    _assert_measured(evaluator.evaluate(job("add_min_gelu_mul", scalars=scalars)))
    _assert_measured(evaluator.evaluate(job(f"{planted}:gated", ODD, dtype="bfloat16")))


def test_more_than_2_to_the_31_elements(
    evaluator: DeviceEvaluator, job: Callable[..., Job]
) -> None:
    n = 2**31 + 16
    try:
        outcome = evaluator.evaluate(job("identity", n, dtype="float16"))
    except DeviceMemoryError:
        # Refused only where it cannot fit: 2 bytes in, 2 out, two references of 4 an element.
        assert torch.cuda.mem_get_info()[0] < 12 * n + 2**30
        return
    _assert_measured(outcome)


@pytest.mark.parametrize("dtype", list(ITEMSIZES))
def test_a_planted_mistake_ends_wrong_with_its_figure(
    dtype: str, evaluator: DeviceEvaluator, job: Callable[..., Job], planted: str
) -> None:
    """The squared GELU, which once ran fast and was tuned."""
    outcome = evaluator.evaluate(job(f"{planted}:squared", dtype=dtype))
    assert outcome.status is Status.WRONG
    assert outcome.verified_by is None
    assert outcome.time_us is None
    assert outcome.max_error is not None
    assert outcome.max_error > 10
    assert "differs from the reference at the size tuned" in outcome.reason
    assert f"{outcome.max_error:.3g} times the allowed error (" in outcome.reason


def test_what_is_not_written_is_wrong(
    evaluator: DeviceEvaluator, job: Callable[..., Job], planted: str
) -> None:
    """Right values left in the buffer by the configuration before do not help."""
    _assert_measured(evaluator.evaluate(job("identity", MID)))
    outcome = evaluator.evaluate(job(f"{planted}:unwritten", MID))
    assert outcome.status is Status.WRONG
    assert outcome.max_error == math.inf


def test_a_shape_that_does_not_fit_is_refused(
    evaluator: DeviceEvaluator, job: Callable[..., Job]
) -> None:
    with pytest.raises(DeviceMemoryError, match=r"needs .* GB .* use a smaller --shape"):
        evaluator.evaluate(job(n=2**40))
    _assert_measured(evaluator.evaluate(job()))


def test_what_the_device_cannot_hold_is_rejected(gpu: Device, job: Callable[..., Job]) -> None:
    tight = replace(gpu, shared_bytes_per_block=1024)
    outcome = DeviceEvaluator(tight).evaluate(job(n=MID, config=LOOP))
    assert outcome.status is Status.REJECTED
    assert outcome.reason.startswith("shared memory: a block needs")


def test_jobs_are_compiled_ahead(evaluator: DeviceEvaluator, job: Callable[..., Job]) -> None:
    jobs = [job(n=SMALL, config=Config(FLAT, BLOCK_SIZE=block)) for block in (256, 512, 2048)]
    evaluator.prepare(jobs)
    outcomes = [evaluator.evaluate(each) for each in jobs]
    for outcome in outcomes:
        _assert_measured(outcome)
    assert len({outcome.binary.hash for outcome in outcomes if outcome.binary}) == 3


def test_no_time_beats_the_memory(
    evaluator: DeviceEvaluator, gpu: Device, job: Callable[..., Job]
) -> None:
    """Sizes within the L2 cache too: what is measured comes from DRAM and goes there."""
    for n in (2**20, 2**22, 2**24):
        outcome = evaluator.evaluate(job("identity", n))
        _assert_measured(outcome)
        assert outcome.time_us is not None
        gigabytes_per_s = 2 * 4 * n / outcome.time_us / 1e3
        assert gigabytes_per_s < 1.1 * gpu.dram_bytes_per_s / 1e9


def test_what_is_hopeless_is_sampled_once(
    evaluator: DeviceEvaluator, job: Callable[..., Job]
) -> None:
    hopeless = evaluator.evaluate(job(n=MID, hopeless_us=0.001))
    assert (hopeless.status, len(hopeless.samples_us)) == (Status.OK, 1)
    assert hopeless.time_us == hopeless.samples_us[0]
    _assert_measured(evaluator.evaluate(job(n=MID, hopeless_us=1e9)))


def test_warm_and_cold_are_two_workloads(
    evaluator: DeviceEvaluator, job: Callable[..., Job]
) -> None:
    """What fits in the L2 cache is read from there, not from DRAM."""
    cold, warm = (evaluator.evaluate(job("identity", MID, warm=warm)) for warm in (False, True))
    _assert_measured(cold)
    _assert_measured(warm)
    assert warm.time_us is not None
    assert cold.time_us is not None
    assert warm.time_us < 0.8 * cold.time_us


class TestCompile:
    def test_it_is_a_step_of_its_own(
        self, evaluator: DeviceEvaluator, job: Callable[..., Job]
    ) -> None:
        jobs = [job(n=MID, config=Config(FLAT, BLOCK_SIZE=block)) for block in (1024, 4096)]
        compiled = dict(evaluator.compile(jobs))
        assert sorted(compiled) == [0, 1]
        for index, each in enumerate(jobs):
            evaluated = evaluator.evaluate(each)
            _assert_measured(evaluated)
            assert compiled[index].time_us is None
            assert (evaluated.binary, evaluated.grid) == (
                compiled[index].binary,
                compiled[index].grid,
            )

    def test_another_size_runs_the_binaries_of_the_first(
        self, evaluator: DeviceEvaluator, job: Callable[..., Job]
    ) -> None:
        evaluator.evaluate(job(n=MID))
        known = len(evaluator._compilers._numbers), len(evaluator._compiled)
        _assert_measured(evaluator.evaluate(job(n=2 * MID)))
        assert (len(evaluator._compilers._numbers), len(evaluator._compiled)) == known

    def test_a_reference_that_fails_is_told_where_a_job_is_evaluated(
        self, gpu: Device, job: Callable[..., Job], planted: str
    ) -> None:
        with Worker("device:0", gpu.slug) as worker:
            jobs = [job(f"{planted}:no_reference"), job(f"{planted}:no_reference", config=LOOP)]
            compiled = [outcome for _, outcome in worker.compile(jobs)]
            assert [outcome.status for outcome in compiled] == [Status.OK] * 2
            evaluated = [outcome for _, outcome in worker.evaluate(jobs)]
            assert [outcome.reason for outcome in evaluated] == ["ValueError: no idea"] * 2

    def test_a_worker_compiles_ahead_while_it_measures(
        self, gpu: Device, job: Callable[..., Job]
    ) -> None:
        with Worker("device:0", gpu.slug) as worker:
            now = [job(n=MID, config=Config(FLAT, num_warps=warps)) for warps in (2, 4)]
            then = [job(n=MID, config=Config(FLAT, VEC=1, num_warps=warps)) for warps in (2, 4)]
            assert len(list(worker.compile(now))) == 2
            worker.compile_ahead(then)
            for jobs in (now, then):
                for _, outcome in worker.evaluate(jobs):
                    _assert_measured(outcome)
            assert worker.import_s > 0


class TestRace:
    def test_one_series_a_configuration_and_a_copy(
        self, evaluator: DeviceEvaluator, job: Callable[..., Job]
    ) -> None:
        jobs = [job("identity", 2**24, config) for config in (FLAT, Config(FLAT, num_warps=8))]
        race = evaluator.race(jobs, rounds=7)
        assert [len(series) for series in (*race.samples_us, race.copy_us)] == [7, 7, 7]
        medians = [statistics.median(series) for series in (*race.samples_us, race.copy_us)]
        # All three copy 2 x 64 MB.
        assert max(medians) < 2 * min(medians)

    def test_the_slower_is_seen_to_be(
        self, evaluator: DeviceEvaluator, job: Callable[..., Job]
    ) -> None:
        slow = Config(BLOCK_SIZE=128, VEC=1, num_warps=4, num_stages=1)
        race = evaluator.race([job("mish_mish", 2**24, c) for c in (FLAT, slow)], 9)
        fast, narrow = race.samples_us
        assert sorted(fast)[4] < sorted(narrow)[4]

    def test_its_code_is_in_several_places(self, gpu: Device, job: Callable[..., Job]) -> None:
        evaluator = DeviceEvaluator(gpu)
        evaluator.race([job("identity", MID)], rounds=1)
        (copies,) = evaluator._copies.values()
        (compiled,) = evaluator._compiled.values()
        functions = {each.kernel.function for each in (compiled, *copies)}
        assert len(functions) == 4
        evaluator.race([job("identity", MID // 2)], rounds=1)  # the same binary
        assert len(evaluator._copies) == 1

    def test_timers_are_kept_from_race_to_race_and_no_longer(
        self, evaluator: DeviceEvaluator, job: Callable[..., Job]
    ) -> None:
        jobs = [job("identity", MID, config) for config in (FLAT, Config(FLAT, num_warps=8))]
        evaluator.race(jobs, rounds=2)
        (workload,) = evaluator._workloads.values()
        first = dict(workload.racing)
        assert set(first) == {jobs[0].config, jobs[1].config, None}
        evaluator.race(jobs[::-1], rounds=3)
        assert workload.racing == first
        evaluator.race(jobs[:1], rounds=2)
        assert set(workload.racing) == {jobs[0].config, None}
        evaluator.evaluate(jobs[0])
        assert workload.racing == {}


def test_a_fault_costs_one_job_and_the_worker_that_ran_it(
    gpu: Device, job: Callable[..., Job], planted: str
) -> None:
    with Worker("device:0", gpu.slug) as worker:
        jobs = [job(), job(f"{planted}:faulting"), job(n=MID)]
        outcomes = [outcome for _, outcome in worker.evaluate(jobs)]
        _assert_measured(outcomes[0])
        assert outcomes[1].status is Status.CRASHED
        assert "illegal memory access" in outcomes[1].reason
        _assert_measured(outcomes[2])
        with pytest.raises(DeviceMemoryError, match="smaller --shape"):
            list(worker.evaluate([job(n=2**40)]))
        race = worker.race([job(n=MID), job(n=MID, config=LOOP)], 3)
        assert [len(samples) for samples in (*race.samples_us, race.copy_us)] == [3, 3, 3]


def test_every_library_kernel_passes_its_default(
    evaluator: DeviceEvaluator, gpu: Device, job: Callable[..., Job]
) -> None:
    for name, kernel in KERNELS.items():
        launch = kernel.launch_for((MID,), "float16", gpu)
        default = kernel.load_space().default(context(launch.dims, 2, gpu))
        _assert_measured(evaluator.evaluate(job(name, MID, default, dtype="float16")))


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownDeviceError, match="cuda:99"):
        select_gpu(99)
