"""Time the matmul template's `linear_gelu` beside cuBLAS and a compiled epilogue, on a GPU.

For each shape and dtype tunekit's own search tunes the kernel; then one run samples in turn
`torch.compile` of `F.gelu(F.linear(x, weight, bias))`, the same in eager PyTorch, the tuned kernel,
and the default. The last table says what a configuration of its own gained each shape over the one
that is best for all.

    python benchmarks/matmul.py -o matmul.md --json matmul.json
    python benchmarks/matmul.py --dtypes float16 --trials 40
    python benchmarks/matmul.py --quick

Times are of a cold L2 cache, of whole launches in a CUDA graph: what zeroes the counters of a split
K is among them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
import triton
from kernels import shuffled_us

import tunekit
from tunekit.core.config import Config
from tunekit.core.space import context
from tunekit.errors import TunekitError
from tunekit.evaluate.compile import compile_launch, ordered_arguments
from tunekit.evaluate.host import Host
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.measure import PROTOCOL, median_us
from tunekit.evaluate.on_device import zeroed_by
from tunekit.evaluate.rotation import Rotation, rotation_of
from tunekit.evaluate.tensors import empty_of
from tunekit.evaluate.text import one_line
from tunekit.evaluate.timer import Timer
from tunekit.evaluate.verify import expected_outputs, largest_error, tolerance_of
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.registry import find_kernel
from tunekit.search.knowledge import Knowledge
from tunekit.search.task import Progress, Task
from tunekit.search.tune import tune
from tunekit.store.database import Store

ODD = f"{Path(__file__).resolve().parent / 'matmul_odd.py'}:odd_rows"
GOAL, WORST_GOAL = 1.05, 0.9
COMPILE, EAGER, TUNED, DEFAULT = "torch.compile", "eager", "tunekit, tuned", "tunekit, default"
OTHERS_ALLOWED = 8.0
"""Error of PyTorch's, in tunekit's units, from which on the page says it. It rounds the sums before
the activation, which explains a few of them."""
_SEED = 0
_UNION_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A shape, and where it comes from."""

    shape: tuple[int, int, int]
    origin: str
    reference: str = "linear_gelu"

    @property
    def kernel(self) -> Kernel:
        """What is tuned."""
        return find_kernel(self.reference)

    @property
    def name(self) -> str:
        """M×N×K, and what is special about it."""
        odd = " odd rows" if self.reference == ODD else ""
        return "×".join(map(str, self.shape)) + odd


CASES = (
    Case((2048, 2048, 2048), "a cube"),
    Case((16, 4096, 4096), "16 tokens"),
    Case((4096, 11008, 4096), "Llama-2 7B, up projection of 4096 tokens"),
    Case((1000, 1000, 1000), "rows of x and weight 1001 elements apart", ODD),
    Case((1000, 1000, 1000), "the same, contiguous"),
    Case((512, 512, 4096), "few tiles, long sums"),
    Case((2048, 4096, 4096), "Llama-3 8B, attention output, prefill of 2048"),
    Case((2048, 14336, 4096), "Llama-3 8B, up projection, prefill of 2048"),
    Case((2048, 4096, 14336), "Llama-3 8B, down projection, prefill of 2048"),
    Case((64, 4096, 4096), "Llama-3 8B, attention output, decoding 64"),
    Case((32, 14336, 4096), "Llama-3 8B, up projection, decoding 32"),
    Case((8, 4096, 14336), "Llama-3 8B, down projection, decoding 8"),
    Case((4096, 3072, 768), "BERT base, up projection, 32 sequences of 128"),
    Case((4096, 768, 3072), "BERT base, down projection, 32 sequences of 128"),
    Case((128, 3072, 768), "BERT base, up projection, 1 sequence of 128"),
    Case((6304, 4096, 1024), "ViT-L/16, up projection, 32 images of 197 tokens"),
)
"""The shapes of the recorded landscapes, then ten of transformers, chosen before any was timed."""

