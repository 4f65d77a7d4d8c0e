"""Times whole pieces of PyTorch on the current stream, without the host's gaps."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_LONGEST_AHEAD_CYCLES = 100_000_000
_LEAST_AHEAD_US = 20
_CYCLES_PER_US = 2_000
"""More than any GPU has: waiting a little too long costs nothing."""


class StreamTimer:
    """One candidate that launches what it likes, ready to be sampled.

    The GPU is kept waiting until the host has launched everything, so that only what the GPU does
    counts, as it would in a model that keeps it busy. Unlike a CUDA graph this needs no memory of
    its own, which a second copy of every buffer of a large module would be.

    Args:
        run: launches on the current stream; its result is dropped.
    """

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(2):  # libraries choose and load their kernels in a first call
            run()
        torch.cuda.synchronize()
        self._ahead_cycles = self._host_cycles()

    def sample_us(self) -> float:
        """Time on the GPU of one run, µs."""
        torch.cuda._sleep(self._ahead_cycles)
        self._start.record()
        self._run()
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e3

    def _host_cycles(self) -> int:
        """Twice as long as the host takes to launch it all."""
        began = time.perf_counter()
        self._run()
        host_us = (time.perf_counter() - began) * 1e6
        torch.cuda.synchronize()
        return min(_LONGEST_AHEAD_CYCLES, int((2 * host_us + _LEAST_AHEAD_US) * _CYCLES_PER_US))
