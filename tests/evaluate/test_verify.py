from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch

from tunekit.evaluate import verify
from tunekit.evaluate.guards import FINITE, NOT_A_NUMBER, poison
from tunekit.evaluate.inputs import draw
from tunekit.evaluate.tensors import empty_of
from tunekit.evaluate.verify import (
    TOLERANCES,
    describe_difference,
    describe_error,
    largest_error,
    reference_outputs,
)
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import TensorMeta
from tunekit.kernels.registry import find_kernel

INF, NAN = math.inf, math.nan
DTYPES = ("float32", "float16", "bfloat16")
LARGEST = {name: torch.finfo(getattr(torch, name)).max for name in DTYPES}


def _drawn(metas: Sequence[TensorMeta]) -> list[torch.Tensor]:
    inputs = [empty_of(meta, "cpu") for meta in metas]
    draw(inputs, 0)
    return inputs


def _expected(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    scalars: Mapping[str, float],
    meta: TensorMeta | None = None,
) -> torch.Tensor:
    metas = [TensorMeta.of(inputs[0]) if meta is None else meta]
    (expected,) = reference_outputs(kernel, metas, inputs, scalars)
    return expected


def _error(got: Sequence[float], want: Sequence[float], dtype: str = "float32") -> float:
    result = torch.tensor(got, dtype=getattr(torch, dtype))
    return largest_error(result, torch.tensor(want, dtype=torch.float32), TOLERANCES[dtype])


