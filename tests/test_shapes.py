from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

import tunekit
from tunekit.errors import ShapeError, UsageError
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.shapes import read_shape, read_shapes

PLAIN = KERNELS["mish_mish"]


@triton.jit
def copy_kernel(y, x, n, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + place, tl.load(x + place, mask=place < n), mask=place < n)


@tunekit.kernel(space={"BLOCK": [64]}, shapes={"x": ("M", "K"), "w": ("K", "N")})
def product(x, w):  # type: ignore[no-untyped-def]
    y = torch.empty_like(x)
    return tunekit.launch(copy_kernel, y, x, 3, grid=(1,), outputs=y)


def fault(kernel: Kernel, *arguments: Any) -> str:
    with pytest.raises((UsageError, ShapeError)) as error:
        read_shapes(kernel, *arguments)
    assert error.value.exit_status == 2
    assert "\n" not in str(error.value)
    return str(error.value)


class TestShape:
    def test_one_after_another_each_once(self) -> None:
        found = read_shapes(PLAIN, ["64,128", "3", "64x128", "(7, 8)"])
        assert found == [(64, 128), (3,), (7, 8)]

    def test_of_named_sizes(self) -> None:
        assert read_shapes(product, ["4,5,6"]) == [(4, 5, 6)]

    @pytest.mark.parametrize("text", ["4,5", "4", "4,5,6,7"])
    def test_as_many_numbers_as_sizes(self, text: str) -> None:
        assert fault(product, [text]) == (
            f"--shape {text}: product has the sizes M, K, N, 3 numbers; or give one problem: "
            "--dim M=… --dim K=… --dim N=…"
        )

    def test_there_is_one(self) -> None:
        assert fault(PLAIN, []) == "give at least one --shape, such as --shape 64,128,254,254"
        assert fault(product, []) == "give at least one problem: --dim M=… --dim K=… --dim N=…"


class TestDim:
    def test_in_any_order(self) -> None:
        assert read_shapes(product, [], ["N=6", "M=4", " K = 5"]) == [(4, 5, 6)]

    def test_every_combination(self) -> None:
        found = read_shapes(product, [], ["M=1,16", "K=5", "N=6,7", "M=2"])
        assert found == [(m, 5, n) for m in (1, 16, 2) for n in (6, 7)]

    def test_several_are_no_shape_together(self) -> None:
        found = read_shapes(product, [], ["M=1024,2048,4096,8192,16384", "K=64", "N=64"])
        assert [shape[0] for shape in found] == [1024, 2048, 4096, 8192, 16384]

    def test_beside_shapes(self) -> None:
        assert read_shapes(product, ["1,2,3"], ["M=1", "K=2", "N=3,4"]) == [(1, 2, 3), (1, 2, 4)]

    def test_not_without_names(self) -> None:
        assert fault(PLAIN, [], ["n=4"]) == (
            "--dim: mish_mish has no named sizes; give one --shape, such as --shape 64,128,254,254"
        )

    @pytest.mark.parametrize("text", ["m=4", "X=4", "=4", "4", "", "M N=4"])
    def test_a_name_that_is_none(self, text: str) -> None:
        assert fault(product, [], [text]) == (
            f"--dim {text!r}: product has the sizes M, K, N; give NAME=NUMBER, such as M=4096"
        )

    @pytest.mark.parametrize("number", ["", "0", "-1", "x", "4,", "1.5", "4=5", "1e3"])
    def test_a_number_that_is_none(self, number: str) -> None:
        assert fault(product, [], [f"M={number}"]) == (
            f"--dim 'M={number}': expected positive integers, such as M=4096"
        )

    def test_a_size_that_is_missing(self) -> None:
        assert fault(product, [], ["K=4"]) == (
            "--dim: M, N is missing; give one problem: --dim M=… --dim K=… --dim N=…"
        )

    def test_sizes_too_large_for_any_gpu(self) -> None:
        assert "too many elements" in fault(product, [], [f"{name}=1000000" for name in "MKN"])

    def test_too_many_combinations(self) -> None:
        many = ",".join(map(str, range(1, 33)))
        every = [f"{name}={many}" for name in "MKN"]
        assert len(read_shapes(product, [], every)) == 32**3
        assert fault(product, [], [*every, *every]) == "--dim: expected at most 100000 combinations"


class TestFile:
    def read(self, tmp_path: Path, text: str | bytes, kernel: Kernel = product) -> Any:
        file = tmp_path / "shapes"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_shapes(kernel, [], (), file)

    def test_either_way_with_comments(self, tmp_path: Path) -> None:
        text = "# ours\n4,5,6\n\nM=1,2 K=3 N=4  # two\r\n 4x5x6 \n"
        assert self.read(tmp_path, text) == [(4, 5, 6), (1, 3, 4), (2, 3, 4)]
        assert self.read(tmp_path, "\ufeff64,128\n", PLAIN) == [(64, 128)]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("4,5", "--shape 4,5: product has the sizes M, K, N, 3 numbers"),
            ("M=1 K=2", "--dim: N is missing"),
            ("M=1 K=2 L=3", "--dim 'L=3': product has the sizes M, K, N"),
            ("four", "--shape 'four': expected positive integers"),
        ],
    )
    def test_a_line_that_is_wrong(self, line: str, said: str, tmp_path: Path) -> None:
        file = tmp_path / "shapes"
        with pytest.raises(ShapeError, match=f"^--shapes {file}, line 2: {re.escape(said)}"):
            self.read(tmp_path, f"1,2,3\n{line}\n4,5,6")

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        file = tmp_path / "none"
        said = fault(product, [], (), file)
        assert said == f"--shapes {file}: cannot be read: No such file or directory"
        assert "cannot be read: Is a directory" in fault(product, [], (), tmp_path)

    def test_one_that_is_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"expected UTF-8 text, byte 1 is none$"):
            self.read(tmp_path, b"1\xff\n")

    def test_one_that_is_too_large(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"expected at most 1000000 bytes$"):
            self.read(tmp_path, "1,2,3\n" * 200_000)

    def test_one_that_is_empty(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"^give at least one problem: --dim M"):
            self.read(tmp_path, "# nothing\n")


class TestOneShape:
    def test_it_is_what_a_command_is_about(self) -> None:
        assert read_shape(product, "4,5,6", []) == (4, 5, 6)
        assert read_shape(product, None, ["M=1", "K=2", "N=3"]) == (1, 2, 3)
        assert read_shape(product, "1,2,3", ["M=1", "K=2", "N=3"]) == (1, 2, 3)
        assert read_shape(PLAIN, "4,5", []) == (4, 5)

    def test_there_is_one_and_not_more(self) -> None:
        with pytest.raises(UsageError, match=r"^give one shape, not 2$"):
            read_shape(product, None, ["M=1,2", "K=2", "N=3"])
        with pytest.raises(UsageError, match=r"^give at least one problem"):
            read_shape(product, None, [])
