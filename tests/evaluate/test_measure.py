"""What of measuring needs no GPU; tests/gpu has the rest."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from tunekit.evaluate.measure import Timer, interleaved_us, median_us, rotation_of

L2 = 1 << 20


def _rotation(elements: int, l2_bytes: int = L2, inputs: int = 1):  # type: ignore[no-untyped-def]
    x = torch.arange(elements, dtype=torch.float32)
    return rotation_of([x + i for i in range(inputs)], torch.empty(elements), l2_bytes)


class TestRotation:
    @pytest.mark.parametrize(
        ("elements", "inputs", "sets"),
        [
            (1 << 20, 1, 1),  # 8 MB: four times the cache
            (1 << 17, 1, 2),  # 1 MB a set: two exceed 2 MB
            (1 << 16, 1, 4),
            (1 << 16, 3, 2),
            ((1 << 16) + 1, 1, 4),
            ((1 << 16) - 1, 1, 5),
        ],
    )
    def test_the_sets_together_are_twice_the_cache(
        self, elements: int, inputs: int, sets: int
    ) -> None:
        rotation = _rotation(elements, inputs=inputs)
        assert rotation.sets == sets
        assert sets * elements * 4 * (inputs + 1) >= 2 * L2
        assert rotation.flush is None

    def test_tiny_ones_are_bounded_in_number_and_get_a_buffer_to_flush(self) -> None:
        rotation = _rotation(16)
        assert rotation.sets == 256
        assert rotation.flush is not None
        assert rotation.flush.nbytes == 2 * L2

    def test_every_set_has_the_same_values_in_memory_of_its_own(self) -> None:
        rotation = _rotation(1 << 16, inputs=2)
        tensors = [x for inputs in rotation.inputs for x in inputs] + list(rotation.outputs)
        assert len({x.data_ptr() for x in tensors}) == 3 * rotation.sets
        for first, second in rotation.inputs:
            assert torch.equal(first, rotation.inputs[0][0])
            assert torch.equal(second, first + 1)

    def test_the_first_set_is_what_was_given(self) -> None:
        x, output = torch.randn(64), torch.empty(64)
        rotation = rotation_of([x], output, L2)
        assert rotation.inputs[0][0] is x
        assert rotation.outputs[0] is output


class Scripted(Timer):
    """A timer that gives samples from a list, and notes when it is asked."""

    def __init__(self, samples: Sequence[float], launches: int, log: list[str], name: str) -> None:
        self.launches = launches
        self._samples = iter(samples)
        self._log, self._name = log, name

    def sample_us(self) -> float:
        self._log.append(self._name)
        return next(self._samples)


class TestSamples:
    @pytest.mark.parametrize(
        ("sample", "count"),
        [(1000.0, 5), (1.0, 15), (100.0, 10), (95.0, 11)],
        ids=["at least", "at most", "budget used", "just not used"],
    )
    def test_the_budget_lies_between_fewest_and_most(self, sample: float, count: int) -> None:
        timer = Scripted([sample] * 100, launches=10, log=[], name="a")
        assert timer.samples_us(10_000.0, fewest=5, most=15) == (sample,) * count

    def test_a_race_goes_round(self) -> None:
        log: list[str] = []
        timers = [Scripted(range(100), 1, log, name) for name in "abc"]
        assert interleaved_us(timers, 3) == [(0, 1, 2)] * 3
        assert "".join(log) == "abcabcabc"

    def test_a_race_of_no_rounds(self) -> None:
        assert interleaved_us([Scripted([], 1, [], "a")], 0) == [()]

    def test_one_outlier_does_not_move_the_figure(self) -> None:
        assert median_us([3.0, 1.0, 2.0]) == 2.0
        assert median_us([2.0, 2.0, 900.0]) == 2.0
        assert median_us([1.0, 2.0]) == 1.5
