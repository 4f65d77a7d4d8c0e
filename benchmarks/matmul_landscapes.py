"""Record complete landscapes of a matmul space, to replay searches on without a GPU.

    python benchmarks/matmul_landscapes.py record -o matmul-h100.jsonl.gz   # on the GPU present
    python benchmarks/matmul_landscapes.py compile --target h100            # without a GPU
    python benchmarks/matmul_landscapes.py report benchmarks/landscapes/matmul-h100.jsonl.gz

What is timed is gelu(a @ b + bias) with the exact GELU, accumulated in float32. tunekit has no
matmul template, so a plain tiled kernel lives here. A landscape is every configuration of one space
on one problem: (M, N, K) and a dtype. `record` writes one JSON object for each, compressed, after
every problem that is complete; one that was cut short is left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, product
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from tunekit.core.config import Config
from tunekit.core.device import Device, device_named
from tunekit.core.evaluation import Binary, Status
from tunekit.evaluate.compile import (
    Compiled,
    compile_for,
    compile_launch,
    ordered_arguments,
    stand_in,
)
from tunekit.evaluate.limits import unfit_reason
from tunekit.evaluate.measure import PROTOCOL, interleaved_us
from tunekit.evaluate.rotation import Rotation, rotation_of
from tunekit.evaluate.text import one_line
from tunekit.evaluate.timer import Timer
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels.plan import (
    Input,
    Integer,
    Launch,
    Output,
    TensorMeta,
    alignment_class,
)

KERNEL = "matmul_bias_gelu"
SHARED_BYTES = 227 * 1024
"""Shared memory a block can have on compute capability 9.0."""

Shape = tuple[int, int, int]

SHAPES: tuple[Shape, ...] = (
    (2048, 2048, 2048),
    (16, 4096, 4096),
    (4096, 11008, 4096),
    (512, 512, 4096),
    (64, 4096, 4096),
    (128, 11008, 4096),
    (256, 4096, 4096),
    (1024, 4096, 4096),
    (2048, 4096, 11008),
    (4096, 4096, 128),
    (8192, 1024, 1024),
)
"""(M, N, K)."""
RAGGED_SHAPES: tuple[Shape, ...] = ((1000, 1000, 1000), (300, 3000, 500))
"""Not divisible by 16: these run other binaries, whose loads are narrow."""

BFLOAT16_SHAPES: tuple[Shape, ...] = (
    (2048, 2048, 2048),
    (16, 4096, 4096),
    (512, 512, 4096),
    (256, 4096, 4096),
    (1024, 4096, 4096),
    (2048, 4096, 11008),
    (8192, 1024, 1024),
)
"""Measured in bfloat16 too: about half, all of one alignment class, which is compiled once."""

RELATIVE_TOLERANCE = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""One unit in the last place, twice what correct rounding gives."""
ABSOLUTE_TOLERANCE = 2.0**-11
"""Sums of K products in another order differ by less; one product left out differs by far more."""

FIRST_SAMPLES = 3
RACE_ROUNDS = 15
RACE_WITHIN = 1.15
HOPELESS = 3.0
_KEPT_WITHIN = 1.4
"""Graphs that may yet be raced. A first sample can be taken before the power limit slows the GPU:
large products take up to 15 % longer in a race than that."""
_SETTLE_S = 0.5
"""Rounds for so long come before those that count, until the clocks follow the power limit."""
_SEED = 0
_WARM_S = 0.3
"""Keep the GPU busy so long before a problem: clocks fall while the next binaries compile."""


