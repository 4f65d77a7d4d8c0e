from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Source, Status, VerifiedBy
from tunekit.errors import NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Outcome
from tunekit.kernels.library import KERNELS
from tunekit.search.events import Decided, Evaluated, Raced, Shared
from tunekit.search.landscape import Landscape, Point
from tunekit.search.leaders import Leaders
from tunekit.search.session import Session
from tunekit.search.task import Progress, Task
from tunekit.store.database import Store

MakeHost = Callable[..., Host]
Start = Callable[..., Session]

DEFAULT = Config(BLOCK_SIZE=1024, VEC=8, num_warps=4, num_stages=1)
OTHERS = [replaced for replaced in (
    Config(BLOCK_SIZE=block, VEC=8, num_warps=warps, num_stages=1)
    for block in (1024, 2048, 4096) for warps in (2, 4, 8)
) if replaced != DEFAULT]  # fmt: skip


def time_us(config: Config) -> float:
    return 1e4 / config["BLOCK_SIZE"] + config["num_warps"] / 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "studies.db") as store:
        yield store


@pytest.fixture
def start(store: Store) -> Start:
    """Starts a session of gelu on 16-bit numbers; later ones are later by a day."""

    def make(host: Host, day: int = 1, **changes: Any) -> Session:
        task = Task(
            KERNELS["add_min_gelu_mul"], "add_min_gelu_mul", (64, 128), "float16",
            {"add_value": 0.25, "multiply_value": 3.0}, seed=5,
        )  # fmt: skip
        session = Session.start(replace(task, **changes), host, store, Progress())
        created_at = f"2026-01-{day:02}T00:00:00Z"
        return replace(session, provenance=replace(session.provenance, created_at=created_at))

    return make


def found_by(session: Session, configs: list[Config]) -> dict[Config, Any]:
    return {row.config: row for row in session.evaluate(configs)}


def conclude(session: Session, configs: list[Config]) -> Any:
    return session.conclude(found_by(session, configs), known=0, space_size=len(configs), began=0.0)


def test_the_problem_and_its_default(start: Start, gpu_host: MakeHost) -> None:
    session = start(gpu_host(time_us))
    assert session.problem.kernel == "add_min_gelu_mul"
    assert session.problem.dims == (("n", 64 * 128),)
    assert (session.problem.dtype, session.problem.device) == ("float16", "h100")
    assert session.space_context()["itemsize"] == 2
    assert session.default() == DEFAULT


def test_a_job_has_all_it_takes_to_repeat_it(start: Start, gpu_host: MakeHost) -> None:
    host = gpu_host(time_us)
    found_by(start(host, reference="my/file.py:gelu"), [DEFAULT])
    (job,) = host.pool.jobs
    assert (job.kernel, job.shape, job.dtype) == ("my/file.py:gelu", (64, 128), "float16")
    assert job.scalars == {"add_value": 0.25, "multiply_value": 3.0}
    assert (job.config, job.target, job.seed) == (DEFAULT, "h100", 5)


def test_an_evaluation_is_the_outcome_with_where_it_was_made(
    start: Start, gpu_host: MakeHost, store: Store
) -> None:
    outcome = Outcome(
        Status.OK,
        verified_by=VerifiedBy.DEVICE,
        time_us=2.5,
        samples_us=(2.0, 2.5, 3.0),
        binary=Binary("beef", 32, 0, 0, 16, 16),
        max_error=0.5,
    )
    session = start(gpu_host(lambda config: outcome))
    (evaluation,) = session.evaluate([DEFAULT])
    assert evaluation.problem == session.problem
    assert (evaluation.shape, evaluation.config) == ((64, 128), DEFAULT)
    assert (evaluation.source, evaluation.provenance) == (Source.MEASURED, session.provenance)
    for name in ("status", "verified_by", "time_us", "samples_us", "binary", "max_error"):
        assert getattr(evaluation, name) == getattr(outcome, name)
    assert evaluation.verified
    assert store.evaluations() == [evaluation]
    assert session.progress.done == 1


