"""Time the library's fused ops beside everything they can be held against, on the GPU present.

For each op and dtype, at the shape it was first written for, one run samples all of these in turn:
`out.copy_(x)`; the identity epilogue, tuned; the hand-written original; eager PyTorch;
`torch.compile`, and the same with max-autotune; and the op, tuned. A second part compares the time
an element takes at 2^26 elements and at one more, where nothing is divisible by 16.

    python benchmarks/kernels.py -o kernels.md --json kernels.json
    python benchmarks/kernels.py --ops mish_mish --dtypes float32 --no-odd
    python benchmarks/kernels.py --quick

benchmarks/README.md says how to read what it prints.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
import triton
from kernels_report import (
    COMPILE,
    COPY,
    EAGER,
    IDENTITY,
    MAX_AUTOTUNE,
    ORIGINAL,
    OTHERS_ALLOWED,
    TUNED,
    Contest,
    OddPair,
    Report,
    Row,
    as_data,
    as_text,
)
from originals import ORIGINALS, SAFE

import tunekit
from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.core.problem import ITEMSIZES
from tunekit.core.space import context
from tunekit.errors import DeviceMemoryError, NothingTunedError, TunekitError
from tunekit.evaluate.compile import compile_launch, ordered_arguments
from tunekit.evaluate.inputs import random_input
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.measure import PROTOCOL, interleaved_us, median_us
from tunekit.evaluate.on_device import DeviceEvaluator
from tunekit.evaluate.rotation import Rotation, rotation_of
from tunekit.evaluate.text import one_line
from tunekit.evaluate.timer import Timer
from tunekit.evaluate.verify import TOLERANCES, largest_error, reference_outputs
from tunekit.evaluate.worker import is_sticky
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS

_SEED = 0
_FINALISTS = 8
_RACE_ROUNDS = 15
_DROPPED_ROUNDS = 3
"""Rounds sampled first and not counted: clocks and caches settle."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run measures.

    Attributes:
        shapes: of each op.
        odd_sizes: two element counts whose times an element are compared; empty for none.
        every: of the space's configurations, evaluate each so-manieth.
        rounds: samples of each contender.
        contests: whether the ops are held against the others.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: tuple[str, ...]
    odd_sizes: tuple[int, ...]
    odd_dtypes: tuple[str, ...]
    every: int
    rounds: int
    contests: bool = True


FULL = Plan(
    shapes={
        "mish_add_hardtanh_scale": (128, 64, 256, 256),
        "add_min_gelu_mul": (128, 128, 130, 130),
        "mish_mish": (64, 128, 254, 254),
    },
    dtypes=("float32", "bfloat16", "float16"),
    odd_sizes=(2**26, 2**26 + 1),
    odd_dtypes=("float32", "float16"),
    every=1,
    rounds=31,
)
QUICK = replace(
    FULL,
    shapes={
        "mish_add_hardtanh_scale": (4, 32, 32, 32),
        "add_min_gelu_mul": (4, 32, 26, 26),
        "mish_mish": (4, 32, 30, 30),
    },
    odd_sizes=(2**16, 2**16 + 1),
    every=9,
    rounds=5,
)


@dataclass(frozen=True, slots=True)
class Case:
    """An op at a shape and dtype."""

    kernel: Kernel
    shape: tuple[int, ...]
    dtype: str