QUICK = (Case((256, 256, 256), "toy"), Case((100, 100, 100), "toy", ODD))


@dataclass(slots=True)
class Row:
    """What one shape and dtype gave.

    Attributes:
        samples_us: of each contender.
        errors: of each, in the units of `tunekit.evaluate.verify`.
        config, default: of the kernel.
        evaluated: configurations that tuning evaluated, of so many in the space.
        union_us: of each configuration that won somewhere, its time here.
    """

    shape: str
    origin: str
    dtype: str
    samples_us: dict[str, tuple[float, ...]]
    errors: dict[str, float]
    config: Config
    default: Config
    evaluated: int
    space_size: int
    tuning_s: float
    union_us: dict[Config, float] = field(default_factory=dict)

    def us(self, name: str) -> float:
        """Median; infinite for a configuration that did not run or was wrong.

        PyTorch's time counts whatever its error: it is what one has without tunekit.
        """
        samples = self.samples_us.get(name)
        if not samples or (name in (TUNED, DEFAULT) and not self.errors[name] <= 1.0):
            return math.inf
        return median_us(samples)

    def spread(self, name: str) -> float:
        """Half the way from the 10th to the 90th percentile, as a share of the median."""
        deciles = statistics.quantiles(self.samples_us[name], n=10, method="inclusive")
        return (deciles[-1] - deciles[0]) / 2 / statistics.median(self.samples_us[name])

    @property
    def best_other_us(self) -> float:
        """The faster of PyTorch's two."""
        return min(self.us(COMPILE), self.us(EAGER))

    @property
    def ratio(self) -> float:
        """How many times as fast as that the tuned kernel is; 0 if it was wrong."""
        return self.best_other_us / self.us(TUNED)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long things may take.

    Attributes:
        trials: configurations to tune a problem by, at most.
        seconds: after which tuning a problem asks for no more.
        rounds: samples of each contender.
        union: winners, at most, that are tried at every shape.
    """

    trials: int = 60
    seconds: float = 12.0
    rounds: int = 15
    union: int = 10


def tune_case(case: Case, dtype: str, host: Host, store: Store, effort: Effort) -> Row:
    """Tune one problem as `tunekit tune` does."""
    began = time.monotonic()
    kernel = case.kernel
    task = Task(
        kernel,
        case.reference,
        case.shape,
        dtype,
        kernel.scalar_values(),
        trials=effort.trials,
        timeout_s=effort.seconds,
    )
    result = tune(
        task, host, store, Progress(), knowledge=Knowledge(None, [store]), write_study=False
    )
    launch = kernel.launch_for(case.shape, dtype, host.device)
    row = Row(
        shape=case.name,
        origin=case.origin,
        dtype=dtype,
        samples_us={},
        errors={},
        config=result.winner.config,
        default=kernel.default(launch, host.device),
        evaluated=result.evaluated,
        space_size=result.space_size,
        tuning_s=time.monotonic() - began,
    )
    statuses = ", ".join(f"{count} {status.value}" for status, count in result.statuses.items())
    say(
        f"{case.name} {dtype}: {row.evaluated} of {row.space_size} in {row.tuning_s:.1f} s "
        f"({statuses}; {result.stopped}): {row.config} {result.winner.time_us:.2f} us"
    )
    return row


class Bench:
    """One problem's buffers, and launches on them.

    Args:
        case: the problem.
        dtype: of all tensors.
        gpu: to run on.
    """

    def __init__(self, case: Case, dtype: str, gpu: PresentGpu) -> None:
        self.kernel, self.shape, self.dtype = case.kernel, case.shape, dtype
        self.launch = self.kernel.launch_for(case.shape, dtype, gpu.device)
        inputs = [empty_of(meta, "cuda") for meta in self.launch.inputs]
        outputs = [empty_of(meta, "cuda") for meta in self.launch.outputs]
        draw_for(self.kernel, inputs, case.shape, dtype, _SEED)
        self.rotation: Rotation = rotation_of(inputs, outputs, gpu.device.l2_bytes)

    def torch_run(self, function: Callable[..., torch.Tensor]) -> Callable[[int], torch.Tensor]:
        """Calls PyTorch, which allocates its result."""
        inputs = self.rotation.inputs
        return lambda index: function(*inputs[index])

    def run(self, config: Config) -> Callable[[int], torch.Tensor]:
        """Launches one configuration, and zeroes first what has to be zero, as a call does."""
        launch, rotation = self.launch, self.rotation
        compiled = compile_launch(launch, config, {})
        grid = launch.grid(config)
        bound = [
            ordered_arguments(launch.function, launch.bind(inputs, outputs, {}, config))
            for inputs, outputs in zip(rotation.inputs, rotation.outputs, strict=True)
        ]
        zeroed = zeroed_by(launch, config, rotation.outputs)

        def start(index: int) -> torch.Tensor:
            for output in zeroed[index] if zeroed else ():
                output.zero_()
            compiled.launch(grid, bound[index])
            return rotation.outputs[index][0]

        return start

    @cached_property
    def expected(self) -> torch.Tensor:
        """The reference's result."""
        (values,) = expected_outputs(self.kernel, self.launch, self.rotation.inputs[0], {})
        return values

    def errors(self, runs: Mapping[str, Callable[[int], torch.Tensor]]) -> dict[str, float]:
        """Largest error of each, run once into an output of nan."""
        tolerance = tolerance_of(self.kernel, self.launch, 0, self.expected)
        found = {}
        for name, run in runs.items():
            self.rotation.outputs[0][0].fill_(float("nan"))
            found[name] = largest_error(run(0), self.expected, tolerance)
        return found


