from __future__ import annotations

from dataclasses import replace

import pytest

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.search.leaders import Leaders

PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 4096}, "float32", "p16", "h100")
PROVENANCE = Provenance(
    "NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-cold-1", "2026-01-31T12:00:00Z"
)
FIRST, SAME, OTHER_GRID = (
    Config(BLOCK=1024, VEC=4),
    Config(BLOCK=1024, VEC=8),
    Config(BLOCK=512, VEC=4),
)
BINARY = Binary("beef", 32, 0, 0, 16, 16)
OTHER = replace(BINARY, hash="cafe")


def _grid(config: Config) -> tuple[int, int, int]:
    return (4096 // config["BLOCK"], 1, 1)


@pytest.fixture
def leaders() -> Leaders:
    return Leaders(_grid)


def _evaluation(config: Config, status: Status = Status.OK, reason: str = "") -> Evaluation:
    ran = status is Status.OK
    return Evaluation(
        PROBLEM,
        (4096,),
        config,
        status,
        Source.MEASURED,
        PROVENANCE,
        reason=reason,
        verified_by=VerifiedBy.DEVICE if ran else None,
        time_us=2.5 if ran else None,
        samples_us=(2.4, 2.5, 2.6) if ran else (),
        binary=BINARY,
        max_error=0.25,
        disturbance="clocks throttled: power cap" if ran else "",
    )


def test_the_first_of_a_binary_and_grid_leads_all_of_them(leaders: Leaders) -> None:
    assert leaders.of(FIRST, BINARY) == FIRST
    assert leaders.of(SAME, BINARY) == FIRST
    assert leaders.of(FIRST, BINARY) == FIRST


def test_only_the_hash_says_whether_a_binary_is_the_same(leaders: Leaders) -> None:
    leaders.of(FIRST, BINARY)
    assert leaders.of(SAME, replace(BINARY, registers=33)) == FIRST


def test_another_binary_is_another_candidate(leaders: Leaders) -> None:
    leaders.of(FIRST, BINARY)
    assert leaders.of(SAME, OTHER) == SAME


def test_another_grid_is_another_candidate(leaders: Leaders) -> None:
    leaders.of(FIRST, BINARY)
    assert leaders.of(OTHER_GRID, BINARY) == OTHER_GRID


@pytest.mark.parametrize("grid", [(4, 1, 1), (1, 4, 1), (1, 1, 4)])
def test_every_part_of_the_grid_counts(grid: tuple[int, int, int]) -> None:
    leaders = Leaders(lambda config: (1, 1, 1) if config == FIRST else grid)
    leaders.of(FIRST, BINARY)
    assert leaders.of(SAME, BINARY) == SAME


def test_what_has_no_binary_leads_itself_alone(leaders: Leaders) -> None:
    assert [leaders.of(config, None) for config in (FIRST, SAME)] == [FIRST, SAME]


def test_what_was_known_before_leads(leaders: Leaders) -> None:
    leaders.add(_evaluation(FIRST))
    assert leaders.of(SAME, BINARY) == FIRST


def test_a_copy_is_the_leader_s_but_for_the_configuration_and_says_so(leaders: Leaders) -> None:
    evaluation = _evaluation(FIRST)
    leaders.add(evaluation)
    copy = leaders.copy(SAME, FIRST)
    assert copy.config == SAME
    assert copy.reason == "not measured again: the same binary and grid as BLOCK=1024, VEC=4"
    assert replace(copy, config=FIRST, reason="") == evaluation
    assert copy.verified
    assert copy.uid != evaluation.uid


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.OK])
def test_a_leader_that_failed_fails_for_all(status: Status, leaders: Leaders) -> None:
    leaders.add(_evaluation(FIRST, status, "went wrong"))
    copy = leaders.copy(SAME, FIRST)
    assert (copy.status, copy.time_us) == (status, None)
    assert copy.reason.startswith("went wrong; not measured again: the same binary and grid as ")
    assert not copy.verified


def test_a_copy_that_is_added_does_not_lead(leaders: Leaders) -> None:
    leaders.add(_evaluation(FIRST))
    leaders.add(leaders.copy(SAME, FIRST))
    third = Config(BLOCK=1024, VEC=2)
    assert leaders.of(third, BINARY) == FIRST
    assert leaders.copy(third, FIRST).reason.count("not measured again") == 1


def test_copies_are_counted(leaders: Leaders) -> None:
    leaders.add(_evaluation(FIRST))
    leaders.of(SAME, BINARY)
    assert leaders.saved == 0
    leaders.copy(SAME, FIRST)
    leaders.copy(Config(BLOCK=1024, VEC=2), FIRST)
    assert leaders.saved == 2
