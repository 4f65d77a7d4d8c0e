"""What a search begins with."""

from __future__ import annotations

from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.problem import Problem
from tunekit.core.space import Space
from tunekit.search.first import First
from tunekit.search.task import Imported

SPACE = Space.parse(
    """
    [axes]
    BLOCK = [16, 32, 64]
    num_warps = [4, 8]

    [default]
    BLOCK = 32
    num_warps = 4

    [constraints]
    fits = "BLOCK * num_warps <= limit"
    """,
    "space.toml",
    "mine",
)
CONTEXT = {"limit": 384}
PROBLEM = Problem.of("mine", "0a", {"n": 64}, "float32", "p16", "h100")
DEFAULT = Config(BLOCK=32, num_warps=4)


def candidate(config: Config, origin: str = "a.py line 1") -> Candidate:
    return Candidate(PROBLEM, config, origin, "2026-01-31T00:00:00Z")


def test_the_default_then_what_won_then_what_was_imported() -> None:
    won = Config(BLOCK=16, num_warps=8)
    on_list, off_list = Config(BLOCK=64, num_warps=4), Config(num_warps=2, BLOCK=48)
    first = First.of(SPACE, CONTEXT, [won], [candidate(off_list), candidate(on_list)])
    assert first.order == (DEFAULT, won, off_list, on_list)
    assert first.off_list == 1
    assert first.configs == (*SPACE.configs(CONTEXT), off_list)
    # In the order of the axes, as every configuration of the space.
    assert list(first.configs[-1]) == ["BLOCK", "num_warps"]


def test_what_cannot_be_launched_here_is_left_out() -> None:
    forbidden = Config(BLOCK=64, num_warps=8)
    other_axes = Config(BLOCK=16)
    first = First.of(SPACE, CONTEXT, [forbidden], [candidate(forbidden), candidate(other_axes)])
    assert first.order == (DEFAULT,)
    assert first.configs == tuple(SPACE.configs(CONTEXT))
    assert first.imported([DEFAULT], DEFAULT) is None


def test_what_won_may_be_off_the_lists_if_it_was_imported() -> None:
    off_list = Config(BLOCK=48, num_warps=4)
    assert First.of(SPACE, CONTEXT, [off_list], []).order == (DEFAULT,)
    first = First.of(SPACE, CONTEXT, [off_list], [candidate(off_list)])
    assert first.order == (DEFAULT, off_list)


def test_what_became_of_them() -> None:
    one, two = Config(BLOCK=48, num_warps=4), Config(BLOCK=64, num_warps=4)
    again = candidate(two, "b.json entry 2")
    first = First.of(SPACE, CONTEXT, [], [candidate(one), candidate(two, "b.json entry 1"), again])
    assert first.imported([DEFAULT, one], DEFAULT) == Imported(2, 1, 1, "")
    assert first.imported([one, two], two) == Imported(2, 1, 2, "b.json entry 1")
