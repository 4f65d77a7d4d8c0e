"""Configurations held against a kernel's space, and which of them a problem begins with."""

from __future__ import annotations

from typing import Any

import pytest

from tunekit.candidates.fit import NEAREST, choose, fit
from tunekit.candidates.listed import Contents, Listed, Near
from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.core.space import Space
from tunekit.errors import UsageError

SPACE = Space.parse(
    """
    [axes]
    BLOCK_M = { from = 16, to = 128 }
    num_warps = [2, 4, 8]
    num_stages = [2, 3, 4]

    [default]
    BLOCK_M = 64
    num_warps = 4
    num_stages = 3

    [constraints]
    fits = "BLOCK_M * num_stages <= 512"
    divides = "1024 // (BLOCK_M - 7) > 0"
    """,
    "space.toml",
    "mine",
)


def problem(**changes: Any) -> Problem:
    fields: dict[str, Any] = {
        "kernel": "mine", "kernel_hash": "0a", "dims": {"M": 256, "N": 512}, "dtype": "float16",
        "alignment": "p16", "device": "h100",
    }  # fmt: skip
    return Problem.of(**(fields | changes))


def contents(*values: dict[str, object], near: Near | None = None) -> Contents:
    listed = (Listed(each, f"line {n}", "list", near) for n, each in enumerate(values, start=1))
    return Contents("Python", tuple(listed))


def test_a_configuration_has_the_axes_of_the_space_in_its_order() -> None:
    found = fit(contents({"num_stages": 2, "num_warps": 8, "BLOCK_M": 32}), SPACE, {})
    (fitting,) = found.fitting
    assert list(fitting.config.items()) == [("BLOCK_M", 32), ("num_warps", 8), ("num_stages", 2)]
    assert found.refused == {}


def test_what_is_not_said_is_what_triton_takes() -> None:
    given = {"BLOCK_M": 32, "num_ctas": 1, "maxnreg": None}
    (fitting,) = fit(contents(given), SPACE, {}).fitting
    assert fitting.config == Config(BLOCK_M=32, num_warps=4, num_stages=3)


@pytest.mark.parametrize(
    ("values", "rename", "refused"),
    [
        ({"BLOCK": 32}, {}, "no BLOCK_M and BLOCK, which the space has not"),
        ({"BLOCK_M": 32, "SPLIT_K": 1}, {}, "SPLIT_K, which the space has not"),
        ({"BLOCK_M": 32, "num_ctas": 2}, {}, "num_ctas=2, which the space has not"),
        ({"BLOCK_M": 32, "maxnreg": 128}, {}, "maxnreg=128, which the space has not"),
        ({"num_warps": 4}, {}, "no BLOCK_M"),
        ({"BLOCK_M": 1.5}, {}, "BLOCK_M=1.5, expected a whole number from 1 to 2147483647"),
        ({"BLOCK_M": 0}, {}, "BLOCK_M=0, expected a whole number"),
        ({"BLOCK_M": "64"}, {}, "BLOCK_M='64', expected a whole number"),
        ({"BLOCK_M": None}, {}, "BLOCK_M=None, expected a whole number"),
        ({"BLOCK_M": 2**40}, {}, "BLOCK_M=1099511627776, expected a whole number"),
        ({"BLOCK_M": 32, "B": 64}, {"B": "BLOCK_M"}, "two values for 'BLOCK_M'"),
        ({"\x1b[2J": 1}, {}, r"no BLOCK_M and \x1b[2J, which the space has not"),
    ],
)
def test_what_does_not_fit_is_told(
    values: dict[str, object], rename: dict[str, str], refused: str
) -> None:
    found = fit(contents(values, values), SPACE, rename)
    assert found.fitting == ()
    ((reason, count),) = found.refused.items()
    assert reason.startswith(refused)
    assert count == 2


def test_names_are_changed_and_values_left_out() -> None:
    given = {"BM": 32, "SPLIT_K": 4, "num_warps": 2}
    (fitting,) = fit(contents(given), SPACE, {"BM": "BLOCK_M", "SPLIT_K": ""}).fitting
    assert fitting.config == Config(BLOCK_M=32, num_warps=2, num_stages=3)
    with pytest.raises(UsageError, match=r"--rename 'BK': no .* has that; they have BM, SPLIT_K"):
        fit(contents(given), SPACE, {"BK": "BLOCK_K"})