Run = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From x, and an output it may fill, to the result, wherever that lies."""


@dataclass(frozen=True, eq=False)
class Judge:
    """What results are compared with.

    Attributes:
        kernel: its reference, in float64, says what is right.
        safe_inputs: whether only |x| <= SAFE is tried.
    """

    kernel: Kernel
    safe_inputs: bool = False


@dataclass(frozen=True)
class Contender:
    """What is timed."""

    name: str
    run: Run
    judge: Judge
    allowed_error: float = OTHERS_ALLOWED
    note: str = ""


def tune(case: Case, gpu: PresentGpu, every: int, *, flat_only: bool = False) -> Config:
    """The fastest verified configuration: all are evaluated, the best few raced.

    Args:
        case: the problem.
        gpu: to tune on.
        every: evaluate each so-manieth configuration.
        flat_only: leave the grid-stride loops out.

    Raises:
        NothingTunedError: no configuration passed.
        DeviceMemoryError: it does not fit on the GPU.
    """
    began = time.monotonic()
    launch = case.kernel.launch_for(case.shape, case.dtype, gpu.device)
    known = context(launch.dims, ITEMSIZES[case.dtype], gpu.device)
    configs = case.kernel.load_space().configs(known)
    if flat_only:
        configs = [config for config in configs if config["num_stages"] == 1]
    jobs = [_job(case, config, gpu) for config in configs[::every]]
    evaluator = DeviceEvaluator(gpu.device)
    evaluator.prepare(jobs)
    compiled = time.monotonic()
    outcomes = [(job, _evaluated(evaluator, job)) for job in jobs]
    verified = [(job, outcome) for job, outcome in outcomes if outcome.status is Status.OK]
    if not verified:
        raise NothingTunedError(f"{case.kernel.name} {case.dtype}: {outcomes[0][1].reason}")
    verified.sort(key=lambda pair: pair[1].time_us or 0.0)
    finalists = [job for job, _ in verified[:_FINALISTS]]
    samples = evaluator.race(finalists, _RACE_ROUNDS).samples_us
    best = min(range(len(finalists)), key=lambda place: median_us(samples[place]))
    say(
        f"{case.kernel.name} {case.dtype} {'×'.join(map(str, case.shape))}: {len(verified)} of "
        f"{len(jobs)} configurations verified, compiled in {compiled - began:.1f} s, measured in "
        f"{time.monotonic() - compiled:.1f} s: {finalists[best].config}"
    )
    return finalists[best].config


def _job(case: Case, config: Config, gpu: PresentGpu) -> Job:
    return Job(
        kernel=case.kernel.name,
        shape=case.shape,
        dtype=case.dtype,
        scalars={},
        config=config,
        target=gpu.device.slug,
        seed=_SEED,
    )


def _evaluated(evaluator: DeviceEvaluator, job: Job) -> Outcome:
    """The outcome, also of a configuration whose launch fails."""
    try:
        return evaluator.evaluate(job)
    except (TunekitError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_sticky(error):
            raise
        return Outcome(Status.ERROR, reason=one_line(error))


def tuned_run(case: Case, config: Config, gpu: PresentGpu) -> Run:
    """Launches one configuration of an op."""
    launch = case.kernel.launch_for(case.shape, case.dtype, gpu.device)
    scalars = case.kernel.scalar_values()
    compiled = compile_launch(launch, config, scalars)
    grid = launch.grid(config)

    def run(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        arguments = launch.bind([x], [out], scalars, config)
        compiled.launch(grid, ordered_arguments(launch.function, arguments))
        return out

    return run


def original_run(name: str) -> Run:
    """Launches the hand-written kernel."""
    original = ORIGINALS[name]

    def run(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        original.run(x, out)
        return out

    return run


def eager_run(kernel: Kernel) -> Run:
    """The op as a chain of PyTorch calls, each into a tensor of its own."""
    reference, scalars = kernel.reference, dict(kernel.scalars)
    return lambda x, out: reference(x, **scalars)


def compiled_run(kernel: Kernel, mode: str) -> Run:
    """The same chain through `torch.compile`, the scalars compiled in."""
    reference, scalars = kernel.reference, dict(kernel.scalars)

    def chain(x: torch.Tensor) -> torch.Tensor:
        return reference(x, **scalars)

    function = torch.compile(chain, mode=mode, dynamic=False, fullgraph=True)
    return lambda x, out: function(x)


def contenders(case: Case, configs: Mapping[str, Config], gpu: PresentGpu) -> list[Contender]:
    """All of one table's contenders, in its order."""
    kernel, original = case.kernel, ORIGINALS[case.kernel.name]
    copied = Judge(KERNELS["identity"])
    meant = Judge(kernel)
    written = Judge(replace(kernel, reference=original.computes), safe_inputs=True)
    identity = tuned_run(replace(case, kernel=KERNELS["identity"]), configs[IDENTITY], gpu)
    # Without CUDA graphs of its own: all are captured in graphs here.
    max_autotune = compiled_run(kernel, "max-autotune-no-cudagraphs")
    return [
        Contender(COPY, lambda x, out: out.copy_(x), copied, 1.0),
        Contender(IDENTITY, identity, copied, 1.0),
        Contender(ORIGINAL, original_run(kernel.name), written, note=original.flaw),
        Contender(EAGER, eager_run(kernel), meant),
        Contender(COMPILE, compiled_run(kernel, "default"), meant),
        Contender(MAX_AUTOTUNE, max_autotune, meant),
        Contender(TUNED, tuned_run(case, configs[TUNED], gpu), meant, 1.0),
    ]


