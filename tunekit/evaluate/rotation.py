"""The buffers that launches are timed on: rotated beyond the L2 cache, or within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunekit.evaluate.guards import FINITE, prepare_all
from tunekit.evaluate.tensors import clone_of
from tunekit.kernels.plan import Launch

_MOST_SETS = 256
_COLD_CACHES = 2
SPAN_CACHES = 20
"""So many times the L2 cache are rotated, where 256 sets are that much (1 GB on an H100).

Twice the cache is enough to find it cold. But where buffers lie in DRAM makes one kernel faster and
another slower, by more than a measurement's noise (benchmarks/placement.py); many places are an
average.
"""

_GRAPH_US = 500.0
"""A graph lasts at least about this long, so that the two events around it weigh little."""

_SHORTEST_LAUNCH_US = 2.0
_FASTEST_BYTES_PER_US = 3e6
"""What no launch beats by much, so that a graph of as many as that would need lasts long enough."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Sets of inputs and outputs to go round.

    Attributes:
        inputs, outputs: of each set.
        flush: a buffer to overwrite before each sample, where the sets fit in L2.
        fewest_launches: of the shortest graph that still finds a cold cache, or a warm one.
        launch: what they are for; None where no output has to hold anything before.
    """

    inputs: tuple[tuple[torch.Tensor, ...], ...]
    outputs: tuple[tuple[torch.Tensor, ...], ...]
    flush: torch.Tensor | None
    fewest_launches: int = 1
    launch: Launch | None = None

    @property
    def starts_matter(self) -> bool:
        """Whether some output has to hold something before each launch."""
        return self.launch is not None and self.launch.starts_matter

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
        if self.flush is not None or (self.starts_matter and self.sets > 1):
            return self.sets  # in a second round they would be in the cache, or hold a result
        set_bytes = _nbytes(self.inputs[0]) + _nbytes(self.outputs[0])
        launch_us = max(_SHORTEST_LAUNCH_US, set_bytes / _FASTEST_BYTES_PER_US)
        return self.sets * max(1, round(_GRAPH_US / (launch_us * self.sets)))

    def reset(self) -> None:
        """Before each sample, untimed: what outputs have to hold, where they have to hold it.

        With one set, a warm cache or a problem as large as the memory, it holds for the first
        launch of a sample only: what the others add up is another value, and no less work.
        """
        if self.starts_matter:
            prepare_all(self.launch, self.inputs[0], self.outputs, FINITE)


def _nbytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(x.nbytes for x in tensors)


def rotation_of(
    inputs: Sequence[torch.Tensor],
    outputs: Sequence[torch.Tensor],
    l2_bytes: int,
    warm: bool = False,
    launch: Launch | None = None,
) -> Rotation:
    """The buffers to launch on; the first set is what is given, others hold the same values.

    Cold: sets that together are twenty times the L2 cache, at most 256 of them; when those are
    smaller than twice the cache, also a buffer of that size to overwrite before each sample.

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
        outputs: what one launch writes.
        l2_bytes: size of the GPU's L2 cache.
        warm: as in a model, where the inputs were just written.
        launch: what they are for; None where no output has to hold anything before.
    """
    if warm:
        return Rotation((tuple(inputs),), (tuple(outputs),), None, launch=launch)
    nbytes = _nbytes(inputs) + _nbytes(outputs)
    cold_bytes = _COLD_CACHES * l2_bytes
    sets = max(1, min(_MOST_SETS, -(-SPAN_CACHES * l2_bytes // max(nbytes, 1))))
    flush, fewest = None, -(-cold_bytes // max(nbytes, 1))
    if fewest > sets:
        device = outputs[0].device
        flush, fewest = torch.empty(cold_bytes, dtype=torch.int8, device=device), 1
    more = range(sets - 1)
    own = [tuple(inputs)] + [tuple(map(clone_of, inputs)) for _ in more]
    written = [tuple(outputs)] + [tuple(map(clone_of, outputs)) for _ in more]
    return Rotation(tuple(own), tuple(written), flush, fewest, launch)