class TestLargestError:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_what_is_equal_has_none(self, dtype: str) -> None:
        values = [0.0, -0.0, 1.5, -2.0, INF, -INF, NAN, 1024.0]
        assert _error(values, values, dtype) == 0.0
        assert _error([0.0], [-0.0], dtype) == 0.0
        assert _error([], [], dtype) == 0.0

    @pytest.mark.parametrize(
        ("got", "want"),
        [(NAN, 1.0), (1.0, NAN), (INF, 1.0), (-INF, INF), (1.0, INF), (NAN, INF), (INF, NAN)],
    )
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_nan_or_infinity_alone_is_infinitely_wrong(
        self, dtype: str, got: float, want: float
    ) -> None:
        assert _error([0.0, got, 0.0], [0.0, want, 0.0], dtype) == INF

    def test_nan_hides_no_error_elsewhere(self) -> None:
        assert _error([NAN, 2.0], [NAN, 1.0]) > 1000
        assert _error([2.0, NAN], [1.0, NAN]) > 1000

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_one_is_the_limit(self, dtype: str) -> None:
        """At 1 and below: what is allowed is counted in exactly representable steps."""
        tolerance = TOLERANCES[dtype]
        allowed = tolerance.absolute + tolerance.relative * 3.0
        want = torch.tensor([3.0], dtype=torch.float32)
        step = torch.finfo(getattr(torch, dtype)).eps * 2  # of values from 2 to 4
        within = math.floor(allowed / step)
        for steps in (within, within + 1):
            got = torch.tensor([3.0 + steps * step], dtype=getattr(torch, dtype))
            error = largest_error(got, want, TOLERANCES[dtype])
            assert error == pytest.approx(steps * step / allowed, rel=1e-5)
            assert (error > 1.0) is (steps > within)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_near_zero_the_absolute_bound_holds(self, dtype: str) -> None:
        absolute = TOLERANCES[dtype].absolute
        assert _error([absolute / 2], [0.0], dtype) == pytest.approx(0.5)
        assert _error([absolute * 4], [0.0], dtype) == pytest.approx(4.0)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_rounding_to_nearest_uses_half_of_what_is_allowed_and_truncating_all(
        self, dtype: str
    ) -> None:
        exact = torch.linspace(1, 2, 2**16 + 1, dtype=torch.float64)[:-1]
        assert (
            largest_error(exact.to(getattr(torch, dtype)), exact.float(), TOLERANCES[dtype]) <= 0.51
        )
        bits = 10 if dtype == "float16" else 7
        truncated = (exact * 2**bits).floor() / 2**bits
        assert (
            0.9
            < largest_error(truncated.to(getattr(torch, dtype)), exact.float(), TOLERANCES[dtype])
            <= 1
        )

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize(
        ("got", "want", "right"),
        [
            (INF, 2.0, True),  # far past the largest: it must overflow
            (1.0, 2.0, False),
            (-INF, 2.0, False),
            (INF, 1.0005, True),  # just past it: it may
            (1.0, 1.0005, True),
            (-INF, 1.0005, False),
            (INF, 1.0, False),  # the largest itself must not
            (INF, 0.5, False),
        ],
    )
    def test_overflow(self, got: float, want: float, right: bool, sign: int, dtype: str) -> None:
        """`got` and `want` in units of the dtype's largest value."""
        if dtype == "bfloat16" and want == 2.0:
            want = INF  # past the largest float32 too
        largest = LARGEST[dtype] * sign
        error = _error([got * largest], [want * largest], dtype)
        assert (error <= 1.0) is right

    def test_the_largest_float32_is_compared_too(self) -> None:
        largest = LARGEST["float32"]
        assert _error([largest, -largest], [largest, -largest]) == 0.0
        assert _error([INF], [largest]) == INF

    def test_every_chunk_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verify, "_CHUNK", 4)
        for place in range(10):
            result = torch.zeros(10)
            result[place] = 1.0
            assert largest_error(result, torch.zeros(10), TOLERANCES["float32"]) > 1.0

    def test_shapes_may_be_any(self) -> None:
        x = torch.randn(3, 4, 5)
        assert largest_error(x, x.clone(), TOLERANCES["float32"]) == 0.0

    @pytest.mark.parametrize("alike", [True, False], ids=["both channels last", "one contiguous"])
    @pytest.mark.parametrize("chunk", [2**25, 7])
    def test_a_wrong_element_is_found_wherever_it_is(
        self, chunk: int, alike: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verify, "_CHUNK", chunk)
        want = torch.randn(2, 3, 4, 5)
        got = want.to(memory_format=torch.channels_last)
        expected = got.clone() if alike else want
        assert largest_error(got, expected, TOLERANCES["float32"]) == 0.0
        for place in range(want.numel()):
            got = expected.to(memory_format=torch.channels_last, copy=True)
            got.permute(0, 2, 3, 1).view(-1)[place].add_(1.0)
            assert largest_error(got, expected, TOLERANCES["float32"]) > 1.0

    @pytest.mark.parametrize("view", [lambda x: x[:, :5], lambda x: x[::2], lambda x: x.t()[2:]])
    def test_elements_beyond_a_gap_are_compared_and_what_is_in_it_is_not(
        self, view: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        want = view(torch.randn(6, 12))
        memory = torch.full((6, 12), NAN)
        got = view(memory)
        got.copy_(want)
        assert largest_error(got, want, TOLERANCES["float32"]) == 0.0
        got[-1, -1] += 1.0
        assert largest_error(got, want, TOLERANCES["float32"]) > 1.0


class TestDescription:
    """Of a launch into an output full of nan."""

    def _said(self, got: Sequence[float], want: Sequence[float], dtype: str = "float32") -> str:
        result = torch.tensor(got, dtype=getattr(torch, dtype))
        return describe_difference(result, torch.tensor(want), TOLERANCES[dtype], NOT_A_NUMBER)

    def test_it_gives_how_many_and_one(self) -> None:
        assert self._said([1, 2, 3, 4], [1, 2.5, 3, 0]) == "2 of 4 elements, such as 2 for 2.5"
        assert self._said([1, 0.0], [1, NAN]) == "1 of 2 elements, such as 0 for nan"

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("byte", [NOT_A_NUMBER, FINITE])
    def test_it_tells_what_is_not_written(self, byte: int, dtype: str) -> None:
        result = torch.empty(10, dtype=getattr(torch, dtype))
        poison(result, byte)
        result[:7] = 1.0
        said = describe_difference(result, torch.ones(10), TOLERANCES[dtype], byte)
        assert said == "3 of 10 elements are not written"

    def test_every_chunk_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verify, "_CHUNK", 4)
        assert self._said(range(10), [0] * 10) == "9 of 10 elements, such as 1 for 0"