def test_known_is_what_the_same_gpu_measured_under_the_same_versions(
    start: Start, gpu_host: MakeHost, estimate_host: MakeHost
) -> None:
    found_by(start(gpu_host(time_us), day=1), OTHERS[:2])
    found_by(start(gpu_host(time_us, driver="590.1"), day=2), OTHERS[2:3])
    found_by(start(estimate_host(time_us), day=3), OTHERS[3:4])
    found_by(start(gpu_host(time_us), day=4, shape=(64, 256)), OTHERS[4:5])
    assert start(gpu_host(time_us), day=5).known().keys() == set(OTHERS[:2])
    assert start(gpu_host(time_us, driver="590.1"), day=5).known().keys() == set(OTHERS[2:3])
    assert start(estimate_host(time_us), day=5).known().keys() == set(OTHERS[3:4])


def test_what_a_race_measured_is_not_known_to_a_search(start: Start, gpu_host: MakeHost) -> None:
    conclude(start(gpu_host(time_us, race=lambda config: 1.0)), [DEFAULT, *OTHERS])
    known = start(gpu_host(time_us), day=2).known()
    assert {config: row.time_us for config, row in known.items()} == {
        config: time_us(config) for config in (DEFAULT, *OTHERS)
    }


def test_failures_are_known_where_something_passed(start: Start, gpu_host: MakeHost) -> None:
    wrong = Outcome(Status.WRONG, reason="differs", max_error=9.0)
    some = gpu_host(lambda config: wrong if config == DEFAULT else time_us(config))
    found_by(start(some, shape=(64, 256)), [DEFAULT, OTHERS[0]])
    assert start(some, day=2, shape=(64, 256)).known().keys() == {DEFAULT, OTHERS[0]}
    found_by(start(some), [DEFAULT])
    assert start(some, day=2).known() == {}


def close_to(fastest: Config) -> Callable[[Config], float]:
    """The fastest, two 1 % and 5 % behind it, the default 20 % and all others 50 %."""
    behind = dict(zip(OTHERS, (1.5, 1.01, 1.05, 1.5, 1.5, 1.5, 1.5, 1.5), strict=True))
    behind |= {fastest: 1.0, DEFAULT: 1.2}
    return lambda config: 10.0 * behind[config]


def test_who_may_be_the_fastest_races_with_the_default(start: Start, gpu_host: MakeHost) -> None:
    host = gpu_host(close_to(OTHERS[0]))
    session = start(host)
    found = found_by(session, [DEFAULT, *OTHERS])
    result = session.conclude(found, known=0, space_size=len(found) + 1, began=0.0)
    assert host.pool.raced == [OTHERS[0], OTHERS[1], DEFAULT]
    assert result.winner.config == OTHERS[0]
    assert result.default is not None
    assert "beat the default by 20.0%" in result.decision.reason
    assert result.decision.reason.endswith("settled after 8 rounds")


def test_of_a_complete_space_all_within_a_tenth_are_measured_side_by_side(
    start: Start, gpu_host: MakeHost
) -> None:
    host = gpu_host(close_to(OTHERS[0]))
    conclude(start(host), [DEFAULT, *OTHERS])
    assert set(host.pool.raced) == {*OTHERS[:3], DEFAULT}


def test_a_default_among_the_fastest_races_once(start: Start, gpu_host: MakeHost) -> None:
    host = gpu_host(lambda config: 0.5 if config == DEFAULT else time_us(config))
    conclude(start(host), [DEFAULT, *OTHERS])
    assert host.pool.raced.count(DEFAULT) == 1


def test_a_tie_goes_to_what_serves_the_neighbours(start: Start, gpu_host: MakeHost) -> None:
    one, other = OTHERS[0], OTHERS[1]
    host = gpu_host(lambda config: {one: 10.0, other: 10.03}.get(config, 20.0))
    session = start(host)
    points = (Point(one, Status.OK, 12.0), Point(other, Status.OK, 10.0))
    neighbour = Landscape(replace(session.problem, dims=(("n", 2**14),)), points)
    found = found_by(session, [DEFAULT, *OTHERS])

    def winner(landscapes: list[Landscape]) -> Config:
        result = session.conclude(
            found, known=0, space_size=len(found), began=0.0, landscapes=landscapes
        )
        return result.winner.config

    assert winner([neighbour]) == other
    assert winner([replace(neighbour, points=points[:1])]) == one