@triton.jit
def matmul_bias_gelu(
    a_pointer,
    b_pointer,
    bias_pointer,
    out_pointer,
    M,
    N,
    K,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """One BLOCK_M x BLOCK_N tile of gelu(a @ b + bias); all contiguous, b is K x N."""
    # Tiles lie in bands GROUP_M tiles high. A band is walked column by column, so that programs
    # that run together share rows of a and columns of b in L2. The last band may be lower.
    down = tl.cdiv(M, BLOCK_M)
    across = tl.cdiv(N, BLOCK_N)
    program = tl.program_id(0)
    band = program // (GROUP_M * across)
    place = program - band * GROUP_M * across
    height = tl.minimum(GROUP_M, down - band * GROUP_M)
    rows = (band * GROUP_M + place % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = (place // height) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    row_inside = rows[:, None] < M
    column_inside = columns[None, :] < N
    a_tile = a_pointer + rows[:, None] * K + inner[None, :]
    b_tile = b_pointer + inner[:, None] * N + columns[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for done in range(0, K, BLOCK_K):
        left = K - done
        a = tl.load(a_tile, mask=row_inside & (inner[None, :] < left), other=0.0)
        b = tl.load(b_tile, mask=(inner[:, None] < left) & column_inside, other=0.0)
        total = tl.dot(a, b, total)
        a_tile += BLOCK_K
        b_tile += BLOCK_K * N
    bias = tl.load(bias_pointer + columns, mask=columns < N, other=0.0).to(tl.float32)
    x = total + bias[None, :]
    y = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
    tl.store(
        out_pointer + rows[:, None] * N + columns[None, :],
        y.to(out_pointer.dtype.element_ty),
        mask=row_inside & column_inside,
    )


def space() -> list[Config]:
    """Every configuration: the same ones for every problem.

    Some need more shared memory than a block can have, as in any space written without asking the
    compiler: what counts against the limit is one stage less than num_stages.
    """
    axes = product(
        (16, 32, 64, 128, 256), (32, 64, 128, 256), (32, 64, 128), (1, 8), (2, 4, 8), (2, 3, 4, 5)
    )
    names = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP_M", "num_warps", "num_stages")
    configs = (Config(dict(zip(names, values, strict=True))) for values in axes)
    return [config for config in configs if is_valid(config)]


def is_valid(config: Config) -> bool:
    """Whether the space holds it."""
    block_m, block_n = config["BLOCK_M"], config["BLOCK_N"]
    warps = config["num_warps"]
    accumulators = block_m * block_n // (32 * warps)
    return (
        # Of a thread: fewer leave the tensor cores idle, more spill.
        16 <= accumulators <= 128
        and block_m <= 4 * block_n
        # Two warps for small tiles only, eight for large ones only.
        and (warps != 2 or (block_m <= 32 and accumulators <= 64))
        and (warps != 8 or block_m >= 64)
        # Low tiles are for few rows, which make no second band.
        and (config["GROUP_M"] == 1 or block_m >= 128)
        # Of K, in flight: enough to hide memory's latency, no more than the shapes have.
        and 128 <= config["num_stages"] * config["BLOCK_K"] <= 384
        and stage_bytes(config) * (config["num_stages"] - 1) <= SHARED_BYTES
    )


def stage_bytes(config: Config) -> int:
    """Shared memory of one stage: a tile of each operand, two bytes a value."""
    return 2 * (config["BLOCK_M"] + config["BLOCK_N"]) * config["BLOCK_K"]


@dataclass(frozen=True, slots=True)
class MatmulProblem:
    """What one landscape is of."""

    shape: Shape
    dtype: str

    @property
    def flop(self) -> float:
        """Of the product alone."""
        m, n, k = self.shape
        return 2.0 * m * n * k

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.dtype}"

    def launch(self) -> Launch:
        """One launch of the kernel, but for configuration and tensors."""
        m, n, k = self.shape

        def grid(config: Config) -> tuple[int, int, int]:
            return -(-m // config["BLOCK_M"]) * -(-n // config["BLOCK_N"]), 1, 1

        return Launch(
            function=matmul_bias_gelu,
            arguments={
                "a_pointer": Input(0),
                "b_pointer": Input(1),
                "bias_pointer": Input(2),
                "out_pointer": Output(0),
                "M": Integer(m),
                "N": Integer(n),
                "K": Integer(k),
            },
            inputs=tuple(
                TensorMeta.contiguous(size, self.dtype) for size in ((m, k), (k, n), (n,))
            ),
            outputs=(TensorMeta.contiguous((m, n), self.dtype),),
            dims={"M": m, "N": n, "K": k},
            grid=grid,
        )


def problems() -> list[MatmulProblem]:
    """What is recorded, in this order; problems that share binaries are neighbours.

    The ragged ones come last: theirs take longest to compile.
    """
    return [
        *(MatmulProblem(shape, "float16") for shape in SHAPES),
        *(MatmulProblem(shape, "bfloat16") for shape in BFLOAT16_SHAPES),
        *(MatmulProblem(shape, "float16") for shape in RAGGED_SHAPES),
    ]


def binary_class(problem: MatmulProblem) -> tuple[str, str]:
    """Problems of one class run the same binaries."""
    return problem.dtype, alignment_class(problem.launch())


def reference(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The result in float32, from the same inputs."""
    return F.gelu(torch.addmm(bias.float(), a.float(), b.float()))


def make_inputs(problem: MatmulProblem, device: str) -> tuple[torch.Tensor, ...]:
    """Normal values, b scaled so that the sums are of order one whatever K is."""
    m, n, k = problem.shape
    generator = torch.Generator(device=device).manual_seed(_SEED)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=device)

    values = normal(m, k), normal(k, n) / k**0.5, normal(n)
    return tuple(each.to(getattr(torch, problem.dtype)) for each in values)


class Judge:
    """Says whether an output is right.

    Args:
        expected: in float32.
    """

    def __init__(self, expected: torch.Tensor, dtype: str) -> None:
        self._expected = expected
        self._allowed = expected.abs() * RELATIVE_TOLERANCE[dtype] + ABSOLUTE_TOLERANCE

    def is_right(self, run: Callable[[], None], output: torch.Tensor) -> bool:
        """Run into an output of nan, so that nothing left over passes for a result."""
        output.fill_(float("nan"))
        run()
        excess = (output.float() - self._expected).abs_().sub_(self._allowed)
        return float(excess.max()) <= 0.0  # the largest of values with a nan among them is nan


class Compilers:
    """Processes that compile into Triton's cache, without touching a GPU.

    Processes, because much of what is done before and after LLVM holds Python's lock.
    """

    def __init__(self, target: str, processes: int) -> None:
        self._pool = ProcessPoolExecutor(
            processes,
            multiprocessing.get_context("spawn"),
            initializer=_begin_compiling,
            initargs=(target,),
        )
        self._pending: dict[tuple[str, str], dict[Config, Future[Binary | str]]] = {}

    def start(self, problem: MatmulProblem, configs: Iterable[Config]) -> None:
        """Compile these for the problem's class; those that take longest first."""
        longest_first = sorted(configs, key=lambda each: -stage_bytes(each))
        self._pending[binary_class(problem)] = {
            config: self._pool.submit(compile_one, problem, config) for config in longest_first
        }

    def wait_for_all(self, timeout_s: float) -> bool:
        """Until nothing is left to compile, or time is up; whether nothing is."""
        pending = [future for each in self._pending.values() for future in each.values()]
        return not wait(pending, timeout_s).not_done

    def results(self, problem: MatmulProblem) -> dict[Config, Binary | str]:
        """What `compile_one` gave for the problem's class, when all of it is there."""
        futures = self._pending[binary_class(problem)]
        return {config: future.result() for config, future in futures.items()}

    def __enter__(self) -> Compilers:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _begin_compiling(target: str) -> None:
    os.nice(10)  # whoever measures meanwhile goes first
    compile_for(device_named(target))


def compile_one(problem: MatmulProblem, config: Config) -> Binary | str:
    """What the compiler makes of a configuration, or what it says of it."""
    try:
        return compile_launch(problem.launch(), config, {}).binary
    except Exception as failure:
        return one_line(failure)


@dataclass(frozen=True)
class Built:
    """A configuration that may be launched, or the status that says why not."""

    status: Status
    binary: Binary | None = None
    compiled: Compiled | None = None


def load(
    problem: MatmulProblem, results: Mapping[Config, Binary | str], device: Device
) -> dict[Config, Built]:
    """Make ready what was compiled for the problem's class and fits the device."""
    launch = problem.launch()
    inputs, outputs = (
        [stand_in(meta) for meta in metas] for metas in (launch.inputs, launch.outputs)
    )
    built = {}
    for config, result in results.items():
        if isinstance(result, str):
            print(f"{problem} {config}: {result}", file=sys.stderr)
            built[config] = Built(Status.COMPILE_ERROR)
        elif unfit_reason(result, config, device):
            built[config] = Built(Status.REJECTED, result)
        else:
            # Not `compile_launch`, which would read each binary again.
            arguments = launch.bind(inputs, outputs, {}, config)
            kernel = launch.function.warmup(**arguments, grid=launch.grid(config))
            built[config] = Built(Status.OK, result, Compiled(kernel, result))
    return built


class Sampler(Protocol):
    """What a Timer does."""

    def sample_us(self) -> float:
        """Time of one launch in µs."""


def sample_all(
    timers: Iterable[tuple[Config, Sampler]], settle_s: float = _SETTLE_S
) -> dict[Config, tuple[float, ...]]:
    """Samples of each: one of the hopeless, a few of the others, a race of those near the best.

    Of the configurations raced the race's samples are given alone, so that what drifts from the
    first to the last one is in none of them. What is near is said by the race: where it finds the
    best slower than the first samples did, others are near too, and all are raced again.
    """
    best = float("inf")
    samples: dict[Config, tuple[float, ...]] = {}
    first: dict[Config, float] = {}
    kept: dict[Config, Sampler] = {}
    for config, timer in timers:
        own = [timer.sample_us()]
        if own[0] <= HOPELESS * best:
            own += [timer.sample_us() for _ in range(FIRST_SAMPLES - 1)]
        samples[config] = tuple(own)
        first[config] = statistics.median(own)
        best = min(best, first[config])
        kept[config] = timer
        kept = {  # graphs of the others are freed
            each: timer for each, timer in kept.items() if first[each] <= _KEPT_WITHIN * best
        }
    raced: list[Config] = []
    while near := [each for each in kept if first[each] <= RACE_WITHIN * best]:
        if len(near) == len(raced):
            break
        raced = near
        samples |= zip(raced, _race([kept[each] for each in raced], settle_s), strict=True)
        best = max(best, min(statistics.median(samples[each]) for each in raced))
    return samples


def _race(timers: Sequence[Sampler], settle_s: float) -> list[tuple[float, ...]]:
    end = time.monotonic() + settle_s
    while time.monotonic() < end:
        interleaved_us(timers, 1)
    return interleaved_us(timers, RACE_ROUNDS)


def measure(
    problem: MatmulProblem, built: Mapping[Config, Built], device: Device
) -> dict[Config, tuple[Status, tuple[float, ...]]]:
    """Verify and time every configuration that was built, on the current GPU."""
    launch = problem.launch()
    inputs = make_inputs(problem, "cuda")
    judge = Judge(reference(*inputs), problem.dtype)
    output = torch.empty(
        launch.outputs[0].shape, dtype=getattr(torch, problem.dtype), device="cuda"
    )
    rotation = rotation_of(inputs, [output], device.l2_bytes)
    _warm(rotation)
    statuses = {config: each.status for config, each in built.items()}
    # Another order than the axes', so that what drifts looks like none of them.
    order = list(built)
    random.Random(_SEED).shuffle(order)

    def right_ones() -> Iterator[tuple[Config, Sampler]]:
        for config in order:
            compiled = built[config].compiled
            if compiled is None:
                continue
            run = _launcher(launch, compiled, config, rotation)
            try:
                if judge.is_right(lambda run=run: run(0), output):
                    yield config, Timer(run, rotation)
                else:
                    statuses[config] = Status.WRONG
            except Exception as failure:
                print(f"{config}: {one_line(failure)}", file=sys.stderr)
                statuses[config] = Status.ERROR
                torch.cuda.synchronize()  # raises again where the process can do nothing more

    samples = sample_all(right_ones())
    return {config: (status, samples.get(config, ())) for config, status in statuses.items()}


def _launcher(
    launch: Launch, compiled: Compiled, config: Config, rotation: Rotation
) -> Callable[[int], None]:
    grid = launch.grid(config)
    bound = [
        ordered_arguments(launch.function, launch.bind(inputs, outputs, {}, config))
        for inputs, outputs in zip(rotation.inputs, rotation.outputs, strict=True)
    ]
    return lambda index: compiled.launch(grid, bound[index])


def _warm(rotation: Rotation) -> None:
    a, b, _ = rotation.inputs[0]
    end = time.monotonic() + _WARM_S
    while time.monotonic() < end:
        for _ in range(10):
            torch.matmul(a, b)
        torch.cuda.synchronize()


def row_of(
    problem: MatmulProblem,
    config: Config,
    status: Status,
    samples: Sequence[float],
    binary: Binary | None,
    origin: Mapping[str, str],
) -> dict[str, Any]:
    """One line of the file; `origin` is what `origin_of` gives."""
    m, n, k = problem.shape
    origin = dict(origin)
    return {
        "kernel": KERNEL,
        "dims": {"M": m, "N": n, "K": k},
        "dtype": problem.dtype,
        "device": origin.pop("device"),
        "config": dict(config),
        "status": status.value,
        "samples_us": [float(f"{sample:.4g}") for sample in samples],
        "registers": binary.registers if binary else None,
        "spill_bytes": binary.spill_bytes if binary else None,
        "shared_bytes": binary.shared_bytes if binary else None,
        **origin,
    }


def origin_of(gpu: PresentGpu) -> dict[str, str]:
    """What all rows of a run have in common."""
    return {
        "device": gpu.device.slug,
        "gpu_name": gpu.name,
        "driver": gpu.driver,
        "torch": torch.__version__.partition("+")[0],
        "triton": triton.__version__,
        "protocol": PROTOCOL,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows as compressed JSON lines, in one step."""
    text = "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    # A fixed time stamp: the same rows give the same bytes.
    partial.write_bytes(gzip.compress(text.encode(), mtime=0))
    partial.replace(path)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write` made."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def record(path: Path, limit_s: float, quiet_s: float) -> None:
    """Record every problem on the GPU present, as far as the time allows.

    Args:
        path: what is written.
        limit_s: seconds until it gives up.
        quiet_s: seconds to wait for everything to be compiled, so that nothing else runs on the
            machine while the GPU is measured; then measuring begins beside what is left.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    rows: list[dict[str, Any]] = []
    gpu = select_gpu(0)
    origin = origin_of(gpu)
    configs = space()
    groups = [list(group) for _, group in groupby(problems(), binary_class)]
    with _watchdog(limit_s), Compilers(gpu.device.slug, os.cpu_count() or 1) as compilers:
        for chosen in groups:
            compilers.start(chosen[0], configs)
        quiet = compilers.wait_for_all(quiet_s)
        say(f"{gpu.name}: {'all' if quiet else 'not all'} is compiled")
        for chosen in groups:
            built = load(chosen[0], compilers.results(chosen[0]), gpu.device)
            say(f"loaded what {chosen[0]} runs")
            for problem in chosen:
                found = measure(problem, built, gpu.device)
                rows += [
                    row_of(problem, config, *found[config], built[config].binary, origin)
                    for config in configs
                ]
                write(rows, path)
                torch.cuda.empty_cache()
                say(_summary(rows[-len(configs) :]))


class _watchdog:  # noqa: N801 (used like a function)
    """Ends the process when time is up, whatever it waits for: what is complete is written."""

    def __init__(self, limit_s: float) -> None:
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    @staticmethod
    def _end() -> None:
        print("time is up: the problems not named above are not in the file", flush=True)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(3)


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """One problem in one line."""
    dims = rows[0]["dims"]
    problem = MatmulProblem((dims["M"], dims["N"], dims["K"]), rows[0]["dtype"])
    times = sorted(
        (statistics.median(row["samples_us"]), index)
        for index, row in enumerate(rows)
        if row["samples_us"]
    )
    if not times:
        return f"{problem}: nothing ran"
    best_us, best = times[0]
    raced = [row["samples_us"] for row in rows if len(row["samples_us"]) == RACE_ROUNDS]
    spread, paired = (
        statistics.median(map(relative_spread, series)) if raced else float("nan")
        for series in (raced, without_drift(raced))
    )
    unraced = [us for us, index in times if len(rows[index]["samples_us"]) != RACE_ROUNDS]
    config = rows[best]["config"]
    return (
        f"{problem!s:25s} {best_us:9.2f} us {problem.flop / best_us / 1e6:6.1f} TFLOP/s  "
        f"median {statistics.median(us for us, _ in times) / best_us:5.2f}x  "
        f"worst {times[-1][0] / best_us:6.1f}x  "
        f"within 1 % {sum(us <= 1.01 * best_us for us, _ in times):3d}  "
        f"raced {len(raced):3d}  spread {100 * spread:4.2f} %, paired {100 * paired:4.2f} %  "
        f"others from {min(unraced, default=float('nan')) / best_us:4.2f}x  "
        f"{','.join(map(str, config.values()))}  {dict(Counter(row['status'] for row in rows))}"
    )


def without_drift(raced: Sequence[Sequence[float]]) -> list[list[float]]:
    """Samples of a race, each over its round's geometric mean: what drifts for all is gone."""
    means = [statistics.geometric_mean(each) for each in zip(*raced, strict=True)]
    return [[us / mean for us, mean in zip(own, means, strict=True)] for own in raced]


def relative_spread(samples: Sequence[float]) -> float:
    """Interquartile range over the median."""
    low, middle, high = statistics.quantiles(samples, n=4)
    return (high - low) / middle


def report(path: Path) -> None:
    """Print every landscape of a file in one line."""
    rows = read(path)
    first = rows[0]
    print(
        f"{path.name}: {first['gpu_name']}, driver {first['driver']}, torch {first['torch']}, "
        f"Triton {first['triton']}, {first['protocol']}, {first['created_at']}, "
        f"{path.stat().st_size} bytes"
    )
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        grouped[json.dumps([row["dims"], row["dtype"]])].append(row)
    for landscape in grouped.values():
        print(_summary(landscape))
    print(f"{len(grouped)} problems, {dict(Counter(row['status'] for row in rows))}")


def compile_all(target: str, every: int) -> None:
    """Compile each so-manieth configuration for a GPU that need not be present."""
    device = device_named(target)
    compile_for(device)
    configs = space()[::every]
    with Compilers(target, os.cpu_count() or 1) as compilers:
        for (dtype, alignment), group in groupby(problems(), binary_class):
            began = time.monotonic()
            problem = next(iter(group))
            compilers.start(problem, configs)
            results = compilers.results(problem)
            compiled = time.monotonic()
            built = load(problem, results, device)
            binaries = [each.binary for each in built.values() if each.binary]
            print(
                f"{dtype} {alignment}: "
                f"{dict(Counter(each.status.value for each in built.values()))}, "
                f"{sum(binary.spill_bytes > 0 for binary in binaries)} spill, compiled in "
                f"{compiled - began:.1f} s, loaded in {time.monotonic() - compiled:.1f} s"
            )


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("record")
    command.add_argument("-o", "--output", type=Path, required=True)
    command.add_argument("--limit", type=float, default=3600.0, help="seconds until it gives up")
    command.add_argument(
        "--quiet", type=float, default=1800.0, help="seconds to wait for all to be compiled first"
    )
    command = commands.add_parser("compile")
    command.add_argument("--target", required=True)
    command.add_argument("--every", type=int, default=1)
    command = commands.add_parser("report")
    command.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(arguments.output, arguments.limit, arguments.quiet)
    elif arguments.command == "compile":
        compile_all(arguments.target, arguments.every)
    else:
        for path in arguments.files:
            report(path)


if __name__ == "__main__":
    main()