def contest(row: Row, case: Case, gpu: PresentGpu, union: Sequence[Config], rounds: int) -> None:
    """Sample all contenders of a problem in turn, then whatever won elsewhere."""
    torch.compiler.reset()
    bench = Bench(case, row.dtype, gpu)
    compiled = torch.compile(_linear_gelu, dynamic=False, fullgraph=True)
    runs = {
        COMPILE: bench.torch_run(compiled),
        EAGER: bench.torch_run(_linear_gelu),
        TUNED: bench.run(row.config),
    }
    if row.default != row.config:
        runs[DEFAULT] = bench.run(row.default)
    row.errors = bench.errors(runs)
    timers = [Timer(run, bench.rotation) for run in runs.values()]
    row.samples_us = dict(zip(runs, shuffled_us(timers, rounds), strict=True))
    if row.default == row.config:
        row.errors[DEFAULT], row.samples_us[DEFAULT] = row.errors[TUNED], row.samples_us[TUNED]
    del timers
    names = context(bench.launch.dims, 2, gpu.device)
    for config in union:
        if _runs_here(bench.kernel, config, names):
            row.union_us[config] = _quickly(bench, config)


def _runs_here(kernel: Kernel, config: Config, names: Mapping[str, int]) -> bool:
    """Whether it can be launched; that the space would not try it here does not matter."""
    needed = ("stages_fit_shared_memory", "split_where_tiles_are_few", "parts_fit_buffer")
    known = {**names, **config}
    constraints = {each.name: each.expression for each in kernel.load_space().constraints}
    return all(constraints[name].evaluate(known) for name in needed)


def _quickly(bench: Bench, config: Config) -> float:
    """Median of a few samples; infinite where it cannot be launched or is wrong."""
    try:
        run = bench.run(config)
        if bench.errors({TUNED: run})[TUNED] > 1.0:
            return math.inf
        timer = Timer(run, bench.rotation)
    except (RuntimeError, TunekitError, triton.errors.TritonError) as failure:
        say(f"{config}: {one_line(failure)}")
        return math.inf
    return statistics.median(timer.sample_us() for _ in range(_UNION_SAMPLES))


