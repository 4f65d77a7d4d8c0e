from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tunekit.errors import KernelError, UnknownKernelError
from tunekit.kernels import folded as module
from tunekit.kernels.by_channel import channelwise
from tunekit.kernels.folded import SUFFIXES, folded, origin_of, suffix_of
from tunekit.kernels.kernel import Kernel, kernel_of, pointwise
from tunekit.kernels.layouts import Layout
from tunekit.kernels.library import KERNELS, mish_add_hardtanh_scale, mish_mish
from tunekit.kernels.registry import find_kernel
from tunekit.runtime.advice import command, reference_of

NAMES = {
    "+bias": (Layout.CONTIGUOUS, True),
    "+bias/to_contiguous": (Layout.TO_CONTIGUOUS, True),
    "+bias/to_channels_last": (Layout.TO_CHANNELS_LAST, True),
    "+bias/channels_last": (Layout.CHANNELS_LAST, True),
    "/to_contiguous": (Layout.TO_CONTIGUOUS, False),
    "/to_channels_last": (Layout.TO_CHANNELS_LAST, False),
    "/channels_last": (Layout.CHANNELS_LAST, False),
}

MINE = """
    import triton
    from tunekit.kernels.kernel import pointwise

    @triton.jit
    def double(x):
        return x * 2

    @triton.jit
    def add(x, y):
        return x + y

    twice = pointwise("twice", epilogue=double, reference=lambda x: x * 2)
    total = pointwise("total", epilogue=add, reference=lambda x, y: x + y, input_count=2)
    number = 3
"""


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if name.startswith("tunekit_kernel_file_") or name == "module_of_mine":
            del sys.modules[name]


def test_every_suffix_there_is() -> None:
    assert SUFFIXES == NAMES
    for suffix, (layout, bias) in NAMES.items():
        assert suffix_of(layout, bias=bias) == suffix


@pytest.mark.parametrize("suffix", NAMES)
@pytest.mark.parametrize("op", list(KERNELS))
def test_what_it_makes_of_a_kernel(op: str, suffix: str) -> None:
    layout, bias = NAMES[suffix]
    origin, kernel = KERNELS[op], folded(KERNELS[op], layout, bias=bias)
    assert kernel.name == op + suffix
    assert kernel.input_count == 1 + bias
    assert dict(kernel.scalars) == dict(origin.scalars)
    assert list(kernel.scalars) == list(origin.scalars)
    assert not kernel.elementwise
    assert kernel.functions[-1] is origin.functions[-1]
    assert origin.summary in kernel.summary
    assert "\n" not in kernel.summary
    strides = kernel.input_metas((2, 3, 5, 7), "float32")[0].strides
    assert (strides == (105, 1, 21, 3)) is layout.input_last


def test_summaries_tell_kernels_apart() -> None:
    summaries = {
        folded(kernel, layout, bias=bias).summary
        for kernel in KERNELS.values()
        for layout, bias in NAMES.values()
    }
    assert len(summaries) == len(KERNELS) * len(NAMES)


@pytest.mark.parametrize("suffix", NAMES)
def test_a_name_finds_it_and_always_the_same(suffix: str) -> None:
    layout, bias = NAMES[suffix]
    kernel = find_kernel(f"mish_mish{suffix}")
    assert kernel is folded(mish_mish, layout, bias=bias)
    assert kernel is find_kernel(f"tunekit.kernels.library:mish_mish{suffix}")


