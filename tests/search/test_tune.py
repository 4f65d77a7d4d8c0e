"""The search over configurations that are looked up in a table: no GPU, and the same every time."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.evaluation import Source, Status
from tunekit.errors import (
    ClaimedError,
    DeviceMemoryError,
    NothingTunedError,
    SpaceError,
    StoreError,
    WorkerError,
)
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Outcome
from tunekit.kernels import epilogues
from tunekit.kernels.kernel import Kernel, pointwise
from tunekit.kernels.library import KERNELS
from tunekit.notices import TunekitWarning
from tunekit.search import tune as tuning
from tunekit.search.events import Offered
from tunekit.search.projection import project, study_name
from tunekit.search.race import BLOCKS
from tunekit.search.task import Imported, Progress, Result, Task
from tunekit.search.tune import tune
from tunekit.store.database import Store

MakeHost = Callable[..., Host]

SHAPE = (4096, 4096)
LATER = "2126-01-31T00:00:00Z"
DEFAULT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
FASTEST = Config(BLOCK_SIZE=2048, VEC=4, num_warps=8, num_stages=1)


def time_us(config: Config) -> float:
    """Fastest at FASTEST, smooth along every axis; the default is 1.3 times as slow."""
    weights = {"BLOCK_SIZE": 1.5, "VEC": 1.0, "num_warps": 1.5, "num_stages": 2.0}
    return 10.0 + sum(
        weight * abs(math.log2(config[axis] / FASTEST[axis])) for axis, weight in weights.items()
    )


def wrong(error: float = 4.2e9) -> Outcome:
    reason = f"differs from the reference: {error:.3g} times the allowed error"
    return Outcome(Status.WRONG, reason=reason, max_error=error)


def a_task(trials: int | None = 20, kernel: Kernel = KERNELS["mish_mish"], **more: Any) -> Task:
    # A strategy that never says that it is done: as many are evaluated as are asked for.
    more.setdefault("strategy", "tpe")
    return Task(kernel, kernel.name, SHAPE, "float32", {}, trials, **more)


def search(task: Task, host: Host, store: Store) -> Result:
    """`tune` without the study, which takes longer than the rest."""
    return tune(task, host, store, Progress(), write_study=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "studies.db") as store:
        yield store


@pytest.fixture
def measuring(gpu_host: MakeHost) -> Host:
    return gpu_host(time_us)


def test_the_default_is_evaluated_first(measuring: Host, store: Store) -> None:
    search(a_task(), measuring, store)
    assert measuring.pool.configs[0] == DEFAULT


def test_as_many_are_evaluated_as_were_asked_for_and_none_twice(
    measuring: Host, store: Store
) -> None:
    result = search(a_task(trials=40), measuring, store)
    assert len(set(measuring.pool.configs)) == len(measuring.pool.configs) == 40
    assert (result.evaluated, result.known) == (40, 0)
    assert result.statuses == {Status.OK: 40}


@pytest.mark.parametrize("trials", [None, 10_000])
def test_the_complete_space(trials: int | None, measuring: Host, store: Store) -> None:
    result = search(a_task(trials), measuring, store)
    assert measuring.pool.configs[0] == DEFAULT
    assert len(set(measuring.pool.configs)) == len(measuring.pool.configs) == result.space_size
    assert result.winner.config == FASTEST


def test_the_search_comes_near_the_fastest_with_a_fraction_of_the_space(
    measuring: Host, store: Store
) -> None:
    result = search(a_task(trials=40), measuring, store)
    assert result.space_size > 100
    assert result.winner.time_us == pytest.approx(time_us(FASTEST), rel=0.16)


def test_every_evaluation_is_stored_at_once(gpu_host: MakeHost, store: Store) -> None:
    stored = []

    def look_up(config: Config) -> float:
        with closing(sqlite3.connect(store.path)) as other:
            stored.extend(other.execute("SELECT count(*) FROM evaluations").fetchone())
        return time_us(config)

    search(a_task(), gpu_host(look_up), store)
    assert stored[:20] == list(range(20))


def test_the_same_again_evaluates_nothing_and_decides_anew(
    gpu_host: MakeHost, store: Store
) -> None:
    first = search(a_task(), gpu_host(time_us), store)
    again = gpu_host(time_us)
    result = search(a_task(), again, store)
    assert again.pool.configs == []
    assert len(again.pool.raced) > 1
    assert (result.evaluated, result.known) == (0, 20)
    assert result.winner.config == first.winner.config
    assert len(store.decisions()) == 2


def test_of_two_at_one_problem_one_says_that_the_other_has_it(
    gpu_host: MakeHost, estimate_host: MakeHost, store: Store
) -> None:
    """The other may have another driver, or estimate: that is other work."""

    def look_up(config: Config) -> float:
        with Store.open(store.path) as other:
            if config == DEFAULT:
                search(a_task(trials=2), gpu_host(time_us, driver="590.1"), other)
                search(a_task(trials=2), estimate_host(time_us), other)
            with pytest.raises(ClaimedError, match=r"^mish_mish at 4096,4096 float32 for h100 is "):
                search(a_task(), gpu_host(time_us), other)
        return time_us(config)

    assert search(a_task(trials=3), gpu_host(look_up), store).evaluated == 3
    assert search(a_task(trials=4), gpu_host(time_us), store).evaluated == 1


def test_fewer_trials_than_are_known_evaluates_nothing(gpu_host: MakeHost, store: Store) -> None:
    search(a_task(), gpu_host(time_us), store)
    watched = Progress()
    result = tune(a_task(trials=5), gpu_host(time_us), store, watched, write_study=False)
    assert (result.evaluated, result.known) == (0, 20)
    assert (watched.done, watched.total) == (20, 20)


def test_more_trials_evaluate_only_the_rest(gpu_host: MakeHost, store: Store) -> None:
    first, second = gpu_host(time_us), gpu_host(time_us)
    search(a_task(trials=20), first, store)
    result = search(a_task(trials=30), second, store)
    assert len(second.pool.configs) == result.evaluated == 10
    assert not set(first.pool.configs) & set(second.pool.configs)


def test_another_driver_s_measurements_are_not_taken_up(gpu_host: MakeHost, store: Store) -> None:
    search(a_task(), gpu_host(time_us), store)
    result = search(a_task(), gpu_host(time_us, driver="590.1"), store)
    assert (result.evaluated, result.known) == (20, 0)


@pytest.mark.parametrize("strategy", ["tpe", "transfer"])
def test_under_another_driver_what_won_before_is_measured_anew_right_after_the_default(
    gpu_host: MakeHost, store: Store, strategy: str
) -> None:
    before = search(a_task(trials=36), gpu_host(time_us), store).winner
    host = gpu_host(time_us, driver="590.1")
    search(a_task(trials=5, strategy=strategy), host, store)
    assert host.pool.configs[:2] == [DEFAULT, before.config]


@pytest.mark.parametrize("strategy", ["tpe", "transfer"])
def test_what_won_with_an_earlier_source_of_the_kernel_begins_the_search_and_is_no_result(
    gpu_host: MakeHost, store: Store, tmp_path: Path, strategy: str
) -> None:
    best = Config(BLOCK_SIZE=4096, VEC=4, num_warps=8, num_stages=1)

    def earlier(config: Config) -> float:
        return 1.0 if config == best else time_us(config)

    with Store.open(tmp_path / "earlier.db") as other:
        was = tune(a_task(None), gpu_host(earlier), other, Progress(), write_study=False)
        assert was.winner.config == best
        problem = replace(was.problem, kernel_hash="another")
        rows = {row.uid: replace(row, problem=problem) for row in other.evaluations()}
        store.add(rows.values())
        (decision,) = other.decisions()
        new = replace(
            decision,
            problem=problem,
            winner=rows[decision.winner].uid,
            default=rows[decision.default].uid,
            rows=tuple(rows[uid].uid for uid in decision.rows),
        )
        store.decide(new)
    host = gpu_host(time_us)
    result = search(a_task(trials=5, strategy=strategy), host, store)
    assert host.pool.configs[:2] == [DEFAULT, best]
    assert (result.known, result.evaluated) == (0, 5)
    assert result.winner.time_us is not None
    assert result.winner.time_us >= 9.9
    # Each source of the kernel has its own row; the earlier one's is as it was.
    assert {row.problem.kernel_hash for row in store.cache()} == {
        "another", was.problem.kernel_hash,
    }  # fmt: skip


def test_what_won_before_the_space_lost_it_is_not_asked_for(
    gpu_host: MakeHost, store: Store
) -> None:
    search(a_task(), gpu_host(time_us), store)
    (decision,) = store.decisions()
    (winner,) = [row for row in store.evaluations() if row.uid == decision.winner]
    odd = replace(winner, config=Config({**DEFAULT, "num_warps": 3}))
    store.add([odd])
    store.decide(replace(decision, winner=odd.uid, rows=(odd.uid,), created_at=LATER))
    host = gpu_host(time_us, driver="590.1")
    search(a_task(), host, store)
    assert odd.config not in host.pool.configs


IMPORTED = [
    Config(BLOCK_SIZE=2048, VEC=4, num_warps=6, num_stages=1),  # off the list of num_warps
    Config(BLOCK_SIZE=512, VEC=4, num_warps=4, num_stages=1),
    Config(BLOCK_SIZE=256, VEC=2, num_warps=4, num_stages=1),
]


def offered(host: Host, *configs: Config, **changes: Any) -> list[Candidate]:
    kernel = KERNELS["mish_mish"]
    found = kernel.problem_of(kernel.launch_for(SHAPE, "float32", host.device), host.device)
    problem = replace(found, **changes)
    return [
        Candidate(problem, config, f"theirs.py line {line}", "2026-01-31T00:00:00Z")
        for line, config in enumerate(configs, start=1)
    ]


@pytest.mark.parametrize("strategy", ["tpe", "transfer", "random"])
def test_what_was_imported_is_measured_first_also_off_the_lists(
    measuring: Host, store: Store, strategy: str
) -> None:
    store.add_candidates(offered(measuring, *IMPORTED))
    told: list[Any] = []
    task = a_task(trials=6, strategy=strategy)
    result = tune(task, measuring, store, Progress(), write_study=False, tell=told.append)
    assert measuring.pool.configs[:4] == [DEFAULT, *IMPORTED]
    assert [each for each in told if isinstance(each, Offered)] == [Offered(3, 1)]
    assert result.imported is not None
    assert (result.imported.count, result.imported.evaluated) == (3, 3)


def test_what_was_imported_and_wins_is_decided_and_goes_on_to_win(
    gpu_host: MakeHost, store: Store
) -> None:
    best = IMPORTED[0]

    def table(config: Config) -> float:
        return 1.0 if config == best else time_us(config)

    store.add_candidates(offered(gpu_host(table), best))
    result = search(a_task(), gpu_host(table), store)
    assert result.winner.config == best
    assert result.imported == Imported(1, 1, 1, "theirs.py line 1")
    assert [row.config for row in store.cache()] == [best]
    project(store.path, result.problem, store.evaluations(), {"num_warps": [1, 2, 4]})
    again = gpu_host(table)
    result = search(a_task(), again, store)
    assert (again.pool.configs, result.winner.config) == ([], best)
    # Also with another source of the kernel, or under another driver.
    other = gpu_host(table, driver="590.1")
    assert search(a_task(trials=3), other, store).winner.config == best
    assert other.pool.configs[1] == best


def test_what_was_imported_for_an_earlier_source_of_the_kernel_still_counts(
    measuring: Host, store: Store
) -> None:
    store.add_candidates(offered(measuring, *IMPORTED, kernel_hash="another"))
    search(a_task(trials=5), measuring, store)
    assert measuring.pool.configs[:4] == [DEFAULT, *IMPORTED]


def test_what_was_imported_for_another_problem_does_not_count(
    measuring: Host, store: Store
) -> None:
    store.add_candidates(offered(measuring, *IMPORTED, device="h200"))
    store.add_candidates(offered(measuring, *IMPORTED, dtype="float16"))
    result = search(a_task(trials=5), measuring, store)
    assert IMPORTED[0] not in measuring.pool.configs
    assert result.imported is None


def test_nothing_ends_the_search_before_what_was_imported_but_the_budget(
    gpu_host: MakeHost, store: Store
) -> None:
    many = [
        Config(BLOCK_SIZE=128 * blocks, VEC=1, num_warps=4, num_stages=1) for blocks in range(1, 32)
    ]
    slow = gpu_host(lambda config: 50.0 if config in many else time_us(config))
    store.add_candidates(offered(slow, *many))
    won = search(a_task(trials=60, strategy="transfer"), slow, store).winner.config
    assert set(many) <= set(slow.pool.configs)
    few = gpu_host(time_us, driver="590.1")
    result = search(a_task(trials=10, strategy="transfer"), few, store)
    assert result.stopped == "the budget of 10 configurations"
    assert result.imported is not None
    others = {DEFAULT, won}
    assert (result.imported.count, result.imported.evaluated) == (31, 10 - len(others))
    assert set(few.pool.configs) - set(many) == others


def test_the_complete_space_and_what_was_imported(measuring: Host, store: Store) -> None:
    store.add_candidates(offered(measuring, *IMPORTED))
    result = search(a_task(None), measuring, store)
    assert measuring.pool.configs[:4] == [DEFAULT, *IMPORTED]
    assert len(set(measuring.pool.configs)) == len(measuring.pool.configs) == result.space_size


@pytest.mark.parametrize("how", [KeyboardInterrupt(), WorkerError("the GPU fell off the bus")])
def test_what_was_evaluated_before_an_end_is_kept_and_not_evaluated_again(
    how: BaseException, gpu_host: MakeHost, store: Store
) -> None:
    ends = gpu_host(lambda config: how if len(ends.pool.jobs) == 7 else time_us(config))
    with pytest.raises(type(how)):
        search(a_task(), ends, store)
    assert [row.config for row in store.evaluations()] == ends.pool.configs
    assert len(ends.pool.configs) == 7
    assert store.decisions() == []

    goes_on = gpu_host(time_us)
    result = search(a_task(), goes_on, store)
    assert (result.evaluated, result.known) == (13, 7)
    assert not set(ends.pool.configs) & set(goes_on.pool.configs)


def test_an_interrupted_search_has_a_study_too(gpu_host: MakeHost, store: Store) -> None:
    host = gpu_host(lambda c: KeyboardInterrupt() if len(host.pool.jobs) == 3 else time_us(c))
    with pytest.raises(KeyboardInterrupt):
        tune(a_task(), host, store, Progress())
    with _study(store) as study:
        assert len(study.trials) == 3


class _Clock:
    """Seconds that pass only when something is evaluated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=lambda: self.now))

    def takes(self, seconds: float) -> Callable[[Config], float]:
        def look_up(config: Config) -> float:
            self.now += seconds
            return time_us(config)

        return look_up


