from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

import tunekit
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.errors import KernelError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import alignment_class
from tunekit.kernels.small import small_shape

DEVICE = DEVICES["rtx4090"]


@triton.jit
def rows_kernel(y, x, stride, rows, columns, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    tl.store(y, tl.load(x))


def _launch(x: torch.Tensor, width: int) -> Any:
    rows, columns = x.shape
    y = torch.empty_like(x)
    return tunekit.launch(
        rows_kernel, y, x, x.stride(0), rows, columns, WIDTH=width,
        grid=lambda config: triton.cdiv(rows, config["BLOCK"]), outputs=y,
    )  # fmt: skip


def _kernel(plan: Any, space: Mapping[str, Any] | None = None, **options: Any) -> Kernel:
    axes = {"BLOCK": [4, 1, 2, 64], "num_warps": [4, 8]}
    shapes = {"x": ("rows", "columns")}
    return tunekit.kernel(space=space or axes, shapes=shapes, **options)(plan)


def rows(x):  # type: ignore[no-untyped-def]
    return _launch(x, triton.next_power_of_2(x.shape[1]))


def any_width(x):  # type: ignore[no-untyped-def]
    return _launch(x, 64)


def even_rows(x):  # type: ignore[no-untyped-def]
    if x.shape[0] % 100:
        raise KernelError("even_rows takes hundreds of rows")
    return _launch(x, 64)


def fixed_rows(x):  # type: ignore[no-untyped-def]
    assert x.shape[0] > 1000
    return _launch(x, 64)


def small(kernel: Kernel, shape: tuple[int, ...], **axes: int) -> tuple[int, ...]:
    config = Config({"BLOCK": 4, "num_warps": 4, **axes})
    found = small_shape(kernel, shape, config, 0, "float32", DEVICE)
    assert len(found) == len(shape)
    assert all(0 < one <= other for one, other in zip(found, shape, strict=True))
    classes = {
        alignment_class(kernel.launch_for(each, "float32", DEVICE)) for each in (found, shape)
    }
    assert len(classes) == 1
    return found


def test_two_blocks_and_a_part_of_one_where_nothing_else_counts() -> None:
    assert small(_kernel(any_width), (4096, 4096)) == (32, 32)
    assert small(_kernel(any_width), (4096, 4096), BLOCK=64) == (144, 144)
    assert small(_kernel(any_width), (4099, 4097)) == (35, 33)


def test_the_divisibility_of_each_size_stays() -> None:
    assert small(_kernel(any_width), (4100, 4096)) == (36, 32)
    assert small(_kernel(any_width), (4096, 4100)) == (32, 36)


def test_the_next_power_of_two_of_a_size_stays() -> None:
    assert small(_kernel(rows), (4096, 3000)) == (32, 2072)
    assert small(_kernel(rows), (4096, 4096)) == (32, 2064)
    assert small(_kernel(rows), (4096, 2049)) == (32, 2049)


def test_one_stays_one() -> None:
    assert small(_kernel(any_width), (1, 4096)) == (1, 32)
    assert small(_kernel(any_width), (4096, 1)) == (32, 1)


def test_what_is_small_stays_as_it_is() -> None:
    assert small(_kernel(any_width), (3, 5)) == (3, 5)
    assert small(_kernel(any_width), (16, 20)) == (16, 20)


def test_a_size_that_the_plan_does_not_take_is_not_made_smaller() -> None:
    assert small(_kernel(even_rows), (4000, 4096)) == (4000, 32)
    assert small(_kernel(fixed_rows), (4000, 4096)) == (2064, 32)


def test_a_size_at_which_the_space_forbids_the_configuration_is_not_taken() -> None:
    space = {
        "axes": {"BLOCK": [4], "num_warps": [4]},
        "default": {"BLOCK": 4, "num_warps": 4},
        "constraints": {"many_rows": "rows >= 3000"},
    }
    assert small(_kernel(any_width, space), (4096, 4096)) == (4096, 32)


def test_a_kernel_may_say_itself() -> None:
    def check_shape(shape: tuple[int, ...], config: Config, count: int) -> tuple[int, ...]:
        return (count + config["BLOCK"], shape[1])

    kernel = _kernel(any_width, check_shape=check_shape)
    config = Config(BLOCK=2, num_warps=4)
    assert small_shape(kernel, (4096, 7), config, 100, "float32", DEVICE) == (102, 7)


def test_a_library_kernel_does() -> None:
    config = Config(BLOCK_SIZE=256, VEC=4, num_warps=4, num_stages=1)
    found = small_shape(KERNELS["mish_mish"], (64, 999), config, 1000, "float32", DEVICE)
    assert found == (4 * 256 + 16,)


@settings(max_examples=60)
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([1, 2, 4, 64]))
def test_it_is_the_same_binary_whatever_the_sizes(m: int, n: int, block: int) -> None:
    for kernel in (WIDE, ANY):
        small(kernel, (m, n), BLOCK=block)


WIDE, ANY = _kernel(rows), _kernel(any_width)
