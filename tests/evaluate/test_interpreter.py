from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Status, VerifiedBy
from tunekit.errors import KernelError
from tunekit.evaluate import interpreter
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.pool import Worker
from tunekit.evaluate.trial import Checked
from tunekit.kernels.library import KERNELS

FLAT = Config(BLOCK_SIZE=256, VEC=4, num_warps=4, num_stages=1)
WIDE = Config(BLOCK_SIZE=8192, VEC=4, num_warps=8, num_stages=1)
SIZE = (1000,)

# One mistake each: the first two were made once, were fast, and were tuned.
PLANTED = """
    import torch
    import torch.nn.functional as F
    import triton
    import triton.language as tl
    from tunekit.kernels import epilogues
    from tunekit.kernels.kernel import pointwise

    def gelu_reference(x):
        return F.gelu((x + 0.5).clamp(max=0.0)) * 2.0

    @triton.jit
    def squared_gelu(x):
        low = tl.minimum(x + 0.5, 0.0, propagate_nan=tl.PropagateNan.ALL)
        return 0.5 * low * (1.0 + tl.math.erf(low * 0.7071067811865476)) * low * 2.0

    @triton.jit
    def right_gelu(x):
        low = tl.minimum(x + 0.5, 0.0, propagate_nan=tl.PropagateNan.ALL)
        return 0.5 * low * (1.0 + tl.math.erf(low * 0.7071067811865476)) * 2.0

    @triton.jit
    def overflowing_mish(x):
        s = tl.log(1.0 + tl.exp(x))
        return x * (tl.exp(s) - tl.exp(-s)) / (tl.exp(s) + tl.exp(-s))

    @triton.jit
    def swallows_nan(x):
        return tl.where(x == x, x, 0.0)

    @triton.jit
    def slightly_off(x):
        return x * 1.001

    @triton.jit
    def negates(x):
        return -x

    @triton.jit
    def fails(x):
        return tl.no_such_thing(x)

    squared = pointwise("squared", epilogue=squared_gelu, reference=gelu_reference)
    correct = pointwise("correct", epilogue=right_gelu, reference=gelu_reference)
    overflowing = pointwise("overflowing", epilogue=overflowing_mish, reference=F.mish)
    swallowing = pointwise("swallowing", epilogue=swallows_nan, reference=lambda x: x)
    off = pointwise("off", epilogue=slightly_off, reference=lambda x: x)
    negated = pointwise("negated", epilogue=negates, reference=lambda x: x)
    failing = pointwise("failing", epilogue=fails, reference=lambda x: x)

    @triton.jit
    def silu_gate(x, gate, scale):
        return x * tl.sigmoid(x) * gate * scale

    gated = pointwise(
        "gated",
        epilogue=silu_gate,
        reference=lambda x, gate, scale: F.silu(x) * gate * scale,
        scalars={"scale": 0.5},
        input_count=2,
    )
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("kernel") / "planted.py"
    path.write_text(textwrap.dedent(PLANTED))
    return str(path)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("interpret", "rtx4090") as one:
        yield one


def _job(kernel: str, config: Config = FLAT, **changes: object) -> Job:
    return replace(Job(kernel, SIZE, "float32", {}, config, "rtx4090"), **changes)  # type: ignore[arg-type]


def _evaluate(worker: Worker, *jobs: Job) -> list[Outcome]:
    return [outcome for _, outcome in worker.evaluate(jobs)]


def test_every_op_and_dtype_passes(worker: Worker) -> None:
    jobs = [_job(op, dtype=dtype) for op in KERNELS for dtype in ("float32", "float16", "bfloat16")]
    jobs += [
        _job("mish_mish", Config(FLAT, num_stages=2)),
        _job("identity", WIDE, dtype="bfloat16"),
    ]
    for job, outcome in zip(jobs, _evaluate(worker, *jobs), strict=True):
        assert outcome.status is Status.OK, (job, outcome)
        assert outcome.verified_by is VerifiedBy.INTERPRETER
        assert outcome.time_us is None
        assert outcome.max_error is not None
        assert outcome.max_error <= 1.0


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_squared_gelu_is_wrong_and_the_figure_is_given(
    dtype: str, worker: Worker, planted: str
) -> None:
    wrong, right = _evaluate(
        worker, *(_job(f"{planted}:{name}", dtype=dtype) for name in ("squared", "correct"))
    )
    assert wrong.status is Status.WRONG
    assert wrong.verified_by is None
    assert wrong.max_error is not None
    assert wrong.max_error > 100
    figure = f"{wrong.max_error:.3g}"
    assert wrong.reason.startswith("differs from the reference in the interpreter at ")
    assert f": {figure} times the allowed error (" in wrong.reason
    assert right.status is Status.OK


@pytest.mark.parametrize("name", ["overflowing", "swallowing"])
def test_nan_made_or_swallowed_is_infinitely_wrong(name: str, worker: Worker, planted: str) -> None:
    (outcome,) = _evaluate(worker, _job(f"{planted}:{name}"))
    assert outcome.status is Status.WRONG
    assert outcome.max_error == float("inf")


@pytest.mark.parametrize(("dtype", "status"), [("float32", "wrong"), ("bfloat16", "ok")])
def test_what_is_wrong_depends_on_what_the_dtype_can_tell(
    dtype: str, status: str, worker: Worker, planted: str
) -> None:
    (outcome,) = _evaluate(worker, _job(f"{planted}:off", dtype=dtype))
    assert outcome.status == status


@pytest.mark.parametrize("name", ["squared", "negated"])
def test_one_element_can_be_wrong_too(name: str, worker: Worker, planted: str) -> None:
    """It must not be 0, where these formulas are right; some seeds draw one below -0.5."""
    jobs = [_job(f"{planted}:{name}", shape=(1,), seed=seed) for seed in range(8)]
    statuses = {outcome.status for outcome in _evaluate(worker, *jobs)}
    assert Status.WRONG in statuses
    assert statuses <= {Status.OK, Status.WRONG}


def test_several_inputs_and_a_scalar(worker: Worker, planted: str) -> None:
    own, given, looped = _evaluate(
        worker,
        _job(f"{planted}:gated"),
        _job(f"{planted}:gated", scalars={"scale": -3.0}),
        _job(f"{planted}:gated", Config(FLAT, num_stages=3), dtype="float16"),
    )
    assert [own.status, given.status, looped.status] == [Status.OK] * 3


def test_an_epilogue_that_cannot_run_is_an_error_that_says_why(
    worker: Worker, planted: str
) -> None:
    (outcome,) = _evaluate(worker, _job(f"{planted}:failing"))
    assert outcome.status is Status.ERROR
    assert "no_such_thing" in outcome.reason


def test_a_scalar_it_does_not_have_is_refused(worker: Worker) -> None:
    with pytest.raises(KernelError, match="no scalar 'scale'"):
        _evaluate(worker, _job("mish_mish", scalars={"scale": 1.0}))


def test_the_size_checked_has_the_class_of_the_size_tuned_and_a_part_block(
    worker: Worker, planted: str
) -> None:
    jobs = [_job(f"{planted}:negated", shape=(n,)) for n in (16, 1000, 1001)]
    checked = [
        int(outcome.reason.partition(" at ")[2].partition(":")[0])
        for outcome in _evaluate(worker, *jobs)
    ]
    assert [n % 16 for n in checked] == [0, 1000 % 16, 1001 % 16]
    assert all(n % 256 and n > 2 * 256 for n in checked)


def test_one_16_bit_input_is_checked_on_every_value_where_blocks_are_large(
    worker: Worker, planted: str
) -> None:
    """The interpreter is slow by the program, not by the element."""
    large, small = (
        int(outcome.reason.partition(" at ")[2].partition(":")[0])
        for outcome in _evaluate(
            worker,
            _job(f"{planted}:negated", WIDE, dtype="float16"),
            _job(f"{planted}:negated", FLAT, dtype="float16"),
        )
    )
    assert large >= 2**16
    assert small < 2**12


def test_configurations_that_differ_in_launch_options_alone_are_run_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def run(*arguments: object) -> Checked:
        ran.append("once")
        return Checked(0.25)

    monkeypatch.setattr(interpreter.Trial, "twice", run)
    evaluator = interpreter.InterpreterEvaluator(DEVICES["rtx4090"])

    def runs(job: Job) -> int:
        before = len(ran)
        assert evaluator.evaluate(job).max_error == 0.25
        return len(ran) - before

    assert runs(_job("mish_mish")) == 1
    for warps in (1, 2, 8):
        assert runs(_job("mish_mish", Config(FLAT, num_warps=warps))) == 0
    for other in (
        _job("mish_mish", Config(FLAT, VEC=2)),
        _job("mish_mish", Config(FLAT, num_stages=2)),
        _job("mish_mish", seed=1),
        _job("mish_mish", dtype="float16"),
        _job("mish_mish", shape=(16,)),
        _job("identity"),
        _job("add_min_gelu_mul"),
        _job("add_min_gelu_mul", scalars={"add_value": 1.0}),
    ):
        assert runs(other) == 1
        assert runs(other) == 0
