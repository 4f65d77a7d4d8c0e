"""Lists of `triton.Config` in Python files of the usual forms: read, and never run."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tunekit.candidates.listed import Contents
from tunekit.candidates.python_file import MAX_PYTHON_BYTES, read_python
from tunekit.errors import ImportFormatError


def read(source: str) -> Contents:
    return read_python(textwrap.dedent(source))


def values(source: str, group: str | None = None) -> list[Mapping[str, object]]:
    contents = read(source)
    return [each.values for each in contents.listed if group in (None, each.group)]


def blocks(source: str, group: str | None = None) -> list[object]:
    return [each["B"] for each in values(source, group)]


def test_a_list_in_the_decorator_of_a_kernel() -> None:
    contents = read(
        """
        import triton
        import triton.language as tl

        @triton.autotune(
            configs=[
                triton.Config({"BLOCK_ROWS": 16, "BLOCK_COLUMNS": 64}, num_warps=4, num_stages=3),
                triton.Config(dict(BLOCK_ROWS=32, BLOCK_COLUMNS=64), 8, 2, maxnreg=128),
            ],
            key=["rows", "columns"],
        )
        @triton.jit
        def row_sums(x_ptr, rows, columns, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr):
            tl.store(x_ptr, 0.0)
        """
    )
    assert [each.values for each in contents.listed] == [
        {"BLOCK_ROWS": 16, "BLOCK_COLUMNS": 64, "num_warps": 4, "num_stages": 3},
        {"BLOCK_ROWS": 32, "BLOCK_COLUMNS": 64, "num_warps": 8, "num_stages": 2, "maxnreg": 128},
    ]
    assert [each.place for each in contents.listed] == ["line 7", "line 8"]
    assert contents.groups == {"row_sums": 2}
    assert (contents.kind, contents.notes) == ("Python", ())


def test_comprehensions_with_conditions_and_names_of_the_file() -> None:
    source = """
        import itertools
        import triton as tr
        from itertools import product as combine
        from triton import Config

        SIZES = [16, 32, 64]
        MOST = 2 * SIZES[-1] // 1
        loops = [
            tr.Config({"B": b, "HALF": b // 2}, num_warps=w, num_stages=s)
            for b in SIZES + [MOST]
            for w in (2, 4)
            for s in range(1, 3)
            if b >= 16 * w and not (b == MOST and s > 1)
        ]
        products = [
            Config({"B": b, "V": v}, num_warps=w)
            for (b, v), w in zip(itertools.product([8, 9], repeat=2), [1, 2, 4, 8])
        ]
        more = [Config(kwargs={"B": b, **{"V": 1}}, num_warps=w) for b, w in combine([1, 2], [4])]
    """
    assert [
        (each["B"], each["num_warps"], each["num_stages"]) for each in values(source, "loops")
    ] == [
        (b, w, s)
        for b in (16, 32, 64, 128)
        for w in (2, 4)
        for s in (1, 2)
        if b >= 16 * w and not (b == 128 and s > 1)
    ]
    found = [(each["B"], each["V"], each["num_warps"]) for each in values(source, "products")]
    assert found == [(8, 8, 1), (8, 9, 2), (9, 8, 4), (9, 9, 8)]
    assert values(source, "more") == [
        {"B": 1, "V": 1, "num_warps": 4},
        {"B": 2, "V": 1, "num_warps": 4},
    ]


def test_functions_that_return_lists() -> None:
    source = """
        import triton

        def narrow():
            return [triton.Config({"B": 16}), triton.Config({"B": 32})]

        def wide(warps=8, *, sizes=(256, 512)):
            found = []
            for size in sizes:
                if size == 512:
                    continue
                warps = warps if size > 128 else 4
                found.append(triton.Config({"B": size}, num_warps=warps))
                found += [triton.Config({"B": size + 1})]
            return found

        def yields():
            for power in range(3):
                yield triton.Config({"B": 1 << power})

        def everything(also):
            return narrow() + wide(sizes=[1024]) + list(also)

        @triton.autotune(configs=everything(yields()), key=[])
        @triton.jit
        def kernel(x):
            pass
    """
    assert blocks(source, "kernel") == [16, 32, 1024, 1025, 1, 2, 4]
    assert blocks(source, "narrow") == [16, 32]
    assert values(source, "wide")[0] == {"B": 1024, "num_warps": 8}


def test_a_function_that_nothing_calls_is_read_with_its_defaults() -> None:
    source = """
        from triton import Config
        def configs(least=64):
            return [Config({"B": b}) for b in [32, 64, 128] if b >= least]
    """
    assert blocks(source) == [64, 128]


def test_of_branches_that_depend_on_the_machine_both_are_taken() -> None:
    source = """
        import os
        import torch
        import triton

        def is_hip():
            return torch.version.hip is not None

        if is_hip():
            STAGES = [1]
        else:
            STAGES = [2, 3]

        configs = [triton.Config({"B": 64}, num_stages=s) for s in STAGES]
        if "QUICK" in os.environ:
            configs = [triton.Config({"B": 32})]

        def chosen():
            if torch.cuda.is_available():
                return [triton.Config({"B": 1})]
            return [triton.Config({"B": 2})]
    """
    contents = read(source)
    assert [each["num_stages"] for each in values(source, "configs") if each["B"] == 64] == [
        1,
        2,
        3,
    ]
    assert 32 in blocks(source, "configs")
    assert blocks(source, "chosen") == [1, 2]
    assert any("STAGES is taken from both branches" in note for note in contents.notes)
    assert any("both branches are taken: os.environ" in note for note in contents.notes)


def test_a_filter_of_the_file_is_followed() -> None:
    source = """
        import triton
        configs = [triton.Config({"B": b}, num_warps=w) for b in [64, 128] for w in [4, 8]]

        def keep(config):
            size = config.kwargs["B"]
            if config.num_warps == 8 and size < 128:
                return False
            return True

        kept = list(filter(keep, configs))
        few = [c for c in configs if c.kwargs["B"] == 64]
    """
    assert [(e["B"], e["num_warps"]) for e in values(source, "kept")] == [
        (64, 4),
        (128, 4),
        (128, 8),
    ]
    assert blocks(source, "few") == [64, 64]


def test_what_cannot_be_evaluated_is_named_with_its_line_and_the_rest_is_read() -> None:
    contents = read(
        """
        import os
        import triton
        from mine import sizes

        some = [
            triton.Config({"B": 16}),
            triton.Config({"B": os.cpu_count()}),
            triton.Config({"B": 32}, num_warps=WARPS),
            triton.Config({"B": 64}),
        ]
        theirs = [triton.Config({"B": b}) for b in sizes()]
        both = some + more_configs()
        def needs(blocks):
            return [triton.Config({"B": b}) for b in blocks]
        """
    )
    assert [each.values["B"] for each in contents.listed if each.group == "some"] == [16, 64]
    assert contents.groups["both"] == 2
    assert contents.notes == (
        "line 8: a call of os.cpu_count is not evaluated",
        "line 9: WARPS is not known here",
        "line 12: a call of mine.sizes is not evaluated",
        "line 13: a call of more_configs is not evaluated",
        "line 15: blocks is an argument that is not known",
    )


def test_classes_and_calls_anywhere() -> None:
    source = """
        import triton
        class Tuned:
            SIZES = (8, 16)
            configs = [triton.Config({"B": b}) for b in SIZES]
        def jitted(x):
            pass
        kernel = triton.autotune(configs=[triton.Config({"B": 3})], key=[])(jitted)
    """
    assert blocks(source, "Tuned.configs") == [8, 16]
    assert blocks(source, "line 8") == [3]


def test_a_list_that_is_made_anew_is_what_it_was_made() -> None:
    source = """
        import triton
        configs = []
        for size in [1, 2, 3]:
            configs.append(triton.Config({"B": size}))
        configs = [c for c in configs if c.kwargs["B"] != 2]
    """
    assert blocks(source, "configs") == [1, 3]


def test_hooks_are_passed_over() -> None:
    source = """
        import triton
        configs = [
            triton.Config({"B": 1}, pre_hook=zero("out")),
            triton.Config({"B": 2}, 4, 3, 1, None, hook),
        ]
    """
    assert blocks(source) == [1, 2]
    assert values(source)[1] == {
        "B": 2, "num_warps": 4, "num_stages": 3, "num_ctas": 1, "maxnreg": None,
    }  # fmt: skip


def test_nothing_of_the_file_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    source = f"""
        import pathlib
        import triton
        pathlib.Path({str(target)!r}).touch()
        __import__("os").system("touch {target}")
        open({str(target)!r}, "w")
        exec("1")
        print("ran")
        class Loud:
            def __init_subclass__(cls):
                raise AssertionError("it ran")
        class More(Loud):
            pass
        configs = [triton.Config({{"B": eval("1")}}), triton.Config({{"B": 7}})]
        raise AssertionError("it ran")
    """
    assert blocks(source) == [7]
    assert not target.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no list of triton.Config"),
        ("x = 1", "no list of triton.Config"),
        ("configs = [", r"line 1: no Python: '\[' was never closed"),
        ("a\0b", "no Python: source code string cannot contain null bytes"),
        ("configs = [triton.Config({'B': n})]", "without running it: line 1: n is not known here"),
        ("-" * 5_000 + "1", "no Python: "),
        ("x = 1" + " + 1" * 20_000, "no Python: "),
        ("#" * (MAX_PYTHON_BYTES + 1), "a Python file of more than"),
        ("[triton.Config([1])]", "a Config whose first argument is no dict by name"),
        ("x = [triton.Config({'B': 1}, colour=2)]", "a Config with colour=, which Triton has not"),
    ],
)
def test_what_is_refused_is_one_line(source: str, message: str) -> None:
    with pytest.raises(ImportFormatError, match=message) as caught:
        read_python(source)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


DOUBLED = "def g0(): return [triton.Config({'B': 1})]\n" + "".join(
    f"def g{i}(): return g{i - 1}() + g{i - 1}()\n" for i in range(1, 15)
)
BIG = "big = list(range(20000))\nfor i in big:\n for j in big:\n "
MANY = "big = list(range(20000))\ndef f():\n" + " if u: return big\n" * 5_000
ENDLESS = "def f(): return f() + [triton.Config({'B': 1})]\nx = f()"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = [triton.Config({'B': b}) for b in range(6000)]", "more than 5000 configurations"),
        ("x = [triton.Config({'B': b}) for b in range(10**9)]", "a range of more than"),
        ("x = [triton.Config({'B': b}) for b in product(range(200), repeat=9)]", "a product of"),
        ("for i in range(9999):\n for j in range(9999):\n  k = i * j", "takes more than .* steps"),
        ("while True:\n pass", "takes more than .* steps"),
        ("x = [[1] * 9999] * 9999\ny = [triton.Config({'B': x})]", "takes more than .* steps"),
        ("x = 3\nfor i in range(99):\n x = x * 3\ny = [triton.Config({'B': x})]", "63 bits"),
        ("x = 9 ** 9 ** 9\ny = [triton.Config({'B': x})]", "63 bits|not evaluated"),
        ("x = 'a'\nfor i in range(99):\n x = x + x\ny = [triton.Config({'B': x})]", "text of more"),
        ("x = [1]\nfor i in range(99):\n x = x + x\ny = [triton.Config({'B': x})]", "items"),
        ("x = (1,)\nfor i in range(99):\n x = (x, x)\ny = {x: triton.Config({})}", "in no list"),
        ("x = (1,)\nfor i in range(99):\n x = (x, x)\nif x == (x, x):\n y = triton.Config({})", ""),
        (f"{BIG} x = (-1 in big)", "takes more than .* steps"),
        (f"{BIG} x = sum(big)", "takes more than .* steps"),
        (f"{BIG} x = [*big]", "takes more than .* steps"),
        (f"{MANY} return [triton.Config({{'B': 1}})]\nx = f()", "takes more than .* steps"),
        (f"{DOUBLED}x = g14()", ""),
        (ENDLESS, ""),
    ],
)
def test_however_large_it_says_to_be_it_ends(source: str, message: str) -> None:
    began = time.process_time()
    text = f"import triton\nfrom itertools import product\n{source}"
    if message:
        with pytest.raises(ImportFormatError, match=message):
            read_python(text)
    else:
        read_python(text)
    assert time.process_time() - began < 10


def test_what_is_not_read_of_an_endless_function_is_told() -> None:
    contents = read(ENDLESS)
    assert contents.groups["x"] == 1
    assert contents.notes == ("line 1: a function that calls itself is not followed",)
