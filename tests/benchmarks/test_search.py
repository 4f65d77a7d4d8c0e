from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache

import pytest
import search
from search import Goal, Section, defaults_of, report, sections

from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.core.problem import Problem
from tunekit.paths import shipped_landscapes
from tunekit.search import landscape as recorded
from tunekit.search.landscape import Landscape, Point
from tunekit.search.replay import Regret, Replayed, searched


@cache
def _shipped() -> list[Landscape]:
    files = sorted(shipped_landscapes().glob("*.csv.gz"))
    return [landscape for file in files for landscape in recorded.read(file)[1]]


def _landscape(kernel: str, size: int, device: str = "h100", count: int = 30) -> Landscape:
    """Of one axis, along which times fall to the middle and rise again."""
    problem = Problem.of(kernel, "", {"M": size}, "float16", "", device)
    points = (
        Point(Config(BLOCK=2**number), Status.OK, 10.0 + abs(number - count // 2))
        for number in range(count)
    )
    return Landscape(problem, tuple(points))


def _sections(*landscapes: Landscape) -> list[Section]:
    return list(sections(landscapes))


def test_every_recorded_problem_is_judged_with_nothing_known() -> None:
    judged = [
        each
        for section in sections(_shipped())
        if section.leave_out == "everything"
        for each in section.landscapes
    ]
    assert sorted(map(id, judged)) == sorted(map(id, _shipped()))


def test_a_section_holds_problems_of_one_gpu_and_of_pointwise_kernels_or_of_one_other() -> None:
    for section in sections(_shipped()):
        kernels = {each.problem.kernel for each in section.landscapes}
        assert len({each.problem.device for each in section.landscapes}) == 1
        assert kernels <= search.KERNELS.keys() or len(kernels) == 1


def test_titles_are_told_apart() -> None:
    titles = [section.title for section in sections(_shipped())]
    assert len(set(titles)) == len(titles)


def test_of_a_kernel_recorded_once_only_a_search_that_knows_nothing_is_shown() -> None:
    (section,) = _sections(_landscape("own", 16))
    assert section.title == "`own` on an H100, with nothing known"
    assert section.strategies == search.STRATEGIES


def test_another_gpu_is_left_out_where_there_is_one() -> None:
    own = [_landscape("own", size) for size in (16, 64)]
    assert all(each.leave_out != "device" for each in _sections(*own))
    assert all(
        each.leave_out != "device" for each in _sections(*own, _landscape("another", 16, "h200"))
    )
    both = _sections(*own, _landscape("own", 16, "h200"))
    assert [each.title for each in both if each.leave_out == "device"] == [
        "`own` on an H100, the GPU left out",
        "`own` on an H200, the GPU left out",
    ]


def test_searches_begin_with_the_default_of_the_recorded_space() -> None:
    defaults = defaults_of(_shipped())
    assert {problem.kernel for problem in defaults} == search.REFERENCES.keys()
    for landscape in _shipped():
        if landscape.problem.kernel in search.REFERENCES:
            assert defaults[landscape.problem] in landscape.times_us


def test_where_searches_left_something_nothing_else_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[Landscape, ...]] = []

    def note(landscapes: object, known: list[Landscape], *settings: object) -> list[Replayed]:
        given.append(tuple(known))
        return [Replayed("transfer", "size", ())]

    class Here:
        """Runs what is submitted at once."""

        def map(self, function, items):  # type: ignore[no-untyped-def]
            return map(function, items)

        def submit(self, function, *arguments):  # type: ignore[no-untyped-def]
            result = function(*arguments)
            return type("Done", (), {"result": lambda self: result})()

    monkeypatch.setattr(search, "replay_all", note)
    own = [_landscape("own", size) for size in (16, 64)]
    known = [*own, _landscape("another", 16), _landscape("own", 16, "h200")]
    for section in (
        each for each in _sections(*known) if each.title.startswith("`own` on an H100")
    ):
        given.clear()
        list(search.replayed(section, known, {}, 1, Here()))  # type: ignore[arg-type]
        cut = tuple(map(searched, own))
        assert set(given) == {cut if section.searched else tuple(known)}
        assert all(len(each.points) < 30 for each in cut)


@pytest.mark.parametrize(("regret", "word"), [(0.01, "PASS"), (0.011, "FAIL")])
def test_a_goal_without_a_number_is_judged_where_it_stops(
    regret: float, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replayed, "stopped", lambda self: (9.0, Regret(regret, 1.0, 1.0)))
    section = Section("own", "size", (), ("transfer",), Goal(None, 0.01, None), searched=True)
    (line,) = search._verdicts(section, Replayed("transfer", "size", ()))
    assert line.startswith(f"{word}  own: mean where it stops: {regret:.2%} ")


def test_nothing_known_is_shown_and_not_judged() -> None:
    section = Section("own", "everything", (), ("transfer",), Goal(10, 0.0, 0.0))
    assert list(search._verdicts(section, Replayed("transfer", "everything", ()))) == []


def test_a_report_of_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STRATEGIES", ("transfer", "random"))
    own = [replace(_landscape("own", size), protocol="graph-cold-1") for size in (16, 64)]
    monkeypatch.setattr(search, "ProcessPoolExecutor", lambda jobs: ProcessPoolExecutor(1))
    lines = list(report(own, 1, 1))
    heads = [line for line in lines if line.startswith("## `own`")]
    assert heads == [
        "## `own` on an H100, its size left out",
        "## `own` on an H100, its size left out, what searches left of the others",
        "## `own` on an H100, with nothing known",
    ]
    assert sum(line.startswith("| transfer |") for line in lines) == 3
    assert sum(line.startswith("| random |") for line in lines) == 1
    assert sum(line[:4] in ("PASS", "FAIL") for line in lines) == 3
