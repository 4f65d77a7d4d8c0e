from __future__ import annotations

import itertools

import pytest
import torch

from tunekit.core.device import DEVICES
from tunekit.errors import KernelError
from tunekit.evaluate.compile import stand_in
from tunekit.kernels import epilogues
from tunekit.kernels.by_channel import channelwise
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.layouts import (
    Layout,
    floor_of,
    format_strides,
    images_like,
    inner_like,
    is_stored,
    size_like,
)
from tunekit.kernels.plan import TensorMeta

H100 = DEVICES["h100"]
SHAPES = (
    (64, 128, 254, 254),
    (32, 64, 56, 56),
    (16, 100, 7, 7),
    (8, 3, 224, 224),
    (2, 17, 5, 3),
    (1, 1, 1, 1),
    (1, 64, 1, 1),
    (3, 1, 1, 1),
    (1, 1, 33, 31),
    (5, 96, 4, 4),
    (4, 24, 3, 5, 7),
    (2, 32, 16, 16, 16),
    (6, 20, 1000),
    (2, 40, 1040),
    (64, 1000),
    (1, 33),
    (16, 16),
)


def _kernel(layout: Layout, parameters: tuple[str, ...] = ("bias",)) -> Kernel:
    return channelwise(
        f"plain_{layout.name.lower()}_{'_'.join(parameters)}",
        epilogue=epilogues.identity,
        reference=lambda x: x,
        parameters=parameters,
        layout=layout,
    )


def _meta(shape: tuple[int, ...], strides: tuple[int, ...], dtype: str = "float32") -> TensorMeta:
    return TensorMeta(shape, strides, dtype)


