"""A tuner killed at any moment loses nothing, repeats nothing and can go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., Any]
Tally = Callable[[str, str, int], None]


@pytest.mark.parametrize(
    "kills", [16, pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_killed_at_random_moments(kills: int, server: Ask, tally: Tally) -> None:
    counted = server("kill_at_random", kills, 7)
    landed = counted["landed"]
    assert sum(landed.values()) == kills
    stages = {
        "while evaluating",
        "in the race or the decision",
        "while the Optuna study was written",
    }
    # A few kills may all land in two of them.
    assert len(stages & landed.keys()) >= (3 if kills > 100 else 1), landed
    for where, count in sorted(landed.items()):
        tally("Kills", f"tuners killed {where}", count)
    tally("Kills", "databases that such tuners shared, each complete in the end", counted["files"])
    tally("Kills", "rows they had stored, all there", counted["acknowledged"])


@pytest.mark.parametrize(
    "step", [140, pytest.param(7, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_killed_at_one_statement_after_another(step: int, server: Ask, tally: Tally) -> None:
    counted = server("kill_at_statements", step)
    # The tables, the evaluations, the decision and the study.
    assert counted["statements"] > 130
    tally("Kills", "tuners killed at one statement of SQL after another", counted["killed"])


def test_killed_before_optuna_s_table_of_studies_has_its_index(server: Ask) -> None:
    """Optuna looks for tables only: without the index each projection would add a study."""
    assert server("kill_at_one", "CREATE UNIQUE INDEX", "index")["killed"] == 1
