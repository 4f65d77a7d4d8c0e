"""Time whole modules, a convolution and a fused op, beside eager PyTorch and torch.compile.

    python benchmarks/modules.py [-o FILE] [--modules mish_mish] [--precisions tf32 fp16] [--quick]

The three modules that the fused ops were first written for, each as `tunekit.nn` builds and tunes
it, in float32 with and without TF32 and in float16, with a contiguous and with a channels-last
input. All contenders of a table are sampled in turn in one process, each round in another order: a
copy of the result's size; the convolution alone, without bias, in either memory format, changed to
that by PyTorch where the input is in the other; the same with the input given in it; eager PyTorch;
torch.compile in each of its modes; and tunekit's module. Everybody returns what eager returns, in
the same memory format. With `--host`, also what a call costs the host.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunekit.evaluate.measure import interleaved
from tunekit.evaluate.noise import Watch
from tunekit.evaluate.stream_timer import StreamTimer
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels import library
from tunekit.kernels.kernel import Kernel
from tunekit.nn.conv import fused_conv
from tunekit.nn.tuning import fused_error, tune

COPY_GOAL, COMPILE_GOAL, EAGER_GOAL = 1.05, 1.01, 1.5
MISH_GOAL = 1.10
"""The two Mishes: so many times as fast as torch.compile."""
ROUNDS = 21
MODES = ("default", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")
PRECISIONS = ("fp32", "tf32", "fp16")

COPY, EAGER, TUNEKIT = "copy", "eager", "tunekit"
BARE, BARE_LAST = "convolution alone, contiguous", "convolution alone, channels-last"
READY = "the same, its input given in the other format"
HOST_BLOCKS, HOST_CALLS = 30, 200


class Scale(nn.Module):
    """Times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product."""
        return x * self.factor


class Add(nn.Module):
    """Plus a number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        return x + self.value


class AtMost(nn.Module):
    """The lesser of x and a number."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The minimum."""
        return x.clamp(max=self.most)


@dataclass(frozen=True)
class Spec:
    """A module: its convolution, what follows it in eager PyTorch, the kernel of the same."""

    conv: Callable[[], nn.Module]
    shape: tuple[int, ...]
    after: Callable[[], list[nn.Module]]
    kernel: Kernel


SPECS = {
    "mish_add_hardtanh_scale": Spec(
        lambda: nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, output_padding=1),
        (128, 64, 128, 128),
        lambda: [nn.Mish(), Add(0.5), nn.Hardtanh(-1.0, 1.0), Scale(2.0)],
        library.mish_add_hardtanh_scale,
    ),
    "add_min_gelu_mul": Spec(
        lambda: nn.ConvTranspose2d(64, 128, 4, stride=2),
        (128, 64, 64, 64),
        lambda: [Add(0.5), AtMost(0.0), nn.GELU(), Scale(2.0)],
        library.add_min_gelu_mul,
    ),
    "mish_mish": Spec(
        lambda: nn.Conv2d(64, 128, 3),
        (64, 64, 256, 256),
        lambda: [nn.Mish(), nn.Mish()],
        library.mish_mish,
    ),
}


@dataclass(frozen=True)
class Case:
    """A module in one precision on one kind of input, as measured.

    Attributes:
        samples_us: of each contender, paired by round.
        channels_last: whether the input is.
        runs_last: whether tunekit's convolution does.
        error: of what follows the convolution, in units of what is allowed.
        disturbance: what disturbed the measurement, or "".
    """

    name: str
    precision: str
    channels_last: bool
    runs_last: bool
    error: float
    samples_us: Mapping[str, Sequence[float]]
    disturbance: str

    @property
    def title(self) -> str:
        """For people."""
        form = "channels-last" if self.channels_last else "contiguous"
        return f"{self.name}, {self.precision}, {form} input"

    def median_us(self, contender: str) -> float:
        """Its time."""
        return statistics.median(self.samples_us[contender])

    @property
    def bare(self) -> str:
        """The faster of the two convolutions alone."""
        return min((BARE, BARE_LAST), key=self.median_us)

    @property
    def compiled(self) -> str | None:
        """The fastest mode of torch.compile; None if none was tried."""
        modes = [name for name in self.samples_us if name.startswith("torch.compile")]
        return min(modes, key=self.median_us, default=None)

    @property
    def added(self) -> float:
        """What the module takes beyond the bare convolution, in copies."""
        return (self.median_us(TUNEKIT) - self.median_us(self.bare)) / self.median_us(COPY)

    def ratio(self, contender: str) -> float:
        """Its time over tunekit's: the median of the rounds."""
        pairs = zip(self.samples_us[contender], self.samples_us[TUNEKIT], strict=True)
        return statistics.median(a / b for a, b in pairs)


