from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunekit.errors import KernelError, UnknownKernelError
from tunekit.kernels.library import KERNELS
from tunekit.kernels.registry import find_kernel

MINE = """
    import triton
    from tunekit.kernels.kernel import pointwise

    @triton.jit
    def double(x):
        return x * 2

    twice = pointwise("twice", epilogue=double, reference=lambda x: x * 2)
    also = pointwise("also", epilogue=double, reference=lambda x: x * 2)
    number = 3
"""


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if name.startswith("tunekit_kernel_file_") or name == "module_of_mine":
            del sys.modules[name]


@pytest.mark.parametrize("name", list(KERNELS))
def test_a_library_name(name: str) -> None:
    assert find_kernel(name) is KERNELS[name]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("mish_mis", "did you mean 'mish_mish'"),
        ("gelu", "did you mean|lists them"),
        ("zzzzzz", "`tunekit kernels` lists them"),
        ("", "lists them"),
    ],
)
def test_a_wrong_name_says_what_may_be_meant(wrong: str, hint: str) -> None:
    with pytest.raises(UnknownKernelError, match=f"unknown kernel {wrong!r}; .*({hint})"):
        find_kernel(wrong)


def test_a_name_in_a_file(write_module: Callable[..., Path]) -> None:
    path = write_module(MINE)
    kernel = find_kernel(f"{path}:twice")
    assert kernel.name == "twice"
    assert find_kernel(f"{path}:twice") is kernel


def test_a_relative_path(
    write_module: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_module(MINE)
    monkeypatch.chdir(path.parent)
    assert find_kernel("mine.py:also").name == "also"


def test_a_colon_in_the_path(write_module: Callable[..., Path]) -> None:
    assert find_kernel(f"{write_module(MINE, 'a:b.py')}:twice").name == "twice"


def test_a_name_in_a_module(
    write_module: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_module(MINE, "module_of_mine.py")
    monkeypatch.syspath_prepend(path.parent)
    assert find_kernel("module_of_mine:twice").name == "twice"
    assert find_kernel("tunekit.kernels.library:mish_mish") is KERNELS["mish_mish"]


def test_two_files_of_one_name_are_two_modules(
    write_module: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    first = write_module(MINE)
    second = write_module(MINE.replace('"twice"', '"thrice"'), "other/mine.py")
    assert find_kernel(f"{first}:twice").name == "twice"
    assert find_kernel(f"{second}:twice").name == "thrice"
    assert find_kernel(f"{first}:twice").name == "twice"


@pytest.mark.parametrize("name", ["number", "missing", "double", ""])
def test_what_is_no_kernel_is_refused_and_those_there_are_listed(
    name: str, write_module: Callable[..., Path]
) -> None:
    path = write_module(MINE)
    with pytest.raises(
        UnknownKernelError, match=rf"mine\.py has no tunekit kernel {name!r}; it has: twice, also$"
    ):
        find_kernel(f"{path}:{name}")


def test_a_module_without_kernels() -> None:
    with pytest.raises(UnknownKernelError, match=r"json has no .* 'x'; it has: none$"):
        find_kernel("json:x")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownKernelError, match=r"nowhere\.py: no such Python file"):
        find_kernel(f"{tmp_path}/nowhere.py:x")


@pytest.mark.parametrize("reference", ["no_such_module_at_all:x", ":x", "json.:x"])
def test_a_module_that_cannot_be_imported(reference: str) -> None:
    with pytest.raises(KernelError, match="cannot import"):
        find_kernel(reference)


def test_a_file_that_fails_says_why_and_is_read_again(write_module: Callable[..., Path]) -> None:
    path = write_module("raise ValueError('half done')")
    for _ in range(2):
        with pytest.raises(KernelError, match=r"mine\.py: ValueError: half done"):
            find_kernel(f"{path}:twice")
    write_module(MINE)
    assert find_kernel(f"{path}:twice").name == "twice"
