"""Tune the kernels of examples/ on the GPU that is present, and time them beside PyTorch.

    python benchmarks/examples.py -o benchmarks/results/examples-h100.md \
        --json benchmarks/results/examples-h100.json

Each at some shapes that models have, in float16 and bfloat16: tuned as `tunekit tune` does it, into
a database of this run alone; then the tuned configuration, the default one, eager PyTorch,
`torch.compile` and a copy of as many bytes are sampled in turn, all from buffers that are not in
the L2 cache. The page is printed, and written with `-o`; the rows that were tuned go to `--json`,
as `tunekit export` writes them. What the time (`--seconds`) does not suffice for is left out, and
said so.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import triton

import tunekit
from tunekit import export
from tunekit.core.config import Config
from tunekit.errors import TunekitError
from tunekit.evaluate.compile import compile_launch, ordered_arguments
from tunekit.evaluate.guards import NOT_A_NUMBER, prepare
from tunekit.evaluate.host import Host
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.measure import PROTOCOL, interleaved_us
from tunekit.evaluate.rotation import Rotation, rotation_of
from tunekit.evaluate.tensors import empty_of
from tunekit.evaluate.text import one_line
from tunekit.evaluate.timer import Timer
from tunekit.evaluate.worker import is_sticky
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch
from tunekit.kernels.registry import find_kernel
from tunekit.search.knowledge import Knowledge
from tunekit.search.task import Progress, Task
from tunekit.search.tune import tune
from tunekit.store.cache import read_cache
from tunekit.store.database import Store

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "softmax.py:softmax": ((16384, 1024), (8192, 4096), (4096, 16384)),
    "softmax.py:softmax_long": ((512, 128256),),
    "rmsnorm.py:add_rms_norm": ((256, 4096), (8192, 4096), (8192, 8192)),
    "rotary.py:rotary": ((32, 32, 8, 1, 128), (1, 32, 8, 4096, 128), (4, 64, 8, 4096, 128)),
    "int8_linear.py:int8_linear": ((16, 11008, 4096), (256, 4096, 4096), (4096, 11008, 4096)),
}
QUICK: dict[str, tuple[tuple[int, ...], ...]] = {
    "softmax.py:softmax": ((64, 256),),
    "rmsnorm.py:add_rms_norm": ((64, 256),),
    "rotary.py:rotary": ((1, 4, 2, 64, 64),),
    "int8_linear.py:int8_linear": ((16, 128, 128),),
}
DTYPES = ("float16", "bfloat16")
DEVICE = "cuda"
COPY, EAGER, COMPILE = "copy", "eager", "compile"
WIDE, DEFAULT, TUNED = "16-bit weight", "default", "tuned"
CONTENDERS = (COPY, EAGER, COMPILE, WIDE, DEFAULT, TUNED)
_TUNING_SHARE = 0.55
"""Of the time, at most, that tuning may take."""
_TRIALS, _SEED = 60, 0
_ROUNDS, _DROPPED_ROUNDS = 21, 3

Run = Callable[[int], Any]
"""Launches on the buffer set of that index, and gives what a reference gives, or None where the
results are in the set's outputs."""


@dataclass(frozen=True)
class Case:
    """A kernel at a shape and dtype."""

    kernel: Kernel
    reference: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.kernel.name} {self.kernel.shape_text(self.shape)} {self.dtype}"


