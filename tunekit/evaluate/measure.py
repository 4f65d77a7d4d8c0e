"""Time launches on the GPU: a CUDA graph over buffers rotated beyond the L2 cache."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

PROTOCOL = "graph-cold-1"
"""Name and version of how `measure` times: results of different protocols are not compared."""

_MOST_LAUNCHES = 256
_GRAPH_US = 1000.0
"""A graph lasts about this long, so that the two events around it weigh little."""

Launch = Callable[[int], None]
"""Launches once on the current stream, on buffer set `index`."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Sets of inputs and outputs that together exceed the L2 cache twice."""

    inputs: tuple[tuple[torch.Tensor, ...], ...]
    outputs: tuple[torch.Tensor, ...]
    flush: torch.Tensor | None

    @property
    def sets(self) -> int:
        """How many there are."""
        return len(self.outputs)


def rotation_of(inputs: Sequence[torch.Tensor], output: torch.Tensor, l2_bytes: int) -> Rotation:
    """Copies of the inputs, and outputs, to go round; when small, also a buffer to flush L2."""
    nbytes = sum(x.nbytes for x in inputs) + output.nbytes
    sets = max(1, min(_MOST_LAUNCHES, -(-2 * l2_bytes // max(nbytes, 1))))
    flush = None
    if sets * nbytes < 2 * l2_bytes:
        flush = torch.empty(2 * l2_bytes, dtype=torch.int8, device=output.device)
    copies = [tuple(inputs)] + [tuple(x.clone() for x in inputs) for _ in range(sets - 1)]
    outputs = [output] + [torch.empty_like(output) for _ in range(sets - 1)]
    return Rotation(tuple(copies), tuple(outputs), flush)


class Timer:
    """One candidate's graph, ready to be sampled.

    Args:
        launch: launches once, on the buffer set of that index.
        rotation: the buffer sets.
    """

    def __init__(self, launch: Launch, rotation: Rotation) -> None:
        self._rotation = rotation  # the graph holds addresses: the buffers must live as long
        first_us = self._rough_time_us(launch)
        rounds = 1
        if rotation.flush is None:
            rounds = max(1, round(_GRAPH_US / (first_us * rotation.sets)))
        self.launches = max(2, min(rounds * rotation.sets, 4 * _MOST_LAUNCHES))
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for index in range(self.launches):
                launch(index % rotation.sets)
        self._graph.replay()
        torch.cuda.synchronize()

    @staticmethod
    def _rough_time_us(launch: Launch) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        launch(0)
        start.record()
        launch(0)
        end.record()
        end.synchronize()
        return max(float(start.elapsed_time(end)) * 1e3, 1.0)

    def sample_us(self) -> float:
        """Time of one launch in µs: one replay of the graph over its launches."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if self._rotation.flush is not None:
            self._rotation.flush.zero_()
        start.record()
        self._graph.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e3 / self.launches

    def samples_us(self, budget_us: float, fewest: int, most: int) -> tuple[float, ...]:
        """Samples until the budget of GPU time is used, but at least and at most so many."""
        samples: list[float] = []
        used = 0.0
        while len(samples) < fewest or (len(samples) < most and used < budget_us):
            samples.append(self.sample_us())
            used += samples[-1] * self.launches
        return tuple(samples)


def interleaved_us(timers: Sequence[Timer], rounds: int) -> list[tuple[float, ...]]:
    """Sample A B C A B C …, so that what drifts, drifts for all of them."""
    samples: list[list[float]] = [[] for _ in timers]
    for _ in range(rounds):
        for timer, own in zip(timers, samples, strict=True):
            own.append(timer.sample_us())
    return [tuple(own) for own in samples]


def median_us(samples: Sequence[float]) -> float:
    """The figure reported for a set of samples."""
    return float(statistics.median(samples))