class TestFormats:
    def test_strides_are_those_of_pytorch(self) -> None:
        lasts = {4: torch.channels_last, 5: torch.channels_last_3d}
        for shape, is_last in itertools.product(SHAPES, (False, True)):
            if is_last and len(shape) not in lasts:
                continue
            form = lasts[len(shape)] if is_last else torch.contiguous_format
            x = torch.empty(shape, device="meta", memory_format=form)
            assert format_strides(shape, is_last) == x.stride()
            assert is_stored(TensorMeta.of(stand_in(_meta(shape, x.stride()))), is_last)

    def test_without_spatial_dims_both_are_one(self) -> None:
        assert format_strides((7, 5), True) == format_strides((7, 5), False) == (5, 1)

    def test_the_stride_of_an_axis_of_one_element_means_nothing(self) -> None:
        for strides in ((64, 64, 8, 1), (64, 1, 8, 1), (9, 999, 8, 1)):
            meta = _meta((1, 1, 8, 8), strides)
            assert is_stored(meta, True)
            assert is_stored(meta, False)

    @pytest.mark.parametrize(
        ("shape", "strides"),
        [
            ((2, 4, 3, 3), (72, 9, 3, 1)),
            ((2, 4, 3, 3), (0, 9, 3, 1)),
            ((2, 4, 3, 3), (1, 18, 6, 2)),
            ((2, 4, 3), (12, 1, 8)),
        ],
        ids=["images apart", "expanded", "images last", "rows apart"],
    )
    def test_what_is_stored_in_neither(
        self, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        assert not is_stored(_meta(shape, strides), False)
        assert not is_stored(_meta(shape, strides), True)

    def test_of_no_elements_strides_mean_nothing(self) -> None:
        assert is_stored(_meta((0, 4, 3, 3), (1, 2, 3, 4)), True)

    def test_layouts_say_what_they_are(self) -> None:
        found = [(each.input_last, each.output_last, each.transposes) for each in Layout]
        assert found == [
            (False, False, False),
            (True, False, True),
            (False, True, True),
            (True, True, False),
        ]


class TestRefused:
    @pytest.mark.parametrize("layout", Layout)
    def test_a_tensor_in_another_format(self, layout: Layout) -> None:
        shape = (2, 8, 5, 5)
        x = _meta(shape, format_strides(shape, not layout.input_last))
        form = "channels-last" if layout.input_last else "contiguous"
        with pytest.raises(KernelError, match=rf"^input 0 has shape .* needs it {form}$") as caught:
            _kernel(layout).plan((x, _meta((8,), (1,))), H100)
        assert str(x.strides) in str(caught.value)

    @pytest.mark.parametrize("strides", [(400, 50, 10, 2), (0, 25, 5, 1), (200, 25, 1, 5)])
    @pytest.mark.parametrize("layout", Layout)
    def test_a_tensor_with_gaps_or_permuted(self, layout: Layout, strides: tuple[int, ...]) -> None:
        with pytest.raises(KernelError, match=r"^input 0 has shape \(2, 8, 5, 5\)"):
            _kernel(layout).plan((_meta((2, 8, 5, 5), strides), _meta((8,), (1,))), H100)

    @pytest.mark.parametrize(
        ("shape", "strides"),
        [((7,), (1,)), ((1,), (1,)), ((8, 1), (1, 1)), ((8,), (2,)), ((8,), (0,)), ((), ())],
    )
    def test_a_parameter_that_is_not_one_value_a_channel(
        self, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        x = TensorMeta.contiguous((2, 8, 5, 5), "float32")
        with pytest.raises(
            KernelError, match=r"^input 2 has .* expected one value a channel, shape \(8,\), contig"
        ):
            _kernel(Layout.CONTIGUOUS, ("scale", "bias")).plan(
                (x, _meta((8,), (1,)), _meta(shape, strides)), H100
            )

    def test_a_parameter_of_another_size_where_there_is_one_channel(self) -> None:
        x = TensorMeta.contiguous((2, 1, 5, 5), "float32")
        kernel = _kernel(Layout.CONTIGUOUS)
        kernel.plan((x, _meta((1,), (5,))), H100)  # a stride that is never used
        with pytest.raises(KernelError, match=r"^input 1 has shape \(4,\)"):
            kernel.plan((x, _meta((4,), (1,))), H100)

    @pytest.mark.parametrize("shape", [(), (5,)])
    def test_too_few_dims(self, shape: tuple[int, ...]) -> None:
        kernel = _kernel(Layout.CONTIGUOUS, ())
        with pytest.raises(KernelError, match=r"needs \(N, C\) or \(N, C, \*spatial\)$"):
            kernel.launch_for(shape, "float32", H100)
        with pytest.raises(KernelError, match=r"expected \(N, C\) or \(N, C, \*spatial\)$"):
            kernel.plan([TensorMeta.contiguous(shape, "float32")], H100)


class TestSmallSizes:
    SIZES = (1, 2, 15, 16, 17, 31, 32, 49, 64, 100, 1000, 1024, 3136, 64516)
    BLOCKS = (1, 4, 16, 32, 256, 1024)

    @pytest.mark.parametrize("block", BLOCKS)
    def test_channels(self, block: int) -> None:
        for size in self.SIZES:
            small = size_like(size, block)
            assert (small == 1) is (size == 1)
            assert small % 16 == size % 16
            assert small == 1 or block < small <= block + 34
            assert small == 1 or small % block or block <= 16

    @pytest.mark.parametrize("longest", BLOCKS)
    def test_positions(self, longest: int) -> None:
        for size in self.SIZES:
            small = inner_like(size, longest)
            assert (small == 1) is (size == 1)
            assert small % 16 == size % 16
            assert small <= max(32, longest + 16)
            assert floor_of(small) == floor_of(size) or floor_of(small) >= longest

    @pytest.mark.parametrize("block", BLOCKS)
    def test_images(self, block: int) -> None:
        for images, size in itertools.product((1, 3, 16, 64), self.SIZES):
            small = inner_like(size, 64)
            count = images_like(images, size, small, block, 5)
            assert (count * small == 1) is (images * size == 1)
            assert (count * small % 16 == 0) is (images * size % 16 == 0)
            assert count >= 5 or images * size == 1
            assert count <= max(5, block + 1) + 32

    def test_floor(self) -> None:
        assert [floor_of(n) for n in (0, 1, 2, 3, 4, 1023, 1024)] == [1, 1, 2, 2, 4, 512, 1024]
