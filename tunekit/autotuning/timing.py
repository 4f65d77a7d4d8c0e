"""Who takes the times of launches: CUDA graphs on a cold cache, or a person's own `do_bench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol, cast, runtime_checkable

import torch

from tunekit.autotuning.rotating import Sets
from tunekit.core.config import Config
from tunekit.evaluate.measure import PROTOCOL as GRAPH_PROTOCOL
from tunekit.evaluate.measure import Measurement, interleaved, measure
from tunekit.evaluate.noise import Watch
from tunekit.evaluate.rotation import Rotation
from tunekit.evaluate.stream_timer import StreamTimer
from tunekit.evaluate.timer import Launch, Timer

_REPLAYS = 2
_ROUNDS_OF_A_PLACE = 8
"""After so many rounds of a race graphs are captured anew, which takes Triton's own calls."""


class Timing(Protocol):
    """Takes the times of launches on sets of arguments.

    Attributes:
        protocol: name and version of how; results of different protocols are not compared.
    """

    protocol: str

    def measured(
        self, config: Config, launch: Launch, sets: Sets, hopeless_us: float | None
    ) -> Measurement:
        """Samples of one configuration, in µs."""


@runtime_checkable
class Racing(Timing, Protocol):
    """One that can tell near equals apart, by taking them in turn."""

    def raced(
        self, launches: Mapping[Config, Launch], sets: Sets, rounds: int
    ) -> tuple[list[tuple[float, ...]], str]:
        """Samples of several in turn, in µs, and what disturbed them."""


class GraphTiming:
    """As a worker measures: replays of a CUDA graph, watched for disturbances.

    Args:
        index: of the GPU.
    """

    protocol = f"autotune-{GRAPH_PROTOCOL}"

    def __init__(self, index: int) -> None:
        self._watch = Watch(index)
        self._random = Random(0)
        self._racers: dict[Config, Timer | StreamedSets] = {}

    def measured(
        self, config: Config, launch: Launch, sets: Sets, hopeless_us: float | None
    ) -> Measurement:
        """12 ms of samples of one configuration; see `evaluate.measure.measure`."""
        return measure(cast(Timer, timer_of(launch, sets)), self._watch, hopeless_us)

    def raced(
        self, launches: Mapping[Config, Launch], sets: Sets, rounds: int
    ) -> tuple[list[tuple[float, ...]], str]:
        """Interleaved samples.

        Graphs are captured anew now and then, so that luck with where one lies does not last.
        """
        self._racers = {
            config: self._racers.get(config) or timer_of(launch, sets)
            for config, launch in launches.items()
        }
        taken = 0

        def before_round() -> None:
            nonlocal taken
            if taken % _ROUNDS_OF_A_PLACE == 0:
                self._lay_out_anew()
            taken += 1

        return interleaved(
            list(self._racers.values()),
            rounds,
            self._watch,
            before_round=before_round,
            replays=_REPLAYS,
        )

    def _lay_out_anew(self) -> None:
        racers = list(self._racers.values())
        for racer in racers:
            racer.release()
        for racer in self._random.sample(racers, len(racers)):
            racer.renew()


class BenchTiming:
    """A person's own benchmark: `do_bench(call, quantiles)`, as Triton calls it; it does not race.

    Args:
        do_bench: gives milliseconds, one or one for each quantile.
    """

    protocol = "autotune-do_bench"
    _QUANTILES = (0.5, 0.2, 0.8)

    def __init__(self, do_bench: Callable[..., Any]) -> None:
        self._do_bench = do_bench

    def measured(
        self, config: Config, launch: Launch, sets: Sets, hopeless_us: float | None
    ) -> Measurement:
        """What it says of one configuration."""

        def call() -> None:
            sets.reset()
            launch(0)

        given = self._do_bench(call, quantiles=self._QUANTILES)
        median_ms = given[0] if isinstance(given, Sequence) else given
        return Measurement((float(median_ms) * 1e3,))


class StreamedSets:
    """A round of launches on all sets, on a stream: for what cannot be captured in a graph.

    Args:
        launch: launches once, on the set of that index.
        sets: the sets.
    """

    def __init__(self, launch: Launch, sets: Sets) -> None:
        self._sets = sets
        self.launches = sets.sets
        self._launch = launch
        self._timer = StreamTimer(self._round)

    def sample_us(self) -> float:
        """Time of one launch in µs."""
        self._sets.reset()
        if self._sets.flush is not None:
            self._sets.flush.zero_()
        return self._timer.sample_us() / self.launches

    def samples_us(
        self, budget_us: float, fewest: int, most: int, first: Sequence[float] = ()
    ) -> tuple[float, ...]:
        """Samples until the budget of GPU time is used, but at least and at most so many."""
        samples = list(first)
        while len(samples) < fewest or (
            len(samples) < most and sum(samples) * self.launches < budget_us
        ):
            samples.append(self.sample_us())
        return tuple(samples)

    def _round(self) -> None:
        for place in range(self.launches):
            self._launch(place)

    def release(self) -> None:
        """It holds no graph."""

    def renew(self) -> None:
        """It holds no graph."""


def timer_of(launch: Launch, sets: Sets) -> Timer | StreamedSets:
    """A CUDA graph's timer, else one on a stream: hooks may do what no graph can hold."""
    try:
        return Timer(launch, cast(Rotation, sets))  # all of a rotation that it uses
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        torch.cuda.synchronize()  # raises again if it was the launch, not the capture
        return StreamedSets(launch, sets)
