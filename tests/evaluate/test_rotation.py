"""The buffers that launches are timed on."""

from __future__ import annotations

import pytest
import torch

from tunekit.evaluate.rotation import Rotation, rotation_of
from tunekit.kernels.plan import Input, Launch, Start, TensorMeta

L2 = 1 << 20


def _rotation(elements: int, l2_bytes: int = L2, inputs: int = 1):  # type: ignore[no-untyped-def]
    x = torch.arange(elements, dtype=torch.float32)
    return rotation_of([x + i for i in range(inputs)], [torch.empty(elements)], l2_bytes)


class TestRotation:
    @pytest.mark.parametrize(
        ("elements", "inputs", "sets"),
        [
            (3 << 20, 1, 1),  # 24 MB: more than twenty times the cache
            (1 << 20, 1, 3),
            (1 << 17, 1, 20),  # 1 MB a set
            (1 << 16, 3, 20),
            ((1 << 17) + 1, 1, 20),
            ((1 << 17) - 1, 1, 21),
        ],
    )
    def test_the_sets_together_are_twenty_times_the_cache(
        self, elements: int, inputs: int, sets: int
    ) -> None:
        rotation = _rotation(elements, inputs=inputs)
        assert rotation.sets == sets
        assert sets * elements * 4 * (inputs + 1) >= 20 * L2
        assert rotation.flush is None

    def test_every_set_has_the_strides_of_the_first(self) -> None:
        x, y = torch.zeros(64, 200)[:, :128], torch.zeros(64, 300)[:, :128]
        rotation = rotation_of([x], [y], l2_bytes=1 << 13)
        assert rotation.sets > 1
        assert {inputs[0].stride() for inputs in rotation.inputs} == {(200, 1)}
        assert {outputs[0].stride() for outputs in rotation.outputs} == {(300, 1)}

    @pytest.mark.parametrize(("elements", "fewest"), [(3 << 20, 1), (1 << 17, 2), (1 << 13, 32)])
    def test_a_graph_of_the_fewest_launches_reads_twice_the_cache(
        self, elements: int, fewest: int
    ) -> None:
        rotation = _rotation(elements)
        assert rotation.fewest_launches == fewest
        assert fewest * elements * 8 >= 2 * L2

    def test_tiny_ones_are_bounded_in_number_and_get_a_buffer_to_flush(self) -> None:
        rotation = _rotation(16)
        assert rotation.sets == 256
        assert rotation.flush is not None
        assert rotation.flush.nbytes == 2 * L2

    def test_every_set_has_the_same_values_in_memory_of_its_own(self) -> None:
        rotation = _rotation(1 << 16, inputs=2)
        tensors = [x for inputs in rotation.inputs for x in inputs] + [
            y for (y,) in rotation.outputs
        ]
        assert len({x.data_ptr() for x in tensors}) == 3 * rotation.sets
        for first, second in rotation.inputs:
            assert torch.equal(first, rotation.inputs[0][0])
            assert torch.equal(second, first + 1)

    def test_the_first_set_is_what_was_given(self) -> None:
        x, output = torch.randn(64), torch.empty(64)
        rotation = rotation_of([x], [output], L2)
        assert rotation.inputs[0][0] is x
        assert rotation.outputs[0] == (output,)


class TestWarm:
    @pytest.mark.parametrize("elements", [16, 1 << 16, 1 << 20])
    def test_one_set_whatever_the_size(self, elements: int) -> None:
        x, output = torch.randn(elements), torch.empty(elements)
        rotation = rotation_of([x], [output], L2, warm=True)
        assert rotation.sets == 1
        assert rotation.flush is None
        assert rotation.inputs[0][0] is x
        assert rotation.outputs[0] == (output,)

    def test_launches_repeat_in_the_graph(self) -> None:
        rotation = rotation_of([torch.empty(16)], [torch.empty(16)], L2, warm=True)
        assert rotation.launches == 250  # 2 µs each: 500 µs


class TestLaunches:
    def test_flushed_sets_are_gone_round_once(self) -> None:
        rotation = _rotation(16)
        assert rotation.launches == rotation.sets == 256
        assert rotation.fewest_launches == 1

    @pytest.mark.parametrize("elements", [1 << 15, 1 << 17, 3 << 17, 1 << 22])
    def test_whole_rounds(self, elements: int) -> None:
        rotation = _rotation(elements)
        assert rotation.flush is None
        assert rotation.launches % rotation.sets == 0

    def test_about_as_long_as_memory_takes(self) -> None:
        # 2^24 elements in and out: 134 MB, 44.7 µs at 3 TB/s
        meta = torch.empty(1 << 24, device="meta")
        assert Rotation(((meta,),), ((meta,),), None).launches == 11

    def test_what_takes_long_is_launched_once(self) -> None:
        meta = torch.empty(1 << 30, device="meta")
        assert Rotation(((meta,),), ((meta,),), None).launches == 1


META = TensorMeta.contiguous((1 << 12,), "float32")


def _launch(*starts: Start) -> Launch:
    return Launch(None, {}, (META,), (META, META), {}, lambda config: (1, 1, 1), starts=starts)


class TestWhatHasToBeThereBefore:
    def test_outputs_are_reset_in_every_set(self) -> None:
        x = torch.arange(1 << 12, dtype=torch.float32)
        outputs = [torch.empty(1 << 12) for _ in range(2)]
        rotation = rotation_of([x], outputs, L2, launch=_launch(0, Input(0)))
        assert rotation.sets > 100
        for _ in range(2):
            for zeroed, copied in rotation.outputs:
                zeroed.fill_(3.0)
                copied.fill_(3.0)
            rotation.reset()
            for zeroed, copied in rotation.outputs:
                assert not zeroed.any()
                assert torch.equal(copied, x)

    def test_each_set_is_launched_on_once_between_two_resets(self) -> None:
        x, outputs = torch.empty(1 << 12), [torch.empty(1 << 12) for _ in range(2)]
        reset = rotation_of([x], outputs, 1 << 18, launch=_launch(None, 0))
        assert reset.launches == reset.sets
        plain = rotation_of([x], outputs, 1 << 18, launch=_launch())
        assert plain.launches > plain.sets == reset.sets

    def test_what_may_hold_anything_is_left_alone(self) -> None:
        outputs = [torch.ones(1 << 12) for _ in range(2)]
        rotation_of([torch.empty(1 << 12)], outputs, L2, launch=_launch()).reset()
        assert all(bool(output.all()) for output in outputs)

    def test_strided_inputs_keep_their_strides(self) -> None:
        x = torch.arange(1 << 13, dtype=torch.float32).view(64, 128)[:, :64]
        rotation = rotation_of([x], [torch.empty(64, 64)], L2)
        for (own,) in rotation.inputs:
            assert own.stride() == (128, 1)
            assert torch.equal(own, x)