def cases(
    spec_name: str, precision: str, modes: Sequence[str], quick: bool, database: Path
) -> Iterator[Case]:
    """A module in one precision, on both kinds of input."""
    spec = SPECS[spec_name]
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = torch.float16 if precision == "fp16" else torch.float32
    shape = (4, *spec.shape[1:2], 24, 24) if quick else spec.shape
    torch.manual_seed(0)
    conv: Any = spec.conv().to("cuda", dtype).requires_grad_(False)
    eager = nn.Sequential(conv, *spec.after())
    fused: Any = fused_conv(conv, spec.kernel)
    compiled = {mode: _compiled(eager, mode) for mode in modes}
    for channels_last in (False, True):
        x = torch.randn(shape, device="cuda", dtype=dtype)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        _free()
        (found,) = tune(fused, x, database=database)
        error = fused_error(fused, x, found.channels_last)
        runs = dict(_contenders(conv, eager, fused, compiled, x))
        _same_format(runs, x)
        timers = {name: StreamTimer(run) for name, run in runs.items()}
        samples, disturbance = interleaved(
            list(timers.values()), ROUNDS, Watch(0), shuffle=random.Random(0)
        )
        yield Case(
            spec_name,
            precision,
            channels_last,
            found.channels_last,
            error,
            dict(zip(timers, samples, strict=True)),
            disturbance,
        )


def _contenders(
    conv: Any,
    eager: nn.Module,
    fused: nn.Module,
    compiled: Mapping[str, Callable[[torch.Tensor], torch.Tensor]],
    x: torch.Tensor,
) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    whole = fused(x)
    copy = torch.empty_like(whole)
    yield COPY, partial(copy.copy_, whole)
    bare: Any = fused
    for name, form, last in (
        (BARE, torch.contiguous_format, False),
        (BARE_LAST, torch.channels_last, True),
    ):
        yield (
            name,
            lambda form=form, last=last: bare._bare(
                x.contiguous(memory_format=form), None, channels_last=last
            ),
        )
    last = not x.is_contiguous(memory_format=torch.channels_last)
    other = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    yield READY, lambda: bare._bare(other, None, channels_last=last)
    yield EAGER, lambda: eager(x)
    for mode, run in compiled.items():
        yield f"torch.compile, {mode}", lambda run=run: run(x)
    yield TUNEKIT, lambda: fused(x)


def _compiled(module: nn.Module, mode: str) -> Callable[[torch.Tensor], torch.Tensor]:
    torch._dynamo.reset()
    made: Callable[[torch.Tensor], torch.Tensor] = torch.compile(module, mode=mode)
    return made


def _same_format(runs: Mapping[str, Callable[[], torch.Tensor]], x: torch.Tensor) -> None:
    """Nobody may win by leaving the result in another memory format."""
    wanted = runs[EAGER]().stride()
    for name, run in runs.items():
        if name not in (COPY, BARE, BARE_LAST, READY) and run().stride() != wanted:
            raise AssertionError(f"{name} returns another memory format than eager")


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def host_table() -> list[str]:
    """What a call of a module costs the host, where it does next to nothing on the GPU."""
    conv: Any = nn.Conv2d(16, 16, 3).to("cuda").requires_grad_(False)
    x = torch.randn(1, 16, 16, 16, device="cuda")
    eager = nn.Sequential(conv, nn.Mish(), nn.Mish())
    calls: dict[str, Callable[[], object]] = {
        "the convolution, bias and all": lambda: conv(x),
        "eager": lambda: eager(x),
        "torch.compile, default": partial(_compiled(eager, "default"), x),
        "tunekit": partial(fused_conv(conv, library.mish_mish), x),
    }
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(HOST_BLOCKS):
        for name, call in calls.items():
            call()
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(HOST_CALLS):
                call()
            found[name].append((time.perf_counter() - began) / HOST_CALLS * 1e6)
    lines = [
        "### Host time of a call",
        "",
        "`Conv2d(16, 16, 3)` and two Mishes, on 1×16×16×16 float32.",
        "",
        "| call | µs, median | quartiles |",
        "| --- | ---: | ---: |",
    ]
    for name, blocks in found.items():
        low, middle, high = statistics.quantiles(blocks, n=4)
        lines.append(f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} |")
    return [*lines, ""]


