"""Portfolios: the least worst-case loss, of times that may be compared, as data."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.core.config import Config
from tunekit.core.evaluation import Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.errors import TunekitError, UsageError
from tunekit.portfolio.choose import Portfolio, choose
from tunekit.portfolio.cover import Budget, OutOfWorkError, cover
from tunekit.portfolio.render import portfolios, render
from tunekit.portfolio.times import comparable

DOC = Path(__file__).resolve().parent.parent / "docs" / "export-schema.md"
PROVENANCE = Provenance(
    "NVIDIA H100 80GB HBM3", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-cold-1",
    "2026-01-31T12:00:00Z",
)  # fmt: skip
SMALL, MIDDLE, LARGE = (Config(BLOCK=block, num_warps=4) for block in (64, 256, 1024))

Times = dict[int, dict[Config, float]]

configs = st.sampled_from([Config(BLOCK=b, num_warps=w) for b in (64, 256, 1024) for w in (1, 4)])
times = st.dictionaries(
    st.integers(0, 5),
    st.dictionaries(configs, st.sampled_from([1.0, 1.1, 1.2, 1.5, 2.0]), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


def loss_of(table: Times, chosen: tuple[Config, ...]) -> dict[int, float]:
    """What each problem loses; infinite where none of them was measured."""
    return {
        problem: min((known[config] for config in chosen if config in known), default=math.inf)
        / min(known.values())
        - 1
        for problem, known in table.items()
    }


def best_of_all(table: Times, count: int) -> tuple[float, float, int]:
    """Worst and mean loss and size of the best portfolio, by looking at every one."""
    every = {config for known in table.values() for config in known}
    return min(
        (max(losses), round(math.fsum(losses), 9), size)
        for size in range(1, count + 1)
        for chosen in itertools.combinations(every, size)
        for losses in [list(loss_of(table, chosen).values())]
    )


@given(times, st.integers(1, 4))
@settings(max_examples=150)
def test_no_other_choice_is_better(table: Times, count: int) -> None:
    worst, total, size = best_of_all(table, min(count, len({c for k in table.values() for c in k})))
    found = choose(table, count)
    if worst == math.inf:
        assert found.uncovered
        return
    assert found.exact
    assert found.mean_exact
    assert found.uncovered == ()
    assert found.worst_loss == worst
    assert round(math.fsum(found.losses.values()), 9) == total
    assert len(found.configs) == size
    assert dict(found.losses) == loss_of(table, found.configs)


@given(times, st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_what_is_known_does_not_matter(
    table: Times, count: int, rng: random.Random
) -> None:
    shuffled = {
        problem: dict(rng.sample(list(known.items()), len(known)))
        for problem, known in rng.sample(list(table.items()), len(table))
    }
    found, again = choose(table, count), choose(shuffled, count)
    if not found.uncovered:
        assert (again.configs, dict(again.losses)) == (found.configs, dict(found.losses))


@given(times, st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=50)
def test_out_of_work_is_said_and_still_serves(table: Times, count: int, steps: int) -> None:
    found = choose(table, count, worst_steps=steps, mean_steps=steps)
    if found.uncovered:
        return
    assert dict(found.losses) == loss_of(table, found.configs)
    worst, total, _ = best_of_all(table, min(count, len({c for k in table.values() for c in k})))
    assert found.worst_loss >= worst
    if found.exact:
        assert found.worst_loss == worst
    if found.exact and found.mean_exact:
        assert round(math.fsum(found.losses.values()), 9) == total


def test_greed_alone_says_so() -> None:
    # The largest set is the wrong first choice: 1 and 2 cover all, 0 leaves two over.
    masks = [0b01_1110, 0b00_0111, 0b11_1000]
    with pytest.raises(OutOfWorkError):
        cover(masks, 0b11_1111, 2, Budget(0))
    assert sorted(cover(masks, 0b11_1111, 2, Budget(10)) or []) == [1, 2]
    assert cover(masks, 0b11_1111, 1, Budget(10)) is None


def test_ties_go_to_the_mean_then_to_fewer_then_to_what_needs_less() -> None:
    assert choose({1: {SMALL: 1.0, LARGE: 1.0}, 2: {SMALL: 1.2, LARGE: 1.1, MIDDLE: 1.0}}, 1)
    by_mean = {1: {SMALL: 1.2, LARGE: 1.2, MIDDLE: 1.0}, 2: {SMALL: 1.1, LARGE: 1.0}}
    assert choose(by_mean, 1).configs == (LARGE,)
    assert choose({1: {LARGE: 1.0, SMALL: 1.0, MIDDLE: 1.0}}, 3).configs == (SMALL,)


def test_many_configurations_and_problems_end_in_time() -> None:
    rng = random.Random(0)
    every = [Config(BLOCK=block, num_warps=4) for block in range(1, 301)]
    table = {n: {config: rng.uniform(1, 2) for config in every} for n in range(300)}
    found = choose(table, 250, worst_steps=10**9, mean_steps=10**9)
    assert (found.exact, found.mean_exact, found.worst_loss) == (True, True, 0.0)
    found = choose(table, 201, worst_steps=10**9, mean_steps=10**9)
    assert 0 <= found.mean_loss <= found.worst_loss < 1
    found = choose(table, 6, worst_steps=50, mean_steps=50)
    assert not (found.exact and found.mean_exact)


def row(config: Config, time_us: float | None, n: int = 4096, **changes: Any) -> Evaluation:
    problem = Problem.of("mish_mish", "0a1b2c", {"n": n}, "float32", "p16", "h100")
    about = {name: changes.pop(name) for name in list(changes) if hasattr(PROVENANCE, name)}
    of_problem = {name: changes.pop(name) for name in list(changes) if hasattr(problem, name)}
    source = changes.get("source", Source.MEASURED)
    measured = source is Source.MEASURED
    return replace(
        Evaluation(
            problem=replace(problem, **of_problem),
            shape=(n,),
            config=config,
            status=Status.OK,
            source=source,
            provenance=replace(PROVENANCE, **about),
            verified_by=VerifiedBy.DEVICE if measured else VerifiedBy.INTERPRETER,
            time_us=time_us,
        ),
        **changes,
    )


def estimate(config: Config, time_us: float, **changes: Any) -> Evaluation:
    return row(config, time_us, source=Source.ESTIMATED, protocol="estimate-1", **changes)


def used(*evaluations: Evaluation) -> dict[Config, float]:
    """The times used of one problem, whatever the order."""
    expected, *others = (
        [each.times_us for each in comparable(order)]
        for order in itertools.islice(itertools.permutations(evaluations), 24)
    )
    assert all(other == expected for other in others)
    (found,) = expected
    return found


def test_cold_and_warm_are_not_compared() -> None:
    warm = [row(config, 1.0, protocol="graph-warm-1") for config in (SMALL, MIDDLE)]
    assert used(*warm, row(LARGE, 9.0)) == {LARGE: 9.0}
    assert used(*warm) == {SMALL: 1.0, MIDDLE: 1.0}
    assert used(*warm, row(LARGE, 9.0, protocol="another")) == {LARGE: 9.0}


def test_times_are_of_one_protocol_that_knows_most() -> None:
    searched = [row(SMALL, 1.0), row(MIDDLE, 2.0), row(LARGE, 3.0)]
    raced = [
        row(SMALL, 1.5, protocol="graph-cold-1-race"),
        row(MIDDLE, 1.4, protocol="graph-cold-1-race"),
    ]
    assert used(*searched, *raced) == {SMALL: 1.0, MIDDLE: 2.0, LARGE: 3.0}
    assert used(*searched[:2], *raced) == {SMALL: 1.5, MIDDLE: 1.4}
    assert used(
        row(SMALL, 1.0), row(SMALL, 2.0, triton="3.7.1", created_at="2026-02-01T00:00:00Z")
    ) == {SMALL: 2.0}


def test_measured_before_estimated_and_the_last_version_of_a_kernel() -> None:
    many = [estimate(config, 0.1) for config in (SMALL, MIDDLE)]
    assert used(*many, row(LARGE, 3.0)) == {LARGE: 3.0}
    later = row(LARGE, 3.0, kernel_hash="0000", created_at="2026-02-01T00:00:00.5+00:00")
    assert used(row(SMALL, 1.0), row(MIDDLE, 1.0), later) == {LARGE: 3.0}
    undated = row(SMALL, 1.0, kernel_hash="", created_at="")
    assert used(undated, row(LARGE, 3.0)) == {LARGE: 3.0}


def test_what_is_not_verified_is_passed_over_and_what_was_disturbed_is_replaced() -> None:
    disturbed = row(SMALL, 1.0, disturbance="throttled", created_at="2026-02-01T00:00:00Z")
    assert used(disturbed) == {SMALL: 1.0}
    assert used(disturbed, row(SMALL, 2.0)) == {SMALL: 2.0}
    assert comparable([row(SMALL, 1.0, verified_by=None)]) == []
    assert comparable([row(SMALL, None, status=Status.WRONG)]) == []


ROWS = [
    row(SMALL, 1.0), row(LARGE, 1.5),
    row(SMALL, 4.0, n=65_536), row(LARGE, 3.0, n=65_536), row(MIDDLE, 3.3, n=65_536),
    row(SMALL, 1.0, dtype="float16"), row(MIDDLE, 1.1, dtype="float16"),
    row(LARGE, 2.0, device="h200", protocol="graph-warm-1"),
    estimate(MIDDLE, 2.0, kernel="gelu", device="rtx4090"),
]  # fmt: skip


def exported(count: int, form: str = "json", rows: list[Evaluation] = ROWS) -> Any:
    text = render(portfolios(rows, count), count, form)
    return json.loads(text) if form == "json" else text


def load(text: str) -> dict[str, Any]:
    """What the module defines, with nothing at hand but a stand-in of Triton."""

    class FakeTriton:
        @staticmethod
        def Config(meta: dict[str, int], **options: int) -> dict[str, int]:  # noqa: N802
            return meta | options

    def only_triton(name: str, *rest: object) -> type[FakeTriton]:
        assert name == "triton"
        return FakeTriton

    names: dict[str, Any] = {"__builtins__": {"__import__": only_triton}}
    exec(compile(text, "exported.py", "exec"), names)
    return names


def test_the_module_holds_a_list_for_each_kernel_and_device() -> None:
    text = exported(2, "python")
    assert load(text)["CONFIGS"] == {
        "gelu": {"rtx4090": [dict(MIDDLE)]},
        "mish_mish": {"h100": [dict(SMALL), dict(LARGE)], "h200": [dict(LARGE)]},
    }
    assert "2 configurations for 3 problems, worst-case loss 0.00 % (" in text
    assert "1 configuration for 1 problem, worst-case" in text
    assert "1 never measured: their times are estimates" in text
    assert "1 measured with a warm cache only" in text
    assert "protocol graph-cold-1, 2026-01-31" in text


def test_the_loss_is_said_and_where_it_is_largest() -> None:
    (found,) = portfolios([each for each in ROWS if each.problem.device == "h100"], 1)
    assert found.summary == (
        "mish_mish on h100: 1 configuration for 3 problems, worst-case loss 33.33 % (float32 "
        "n=65536 [p16]), mean 11.11 %; no choice has a smaller worst-case loss"
    )
    entry = next(each for each in exported(1)["portfolios"] if each["device"] == "h100")
    assert (entry["worst_loss"], entry["mean_loss"], entry["exact"]) == (0.33333, 0.11111, True)
    worst = entry["problems"][entry["worst_problem"]]
    assert (worst["time_us"], worst["best_time_us"], worst["loss"]) == (4.0, 3.0, 0.33333)
    assert (worst["best_config"], worst["configs_known"]) == (dict(LARGE), 3)


@pytest.mark.parametrize("form", ["python", "json"])
def test_the_same_evaluations_give_the_same_bytes(form: str) -> None:
    expected = render(portfolios(ROWS, 2), 2, form)
    for seed in range(5):
        rows = random.Random(seed).choices(ROWS, k=20) + random.Random(seed).sample(ROWS, len(ROWS))
        assert render(portfolios(rows, 2), 2, form) == expected
    assert expected.isascii()
    assert expected.endswith("\n")


def test_what_was_not_measured_in_common_is_named() -> None:
    rows = [row(SMALL, 1.0, n=1), row(LARGE, 1.0, n=2), row(LARGE, 1.0, n=3)]
    with pytest.raises(TunekitError) as caught:
        portfolios(rows, 1)
    assert str(caught.value) == (
        "no 1 configuration was measured on every problem: mish_mish on h100 misses float32 n=1 "
        "[p16]; `tunekit tune --exhaustive` measures all on each, a larger --portfolio may do "
        "without"
    )
    assert len(portfolios(rows, 2)[0].portfolio.configs) == 2
    many = [row(Config(BLOCK=n, num_warps=1), 1.0, n=n) for n in range(1, 30)]
    with pytest.raises(TunekitError, match=r"n=4 \[p16\] and 25 more;"):
        portfolios(many, 1)


def test_nothing_tuned_is_an_empty_export() -> None:
    assert exported(3, rows=[])["portfolios"] == []
    assert load(exported(3, "python", []))["CONFIGS"] == {}


def test_wrong_arguments() -> None:
    with pytest.raises(UsageError, match="--portfolio 0: expected at least 1"):
        portfolios(ROWS, 0)
    with pytest.raises(UsageError, match="--format 'yaml': expected python or json"):
        render([], 1, "yaml")
    with pytest.raises(TunekitError, match="cannot export 'B C' = 1"):
        portfolios([row(Config({"B C": 1}), 1.0)], 1)


@pytest.mark.parametrize(
    "nasty",
    [
        '"\nraise SystemExit(1)\n"',
        "'''\nraise 1",
        "x\r\nraise 1",
        "\\",
        "'] = 1 #",
        "{0}%s",
        "\x85é",
    ],
)
def test_no_text_of_a_database_becomes_code(nasty: str) -> None:
    bad = row(
        SMALL, 1.0, kernel=nasty, kernel_hash=nasty, device=nasty, dtype=nasty, alignment=nasty,
        disturbance=nasty, driver=nasty, protocol=nasty, torch=nasty, gpu_name=nasty,
    )  # fmt: skip
    assert load(exported(1, "python", [bad]))["CONFIGS"] == {nasty: {nasty: [dict(SMALL)]}}
    assert exported(1, "json", [bad])["portfolios"][0]["kernel"] == nasty


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    section = DOC.read_text("utf-8").split("## Portfolio")[1]
    cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"\w+", cell)}
    export = exported(2)
    entry = export["portfolios"][0]
    assert documented == {*export, *entry, *entry["problems"][0]}


def test_a_portfolio_knows_its_worst() -> None:
    found = Portfolio((SMALL,), {"a": 0, "b": 0}, {"a": 0.1, "b": 0.3}, (), True, True)
    assert (found.worst, found.worst_loss, found.mean_loss) == ("b", 0.3, 0.2)
