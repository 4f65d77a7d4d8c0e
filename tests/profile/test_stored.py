"""Which evaluations are profiled, and which counters the databases have of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuned_problem import DEFAULT, SHAPE, WINNER, decision_of, evaluations

from tunekit.core.evaluation import Evaluation, Source, Status
from tunekit.errors import ProfileError
from tunekit.kernels.library import mish_add_hardtanh_scale
from tunekit.profile.counters import SM
from tunekit.profile.find import find_ncu
from tunekit.profile.problem import keep, profile_row
from tunekit.profile.stored import counted
from tunekit.profile.subjects import Role, measured_row, subjects_of
from tunekit.store.database import Store

MakeNcu = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "own.db") as opened:
        yield opened


def tune(store: Store, *made: Evaluation, default: Evaluation | None = None) -> None:
    store.add(made)
    store.decide(decision_of(made[0], default))


def test_winner_and_default(store: Store) -> None:
    winner, default = evaluations()
    tune(store, winner, default, default=default)
    (row,) = store.cache()
    assert [(each.role, each.evaluation) for each in subjects_of(row, [store])] == [
        (Role.WINNER, winner),
        (Role.DEFAULT, default),
    ]


def test_the_default_may_have_won(store: Store) -> None:
    _, default = evaluations()
    tune(store, default, default=default)
    (row,) = store.cache()
    assert [each.role for each in subjects_of(row, [store])] == [Role.BOTH]


def test_a_default_that_did_not_run_is_left_out(store: Store) -> None:
    winner, default = evaluations()
    failed = replace(
        default, status=Status.ERROR, verified_by=None, time_us=None, samples_us=(), max_error=None
    )
    tune(store, winner, failed, default=failed)
    (row,) = store.cache()
    assert [each.role for each in subjects_of(row, [store])] == [Role.WINNER]


def test_no_default(store: Store) -> None:
    winner, _ = evaluations()
    tune(store, winner)
    (row,) = store.cache()
    assert [each.role for each in subjects_of(row, [store])] == [Role.WINNER]


def test_a_row_that_no_database_has(store: Store, tuned: Path) -> None:
    with Store.open(tuned) as other:
        (row,) = other.cache()
    assert subjects_of(row, [store]) == []


def test_an_estimate_is_no_measured_row(store: Store) -> None:
    winner, default = evaluations(Source.ESTIMATED)
    tune(store, winner, default, default=default)
    assert measured_row(winner.problem, store.cache()) is None


def test_another_problem_is_no_measured_row(tuned: Path) -> None:
    with Store.open(tuned) as store:
        (row,) = store.cache()
    assert measured_row(row.problem, [row]) is row
    assert measured_row(replace(row.problem, dtype="float16"), [row]) is None


def profile(stores: list[Store], fake: Any) -> Any:
    (row,) = stores[-1].cache()
    kernel, ncu = mish_add_hardtanh_scale, find_ncu(fake.path)
    return profile_row(row, kernel, kernel.name, stores, ncu, 0, (), 30.0)


def test_counters_of_shipped_rows_are_kept_in_the_persons_database(
    store: Store, tuned: Path, make_ncu: MakeNcu
) -> None:
    with ExitStack() as stack:
        shipped = stack.enter_context(Store.open(tuned, readonly=True))
        (row,) = shipped.cache()
        for times in (1, 2):  # the second time the person's database has evaluations of it
            profiles = profile([store, shipped], make_ncu())
            assert [each.role for each in profiles] == [Role.WINNER, Role.DEFAULT]
            assert keep(profiles, store, "Nsight Compute 1") == 32
            assert len(store.all_counters()) == 32 * times
        assert store.cache() == []  # no decision was copied
        assert {each.config for each in store.evaluations()} == {WINNER, DEFAULT}
        winner, default = counted([row], [store, shipped])
    assert (winner.role, winner.config, winner.time_us) == (Role.WINNER, WINNER, 1410.02)
    assert (default.role, default.config, default.time_us) == (Role.DEFAULT, DEFAULT, 1421.94)
    assert winner.counters[SM.name].value == 30.02
    assert default.counters[SM.name].value == 17.72
    assert default.counters[SM.name].tool == "Nsight Compute 1"


def test_the_launches_are_those_of_the_evaluations(tuned: Path, make_ncu: MakeNcu) -> None:
    with Store.open(tuned) as store:
        first, second = profile([store], make_ncu())
    assert (first.evaluation.config, first.launch.block) == (WINNER, (256, 1, 1))
    assert (second.evaluation.config, second.launch.block) == (DEFAULT, (128, 1, 1))
    assert first.evaluation.shape == SHAPE
    assert first.same_binary
    assert first.missing(["bogus__metric.sum"]) == ["bogus__metric.sum"]


def test_counters_of_another_binary_are_not_kept(tuned: Path, make_ncu: MakeNcu) -> None:
    launched = [{"binary": name, "grid": [524288, 1, 1]} for name in ("5882d22d226b9921", "other")]
    with Store.open(tuned) as store:
        profiles = profile([store], make_ncu(launched={"launched": launched}))
        assert [each.same_binary for each in profiles] == [True, False]
        assert keep(profiles, store, "Nsight Compute 1") == 16
        assert {each.evaluation for each in store.all_counters()} == {profiles[0].evaluation.uid}


def test_a_row_whose_binary_is_not_known_is_taken_at_its_word(
    store: Store, make_ncu: MakeNcu
) -> None:
    winner, default = (replace(each, binary=None) for each in evaluations())
    tune(store, winner, default, default=default)
    assert all(each.same_binary for each in profile([store], make_ncu()))


def test_a_row_without_its_evaluation_cannot_be_profiled(
    store: Store, tuned: Path, make_ncu: MakeNcu
) -> None:
    with Store.open(tuned) as other:
        (row,) = other.cache()
    kernel, ncu = mish_add_hardtanh_scale, find_ncu(make_ncu().path)
    with pytest.raises(ProfileError, match=f"its winner {row.winner} is in no database"):
        profile_row(row, kernel, kernel.name, [store], ncu, 0, (), 30.0)


def test_of_several_readings_the_latest_is_shown(tuned: Path) -> None:
    with Store.open(tuned) as store:
        (row,) = store.cache()
        assert counted([row], [store]) == []
        for value in (10.0, 20.0):
            store.add_counters(row.winner, {SM.name: (value, "%")}, "Nsight Compute 1")
        (only,) = counted([row], [store])
    assert only.role is Role.WINNER
    assert only.counters[SM.name].value == 20.0


def test_a_winner_that_is_the_default_is_shown_once(store: Store) -> None:
    _, default = evaluations()
    tune(store, default, default=default)
    store.add_counters(default.uid, {SM.name: (10.0, "%")}, "Nsight Compute 1")
    (only,) = counted(store.cache(), [store])
    assert only.role is Role.BOTH
