"""Times a kernel's launches by replaying a CUDA graph of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

from tunekit.evaluate.rotation import Rotation

_LONG_GRAPH_US = 4000.0
"""A graph that lasts longer is made anew, to last half of this."""

_AHEAD_CYCLES = 60_000
"""The GPU waits so long for the host to launch a graph behind the first event: its launch would
count otherwise."""

_BUSY_STREAMS = 8

Launch = Callable[[int], None]
"""Launches once on the current stream, on buffer set `index`."""


@cache
def _busy_streams(device: int) -> tuple[tuple[torch.cuda.Stream, ...], torch.Tensor]:
    streams = tuple(torch.cuda.Stream(device) for _ in range(_BUSY_STREAMS))
    return streams, torch.zeros(16, device=f"cuda:{device}")


def settle() -> None:
    """Bring the GPU into the state in which launches always take as long.

    While few streams of a process have had work, each launch takes less time than ever after, by a
    good part of a small kernel's. PyTorch's capture of a graph counts as a stream, so the first few
    configurations of a process came out too fast, and another process that opens or closes the GPU
    brings that state back. So a little work on several streams comes before each set of samples.
    It does nothing where no GPU is in use.
    """
    if not torch.cuda.is_initialized():
        return
    streams, scratch = _busy_streams(torch.cuda.current_device())
    for stream in streams:
        with torch.cuda.stream(stream):
            scratch.zero_()
    torch.cuda.synchronize()


class Timer:
    """One candidate's graph, ready to be sampled.

    Args:
        launch: launches once, on the buffer set of that index.
        rotation: the buffer sets.
    """

    def __init__(self, launch: Launch, rotation: Rotation) -> None:
        self._rotation = rotation  # the graph holds addresses: the buffers must live as long
        self._launch = launch
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.launches = rotation.launches
        launch(0)  # what is loaded at the first launch cannot be while capturing
        self._graph = self._capture(launch, self.launches)
        graph_us = self.sample_us() * self.launches  # the first replay also uploads the graph
        if graph_us > _LONG_GRAPH_US and self.launches > rotation.fewest_launches:
            fewer = int(self.launches * _LONG_GRAPH_US / 2 / graph_us)
            self.launches = max(rotation.fewest_launches, fewer)
            self._graph = self._capture(launch, self.launches)
            self.sample_us()
        settle()

    def release(self) -> None:
        """Give the graph's memory back; no sample can be taken until it is renewed."""
        self._graph.reset()

    def renew(self, launch: Launch | None = None) -> None:
        """Capture the graph anew, where memory is free then.

        Where a graph and a kernel's code lie makes each launch a little faster or slower for as
        long as they lie there, another little for each configuration: more samples do not remove
        that (benchmarks/placement.py).

        Args:
            launch: launches another copy of the same code.
        """
        self._launch = launch or self._launch
        self._graph = self._capture(self._launch, self.launches)
        self.sample_us()  # the first replay also uploads the graph

    def _capture(self, launch: Launch, launches: int) -> torch.cuda.CUDAGraph:
        """A graph of the launches.

        Not by `torch.cuda.graph`, which gives all cached memory back to the driver first: taking
        it again costs the next verification more than capturing costs.
        """
        try:
            return self._capture_once(launch, launches)
        except torch.OutOfMemoryError:  # launches that allocate, with the memory in the cache
            torch.cuda.empty_cache()
            return self._capture_once(launch, launches)

    def _capture_once(self, launch: Launch, launches: int) -> torch.cuda.CUDAGraph:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            # Other threads may do as they like: one may load what it has compiled.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for index in range(launches):
                    launch(index % self._rotation.sets)
            finally:
                graph.capture_end()
        return graph

    def sample_us(self) -> float:
        """Time of one launch in µs: one replay of the graph over its launches."""
        return self._replay_us(self._graph) / self.launches

    @property
    def sets_touched(self) -> int:
        """Buffer sets that `first_touch_us` launches on, the first so many."""
        return min(self.launches, self._rotation.sets)

    def first_touch_us(self, before: Callable[[], None]) -> float:
        """Time of one launch in µs, of a round in which each buffer set is launched on once.

        Args:
            before: prepares the buffers; not timed.
        """
        sets, graph = self.sets_touched, self._graph
        if self.launches != sets:
            graph = self._capture(self._launch, sets)
            self._replay_us(graph)  # the first replay also uploads the graph
        before()
        return self._replay_us(graph) / sets

    def _replay_us(self, graph: torch.cuda.CUDAGraph) -> float:
        self._rotation.reset()
        if self._rotation.flush is not None:
            self._rotation.flush.zero_()
        else:
            torch.cuda._sleep(_AHEAD_CYCLES)
        self._start.record()
        graph.replay()
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e3

    def samples_us(
        self, budget_us: float, fewest: int, most: int, first: Sequence[float] = ()
    ) -> tuple[float, ...]:
        """Samples until the budget of GPU time is used, but at least and at most so many.

        Args:
            budget_us: GPU time of the samples together, µs.
            fewest: samples to take whatever the budget.
            most: samples to take whatever the budget leaves.
            first: samples taken already, which count.
        """
        samples = list(first)
        used = sum(samples) * self.launches
        while len(samples) < fewest or (len(samples) < most and used < budget_us):
            samples.append(self.sample_us())
            used += samples[-1] * self.launches
        return tuple(samples)
