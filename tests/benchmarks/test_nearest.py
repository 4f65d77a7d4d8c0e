from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import nearest
import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.kernels.library import KERNELS
from tunekit.paths import shipped_database
from tunekit.runtime import lookup
from tunekit.runtime.known import Sized, size_of
from tunekit.search.landscape import Landscape, Point
from tunekit.store.cache import CacheRow, read_cache

KERNEL = KERNELS["mish_mish"]
H100 = nearest.device_named("h100")
SPREAD = Config(BLOCK_SIZE=256, VEC=2, num_warps=4, num_stages=1)
WIDE = Config(BLOCK_SIZE=4096, VEC=4, num_warps=4, num_stages=1)
DEFAULT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
SIZES = tuple(4**k for k in range(6, 14))
FULL = 4**10
"""Elements from which `WIDE` wins."""


def problem(n: int) -> Problem:
    return KERNEL.problem_of(KERNEL.launch_for((n,), "float32", H100), H100)


def landscape(n: int) -> Landscape:
    """`SPREAD` wins below `FULL`, `WIDE` from there on; the default is always 3 % off."""
    slow = {SPREAD: 1.0 if n < FULL else 1.5, WIDE: 1.2 if n < FULL else 1.0, DEFAULT: 1.03}
    points = tuple(Point(config, Status.OK, time * n) for config, time in slow.items())
    return Landscape(problem(n), points)


def row(of: Problem, config: Config) -> CacheRow:
    provenance = Provenance("NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "test-1", "")
    return CacheRow(
        problem=of,
        config=config,
        time_us=1.0,
        source=Source.MEASURED,
        verified_by=VerifiedBy.DEVICE,
        provenance=provenance,
        speedup=None,
        copy_us=None,
        default_time_us=None,
        default_config=None,
        binary=None,
        reason="",
        shape=(size_of(of),),
        winner="",
        decided_at="",
    )


KNOWN = [landscape(n) for n in SIZES]
ROWS = {each.problem: row(each.problem, each.best.config) for each in KNOWN}
CASES = {case.size: case for case in nearest.cases(KNOWN, ROWS)}


def test_the_own_size_is_left_out_of_all_that_is_known() -> None:
    for size, case in CASES.items():
        assert sorted(each.size for each in case.rows) == [n for n in SIZES if n != size]
        assert size not in {size_of(each.problem) for each in case.known}
        assert not case.strangers


@pytest.mark.parametrize(
    ("rule", "below", "at"),
    [
        (nearest.default, DEFAULT, DEFAULT),
        (nearest.nearest, WIDE, WIDE),  # of two equally far the larger
        (nearest.larger, WIDE, WIDE),
        (nearest.smaller, SPREAD, SPREAD),
        (nearest.suited, SPREAD, WIDE),
        (nearest.better_neighbour, SPREAD, WIDE),
        (lambda case: nearest.bucketed(case, 2), DEFAULT, DEFAULT),
        (lambda case: nearest.interpolated(case, winners=True), WIDE, WIDE),
        (lambda case: nearest.interpolated(case, winners=False), DEFAULT, DEFAULT),
        (lambda case: nearest.portfolio(case, 2), WIDE, WIDE),
    ],
)
def test_what_each_rule_serves_where_the_winner_changes(
    rule: Callable[[nearest.Case], Config], below: Config, at: Config
) -> None:
    assert (rule(CASES[FULL // 4]), rule(CASES[FULL])) == (below, at)


def test_losses_are_above_the_best() -> None:
    case = CASES[FULL // 4]
    assert [case.loss(each) for each in (SPREAD, WIDE, DEFAULT)] == pytest.approx([0, 0.2, 0.03])


def test_percentiles_are_values_that_occur() -> None:
    losses = [each / 100 for each in range(1, 101)]
    assert nearest.percentile(losses) == 0.95
    assert nearest.percentile([0.5]) == 0.5


def test_the_rule_judged_is_the_rule_that_runs() -> None:
    shipped = read_cache(shipped_database(), kernel="mish_mish", device="h100", immutable=True)
    for n in (3000, 100_000, 700_000, 3_000_000, 50_000_000, 99_999):
        of = problem(n - n % 16 if n != 99_999 else n)
        rows = [each for each in shipped if nearest._kind(each.problem) == nearest._kind(of)]
        sized = tuple(Sized(each, size_of(each.problem)) for each in rows)
        case = nearest.Case(Landscape(of, ()), sized)
        launch = KERNEL.launch_for((case.size,), "float32", H100)
        assert nearest.suited(case) == lookup.choose(KERNEL, launch, H100).config


def test_the_figures_in_the_page_are_those_of_the_benchmark() -> None:
    root = nearest.Path(nearest.__file__).resolve().parents[1]
    page = " ".join((root / "docs" / "runtime.md").read_text(encoding="utf-8").split())
    results = (root / "benchmarks" / "results" / "nearest.md").read_text(encoding="utf-8")
    table = results.partition("## With the rows of the shipped database")[2].partition("##")[0]
    means = {}
    for line in table.splitlines()[4:]:
        rule, *cells = (cell.strip(" *") for cell in line.strip("| ").split("|"))
        means[rule] = [cell.split("%")[0] for cell in cells[:2]]
    (h100, h200), others = means["suited"], (means["nearest"], means["default"])
    nearest_size, default = (f"{one} % and {other} %" for one, other in others)
    assert f"takes {h100} % longer than the best on an H100 and {h200} % on an H200" in page
    assert f"the nearest size alone {nearest_size}, the default {default}" in page


def test_the_report_says_whether_the_goal_is_met() -> None:
    def goals(rows: Mapping[Problem, CacheRow]) -> list[str]:
        return [line for line in nearest.report(KNOWN, rows, None) if line[:4] in ("PASS", "FAIL")]

    met = goals(ROWS)
    assert len(met) == 3
    assert all(line.startswith("PASS") for line in met)
    bad = {of: dataclasses.replace(each, config=WIDE) for of, each in ROWS.items()}
    assert all(line.startswith("FAIL") for line in goals(bad))
