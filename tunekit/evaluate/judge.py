"""Compare what configurations of one problem write with what they should."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tunekit.evaluate.tensors import differing, in_memory, same_bits
from tunekit.evaluate.verify import describe_difference, describe_error, largest_error


class Judge:
    """Knows what every configuration should write.

    Configurations of a problem do the same arithmetic in another order of elements, so their
    outputs are mostly the same, bit for bit. The first that passes is kept: one that equals it has
    its error, and reading both once is all that costs.

    Args:
        expected: the reference in float32.
        dtype: of the outputs.
        keep: whether there is memory for one output more.
    """

    def __init__(self, expected: torch.Tensor, dtype: str, *, keep: bool) -> None:
        self._expected, self._dtype, self._keep = expected, dtype, keep
        self._passed: torch.Tensor | None = None
        self._error = 0.0

    def rehearse(self) -> None:
        """Compare one element: CUDA loads an operation's code when it is first used."""
        one = in_memory(self._expected)[:1]
        largest_error(one.to(getattr(torch, self._dtype)), one, self._dtype)
        same_bits(one, one.clone())

    def error_of(self, output: torch.Tensor) -> float:
        """Largest error of an output in units of what is allowed."""
        if self._passed is not None and same_bits(output, self._passed):
            return self._error
        error = largest_error(output, self._expected, self._dtype)
        if self._keep and self._passed is None and error <= 1.0:
            self._passed, self._error = output.clone(), error
        return error

    def worst_of(self, outputs: Sequence[torch.Tensor]) -> tuple[int, float]:
        """Place and error of one that is wrong, else of the one with the largest error."""
        passed, places = self._passed, list(range(len(outputs)))
        if passed is not None:
            different = differing((output, passed) for output in outputs)
            if not different:
                return 0, self._error
            places = different
        errors = [(self.error_of(outputs[place]), place) for place in places]
        error, place = max(errors)
        return place, error

    def describe(self, output: torch.Tensor, error: float, poisoned: int, where: str) -> str:
        """What is wrong with an output that held the byte `poisoned` before the launch."""
        found = describe_difference(output, self._expected, self._dtype, poisoned)
        return f"{describe_error(error, where)} ({found})"
