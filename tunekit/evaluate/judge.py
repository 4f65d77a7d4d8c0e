"""Compare what configurations of one problem write with what they should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from tunekit.evaluate.tensors import differing, in_memory, same_bits
from tunekit.evaluate.verify import (
    RunDefault,
    describe_difference,
    describe_error,
    expected_outputs,
    largest_error,
    tolerance_of,
)
from tunekit.kernels.kernel import Kernel, Tolerance
from tunekit.kernels.plan import Launch


class Judge:
    """Knows what every configuration should write.

    Configurations of a problem do the same arithmetic in another order of elements, so their
    outputs are mostly the same, bit for bit. The first that passes is kept: one that equals it has
    its error, and reading both once is all that costs.

    Args:
        expected: the reference's results, as `verify.expected_outputs` keeps them.
        tolerances: what each may differ from it by.
        poisoned: whether each output holds, before a launch, bytes that show what is not written.
        keep: whether there is memory for the results once more.
    """

    def __init__(
        self,
        expected: Sequence[torch.Tensor],
        tolerances: Sequence[Tolerance],
        poisoned: Sequence[bool],
        *,
        keep: bool,
    ) -> None:
        self._expected, self._tolerances = tuple(expected), tuple(tolerances)
        self._poisoned, self._keep = tuple(poisoned), keep
        self._passed: tuple[torch.Tensor, ...] | None = None
        self._error = 0.0

    @classmethod
    def of(
        cls,
        kernel: Kernel,
        launch: Launch,
        inputs: Sequence[torch.Tensor],
        scalars: Mapping[str, float],
        run_default: RunDefault | None = None,
        *,
        keep: bool,
    ) -> Judge:
        """Who knows what a launch on these inputs should write.

        Raises:
            KernelError: the reference's results are not what the plan says.
        """
        expected = expected_outputs(kernel, launch, inputs, scalars, run_default)
        tolerances = [
            tolerance_of(kernel, launch, index, values) for index, values in enumerate(expected)
        ]
        poisoned = [launch.start_of(index) is None for index in range(len(expected))]
        return cls(expected, tolerances, poisoned, keep=keep)

    def rehearse(self) -> None:
        """Compare one element: CUDA loads an operation's code when it is first used."""
        one = in_memory(self._expected[0])[:1]
        largest_error(one, one, self._tolerances[0])
        same_bits(one, one.clone())

    def error_of(self, outputs: Sequence[torch.Tensor]) -> float:
        """Largest error of the outputs in units of what is allowed.

        Buffers after them are not looked at.
        """
        results = tuple(outputs[: len(self._expected)])
        if self._passed is not None and all(map(same_bits, results, self._passed)):
            return self._error
        error = max(
            largest_error(result, expected, tolerance)
            for result, expected, tolerance in zip(
                results, self._expected, self._tolerances, strict=True
            )
        )
        if self._keep and self._passed is None and error <= 1.0:
            self._passed, self._error = tuple(result.clone() for result in results), error
        return error

    def worst_of(self, sets: Sequence[Sequence[torch.Tensor]]) -> tuple[int, float]:
        """Place and error of the outputs that are wrong, else of those with the largest error."""
        passed, places = self._passed, list(range(len(sets)))
        if passed is not None:
            pairs = [(own, kept) for outputs in sets for own, kept in zip(outputs, passed)]  # noqa: B905 - buffers follow
            different = differing(pairs)
            if not different:
                return 0, self._error
            places = sorted({place // len(passed) for place in different})
        errors = [(self.error_of(sets[place]), place) for place in places]
        error, place = max(errors)
        return place, error

    def describe(
        self, outputs: Sequence[torch.Tensor], error: float, poisoned: int, where: str
    ) -> str:
        """What is wrong with outputs that held the byte `poisoned` before the launch."""
        results = outputs[: len(self._expected)]
        errors = [
            largest_error(result, expected, tolerance)
            for result, expected, tolerance in zip(
                results, self._expected, self._tolerances, strict=True
            )
        ]
        index = errors.index(max(errors))
        found = describe_difference(
            results[index],
            self._expected[index],
            self._tolerances[index],
            poisoned if self._poisoned[index] else None,
        )
        which = f"output {index}: " if len(errors) > 1 else ""
        return f"{describe_error(error, where)} ({which}{found})"