def table(case: Case) -> list[str]:
    """All contenders of a case."""
    lines = [
        f"### {case.title}",
        "",
        "| contender | ms, median | quartiles | over tunekit |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, samples in case.samples_us.items():
        low, middle, high = (value / 1e3 for value in statistics.quantiles(samples, n=4))
        lines.append(
            f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {case.ratio(name):.3f} |"
        )
    if case.disturbance:
        lines += ["", f"Disturbed: {case.disturbance}."]
    return [*lines, ""]


def summary(found: Sequence[Case]) -> list[str]:
    """A line a case."""
    lines = [
        "| module | precision | input | copy, ms | convolution alone | eager | torch.compile, best "
        "| tunekit | its convolution | beyond the convolution, in copies | torch.compile over "
        "tunekit | eager over tunekit |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for case in found:
        compiled = case.compiled
        cells = [
            case.name,
            case.precision,
            "channels-last" if case.channels_last else "contiguous",
            *(f"{case.median_us(name) / 1e3:.3f}" for name in (COPY, case.bare, EAGER)),
            f"{case.median_us(compiled) / 1e3:.3f}" if compiled else "–",
            f"{case.median_us(TUNEKIT) / 1e3:.3f}",
            "channels-last" if case.runs_last else "contiguous",
            f"{case.added:.2f}",
            f"{case.ratio(compiled):.2f}" if compiled else "–",
            f"{case.ratio(EAGER):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdicts(case: Case) -> Iterator[str]:
    """What is asked of a case, and whether it holds."""
    yield _at_most(case, "beyond the convolution, in copies", case.added, COPY_GOAL)
    yield _at_most(case, "error of the op, of what is allowed", case.error, 1.0)
    if case.compiled is not None:
        over = case.ratio(case.compiled)
        yield _at_most(case, "over the best of torch.compile", 1 / over, COMPILE_GOAL)
        if case.name == "mish_mish":
            yield _at_least(case, "times as fast as torch.compile", over, MISH_GOAL)
    if case.precision == "tf32":
        yield _at_least(case, "times as fast as eager", case.ratio(EAGER), EAGER_GOAL)


def _at_most(case: Case, what: str, value: float, goal: float) -> str:
    verdict = "PASS" if value <= goal else "FAIL"
    return f"{verdict}  {case.title}: {what}: {value:.3f} (at most {goal:g})"


def _at_least(case: Case, what: str, value: float, goal: float) -> str:
    verdict = "PASS" if value >= goal else "FAIL"
    return f"{verdict}  {case.title}: {what}: {value:.3f} (at least {goal:g})"


def heading(gpu: PresentGpu, quick: bool) -> list[str]:
    """What was measured where."""
    return [
        "# Whole modules",
        "",
        f"{gpu.name}, driver {gpu.driver}, torch {version('torch')}, Triton {version('triton')}, "
        f"cuDNN {torch.backends.cudnn.version()}; {ROUNDS} rounds, all contenders of a table in "
        f"turn, in another order each round; time on the GPU{'; small shapes' if quick else ''}.",
        "",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Tune, time, print; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modules", nargs="*", choices=SPECS, default=list(SPECS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES)
    parser.add_argument("--host", action="store_true", help="also what a call costs the host")
    parser.add_argument("--quick", action="store_true", help="small shapes: the script, not goals")
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    gpu = select_gpu(0)
    found: list[Case] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        database = Path(folder) / "modules.db"
        os.environ["TUNEKIT_DB"] = str(database)  # what calls read, not the person's own
        for name in arguments.modules:
            for precision in arguments.precisions:
                for case in cases(name, precision, arguments.modes, arguments.quick, database):
                    found.append(case)
                    print(f"{time.monotonic() - began:.0f} s: {case.title}", file=sys.stderr)
                torch._dynamo.reset()
                _free()
        host = host_table() if arguments.host else []
    judged = [line for case in found for line in verdicts(case)]
    lines = heading(gpu, arguments.quick)
    if found:
        lines += [*summary(found), "", "```", *judged, "```", ""]
    lines += [line for case in found for line in table(case)] + host
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(line.startswith("FAIL") for line in judged))


if __name__ == "__main__":
    sys.exit(main())
