"""The copies of a call's arguments that launches are timed on, so that each finds a cold cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tunekit.autotuning.copies import Arguments
from tunekit.core.device import Device
from tunekit.evaluate.rotation import SPAN_CACHES

if TYPE_CHECKING:
    from tunekit.autotuning.live import Decorated

_MOST_SETS = 64
"""Fewer than a worker's: here each launch of a graph is one of Triton's own calls."""
_COLD_CACHES = 2
_GRAPH_US = 500.0
_SHORTEST_LAUNCH_US = 2.0
_FASTEST_BYTES_PER_US = 3e6
"""As `evaluate.rotation` has them."""


@dataclass(frozen=True)
class Sets:
    """What `evaluate.timer.Timer` needs of buffers to rotate.

    Attributes:
        sets: how many there are.
        launches: of a graph.
        fewest_launches: of the shortest graph that still finds a cold cache.
        flush: a buffer to overwrite before each sample, where the sets fit in the L2 cache.
    """

    _decorated: Decorated
    _arguments: tuple[Arguments, ...]
    _written: Sequence[int]
    _starts_matter: bool
    flush: torch.Tensor | None
    fewest_launches: int

    @property
    def sets(self) -> int:
        """How many there are."""
        return len(self._arguments)

    @property
    def launches(self) -> int:
        """Whole rounds that last about 500 µs if memory sets the time; see `Rotation.launches`."""
        if self.flush is not None or (self._starts_matter and self.sets > 1):
            return self.sets
        least_us = self._arguments[0].nbytes / _FASTEST_BYTES_PER_US
        launch_us = max(_SHORTEST_LAUNCH_US, least_us)
        return self.sets * max(1, round(_GRAPH_US / (launch_us * self.sets)))

    def __getitem__(self, place: int) -> Arguments:
        return self._arguments[place]

    def reset(self) -> None:
        """Before each sample, untimed: what the arguments have to hold, where that matters."""
        if self._starts_matter:
            for own in self._arguments:
                self._decorated.start(own, self._written)


def sets_of(
    decorated: Decorated,
    first: Arguments,
    written: Sequence[int],
    device: Device,
    starts_matter: bool,
) -> Sets:
    """Sets that together are twenty times the L2 cache, as far as half of the free memory goes.

    Args:
        decorated: whose arguments they are.
        first: the first of them.
        written: places of the pieces of memory that a launch writes.
        device: the GPU.
        starts_matter: whether a launch has to find there what the caller's tensors hold.
    """
    nbytes = max(first.nbytes, 1)
    wanted = min(_MOST_SETS, -(-SPAN_CACHES * device.l2_bytes // nbytes))
    if not torch.cuda.is_available():
        return Sets(decorated, (first,), tuple(written), starts_matter, None, 1)
    room = int(_free_bytes() // 2 // nbytes)
    count = max(1, min(wanted, 1 + room))
    cold_bytes = _COLD_CACHES * device.l2_bytes
    flush, fewest = None, -(-cold_bytes // nbytes)
    if fewest > count:
        flush, fewest = torch.empty(cold_bytes, dtype=torch.int8, device="cuda"), 1
    others = tuple(first.again() for _ in range(count - 1))
    return Sets(decorated, (first, *others), tuple(written), starts_matter, flush, fewest)


def _free_bytes() -> int:
    """Of the GPU, what PyTorch has cached among it."""
    free, _ = torch.cuda.mem_get_info()
    return int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