def test_the_same_binary_and_grid_is_measured_once(
    start: Start, gpu_host: MakeHost, store: Store
) -> None:
    host = gpu_host(time_us)
    same = OTHERS[:3]
    of_each = host.pool.binaries
    host.pool.binaries = lambda config: of_each(same[0] if config in same else config)
    session = start(host)
    # One grid: the problem is smaller than any of their blocks.
    session = replace(session, _leaders=Leaders(lambda config: (1, 1, 1)))
    rows = {row.config: row for row in session.evaluate([DEFAULT, *OTHERS])}
    assert host.pool.configs == [DEFAULT, same[0], *OTHERS[3:]]
    assert {rows[config].time_us for config in same} == {time_us(same[0])}
    assert all(rows[config].verified for config in same)
    assert str(same[0]) in rows[same[1]].reason
    assert len(store.evaluations(session.problem)) == 9
    assert session._leaders.saved == 2


def test_what_does_not_compile_is_not_measured(start: Start, gpu_host: MakeHost) -> None:
    host = gpu_host(time_us)
    of_each = host.pool.binaries
    failed = Outcome(Status.COMPILE_ERROR, reason="ptxas died")
    host.pool.binaries = lambda config: failed if config == OTHERS[0] else of_each(config)
    rows = {row.config: row for row in start(host).evaluate([DEFAULT, *OTHERS])}
    assert OTHERS[0] not in host.pool.configs
    assert (rows[OTHERS[0]].status, rows[OTHERS[0]].reason) == (Status.COMPILE_ERROR, "ptxas died")


def test_what_is_hopeless_beside_the_best_is_given_up_early(
    start: Start, gpu_host: MakeHost
) -> None:
    host = gpu_host(time_us)
    list(start(host).evaluate(OTHERS[:1], best_us=4.0))
    (job,) = host.pool.jobs
    assert job.hopeless_us == 6.0


def test_the_next_ones_compile_while_these_are_measured(start: Start, gpu_host: MakeHost) -> None:
    host = gpu_host(time_us)
    list(start(host).evaluate(OTHERS[:1], ahead=OTHERS[1:3]))
    assert host.pool.ahead == OTHERS[1:3]


def test_a_disturbed_race_says_so(start: Start, gpu_host: MakeHost, store: Store) -> None:
    host = gpu_host(time_us)
    undisturbed = host.pool.race
    host.pool.race = lambda jobs, rounds: replace(
        undisturbed(jobs, rounds), disturbance="clocks throttled: power cap"
    )
    result = conclude(start(host), [DEFAULT, *OTHERS])
    assert result.winner.disturbance == "clocks throttled: power cap"
    assert {row.disturbance for row in store.evaluations()} == {"", "clocks throttled: power cap"}


def test_what_was_not_verified_does_not_race(start: Start, gpu_host: MakeHost) -> None:
    fast_and_unverified = Outcome(Status.OK, time_us=0.1)
    host = gpu_host(lambda config: fast_and_unverified if config == OTHERS[0] else time_us(config))
    result = conclude(start(host), [DEFAULT, *OTHERS])
    assert OTHERS[0] not in host.pool.raced
    assert result.winner.config != OTHERS[0]


def test_an_estimate_s_decision_names_the_candidates(
    start: Start, estimate_host: MakeHost, store: Store
) -> None:
    result = conclude(start(estimate_host(time_us)), [DEFAULT, *OTHERS])
    assert result.decision.source is Source.ESTIMATED
    assert result.decision.reason == "lowest estimate of 9"
    rows = {row.uid: row.config for row in store.evaluations()}
    assert [rows[uid] for uid in result.decision.rows] == sorted(OTHERS, key=time_us)[:6]
    assert rows[result.decision.default] == DEFAULT
    assert result.decision.speedup == time_us(DEFAULT) / result.winner.time_us


