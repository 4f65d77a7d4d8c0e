from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Provenance, Source, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.recorded import Recorded, Served, Timed
from tunekit.search.worth import EXPECTED_GAIN, MEAN_LOSS, Tuned, is_aligned, weigh
from tunekit.store.cache import CacheRow

ROOT = Path(__file__).resolve().parents[2]
PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4096}, "float32", "p16,p16,i32x16", "h100")
CONFIG = Config(BLOCK_SIZE=1024)
PROVENANCE = Provenance(
    "NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-cold-3", "2026-01-31T12:00:00Z"
)
NOTHING = Tuned([])


def called(
    n: int = 4096,
    count: int = 10,
    time_us: float | None = 2.0,
    served: Served = Served.DEFAULT,
    **changes: str,
) -> Recorded:
    timed = Timed.UNKNOWN if time_us is None else Timed.BOUND
    problem = replace(PROBLEM, dims=(("n", n),), **changes)
    return Recorded(
        "mish_mish", problem, (n,), served, CONFIG, count, 8 * n, time_us, timed, "0.1.0"
    )


def row(n: int = 4096, source: Source = Source.MEASURED, **changes: str) -> CacheRow:
    return CacheRow(
        problem=replace(PROBLEM, dims=(("n", n),), **changes), config=CONFIG, time_us=1.5,
        source=source, verified_by=VerifiedBy.DEVICE, provenance=PROVENANCE, speedup=None,
        copy_us=None, default_time_us=None, default_config=None, binary=None, reason="",
        shape=(n,), winner="", decided_at="",
    )  # fmt: skip


def test_a_gain_for_whatever_serves() -> None:
    assert EXPECTED_GAIN.keys() == set(Served)
    assert EXPECTED_GAIN[Served.EXACT] == 0
    assert all(0 <= gain < 1 for gain in EXPECTED_GAIN.values())


def test_losses_are_those_of_the_benchmark() -> None:
    text = (ROOT / "benchmarks" / "results" / "nearest.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines()]
    rows = {cells[0]: cells[1:] for cells in reversed(table) if len(cells) == 3}
    rules = {
        Served.EXACT: "(its own row, not left out)",
        Served.NEAREST: "**suited**",
        Served.ESTIMATED: "estimated for this size",
        Served.DEFAULT: "default",
    }
    for served, rule in rules.items():
        means = [cell.partition(" / ")[0] for cell in rows[rule]]
        assert means == [f"{loss:.2%}" for loss in MEAN_LOSS[served]]


def test_count_times_time_times_gain_decides() -> None:
    often, long = called(16, count=1000, time_us=1.0), called(32, count=1, time_us=5000.0)
    exact = called(64, count=10**6, served=Served.EXACT)
    cheap = called(80, count=1, time_us=1.0)
    calls = [cheap, exact, often, long]
    tuned = Tuned([row(64)])
    for order in itertools.permutations(calls):
        assert [each.recorded for each in weigh(order, tuned)] == [long, often, cheap, exact]


def test_what_each_is_worth() -> None:
    first, second = weigh([called(16, count=3, time_us=10.0), called(32, count=1)], NOTHING)
    assert (first.total_us, second.total_us) == (30.0, 2.0)
    assert (first.share, second.share) == (30 / 32, 2 / 32)
    assert first.gain == EXPECTED_GAIN[Served.DEFAULT]
    assert first.worth_us == pytest.approx(30 * EXPECTED_GAIN[Served.DEFAULT])
    assert first.is_aligned


def test_what_was_tuned_since() -> None:
    (one,) = weigh([called(served=Served.NEAREST)], Tuned([row(), row(64)]))
    assert (one.recorded.served, one.served) == (Served.NEAREST, Served.EXACT)
    assert (one.time_us, one.timed, one.gain) == (1.5, Timed.MEASURED, 0)


def test_what_was_recorded_holds_while_it_is_not_tuned() -> None:
    """A row near by may not suit the size: what the run time served is the better word."""
    (one,) = weigh([called(served=Served.DEFAULT)], Tuned([row(64)]))
    assert one.served is Served.DEFAULT


@pytest.mark.parametrize(
    ("rows", "now"),
    [
        ([], Served.DEFAULT),
        ([row(64)], Served.NEAREST),
        ([row(64, Source.ESTIMATED)], Served.ESTIMATED),
        ([row(4096, Source.ESTIMATED)], Served.ESTIMATED),
        ([row(64, Source.ESTIMATED), row(80)], Served.NEAREST),
        ([row(dtype="float16"), row(device="h200"), row(kernel_hash="other")], Served.DEFAULT),
        ([row(alignment="p1,p1,i32x16"), row(kernel="other")], Served.DEFAULT),
    ],
)
def test_exact_in_a_database_that_is_not_here(rows: list[CacheRow], now: Served) -> None:
    (one,) = weigh([called(served=Served.EXACT)], Tuned(rows))
    assert (one.served, one.gain) == (now, EXPECTED_GAIN[now])


def test_what_is_not_aligned_cannot_gain() -> None:
    assert is_aligned(PROBLEM)
    (one,) = weigh([called(alignment="p1,p16,i32x16")], NOTHING)
    assert (one.is_aligned, one.gain) == (False, 0)
    assert one.share == 1


def test_times_that_are_not_known() -> None:
    small, large = called(16, time_us=None), called(32, time_us=None)
    found = weigh([small, large], NOTHING)
    assert [each.recorded for each in found] == [large, small]
    assert [(each.time_us, each.total_us, each.share) for each in found] == [(None, 0, 0)] * 2
    assert weigh([], NOTHING) == []