def test_threads_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_made", {})
    make, together = module._make, threading.Barrier(4, timeout=20)

    def at_once(*arguments: object) -> Kernel:
        together.wait()
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_make", at_once)
    found: list[Kernel] = []
    threads = [threading.Thread(target=lambda: found.append(folded(mish_mish))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(each is found[0] for each in found)


def test_handles_are_unique_and_lead_back() -> None:
    kernels = [
        folded(kernel, layout, bias=bias)
        for kernel in KERNELS.values()
        for layout, bias in NAMES.values()
    ]
    assert len({kernel.handle for kernel in kernels}) == len(kernels)
    for kernel in kernels:
        assert kernel_of(kernel.handle) is kernel
    assert not {kernel.handle for kernel in kernels} & {each.handle for each in KERNELS.values()}


def test_what_is_made_of_two_kernels_of_one_name_are_two() -> None:
    first, second = (
        pointwise("gone", epilogue=mish_mish.functions[1], reference=lambda x: x) for _ in range(2)
    )
    assert folded(first) is not folded(second)
    assert folded(first).handle != folded(second).handle
    assert origin_of(folded(second)) == (second, "+bias")
    assert origin_of(folded(second))[0] is second  # type: ignore[index]


def test_the_hash_is_of_all_its_code_and_of_nothing_else() -> None:
    hashes = {
        (layout is Layout.CONTIGUOUS, bias, op): {
            folded(KERNELS[op], each, bias=bias).source_hash
            for each, also in NAMES.values()
            if also is bias and (each is Layout.CONTIGUOUS) is (layout is Layout.CONTIGUOUS)
        }
        for (layout, bias), op in itertools.product(NAMES.values(), KERNELS)
    }
    assert all(len(each) == 1 for each in hashes.values())
    assert len(set.union(*hashes.values())) == len(hashes)
    own = {kernel.source_hash for kernel in KERNELS.values()}
    assert not own & set.union(*hashes.values())


def test_the_reference_adds_each_channels_bias_first() -> None:
    x, bias = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    kernel = folded(mish_add_hardtanh_scale, Layout.CHANNELS_LAST)
    found = kernel.reference(x, bias, add_value=0.25, scale=3.0)
    exact = mish_add_hardtanh_scale.reference(x + bias.view(3, 1, 1), add_value=0.25, scale=3.0)
    torch.testing.assert_close(found, exact)


class TestRefused:
    @pytest.mark.parametrize("layout", Layout)
    def test_a_kernel_that_is_not_pointwise(self, layout: Layout) -> None:
        once = folded(mish_mish)
        with pytest.raises(KernelError, match=r"^mish_mish\+bias: .* pointwise .* one input only$"):
            folded(once, layout)

    def test_a_channelwise_kernel_of_ones_own(self) -> None:
        own = channelwise(
            "own", epilogue=mish_mish.functions[1], reference=lambda x: x, parameters=()
        )
        with pytest.raises(KernelError, match=r"^own: .* pointwise kernels of one input only$"):
            folded(own)

    @pytest.mark.parametrize("suffix", NAMES)
    def test_several_inputs(self, suffix: str, write_module: Callable[..., Path]) -> None:
        path = write_module(MINE)
        with pytest.raises(KernelError, match=r"^total: .* one input only$"):
            find_kernel(f"{path}:total{suffix}")

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("mish_mis+bias", "unknown kernel 'mish_mis'; did you mean 'mish_mish'"),
            ("mish_mish+bias+bias", r"unknown kernel 'mish_mish\+bias\+bias'"),
            ("mish_mish+scale", r"unknown kernel 'mish_mish\+scale'"),
            ("mish_mish/contiguous", "unknown kernel 'mish_mish/contiguous'"),
            ("mish_mish+bias/contiguous", "unknown kernel"),
            ("mish_mish/channels_last+bias", "one input only"),
            ("mish_mish/channels_last/to_contiguous", "one input only"),
            ("+bias", r"unknown kernel '\+bias'"),
            ("/channels_last", "unknown kernel"),
            ("+bias/channels_last", "unknown kernel"),
        ],
    )
    def test_names_that_are_not_quite_right(self, name: str, told: str) -> None:
        with pytest.raises((UnknownKernelError, KernelError), match=told) as caught:
            find_kernel(name)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["number+bias", "missing/channels_last", "+bias"])
    def test_what_is_no_kernel_in_a_file(
        self, name: str, write_module: Callable[..., Path]
    ) -> None:
        with pytest.raises(UnknownKernelError, match=r"mine\.py has no tunekit kernel .* has: tw"):
            find_kernel(f"{write_module(MINE)}:{name}")


class TestKernelsOfOnesOwn:
    @pytest.mark.parametrize("suffix", NAMES)
    def test_in_a_file(self, suffix: str, write_module: Callable[..., Path]) -> None:
        path = write_module(MINE)
        kernel = find_kernel(f"{path}:twice{suffix}")
        assert kernel.name == f"twice{suffix}"
        assert find_kernel(f"{path}:twice{suffix}") is kernel
        assert find_kernel(reference_of(kernel)) is kernel

    def test_in_a_file_under_a_folder_that_is_called_like_a_suffix(
        self, write_module: Callable[..., Path], tmp_path: Path
    ) -> None:
        (tmp_path / "channels_last").mkdir()
        path = write_module(MINE, "channels_last/mine+bias.py")
        assert find_kernel(f"{path}:twice").name == "twice"
        assert find_kernel(f"{path}:twice/channels_last").name == "twice/channels_last"

    def test_in_a_module(
        self, write_module: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(write_module(MINE, "module_of_mine.py").parent)
        kernel = find_kernel("module_of_mine:twice+bias/channels_last")
        assert reference_of(kernel) == "module_of_mine:twice+bias/channels_last"
        assert find_kernel(reference_of(kernel)) is kernel


@pytest.mark.parametrize("suffix", NAMES)
def test_the_advice_names_a_kernel_that_can_be_found(suffix: str) -> None:
    layout, bias = NAMES[suffix]
    kernel = folded(mish_mish, layout, bias=bias)
    assert reference_of(kernel) == f"mish_mish{suffix}"
    assert find_kernel(reference_of(kernel)) is kernel
    told = command(kernel, (64, 128, 254, 254), "float16")
    assert told == f"tunekit tune mish_mish{suffix} --shape 64,128,254,254 --dtype float16"


def test_where_a_kernel_comes_from() -> None:
    assert origin_of(mish_mish) is None
    for suffix, (layout, bias) in NAMES.items():
        assert origin_of(folded(mish_mish, layout, bias=bias)) == (mish_mish, suffix)
