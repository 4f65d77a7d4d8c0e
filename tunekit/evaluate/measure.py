"""Time launches on the GPU: a CUDA graph, over buffers rotated beyond the L2 cache or within it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from tunekit.evaluate.noise import (
    Reading,
    Watch,
    spread_disturbance,
    spread_of,
    state_disturbance,
)

PROTOCOL = "graph-cold-2"
"""Name and version of how `measure` times: results of different protocols are not compared."""

_WARM_PROTOCOL = "graph-warm-2"

_MOST_SETS = 256
_GRAPH_US = 500.0
"""A graph lasts at least about this long, so that the two events around it weigh little."""

_LONG_GRAPH_US = 4000.0
"""One that lasts longer is made anew, to last half of this."""

_SHORTEST_LAUNCH_US = 2.0
_FASTEST_BYTES_PER_US = 3e6
"""What no launch beats by much, so that a graph of as many as that would need lasts long enough."""

_AHEAD_CYCLES = 60_000
"""The GPU waits so long for the host to launch a graph behind the first event: its launch would
count otherwise."""

_BUSY_STREAMS = 8

_SET_US = 12_000.0
_FEWEST_SAMPLES, _MOST_SAMPLES = 5, 25
_RETRIES = 2
_PAUSE_S = 0.05

Launch = Callable[[int], None]
"""Launches once on the current stream, on buffer set `index`."""


def protocol_name(warm: bool) -> str:
    """The protocol's name and version, with the inputs in the L2 cache or not."""
    return _WARM_PROTOCOL if warm else PROTOCOL


@dataclass(frozen=True, slots=True)
class Rotation:
    """Sets of inputs and outputs to go round, and where they fit in L2 a buffer to overwrite it."""

    inputs: tuple[tuple[torch.Tensor, ...], ...]
    outputs: tuple[torch.Tensor, ...]
    flush: torch.Tensor | None

    @property
    def sets(self) -> int:
        """How many there are."""
        return len(self.outputs)

    @property
    def launches(self) -> int:
        """Launches of a graph: whole rounds that last about 500 µs if memory sets the time.

        A matter of the buffers alone. The GPU takes some µs to start and to end a graph; were the
        number derived from each configuration's own time, these would weigh on one of two equally
        fast configurations more than on the other.
        """
        if self.flush is not None:
            return self.sets  # in a second round they would be in the cache
        set_bytes = sum(x.nbytes for x in self.inputs[0]) + self.outputs[0].nbytes
        launch_us = max(_SHORTEST_LAUNCH_US, set_bytes / _FASTEST_BYTES_PER_US)
        return self.sets * max(1, round(_GRAPH_US / (launch_us * self.sets)))

    @property
    def fewest_launches(self) -> int:
        """Launches of the shortest graph that still finds a cold cache, or a warm one."""
        return 1 if self.flush is not None else self.sets