def check(
    entered: Sequence[Contender], case: Case, x: torch.Tensor, out: torch.Tensor
) -> list[Row]:
    """Run each once, which also compiles it, and compare; no samples yet.

    An output of nan is handed in each time, so that nothing left over passes for a result.
    """
    rows: dict[str, Row] = {}
    for judge in dict.fromkeys(contender.judge for contender in entered):
        inputs = _safe(x) if judge.safe_inputs else x
        (expected,) = reference_outputs(judge.kernel, [], [inputs], judge.kernel.scalar_values())
        for contender in entered:
            if contender.judge is judge:
                out.fill_(float("nan"))
                rows[contender.name] = _checked(contender, case, inputs, out, expected)
    return [rows[contender.name] for contender in entered]


def _safe(x: torch.Tensor) -> torch.Tensor:
    return x.clone().nan_to_num_(0.0, SAFE, -SAFE).clamp_(-SAFE, SAFE)


def _checked(
    contender: Contender, case: Case, x: torch.Tensor, out: torch.Tensor, expected: torch.Tensor
) -> Row:
    try:
        error = largest_error(contender.run(x, out), expected, TOLERANCES[case.dtype])
    except Exception as failure:
        if is_sticky(failure):
            raise
        return Row(contender.name, note=f"did not run: {one_line(failure)}")
    right = error <= contender.allowed_error
    return Row(contender.name, error=error, right=right, note=contender.note)


def sampled(
    entered: Sequence[Contender], rows: Sequence[Row], rotation: Rotation, rounds: int
) -> list[Row]:
    """The rows with samples, for those that ran and whose graph fits in memory."""
    timers: dict[int, Timer] = {}
    result = list(rows)
    for place, (contender, row) in enumerate(zip(entered, rows, strict=True)):
        if row.error is None:
            continue
        try:
            timers[place] = Timer(_launch(contender.run, rotation), rotation)
        except torch.OutOfMemoryError:
            result[place] = replace(row, note="its CUDA graph does not fit in memory")
    for place, samples in zip(timers, shuffled_us([*timers.values()], rounds), strict=True):
        result[place] = replace(result[place], samples_us=samples)
    return result


def _launch(run: Run, rotation: Rotation) -> Callable[[int], None]:
    def launch(index: int) -> None:
        run(rotation.inputs[index][0], rotation.outputs[index][0])

    return launch


def shuffled_us(timers: Sequence[Timer], rounds: int) -> list[tuple[float, ...]]:
    """Samples of all in turn, in another order each round.

    What one leaves behind, in the cache or in the clocks, falls to all the others alike.
    """
    samples: list[list[float]] = [[] for _ in timers]
    order = list(range(len(timers)))
    shuffle = random.Random(_SEED).shuffle
    for number in range(_DROPPED_ROUNDS + rounds):
        shuffle(order)
        for place, [us] in zip(order, interleaved_us([timers[i] for i in order], 1), strict=True):
            if number >= _DROPPED_ROUNDS:
                samples[place].append(us)
    return [tuple(own) for own in samples]


def contest(case: Case, gpu: PresentGpu, plan: Plan) -> Contest:
    """Tune the op and the identity, then sample all contenders."""
    torch.compiler.reset()
    copying = replace(case, kernel=KERNELS["identity"])
    configs = {
        IDENTITY: tune(copying, gpu, plan.every, flat_only=True),
        TUNED: tune(case, gpu, plan.every),
    }
    began = time.monotonic()
    x = random_input(case.shape, case.dtype, _SEED, "cuda")
    out = torch.empty_like(x)
    entered = contenders(case, configs, gpu)
    rows = check(entered, case, x, out)
    checked = time.monotonic()
    rows = sampled(entered, rows, rotation_of([x], [out], gpu.device.l2_bytes), plan.rounds)
    launch = case.kernel.launch_for(case.shape, case.dtype, gpu.device)
    bytes_moved = case.kernel.bytes_moved(launch)
    timed = time.monotonic()
    say(f"contenders checked in {checked - began:.1f} s, timed in {timed - checked:.1f} s")
    return Contest(case.kernel.name, case.shape, case.dtype, bytes_moved, tuple(rows), configs)