class TestExpectedOutput:
    def test_it_is_the_reference_in_float64(self) -> None:
        kernel = KERNELS["add_min_gelu_mul"]
        x = torch.randn(7, 9).half()
        scalars = {"add_value": -0.25, "multiply_value": 3.0}
        expected = _expected(kernel, [x], scalars)
        assert expected.dtype == torch.float32
        assert torch.equal(expected, kernel.reference(x.double(), **scalars).float())

    @pytest.mark.parametrize("elementwise", [True, False])
    def test_it_is_the_same_piece_by_piece(
        self, elementwise: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verify, "_CHUNK", 7)
        seen = []

        def reference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            seen.append((x.dtype, x.numel()))
            return x + 2 * y

        kernel = replace(
            KERNELS["identity"], reference=reference, elementwise=elementwise, input_count=2
        )
        x, y = torch.randn(4, 5), torch.randn(4, 5)
        expected = _expected(kernel, [x, y], {})
        torch.testing.assert_close(expected, x + 2 * y)
        assert {dtype for dtype, _ in seen} == {torch.float64}
        assert [count for _, count in seen] == ([7, 7, 6] if elementwise else [20])


LAST = TensorMeta((5, 3, 2, 4), (24, 1, 12, 3), "float32")


class TestExpectedOutputOfAnyLayout:
    @pytest.mark.parametrize("chunk", [1, 24, 25, 60, 2**25])
    @pytest.mark.parametrize("name", ["mish_mish+bias", "mish_mish+bias/to_channels_last"])
    def test_some_images_at_a_time_are_the_same_as_all(
        self, name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kernel = find_kernel(name)
        inputs = _drawn(kernel.input_metas(LAST.shape, "float16"))
        whole = kernel.reference(*(x.double() for x in inputs)).float()
        monkeypatch.setattr(verify, "_CHUNK", chunk)
        found = _expected(kernel, inputs, {}, LAST)
        assert (found.dtype, found.stride()) == (torch.float32, LAST.strides)
        torch.testing.assert_close(found, whole, rtol=0, atol=0, equal_nan=True, check_stride=False)

    def test_no_more_images_at_a_time_than_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verify, "_CHUNK", 50)
        seen = []

        def reference(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            seen.append((len(x), x.dtype, bias.dtype))
            return x + bias.view(-1, 1, 1)

        kernel = replace(find_kernel("identity+bias"), reference=reference)
        inputs = _drawn(kernel.input_metas(LAST.shape, "float32"))
        _expected(kernel, inputs, {}, LAST)
        assert seen == [(n, torch.float64, torch.float64) for n in (2, 2, 1)]

    def test_an_output_of_another_shape_than_the_inputs(self) -> None:
        """Of a kernel that is neither element-wise nor batched the reference is asked once."""
        kernel = replace(
            KERNELS["identity"], reference=lambda x: x.t(), elementwise=False, batched=False
        )
        x = torch.randn(2, 7)
        found = _expected(kernel, [x], {}, TensorMeta((7, 2), (2, 1), "float32"))
        assert torch.equal(found, x.t())
        assert found.is_contiguous()


def test_the_reason_gives_the_figure_and_the_place() -> None:
    reason = describe_error(1234.5678, "at 1000")
    assert reason == "differs from the reference at 1000: 1.23e+03 times the allowed error"
    assert "inf times" in describe_error(INF, "at 7")