def rotation_of(
    inputs: Sequence[torch.Tensor], output: torch.Tensor, l2_bytes: int, warm: bool = False
) -> Rotation:
    """The buffers to launch on; the first set is what is given, others hold the same values.

    Cold: sets that together exceed the L2 cache twice, at most 256 of them; when those are still
    smaller, also a buffer of twice the cache that is overwritten before each sample.

    Warm: one set, launched on again and again. Each launch finds what the one before it left: the
    inputs, as an op finds them that follows the one that wrote them, and its own output, as one
    finds that a caching allocator gives the memory just freed. Inputs and output that fit in L2
    together, with room to spare, are all there. Of a set larger than L2 little is, and the time
    comes near the cold one, as it does in a model: what was written first has left the cache when
    the reading begins. Between the two, inputs that fit but not together with the output, this is
    the colder end of what a model sees: an op's predecessor would leave its inputs alone in the
    cache, where here the last output takes part of the room.

    Args:
        inputs: what one launch reads.
        output: what one launch writes.
        l2_bytes: size of the GPU's L2 cache.
        warm: as in a model, where the inputs were just written.
    """
    if warm:
        return Rotation((tuple(inputs),), (output,), flush=None)
    nbytes = sum(x.nbytes for x in inputs) + output.nbytes
    sets = max(1, min(_MOST_SETS, -(-2 * l2_bytes // max(nbytes, 1))))
    flush = None
    if sets * nbytes < 2 * l2_bytes:
        flush = torch.empty(2 * l2_bytes, dtype=torch.int8, device=output.device)
    copies = [tuple(inputs)] + [tuple(x.clone() for x in inputs) for _ in range(sets - 1)]
    outputs = [output] + [torch.empty_like(output) for _ in range(sets - 1)]
    return Rotation(tuple(copies), tuple(outputs), flush)


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
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.launches = rotation.launches
        launch(0)  # what is loaded at the first launch cannot be while capturing
        self._graph = self._capture(launch)
        graph_us = self.sample_us() * self.launches  # the first replay also uploads the graph
        if graph_us > _LONG_GRAPH_US and self.launches > rotation.fewest_launches:
            fewer = int(self.launches * _LONG_GRAPH_US / 2 / graph_us)
            self.launches = max(rotation.fewest_launches, fewer)
            self._graph = self._capture(launch)
            self.sample_us()
        settle()

    def _capture(self, launch: Launch) -> torch.cuda.CUDAGraph:
        """A graph of the launches.

        Not by `torch.cuda.graph`, which gives all cached memory back to the driver first: taking
        it again costs the next verification more than capturing costs.
        """
        try:
            return self._capture_once(launch)
        except torch.OutOfMemoryError:  # launches that allocate, with the memory in the cache
            torch.cuda.empty_cache()
            return self._capture_once(launch)

    def _capture_once(self, launch: Launch) -> torch.cuda.CUDAGraph:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            # Other threads may do as they like: one may load what it has compiled.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for index in range(self.launches):
                    launch(index % self._rotation.sets)
            finally:
                graph.capture_end()
        return graph

    def sample_us(self) -> float:
        """Time of one launch in µs: one replay of the graph over its launches."""
        if self._rotation.flush is not None:
            self._rotation.flush.zero_()
        else:
            torch.cuda._sleep(_AHEAD_CYCLES)
        self._start.record()
        self._graph.replay()
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e3 / self.launches

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


@dataclass(frozen=True, slots=True)
class Measurement:
    """What `measure` found.

    Attributes:
        samples_us: of one set, µs a launch.
        disturbance: what disturbed this set, after every retry; empty if nothing did.
    """

    samples_us: tuple[float, ...]
    disturbance: str = ""


@dataclass(frozen=True, slots=True)
class _Set:
    """Samples taken together, a series a timer, and what the driver said meanwhile."""

    series: tuple[tuple[float, ...], ...]
    state: str

    @property
    def driftless(self) -> tuple[tuple[float, ...], ...]:
        """The series less what they have in common: a drift disturbs no comparison of theirs."""
        if len(self.series) < 2:
            return self.series
        rounds = [statistics.geometric_mean(samples) for samples in zip(*self.series, strict=True)]
        mean = statistics.geometric_mean(rounds) if rounds else 1.0
        return tuple(
            tuple(sample * mean / one for sample, one in zip(own, rounds, strict=True))
            for own in self.series
        )

    @property
    def spread(self) -> str:
        return next(filter(None, map(spread_disturbance, self.driftless)), "")

    @property
    def disturbance(self) -> str:
        return self.state or self.spread

    @property
    def severity(self) -> tuple[bool, float]:
        """Orders sets: what the driver said counts more than how far the samples spread."""
        return bool(self.state), max(map(spread_of, self.driftless), default=0.0)

    def worth_retrying(self, watch: Watch) -> bool:
        """Whether it is disturbed by something that has not outlasted retries before."""
        return bool(self.spread) or self.state not in ("", watch.lasting)


def measure(timer: Timer, watch: Watch, hopeless_us: float | None = None) -> Measurement:
    """Samples of one configuration: 12 ms of GPU time, but at least 5 and at most 25.

    A set in which something was disturbed is measured again, at most twice. If all are disturbed,
    the samples are the least disturbed set's and the measurement says by what; sets never mix.

    Args:
        timer: the configuration's.
        watch: on its GPU.
        hopeless_us: when the first sample is slower than this it is the only one.
    """
    settle()
    before = watch.read()
    first = timer.sample_us()
    if hopeless_us is not None and first > hopeless_us:
        return Measurement((first,), state_disturbance(before, watch.read()))
    sets = [_sample_set(timer, watch, before, [first])]
    while sets[-1].worth_retrying(watch) and len(sets) <= _RETRIES:
        time.sleep(_PAUSE_S)
        settle()
        sets.append(_sample_set(timer, watch, watch.read()))
    best = min(sets, key=lambda each: each.severity) if sets[-1].disturbance else sets[-1]
    watch.lasting = best.state
    return Measurement(best.series[0], best.disturbance)


def _sample_set(timer: Timer, watch: Watch, before: Reading, first: Sequence[float] = ()) -> _Set:
    samples = timer.samples_us(_SET_US, _FEWEST_SAMPLES, _MOST_SAMPLES, first)
    return _Set((samples,), state_disturbance(before, watch.read()))


def interleaved(
    timers: Sequence[Timer], rounds: int, watch: Watch
) -> tuple[list[tuple[float, ...]], str]:
    """Sample A B C A B C …, so that what drifts, drifts for all of them.

    A round in which the driver says that something was disturbed is repeated at once, while there
    are fewer repetitions than rounds. If the samples of one timer spread far above normal, all
    rounds are repeated, once, and the calmer ones count.

    Args:
        timers: the candidates'.
        rounds: samples of each.
        watch: on their GPU.

    Returns:
        Each timer's samples in µs a launch, paired by round, and what remained disturbed, or "".
    """
    sets = [_round_set(timers, rounds, watch)]
    if sets[0].spread:
        time.sleep(_PAUSE_S)
        sets.append(_round_set(timers, rounds, watch))
    best = min(sets, key=lambda each: (bool(each.disturbance), each.severity))
    watch.lasting = best.state
    return list(best.series), best.disturbance


def _round_set(timers: Sequence[Timer], rounds: int, watch: Watch) -> _Set:
    kept: list[list[float]] = []
    repetitions, remained = 0, ""
    while len(kept) < rounds:
        settle()
        before = watch.read()
        samples = [timer.sample_us() for timer in timers]
        state = state_disturbance(before, watch.read())
        if state not in ("", watch.lasting) and repetitions < rounds:
            repetitions += 1
            time.sleep(_PAUSE_S)
            continue
        kept.append(samples)
        remained = state or remained
    series = tuple(zip(*kept, strict=True)) if kept else ((),) * len(timers)
    return _Set(series, remained)


def interleaved_us(timers: Sequence[Timer], rounds: int) -> list[tuple[float, ...]]:
    """Sample A B C A B C …, unwatched."""
    samples: list[list[float]] = [[] for _ in timers]
    for _ in range(rounds):
        for timer, own in zip(timers, samples, strict=True):
            own.append(timer.sample_us())
    return [tuple(own) for own in samples]


def median_us(samples: Sequence[float]) -> float:
    """The figure reported for a set of samples."""
    return float(statistics.median(samples))