def odd_pair(kernel: Kernel, dtype: str, gpu: PresentGpu, plan: Plan) -> OddPair:
    """Tune at both sizes, then sample both in turn; tuning has verified these binaries."""
    timers, configs = [], []
    for size in plan.odd_sizes:
        case = Case(kernel, (size,), dtype)
        configs.append(tune(case, gpu, plan.every, flat_only=True))
        x = random_input(case.shape, dtype, _SEED, "cuda")
        rotation = rotation_of([x], [torch.empty_like(x)], gpu.device.l2_bytes)
        timers.append(Timer(_launch(tuned_run(case, configs[-1], gpu), rotation), rotation))
    samples = shuffled_us(timers, plan.rounds)
    return OddPair(kernel.name, dtype, plan.odd_sizes, tuple(samples), tuple(configs))


def measure(report: Report, gpu: PresentGpu, plan: Plan, keep: Callable[[Report], None]) -> None:
    """Run the plan, adding to the report and keeping it after every step."""
    keep(report)
    contested = plan.shapes if plan.contests else {}
    for dtype, (name, shape) in itertools.product(plan.dtypes, contested.items()):
        with _skipping(f"{name} {dtype}", report):
            report.contests.append(contest(Case(KERNELS[name], shape, dtype), gpu, plan))
        keep(report)
    odd_dtypes = [dtype for dtype in plan.odd_dtypes if dtype in plan.dtypes and plan.odd_sizes]
    for dtype, name in itertools.product(odd_dtypes, plan.shapes):
        with _skipping(f"{name} {dtype} at {plan.odd_sizes}", report):
            report.odd_pairs.append(odd_pair(KERNELS[name], dtype, gpu, plan))
        keep(report)


@contextmanager
def _skipping(what: str, report: Report) -> Iterator[None]:
    """Note what does not fit on the GPU and go on; memory is free afterwards."""
    try:
        yield
    except (DeviceMemoryError, torch.OutOfMemoryError) as error:
        report.skipped.append(f"{what}: {one_line(error)}")
    torch.cuda.empty_cache()


def say(line: str) -> None:
    """Progress, beside the output."""
    print(line, file=sys.stderr, flush=True)


def header_of(gpu: PresentGpu, plan: Plan) -> dict[str, str]:
    """What the figures were taken on and with."""
    return {
        "GPU": f"{gpu.name}, {gpu.device.sm_count} SMs, driver {gpu.driver}",
        "software": ", ".join(
            f"{module.__name__} {module.__version__}" for module in (torch, triton, tunekit)
        ),
        "protocol": f"{PROTOCOL}, {plan.rounds} samples each, all contenders of an op and dtype "
        "in one run, in another order each round",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--ops", nargs="+", choices=list(FULL.shapes), default=list(FULL.shapes))
    parser.add_argument("--dtypes", nargs="+", choices=FULL.dtypes, default=FULL.dtypes)
    parser.add_argument("--no-odd", action="store_true", help="leave the odd sizes out")
    parser.add_argument("--only-odd", action="store_true", help="the odd sizes and nothing else")
    parser.add_argument("--rounds", type=int, help="samples of each contender")
    parser.add_argument("--device", type=int, default=0, help="index of the GPU")
    parser.add_argument("--quick", action="store_true", help="small shapes, few configurations")
    parser.add_argument("-o", dest="text", type=Path, metavar="FILE", help="write the report")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    return parser.parse_args(argv)


def planned(options: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    base = QUICK if options.quick else FULL
    return replace(
        base,
        shapes={name: base.shapes[name] for name in options.ops},
        dtypes=tuple(options.dtypes),
        odd_sizes=() if options.no_odd else base.odd_sizes,
        contests=not options.only_odd,
        rounds=options.rounds or base.rounds,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; a report is written as far as it goes after every step."""
    options = parsed(argv)
    plan = planned(options)

    def keep(report: Report) -> None:
        if options.text:
            options.text.write_text(as_text(report), encoding="utf-8")
        if options.json:
            options.json.write_text(json.dumps(as_data(report), indent=1) + "\n", encoding="utf-8")

    try:
        gpu = select_gpu(options.device)
        report = Report(header_of(gpu, plan), gpu.device.slug, judged=not options.quick)
        measure(report, gpu, plan, keep)
    except TunekitError as error:
        say(f"error: {error}")
        return error.exit_status
    print(as_text(report), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