def test_a_result_says_what_a_launch_moves(start: Start, estimate_host: MakeHost) -> None:
    assert conclude(start(estimate_host(time_us)), [DEFAULT]).bytes_moved == 2 * 64 * 128 * 2


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome(Status.WRONG, reason="4e3 times", max_error=4e3), r"\(2 wrong\).*; 4e3 times"),
        (Outcome(Status.REJECTED, reason="shared memory"), r"\(2 rejected\).*; shared memory"),
        (Outcome(Status.OK, time_us=1.0), r"\(2 ok\)"),
    ],
)
def test_why_nothing_is_tuned(
    outcome: Outcome, said: str, start: Start, gpu_host: MakeHost, store: Store
) -> None:
    with pytest.raises(NothingTunedError, match=f"none of 2 configurations.*{said}"):
        conclude(start(gpu_host(lambda config: outcome)), OTHERS[:2])
    assert store.decisions() == []


def test_progress_counts_by_status_and_starts_anew(start: Start, gpu_host: MakeHost) -> None:
    failed = Outcome(Status.ERROR, reason="no")
    session = start(gpu_host(lambda c: failed if c == OTHERS[0] else time_us(c)))
    rows = list(session.evaluate([DEFAULT, *OTHERS[:2]]))
    progress = session.progress
    assert progress.statuses == {Status.OK: 2, Status.ERROR: 1}
    assert progress.best_us == min(time_us(DEFAULT), time_us(OTHERS[1]))
    progress.begin(10, rows[:1])
    assert (progress.total, progress.done, progress.statuses) == (10, 1, {Status.OK: 1})
    assert progress.best_us == time_us(DEFAULT)


def test_who_is_found_wrong_in_the_race_does_not_win_and_is_known_to_be(
    start: Start, gpu_host: MakeHost, store: Store
) -> None:
    host = gpu_host(time_us)
    fastest = min(OTHERS, key=time_us)
    host.pool.faults = {fastest: "skips work"}  # type: ignore[attr-defined]
    session = start(host)
    result = conclude(session, [DEFAULT, *OTHERS])
    assert result.winner.config != fastest
    (row,) = [each for each in store.evaluations() if each.status is Status.WRONG]
    assert (row.config, row.reason) == (fastest, "in the race: skips work")
    assert row.uid not in result.decision.rows
    again = start(host, day=2).known()
    assert again[fastest].status is Status.WRONG


def test_where_all_that_race_are_wrong_nothing_is_decided(
    start: Start, gpu_host: MakeHost, store: Store
) -> None:
    host = gpu_host(time_us)
    host.pool.faults = dict.fromkeys([DEFAULT, *OTHERS], "skips work")  # type: ignore[attr-defined]
    with pytest.raises(NothingTunedError, match=r"race is wrong, nothing is cached; skips work"):
        conclude(start(host), [DEFAULT, *OTHERS])
    assert store.decisions() == []
    assert store.cache() == []


def test_whoever_follows_is_told_of_every_job_and_what_became_of_it(
    start: Start, gpu_host: MakeHost
) -> None:
    host = gpu_host(lambda config: Outcome(Status.WRONG) if config["num_warps"] == 8 else 5.0)
    unfit = Outcome(Status.REJECTED, reason="too big")
    same = Outcome(Status.OK, binary=Binary("beef", 32, 0, 0, 16, 16), grid=(8, 1, 1))
    host.pool.binaries = lambda config: unfit if config["BLOCK_SIZE"] == 4096 else same
    told: list[Any] = []
    session = replace(start(host), tell=told.append)
    configs = [DEFAULT, *OTHERS]
    session.begin(len(configs))
    found = found_by(session, configs)
    session.conclude(found, known=0, space_size=100, began=0.0, stopped="enough")
    began, asked, *events = told
    assert (began.problem, began.total, began.known) == (session.problem, len(configs), 0)
    assert list(asked.configs) == configs
    done = [event for event in events if isinstance(event, Evaluated | Shared)]
    statuses = {
        event.job.config: event.outcome.status
        if isinstance(event, Evaluated)
        else event.evaluation.status
        for event in done
    }
    assert statuses == {config: row.status for config, row in found.items()}
    assert len(done) == len(configs)
    assert {event.job.shape for event in done} == {(64, 128)}
    assert any(isinstance(event, Shared) for event in done)
    assert any(isinstance(event, Raced) for event in events)
    assert isinstance(events[-1], Decided)
    assert (events[-1].winner.config, events[-1].stopped) == (DEFAULT, "enough")
