"""How much a comparison depends on where things lie: a graph, a kernel's code, its buffers.

    python benchmarks/placement.py [-o FILE]

Two configurations are compared in sixteen places, with one thing moved at a time. What changes the
ratio of their times, and more samples in one place do not average away, is what a race has to draw
anew for its winner to be the same tomorrow. The columns are standard deviations of the ratio over
the places, in % of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch

from tunekit.core.config import Config
from tunekit.evaluate.compile import Compiled, compile_launch, ordered_arguments
from tunekit.evaluate.measure import interleaved_us
from tunekit.evaluate.rotation import Rotation, rotation_of
from tunekit.evaluate.timer import Launch, Timer, settle
from tunekit.gpu import PresentGpu, select_gpu
from tunekit.kernels.library import KERNELS

KERNEL = KERNELS["mish_mish"]
PLACES, SAMPLES = 16, 24


def _config(block: int, vec: int, warps: int, stages: int = 1) -> Config:
    return Config(BLOCK_SIZE=block, VEC=vec, num_warps=warps, num_stages=stages)


@dataclass(frozen=True)
class Pair:
    """Two configurations of a problem."""

    elements: int
    dtype: str
    configs: tuple[Config, Config]
    gpu: PresentGpu

    @cached_property
    def compiled(self) -> list[Compiled]:
        """Of both, loaded once."""
        launch = KERNEL.launch_for((self.elements,), self.dtype, self.gpu.device)
        scalars = KERNEL.scalar_values({})
        return [compile_launch(launch, config, scalars) for config in self.configs]

    @cached_property
    def few(self) -> Rotation:
        """Buffers that are just enough for a cold cache."""
        return self.few_new()

    def few_new(self) -> Rotation:
        """Others."""
        many = self.many_new()
        if many.flush is not None:
            return many
        sets = many.fewest_launches
        return replace(many, inputs=many.inputs[:sets], outputs=many.outputs[:sets])

    def many_new(self) -> Rotation:
        """As many as a measurement uses."""
        x = torch.randn(self.elements, device="cuda").to(getattr(torch, self.dtype))
        return rotation_of([x], [torch.empty_like(x)], self.gpu.device.l2_bytes)

    def timers(self, compiled: Sequence[Compiled], rotation: Rotation) -> list[Timer]:
        """A graph of each."""
        return [
            Timer(self._launch(each, config, rotation), rotation)
            for each, config in zip(compiled, self.configs, strict=True)
        ]

    def _launch(self, compiled: Compiled, config: Config, rotation: Rotation) -> Launch:
        launch = KERNEL.launch_for((self.elements,), self.dtype, self.gpu.device)
        scalars = KERNEL.scalar_values({})
        grid = launch.grid(config)
        bound = [
            ordered_arguments(launch.function, launch.bind(inputs, outputs, scalars, config))
            for inputs, outputs in zip(rotation.inputs, rotation.outputs, strict=True)
        ]
        return lambda index: compiled.launch(grid, bound[index])


def same(pair: Pair) -> list[list[Timer]]:
    """Nothing moves: what samples alone scatter."""
    return [pair.timers(pair.compiled, pair.few)] * PLACES


def graphs(pair: Pair) -> list[list[Timer]]:
    """Each place has graphs of its own."""
    return [pair.timers(pair.compiled, pair.few) for _ in range(PLACES)]


def code(pair: Pair) -> list[list[Timer]]:
    """Each has graphs and code of its own."""
    return [
        pair.timers([each.loaded_again() for each in pair.compiled], pair.few)
        for _ in range(PLACES)
    ]


def buffers(pair: Pair) -> list[list[Timer]]:
    """Each has graphs and buffers of its own."""
    return [pair.timers(pair.compiled, pair.few_new()) for _ in range(PLACES)]


def many_buffers(pair: Pair) -> list[list[Timer]]:
    """Each has graphs of its own, and so many buffers as a measurement has."""
    return [pair.timers(pair.compiled, pair.many_new()) for _ in range(PLACES)]


MOVES: tuple[tuple[str, Callable[[Pair], list[list[Timer]]]], ...] = (
    ("nothing", same),
    ("graphs", graphs),
    ("graphs, code", code),
    ("graphs, buffers", buffers),
    ("graphs, many buffers", many_buffers),
)


def ratios(places: Sequence[Sequence[Timer]]) -> list[float]:
    """Of the two, in each place: medians of samples that go round all places."""
    timers = [timer for place in places for timer in place]
    settle()
    interleaved_us(timers, 2)
    samples = interleaved_us(timers, SAMPLES)
    pairs = zip(samples[::2], samples[1::2], strict=True)
    return [
        statistics.median(b / a for a, b in zip(one, other, strict=True)) for one, other in pairs
    ]


def row(pair: Pair) -> str:
    """A pair's line of the table."""
    cells = []
    for _, move in MOVES:
        found = ratios(move(pair))
        low, high = min(found) - 1, max(found) - 1
        cells.append(f"{statistics.stdev(found):.2%} ({low:+.1%} to {high:+.1%})")
        torch.cuda.empty_cache()
    one, other = pair.configs
    return f"| {pair.elements} {pair.dtype}: {other} over {one} | " + " | ".join(cells) + " |"


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    gpu = select_gpu(0)
    pairs = [
        Pair(2**14, "float32", (_config(512, 2, 8), _config(512, 2, 4)), gpu),
        Pair(2**14, "bfloat16", (_config(512, 2, 8), _config(1024, 4, 8)), gpu),
        Pair(2**22, "float32", (_config(512, 4, 1, 3), _config(1024, 4, 4, 3)), gpu),
        Pair(2**22, "bfloat16", (_config(512, 2, 2), _config(1024, 8, 4)), gpu),
    ]
    lines = [
        "# How much a comparison depends on where things lie",
        "",
        f"{gpu.name}, driver {gpu.driver}, torch {version('torch')}, Triton {version('triton')}; "
        f"{KERNEL.name}. Standard deviation of the ratio of two configurations' times over "
        f"{PLACES} places, and its range; {SAMPLES} samples in each place.",
        "",
        "| moved | " + " | ".join(name for name, _ in MOVES) + " |",
        "| --- |" + " ---: |" * len(MOVES),
    ]
    for pair in pairs:
        lines.append(row(pair))
        print(lines[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