def _linear_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.gelu(F.linear(x, weight, bias))


def measure(
    cases: Sequence[Case],
    dtypes: Sequence[str],
    gpu: PresentGpu,
    effort: Effort,
    keep: Callable[[list[Row]], None],
) -> list[Row]:
    """Tune all cases of a dtype, then sample their contenders; rows are kept after each."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Host.on_gpu(gpu.index) as host,
        Store.open(f"{folder}/studies.db") as store,
    ):
        for dtype in dtypes:
            own: list[tuple[Row, Case]] = []
            for case in cases:
                try:
                    own.append((tune_case(case, dtype, host, store, effort), case))
                except TunekitError as error:
                    say(f"{case.name} {dtype}: {one_line(error)}")
            winners = Counter(row.config for row, _ in own)
            union = [config for config, _ in winners.most_common(effort.union)]
            for row, case in own:
                began = time.monotonic()
                contest(row, case, gpu, union, effort.rounds)
                rows.append(row)
                keep(rows)
                torch.cuda.empty_cache()
                say(f"{row.shape} {dtype}: {row.ratio:.3f} in {time.monotonic() - began:.1f} s")
    return rows


def one_for_all(rows: Sequence[Row]) -> tuple[Config, dict[str, float]] | None:
    """The configuration whose times are best for all shapes of a dtype, by geometric mean.

    Returns:
        It, and by shape how many times as long it takes as that shape's fastest; None where none
        runs at every shape.
    """
    best: tuple[float, Config, dict[str, float]] | None = None
    for config in dict.fromkeys(each for row in rows for each in row.union_us):
        times = [row.union_us.get(config, math.inf) for row in rows]
        if not all(map(math.isfinite, times)):
            continue
        losses = {
            row.shape: us / min(row.union_us.values()) for us, row in zip(times, rows, strict=True)
        }
        mean = statistics.geometric_mean(losses.values())
        if best is None or mean < best[0]:
            best = mean, config, losses
    return best and (best[1], best[2])


def as_text(rows: Sequence[Row], header: Mapping[str, str]) -> str:
    """The report."""
    lines = ["# linear_gelu beside cuBLAS and a compiled epilogue", ""]
    lines += [f"- {name}: {value}" for name, value in header.items()]
    for dtype in dict.fromkeys(row.dtype for row in rows):
        own = [row for row in rows if row.dtype == dtype]
        ones = one_for_all(own)
        lines += [
            "",
            f"## {dtype}",
            "",
            "Medians in µs, ± half the way from the 10th to the 90th percentile; the ratio is the "
            "faster of PyTorch's two over tunekit, tuned.",
            "",
            "| M×N×K | from | torch.compile | eager | tunekit, default | tunekit, tuned | ratio |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in own:
            cells = " | ".join(_cell(row, name) for name in (COMPILE, EAGER, DEFAULT, TUNED))
            lines.append(f"| {row.shape} | {row.origin} | {cells} | {row.ratio:.3f} |")
        lines += ["", *_verdicts(own, dtype), "", f"Winners, {dtype}:", ""]
        lines += [
            "| M×N×K | winner | of | default / winner | one for all / fastest |",
            "| --- | --- | ---: | ---: | ---: |",
        ]
        for row in own:
            lost = ones[1][row.shape] if ones else math.nan
            gain = row.us(DEFAULT) / row.us(TUNED)
            lines.append(
                f"| {row.shape} | {row.config} | {row.evaluated} of {row.space_size} | {gain:.3f} "
                f"| {lost:.3f} |"
            )
        if ones:
            mean = statistics.geometric_mean(ones[1].values())
            lines += [
                "",
                f"One for all shapes: {ones[0]}. A configuration of its own makes a shape "
                f"{mean:.3f} times as fast (geometric mean; at most {max(ones[1].values()):.3f}).",
            ]
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str) -> str:
    if not row.samples_us.get(name):
        return "-"
    wrong = "" if math.isfinite(row.us(name)) else " wrong"
    if name in (COMPILE, EAGER) and row.errors[name] > OTHERS_ALLOWED:
        wrong = f" (error {row.errors[name]:.0f} ×)"
    return f"{median_us(row.samples_us[name]):.2f} ± {100 * row.spread(name):.1f} %{wrong}"


def _verdicts(rows: Sequence[Row], dtype: str) -> list[str]:
    ratios = [max(row.ratio, 1e-9) for row in rows]
    mean, worst = statistics.geometric_mean(ratios), min(ratios)
    return [
        f"{'PASS' if mean >= GOAL else 'FAIL'}  {dtype}: geometric mean {mean:.3f} "
        f"(at least {GOAL})",
        "",
        f"{'PASS' if worst >= WORST_GOAL else 'FAIL'}  {dtype}: worst {worst:.3f} "
        f"(at least {WORST_GOAL})",
    ]


def as_data(rows: Sequence[Row], header: Mapping[str, str]) -> dict[str, object]:
    """Every sample."""
    data = []
    for row in rows:
        each = asdict(replace(row, union_us={}))
        each |= {"config": dict(row.config), "default": dict(row.default)}
        each["union_us"] = [
            {"config": dict(config), "us": us if math.isfinite(us) else None}
            for config, us in row.union_us.items()
        ]
        data.append(each)
    return {"header": dict(header), "rows": data}


def header_of(gpu: PresentGpu, effort: Effort) -> dict[str, str]:
    """What the figures were taken on and with."""
    modules = (torch, triton, tunekit)
    return {
        "GPU": f"{gpu.name}, {gpu.device.sm_count} SMs, driver {gpu.driver}",
        "software": ", ".join(f"{each.__name__} {each.__version__}" for each in modules),
        "protocol": f"{PROTOCOL}, {effort.rounds} samples each, the contenders of a shape and "
        f"dtype in one run, in another order each round; tuned by at most {effort.trials} "
        f"configurations, asked for within {effort.seconds:g} s",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def say(line: str) -> None:
    """Progress, beside the output."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; a report is written as far as it goes after every case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--dtypes", nargs="+", default=["float16", "bfloat16"])
    parser.add_argument("--cases", type=int, nargs="+", help="numbers of the shapes, from 0")
    full = Effort()
    parser.add_argument("--trials", type=int, default=full.trials, help="configurations a shape")
    parser.add_argument("--seconds", type=float, default=full.seconds, help="of tuning a shape")
    parser.add_argument("--rounds", type=int, default=full.rounds, help="samples of a contender")
    parser.add_argument("--device", type=int, default=0, help="index of the GPU")
    parser.add_argument("--quick", action="store_true", help="toy shapes, few configurations")
    parser.add_argument("-o", dest="text", type=Path, metavar="FILE", help="write the report")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    options = parser.parse_args(argv)
    cases: Sequence[Case] = QUICK if options.quick else CASES
    if options.cases:
        cases = [cases[number] for number in options.cases]
    effort = Effort(options.trials, options.seconds, options.rounds)
    if options.quick:
        effort = Effort(4, options.seconds, 5, 2)
    try:
        gpu = select_gpu(options.device)
        header = header_of(gpu, effort)

        def keep(rows: list[Row]) -> None:
            if options.text:
                options.text.write_text(as_text(rows, header), encoding="utf-8")
            if options.json:
                text = json.dumps(as_data(rows, header), indent=1)
                options.json.write_text(f"{text}\n", encoding="utf-8")

        rows = measure(cases, options.dtypes, gpu, effort, keep)
    except TunekitError as error:
        say(f"error: {error}")
        return error.exit_status
    print(as_text(rows, header), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