def test_a_timeout_ends_the_search_and_not_what_is_under_way(
    gpu_host: MakeHost, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = gpu_host(_Clock(monkeypatch).takes(1.0))
    result = search(a_task(trials=60, timeout_s=20.0), host, store)
    assert result.evaluated == 24  # four at a time
    assert result.winner.time_us < time_us(DEFAULT)
    assert search(a_task(trials=60), gpu_host(time_us), store).evaluated == 36


def test_a_timeout_before_anything_was_evaluated(
    gpu_host: MakeHost, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "time", SimpleNamespace(monotonic=iter([0.0, 1.0]).__next__))
    with pytest.raises(NothingTunedError, match=r"within 0\.5 s.*longer --timeout"):
        search(a_task(timeout_s=0.5), gpu_host(time_us), store)


def test_the_winner_beat_the_default_in_a_race(measuring: Host, store: Store) -> None:
    result = search(a_task(None), measuring, store)
    assert DEFAULT in measuring.pool.raced
    assert result.default is not None
    assert result.default.config == DEFAULT
    assert result.decision.speedup == pytest.approx(time_us(DEFAULT) / time_us(FASTEST))
    assert "beat the default by 30.0%" in result.decision.reason
    assert result.decision.copy_us == pytest.approx(5.0, rel=0.05)


def test_who_was_fast_by_luck_loses_the_race_to_the_default(
    gpu_host: MakeHost, store: Store
) -> None:
    result = search(a_task(), gpu_host(time_us, race=lambda config: 10.0), store)
    assert result.winner.config == DEFAULT
    assert result.decision.speedup == 1.0
    assert "none beat it" in result.decision.reason
    (row,) = store.cache()
    assert row.config == DEFAULT


def test_what_a_decision_rests_on_is_in_the_database(measuring: Host, store: Store) -> None:
    search(a_task(), measuring, store)
    (decision,) = store.decisions()
    rows = {row.uid: row for row in store.evaluations()}
    assert {rows[uid].config for uid in decision.rows} == set(measuring.pool.raced)
    assert {decision.winner, decision.default} <= set(decision.rows)
    assert {rows[uid].provenance.protocol for uid in decision.rows} == {"graph-1-race"}
    assert all(len(rows[uid].samples_us) >= BLOCKS[0] for uid in decision.rows)
    (cached,) = store.cache()
    assert cached.winner == decision.winner


def test_when_all_are_wrong_nothing_is_cached(gpu_host: MakeHost, store: Store) -> None:
    with pytest.raises(
        NothingTunedError,
        match=r"none of 20 configurations can be used \(20 wrong\), nothing is cached; .*4\.2e\+09",
    ):
        search(a_task(), gpu_host(lambda config: wrong()), store)
    assert store.cache() == store.decisions() == []
    assert Counter(row.status for row in store.evaluations()) == {Status.WRONG: 20}


def test_the_worst_error_is_the_one_that_is_named(gpu_host: MakeHost, store: Store) -> None:
    with pytest.raises(NothingTunedError, match=r"19 wrong, 1 crashed.*8\.1e\+03 times"):
        search(
            a_task(),
            gpu_host(
                lambda config: (
                    Outcome(Status.CRASHED, reason="signal 11")
                    if config == DEFAULT
                    else wrong(8.1e3 if config["num_warps"] == 4 else 2.0)
                )
            ),
            store,
        )


def test_what_was_all_wrong_is_evaluated_again(gpu_host: MakeHost, store: Store) -> None:
    with pytest.raises(NothingTunedError):
        search(a_task(), gpu_host(lambda config: wrong()), store)
    result = search(a_task(), gpu_host(time_us), store)  # the reference was mended
    assert (result.evaluated, result.known) == (20, 0)


def test_some_that_fail_keep_nobody_from_winning(gpu_host: MakeHost, store: Store) -> None:
    failures = {
        1: wrong(),
        2: Outcome(Status.CRASHED, reason="signal 11"),
        16: Outcome(Status.REJECTED, reason="registers"),
    }
    result = search(
        a_task(None),
        gpu_host(lambda config: failures.get(config["num_warps"], time_us(config))),
        store,
    )
    assert result.winner.config == FASTEST
    assert result.statuses.keys() == {Status.OK, Status.WRONG, Status.CRASHED, Status.REJECTED}
    assert sum(result.statuses.values()) == result.evaluated


def test_a_default_that_fails(gpu_host: MakeHost, store: Store) -> None:
    host = gpu_host(lambda config: wrong() if config == DEFAULT else time_us(config))
    result = search(a_task(None), host, store)
    assert result.default is None
    assert (result.decision.default, result.decision.speedup) == ("", None)
    assert result.winner.config == FASTEST
    (row,) = store.cache()
    assert row.default_config is None


def test_a_race_that_fails_keeps_the_evaluations(gpu_host: MakeHost, store: Store) -> None:
    def fail(config: Config) -> float:
        raise WorkerError("measuring the finalists: it died")

    with pytest.raises(WorkerError):
        search(a_task(), gpu_host(time_us, race=fail), store)
    assert len(store.evaluations()) == 20
    assert store.cache() == []
    assert search(a_task(), gpu_host(time_us), store).known == 20


def test_the_same_seed_asks_the_same(gpu_host: MakeHost, store: Store, tmp_path: Path) -> None:
    asked = []
    for number, seed in enumerate((3, 3, 4)):
        host = gpu_host(time_us)
        with Store.open(tmp_path / f"{number}.db") as other:
            search(a_task(trials=30, seed=seed), host, other)
        asked.append(host.pool.configs)
        assert {job.seed for job in host.pool.jobs} == {seed}
    assert asked[0] == asked[1] != asked[2]


def test_an_estimate_never_outranks_a_measurement(
    gpu_host: MakeHost, estimate_host: MakeHost, store: Store
) -> None:
    estimate = search(a_task(), estimate_host(lambda config: time_us(config) / 1000), store)
    (row,) = store.cache()
    assert row.source is Source.ESTIMATED
    measured = search(a_task(), gpu_host(time_us), store)
    assert measured.known == 0
    (row,) = store.cache()
    assert (row.source, row.time_us) == (Source.MEASURED, measured.winner.time_us)
    # Nor does one that is made later, and neither takes up the other's evaluations.
    again = search(a_task(), estimate_host(lambda config: time_us(config) / 1000), store)
    assert (again.evaluated, again.known) == (0, estimate.evaluated)
    (row,) = store.cache()
    assert row.source is Source.MEASURED


def test_what_is_estimated_is_not_raced(estimate_host: MakeHost, store: Store) -> None:
    result = search(a_task(None), estimate_host(time_us), store)
    assert result.winner.config == FASTEST
    assert result.decision.copy_us is None
    assert result.winner.samples_us == ()
    with pytest.raises(WorkerError, match="on a GPU only"):
        estimate_host(time_us).race([], 1)


def test_estimates_that_are_too_close_leave_the_default(
    estimate_host: MakeHost, store: Store
) -> None:
    result = search(
        a_task(), estimate_host(lambda config: 10.05 if config == DEFAULT else 10.0), store
    )
    assert result.winner.config == DEFAULT
    assert "none of 20 is estimated clearly faster" in result.decision.reason


def _study(store: Store, source: Source = Source.MEASURED) -> Any:
    """The study as any program of Optuna's opens it, closed in the end."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{store.path}")
    (problem,) = store.problems()
    study: Any = optuna.load_study(study_name=study_name(problem, source), storage=storage)

    class Opened:
        def __enter__(self) -> optuna.Study:
            return study

        def __exit__(self, *error: object) -> None:
            storage.remove_session()
            storage.engine.dispose()

    return Opened()


def test_optuna_opens_the_study_and_finds_the_best(measuring: Host, store: Store) -> None:
    tune(a_task(), measuring, store, Progress())
    with _study(store) as study:
        assert study.best_value == min(row.time_us for row in store.evaluations())
        fastest = min(measuring.pool.configs, key=time_us)
        assert study.best_params == dict(fastest)
        # Each is a trial, and each of the race once more.
        assert len(study.trials) == 20 + len(measuring.pool.raced)


def test_a_study_that_cannot_be_written_costs_a_warning_only(
    measuring: Host, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise StoreError("its Optuna tables are of another Optuna version")

    monkeypatch.setattr(tuning, "project", refuse)
    with pytest.warns(TunekitWarning, match="study is not up to date.*another Optuna version"):
        result = tune(a_task(), measuring, store, Progress())
    (row,) = store.cache()
    assert row.winner == result.winner.uid


def _copy_kernel(space: Path) -> Kernel:
    return pointwise("mine", epilogue=epilogues.identity, reference=lambda x: x, space=str(space))


SPACE = """
[axes]
BLOCK_SIZE = {blocks}
VEC = [1, 2]
num_warps = [4, 8]
num_stages = [1]
[default]
BLOCK_SIZE = 512
VEC = 1
num_warps = 4
num_stages = 1
[constraints]
room = "{room}"
"""


@pytest.fixture
def write_space(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, blocks: list[int], room: str = "BLOCK_SIZE >= 64") -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(SPACE.format(blocks=blocks, room=room))
        return path

    return write


def test_what_is_no_longer_in_the_space_does_not_win(
    gpu_host: MakeHost, store: Store, write_space: Callable[..., Path]
) -> None:
    def fastest_when_largest(config: Config) -> float:
        return 1e4 / config["BLOCK_SIZE"]

    wide, narrow = write_space("wide", [512, 1024, 2048]), write_space("narrow", [512, 1024])
    first = search(a_task(None, _copy_kernel(wide)), gpu_host(fastest_when_largest), store)
    assert first.winner.config["BLOCK_SIZE"] == 2048
    result = search(a_task(None, _copy_kernel(narrow)), gpu_host(fastest_when_largest), store)
    assert (result.evaluated, result.known, result.space_size) == (0, 8, 8)
    assert result.winner.config["BLOCK_SIZE"] == 1024
    assert len(store.evaluations()) > 12  # nothing is thrown away


def test_constraints_that_leave_nothing(
    measuring: Host, store: Store, write_space: Callable[..., Path]
) -> None:
    kernel = _copy_kernel(write_space("none", [512], room="BLOCK_SIZE > n"))
    with pytest.raises(SpaceError, match=r"none\.toml: constraints leave no.*room rejected 4"):
        search(a_task(kernel=kernel), measuring, store)
    assert measuring.pool.jobs == []


def test_a_problem_that_no_such_gpu_can_hold(measuring: Host, store: Store) -> None:
    for shape in ((10**15, 10**15), (2**17, 2**17)):
        with pytest.raises(DeviceMemoryError, match=r"GB and h100 has 85\.9 GB: .*smaller"):
            search(replace(a_task(), shape=shape), measuring, store)
    assert measuring.pool.jobs == []


def test_progress_is_told_after_each(measuring: Host, store: Store) -> None:
    told: list[tuple[int, int, float | None]] = []
    watched = Progress(on_change=lambda p: told.append((p.done, p.total, p.best_us)))
    tune(a_task(trials=3), measuring, store, watched, write_study=False)
    assert [done for done, _, _ in told] == [0, 1, 2, 3]
    assert {total for _, total, _ in told} == {3}
    assert told[0][2] is None
    assert told[-1][2] == min(map(time_us, measuring.pool.configs))


def test_it_stops_when_no_gain_is_expected_and_says_so(measuring: Host, store: Store) -> None:
    result = search(a_task(trials=60, strategy="transfer"), measuring, store)
    assert result.evaluated < 60
    assert result.stopped.startswith("expected gain 0.")
    assert result.winner.time_us == pytest.approx(time_us(FASTEST), rel=0.1)


def test_it_stops_near_the_identity_epilogue(gpu_host: MakeHost, store: Store) -> None:
    floor_us = time_us(FASTEST)
    search(a_task(trials=2, kernel=KERNELS["identity"]), gpu_host(lambda c: floor_us), store)
    at_once = gpu_host(lambda config: floor_us * 1.001)
    result = search(a_task(trials=60, strategy="transfer"), at_once, store)
    assert result.evaluated == 4
    assert result.stopped.startswith("within 0.5% of the identity epilogue (")


def test_it_says_that_the_budget_ended_it(measuring: Host, store: Store) -> None:
    result = search(a_task(trials=7), measuring, store)
    assert result.stopped == "the budget of 7 configurations"


def test_what_neighbouring_problems_like_is_asked_first(gpu_host: MakeHost, store: Store) -> None:
    search(replace(a_task(None), shape=(4096, 2048)), gpu_host(time_us), store)
    host = gpu_host(time_us)
    search(a_task(trials=2, strategy="transfer"), host, store)
    assert host.pool.configs == [DEFAULT, FASTEST]