def test_one_list_alone() -> None:
    listed = (
        Listed({"BLOCK_M": 16}, "line 1", "narrow"),
        Listed({"BLOCK_M": 128}, "line 2", "wide"),
    )
    both = Contents("Python", listed)
    (fitting,) = fit(both, SPACE, {}, "wide").fitting
    assert fitting.config["BLOCK_M"] == 128
    with pytest.raises(UsageError, match="--list 'tall': the lists are narrow, wide"):
        fit(both, SPACE, {}, "tall")


def test_values_off_the_lists_are_taken_where_the_constraints_hold() -> None:
    found = fit(
        contents({"BLOCK_M": 48}, {"BLOCK_M": 256}, {"BLOCK_M": 64}, {"BLOCK_M": 7}), SPACE, {}
    )
    chosen = choose(found, SPACE, {}, problem())
    assert [each.config["BLOCK_M"] for each in chosen.fitting] == [48, 64]
    assert chosen.off_list == 1
    assert chosen.violated == {"fits": 1, "constraints, which have no value there": 1}


def test_a_configuration_is_taken_once() -> None:
    found = fit(contents({"BLOCK_M": 64}, {"BLOCK_M": 32}, {"BLOCK_M": 64}), SPACE, {})
    chosen = choose(found, SPACE, {}, problem())
    assert [each.listed.place for each in chosen.fitting] == ["line 1", "line 2"]


def by_size(*sizes: int | None) -> Contents:
    """A table whose entry for a size has as many stages and warps as tell it apart."""
    entries = []
    for place, size in enumerate(sizes):
        values = {"BLOCK_M": 16 + place}
        near = None if size is None else Near(size=size)
        entries.append(Listed(values, f"entry {size}", "entries", near))
    return Contents("a table of configurations", tuple(entries))


def places(chosen: Any) -> list[str]:
    return [each.listed.place for each in chosen.fitting]


def test_of_a_table_the_entries_of_the_nearest_sizes_are_taken_nearest_first() -> None:
    found = fit(by_size(1, 16, 64, 128, 512, 1024, 8192, None), SPACE, {})
    chosen = choose(found, SPACE, {}, problem(), size=400)
    assert places(chosen) == ["entry 512", "entry 1024", "entry 128", "entry 64", "entry None"]
    assert len(chosen.fitting) == NEAREST + 1
    assert places(choose(found, SPACE, {}, problem(), size=1))[0] == "entry 1"


def test_without_a_size_all_of_a_table_is_taken() -> None:
    found = fit(by_size(1, 16, 64, 128, 512, 1024), SPACE, {})
    assert len(choose(found, SPACE, {}, problem()).fitting) == 6


def test_nearest_are_configurations_that_differ() -> None:
    listed = tuple(
        Listed({"BLOCK_M": block}, f"entry {size}", "entries", Near(size=size))
        for size, block in [(1, 16), (2, 16), (4, 16), (8, 16), (16, 16), (32, 32)]
    )
    found = fit(Contents("a table of configurations", listed), SPACE, {})
    assert places(choose(found, SPACE, {}, problem(), size=1)) == ["entry 1", "entry 32"]


def exported(block: int, **changes: Any) -> Listed:
    fields: dict[str, Any] = {
        "dims": {"M": 256, "N": 512}, "kernel": "mine", "dtype": "float16", "device": "h100",
    }  # fmt: skip
    return Listed({"BLOCK_M": block}, f"entry {block}", "mine", Near(**(fields | changes)))


def test_of_an_export_what_was_tuned_for_the_most_alike_problems_is_taken() -> None:
    listed = (
        exported(16, dims={"M": 1024, "N": 512}),
        exported(17, dtype="float32"),
        exported(18, device="h200"),
        exported(19),
        exported(20, dims={"n": 256}),
        exported(21, kernel="other"),
    )
    found = fit(Contents("an export of tunekit's", listed), SPACE, {})
    chosen = choose(found, SPACE, {}, problem())
    assert places(chosen) == ["entry 19", "entry 16", "entry 18", "entry 17"]
    # Of a kernel that the export has not, whatever is nearest.
    other = choose(found, SPACE, {}, problem(kernel="third", dims={"n": 256}))
    assert places(other)[0] == "entry 20"


def test_a_portfolio_is_for_every_problem_of_its_kernel() -> None:
    listed = tuple(
        Listed({"BLOCK_M": 16 + n}, f"entry {n}", kernel, Near(kernel=kernel, device="h100"))
        for n, kernel in enumerate(["mine"] * 6 + ["other"])
    )
    found = fit(Contents("an export of tunekit's", listed), SPACE, {})
    assert len(choose(found, SPACE, {}, problem()).fitting) == 6