@dataclass
class Row:
    """What was found of a case.

    Attributes:
        evaluated: configurations evaluated, of so many.
        tuning_s: seconds that took.
        samples_us: of each contender, µs a launch.
        errors: largest error of each contender, in units of what tunekit allows.
        note: why something is missing.
    """

    case: Case
    evaluated: tuple[int, int] = (0, 0)
    tuning_s: float = 0.0
    config: Config | None = None
    bytes_moved: int = 0
    samples_us: dict[str, tuple[float, ...]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def us(self, contender: str) -> float | None:
        """The contender's median; None if it has no samples."""
        samples = self.samples_us.get(contender)
        return statistics.median(samples) if samples else None

    def spread(self, contender: str) -> float | None:
        """Half the range from the 10th to the 90th percentile, over the median."""
        samples = self.samples_us.get(contender, ())
        if len(samples) < 2:
            return None
        tenths = statistics.quantiles(samples, n=10, method="inclusive")
        return (tenths[-1] - tenths[0]) / 2 / statistics.median(samples)

    def ratio(self, contender: str) -> float | None:
        """The contender's time over the tuned one's."""
        mine, tuned = self.us(contender), self.us(TUNED)
        return None if mine is None or tuned is None else mine / tuned

    def add_note(self, text: str) -> None:
        """Say one more thing that is missing."""
        self.note = f"{self.note}; {text}".removeprefix("; ")


def cases(shapes: dict[str, tuple[tuple[int, ...], ...]], dtypes: Sequence[str]) -> list[Case]:
    """All, those of the first dtype first."""
    references = {place: f"{EXAMPLES}/{place}" for place in shapes}
    kernels = {place: find_kernel(reference) for place, reference in references.items()}
    return [
        Case(kernels[place], references[place], shape, dtype)
        for dtype in dtypes
        for place, own in shapes.items()
        for shape in own
    ]


def tune_all(rows: Sequence[Row], path: Path, seconds: float) -> None:
    """Tune each case into the database at `path`, each in its share of the time that is left."""
    ends = time.monotonic() + seconds
    with Host.on_gpu(0) as host, Store.open(path) as store:
        knowledge = Knowledge(None, [store])  # what ships has some of these very problems
        for place, row in enumerate(rows):
            left = ends - time.monotonic()
            if left <= 0:
                row.add_note("not tuned: no time left")
                continue
            case, began = row.case, time.monotonic()
            task = Task(
                case.kernel, case.reference, case.shape, case.dtype, case.kernel.scalar_values(),
                trials=_TRIALS, timeout_s=2 * left / (len(rows) - place), seed=_SEED,
            )  # fmt: skip
            try:
                result = tune(task, host, store, Progress(), knowledge=knowledge, write_study=False)
            except Exception as error:  # what one costs must not cost the others
                row.add_note(f"not tuned: {one_line(error)}")
                continue
            row.config, row.bytes_moved = result.winner.config, result.bytes_moved
            row.evaluated = result.evaluated, result.space_size
            row.tuning_s = time.monotonic() - began
            say(f"{case}: {result.winner.config}, {row.evaluated[0]} in {row.tuning_s:.1f} s")


def time_case(row: Row, gpu: PresentGpu, *, with_compile: bool) -> None:
    """Check all contenders of a case, then sample them in turn."""
    case = row.case
    launch = case.kernel.launch_for(case.shape, case.dtype, gpu.device)
    inputs = [empty_of(meta, DEVICE) for meta in launch.inputs]
    draw_for(case.kernel, inputs, case.shape, case.dtype, _SEED)
    outputs = [empty_of(meta, DEVICE) for meta in launch.outputs]
    judge = Judge.of(case.kernel, launch, inputs, case.kernel.scalar_values(), keep=False)
    rotation = rotation_of(inputs, outputs, gpu.device.l2_bytes, launch=launch)
    timers = {COPY: copy_timer(row.bytes_moved, gpu)}
    for name, run in contenders(row, launch, rotation, gpu, with_compile=with_compile):
        try:
            prepare(launch, inputs, outputs, NOT_A_NUMBER)
            given = run(0)
            results = outputs if given is None else _tensors(given)
            row.errors[name] = judge.error_of([each.contiguous() for each in results])
            if name in (DEFAULT, TUNED) and row.errors[name] > 1.0:
                row.add_note(f"{name} is WRONG")
            timers[name] = Timer(run, rotation)
        except Exception as failure:
            if is_sticky(failure):
                raise
            row.add_note(f"{name} did not run: {one_line(failure)}")
    row.samples_us = shuffled_us(timers)
    if row.config == case.kernel.default(launch, gpu.device) and TUNED in row.samples_us:
        row.samples_us[DEFAULT] = row.samples_us[TUNED]
        row.errors[DEFAULT] = row.errors[TUNED]


def _tensors(given: Any) -> tuple[torch.Tensor, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def contenders(
    row: Row, launch: Launch, rotation: Rotation, gpu: PresentGpu, *, with_compile: bool
) -> Iterator[tuple[str, Run]]:
    """All but the copy; the default only where another configuration won."""
    kernel, scalars = row.case.kernel, row.case.kernel.scalar_values()
    default = kernel.default(launch, gpu.device)

    def eager(*inputs: torch.Tensor) -> Any:
        return kernel.by_reference(inputs, scalars)

    yield EAGER, lambda index: eager(*rotation.inputs[index])
    if with_compile:
        reference, values = kernel.reference, tuple(scalars.values())
        compiled = torch.compile(reference, dynamic=False, fullgraph=True)
        yield COMPILE, lambda index: compiled(*rotation.inputs[index], *values)
    if kernel.name == "int8_linear":
        yield WIDE, wide_run(rotation)
    yield TUNED, kernel_run(kernel, launch, rotation, row.config or default)
    if row.config not in (None, default):
        yield DEFAULT, kernel_run(kernel, launch, rotation, default)


def kernel_run(kernel: Kernel, launch: Launch, rotation: Rotation, config: Config) -> Run:
    """Launches one configuration."""
    scalars = kernel.scalar_values()
    compiled, grid = compile_launch(launch, config, scalars), launch.grid(config)
    bound = [
        ordered_arguments(launch.function, launch.bind(inputs, outputs, scalars, config))
        for inputs, outputs in zip(rotation.inputs, rotation.outputs, strict=True)
    ]
    return lambda index: compiled.launch(grid, bound[index])


def wide_run(rotation: Rotation) -> Run:
    """The linear layer on a weight of x's own dtype, of twice the bytes, by cuBLAS."""
    weights = []
    for x, weight, scales in rotation.inputs:
        weights.append((weight * scales[:, None]).to(x.dtype))
    return lambda index: F.linear(rotation.inputs[index][0], weights[index])


def copy_timer(bytes_moved: int, gpu: PresentGpu) -> Timer:
    """Of a copy that moves as many bytes: half of them read, half written."""
    source = torch.zeros(max(bytes_moved // 8, 1), device=DEVICE)
    rotation = rotation_of([source], [torch.empty_like(source)], gpu.device.l2_bytes)
    return Timer(
        lambda index: rotation.outputs[index][0].copy_(rotation.inputs[index][0]), rotation
    )


def shuffled_us(timers: dict[str, Timer]) -> dict[str, tuple[float, ...]]:
    """Samples of all in turn, in another order each round, those of the first rounds dropped."""
    samples: dict[str, list[float]] = {name: [] for name in timers}
    order, shuffle = list(timers), random.Random(_SEED).shuffle
    for number in range(_DROPPED_ROUNDS + _ROUNDS):
        shuffle(order)
        taken = interleaved_us([timers[name] for name in order], 1)
        for name, [us] in zip(order, taken, strict=True):
            if number >= _DROPPED_ROUNDS:
                samples[name].append(us)
    return {name: tuple(own) for name, own in samples.items()}


def time_all(rows: Sequence[Row], gpu: PresentGpu, ends: float, keep: Callable[[], None]) -> None:
    """Time each case that was tuned, while there is time; compiling takes most of it."""
    slowest_s = 0.0
    for row in rows:
        if row.config is None:
            continue
        left = ends - time.monotonic()
        if left < 2.0:
            row.add_note("not timed: no time left")
            continue
        with_compile = left > slowest_s
        if not with_compile:
            row.add_note("torch.compile left out: no time left")
        began = time.monotonic()
        try:
            torch.compiler.reset()
            time_case(row, gpu, with_compile=with_compile)
        except Exception as error:
            row.add_note(f"not timed: {one_line(error)}")
            if is_sticky(error):  # nothing runs in this process any more
                return
        torch.cuda.empty_cache()
        took = time.monotonic() - began
        # The very first compilation also imports the compiler.
        slowest_s = took if row is not rows[0] and took > slowest_s else slowest_s
        say(f"{row.case}: timed in {took:.1f} s {row.note}")
        keep()


def as_text(rows: Sequence[Row], header: dict[str, str]) -> str:
    """The page as Markdown."""
    parts = ["# The kernels of examples/", "\n".join(f"- {k}: {v}" for k, v in header.items())]
    for dtype in dict.fromkeys(row.case.dtype for row in rows):
        own = [row for row in rows if row.case.dtype == dtype]
        parts += [f"## {dtype}", _times(own), _winners(own)]
        if notes := [f"- {row.case}: {row.note}" for row in own if row.note]:
            parts.append("\n".join(notes))
    return "\n\n".join([*parts, _LEGEND]) + "\n"


_LEGEND = (
    "Time: median of one launch in a CUDA graph, µs, ± half the range from the 10th to the 90th "
    "percentile; × tuned: over the tuned configuration's. Copy: of a tensor of half the bytes that "
    "the kernel at least has to move. 16-bit weight: `F.linear` on a weight that was converted "
    "before, of twice the bytes; eager and compile convert it in the call. Error: the largest "
    "against float64, in units of what tunekit allows itself. Where the default won, its figure is "
    "the tuned one's."
)


def _times(rows: Sequence[Row]) -> str:
    names = [name for name in CONTENDERS if any(name in row.samples_us for row in rows)]
    others = [name for name in names if name != TUNED]
    head = ["kernel", "sizes", *(f"{name}, µs" for name in names)]
    head += [*(f"{name} × tuned" for name in others), "eager error", "tuned error"]
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
    for row in rows:
        lines.append(
            [row.case.kernel.name, row.case.kernel.shape_text(row.case.shape)]
            + [_time(row, name) for name in names]
            + [_number(row.ratio(name), ".3f") for name in others]
            + [_number(row.errors.get(name), ".2f") for name in (EAGER, TUNED)]
        )
    means = [_number(_mean(rows, name), ".3f") for name in others]
    lines.append(["geometric mean", "", *("" for _ in names), *means, "", ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean(rows: Sequence[Row], name: str) -> float | None:
    ratios = [ratio for row in rows if (ratio := row.ratio(name)) is not None]
    return statistics.geometric_mean(ratios) if len(ratios) == len(rows) else None


def _winners(rows: Sequence[Row]) -> str:
    lines = ["| kernel | sizes | winner | evaluated | tuned in, s |", "|---|---|---|---:|---:|"]
    lines += [
        f"| {row.case.kernel.name} | {row.case.kernel.shape_text(row.case.shape)} "
        f"| {row.config or '–'} | {row.evaluated[0]} of {row.evaluated[1]} | {row.tuning_s:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _time(row: Row, name: str) -> str:
    us, spread = row.us(name), row.spread(name)
    return "–" if us is None or spread is None else f"{us:.2f} ± {spread:.1%}"


def _number(value: float | None, format: str) -> str:
    return "–" if value is None else f"{value:{format}}"


def header_of(gpu: PresentGpu) -> dict[str, str]:
    """What the figures were taken on and with."""
    modules = (torch, triton, tunekit)
    return {
        "GPU": f"{gpu.name}, {gpu.device.sm_count} SMs, driver {gpu.driver}",
        "software": ", ".join(f"{module.__name__} {module.__version__}" for module in modules),
        "protocol": f"{PROTOCOL}, {_ROUNDS} samples each, all contenders of a case in one run, in "
        "another order each round; torch.compile with dynamic=False",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def say(text: str) -> None:
    """Progress, beside the page that is printed."""
    print(text, file=sys.stderr, flush=True)


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these kernels alone")
    parser.add_argument("--seconds", type=float, default=135.0, help="in which to be done")
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("-o", dest="text", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows that were tuned")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Tune, time, print; exit status 1 where something is wrong or missing."""
    began = time.monotonic()
    options = parsed(argv)
    # PyTorch's compiler takes seconds to import, while the worker tunes.
    threading.Thread(target=lambda: __import__("torch._inductor.compile_fx"), daemon=True).start()
    try:
        gpu = select_gpu(0)
        header = header_of(gpu)
        shapes = {
            place: own
            for place, own in (QUICK if options.quick else SHAPES).items()
            if not options.only or place.partition(":")[2] in options.only
        }
        rows = [Row(case) for case in cases(shapes, options.dtypes)]

        def keep() -> None:
            if options.text:
                options.text.write_text(as_text(rows, header), encoding="utf-8")

        with tempfile.TemporaryDirectory() as folder:
            database = Path(folder) / "studies.db"
            tune_all(rows, database, options.seconds * _TUNING_SHARE)
            if options.json:
                tuned = export.render(read_cache(database), "json")
                options.json.write_text(tuned, encoding="utf-8")
        keep()
        time_all(rows, gpu, began + options.seconds, keep)
    except TunekitError as error:
        say(f"error: {error}")
        return error.exit_status
    header["took"] = f"{time.monotonic() - began:.0f} s"
    keep()
    print(as_text(rows, header), end="")
    return int(any(row.note for row in rows))


if __name__ == "__main__":
    sys.exit(main())
