"""How few measurements a search needs: replays of recorded landscapes, with no GPU.

    python benchmarks/search.py [-o FILE] [--seeds 3] [--jobs N]

Each strategy searches every recorded problem knowing all the others but what is left out: the
same size, the same op, both, or the same GPU model. Regret is the time of the best configuration
after so many distinct measured ones over the exhaustive best, less one; a configuration that the
recording cannot tell from the best counts as the best.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tunekit.core.config import Config
from tunekit.core.device import device_named
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.kernels.library import KERNELS
from tunekit.kernels.registry import find_kernel
from tunekit.paths import shipped_landscapes
from tunekit.search import landscape as recorded
from tunekit.search.landscape import Landscape
from tunekit.search.replay import CHECKPOINTS, TRIALS, Regret, Replayed, replay_all, searched
from tunekit.search.strategies import DRAWN, STRATEGIES

CHECKS = tuple(sorted({*CHECKPOINTS, 30}))
GIVEN = ("transfer",)
"""Strategies that learn from other problems: what is left out matters to these alone."""
EXAMPLES = Path(__file__).parents[1] / "examples"
REFERENCES = {
    "linear_gelu": "linear_gelu",
    "int8_linear": f"{EXAMPLES / 'int8_linear.py'}:int8_linear",
    "softmax_long": f"{EXAMPLES / 'softmax.py'}:softmax_long",
}
"""Kernels whose searches begin with the default of their spaces, as tuning does."""
NAMES = {"matmul_bias_gelu": "matmul"}


@dataclass(frozen=True)
class Goal:
    """What `transfer` has to reach: mean and 95th percentile of the regret after so many.

    Where `after` is None it is the regret where it stops.
    """

    after: int | None
    mean: float
    p95: float | None


@dataclass(frozen=True)
class Section:
    """A set of problems, and what is left out of what a search of them knows.

    Where `searched`, nothing is known but these problems, each cut down to what a search of it
    that knew nothing would have left.
    """

    title: str
    leave_out: str
    landscapes: tuple[Landscape, ...]
    strategies: tuple[str, ...]
    goal: Goal
    searched: bool = False


POINTWISE = Goal(10, 0.003, 0.01)
MATMUL = Goal(30, 0.01, 0.04)
ACROSS = Goal(10, 0.006, None)
SEARCHED = Goal(None, 0.01, None)


def sections(known: Sequence[Landscape]) -> Iterator[Section]:
    """What is judged."""
    for slug in sorted({each.problem.device for each in known}):
        device = [each for each in known if each.problem.device == slug]
        elementwise = tuple(each for each in device if each.problem.kernel in KERNELS)
        if elementwise:
            yield from _pointwise(f"pointwise on an {slug.upper()}", elementwise)
        others = dict.fromkeys(
            each.problem.kernel for each in device if each.problem.kernel not in KERNELS
        )
        for kernel in sorted(others, key=_place):
            own = tuple(each for each in device if each.problem.kernel == kernel)
            elsewhere = any(
                each.problem.kernel == kernel and each.problem.device != slug for each in known
            )
            name = NAMES.get(kernel, f"`{kernel}`")
            yield from _other(f"{name} on an {slug.upper()}", own, elsewhere)


def _pointwise(title: str, problems: tuple[Landscape, ...]) -> Iterator[Section]:
    yield Section(f"{title}, its size left out", "size", problems, STRATEGIES, POINTWISE)
    yield Section(f"{title}, its op left out", "kernel", problems, GIVEN, POINTWISE)
    yield Section(
        f"{title}, its op and its size left out", "kernel-and-size", problems, GIVEN, POINTWISE
    )
    yield Section(f"{title}, the GPU left out", "device", problems, GIVEN, ACROSS)
    yield Section(f"{title}, with nothing known", "everything", problems, GIVEN, POINTWISE)


def _other(title: str, problems: tuple[Landscape, ...], elsewhere: bool) -> Iterator[Section]:
    """Of one kernel that is not pointwise; `elsewhere`: whether another GPU's are known."""
    if len(problems) > 1:
        yield Section(f"{title}, its size left out", "size", problems, STRATEGIES, MATMUL)
        yield Section(
            f"{title}, its size left out, what searches left of the others",
            "size",
            problems,
            GIVEN,
            SEARCHED,
            searched=True,
        )
    if elsewhere:
        yield Section(f"{title}, the GPU left out", "device", problems, GIVEN, ACROSS)
    alone = GIVEN if len(problems) > 1 else STRATEGIES
    yield Section(f"{title}, with nothing known", "everything", problems, alone, MATMUL)


def _place(kernel: str) -> tuple[int, str]:
    """In the order of the tables above, then by name."""
    order = [*NAMES, *REFERENCES]
    return (order.index(kernel) if kernel in order else len(order), kernel)


def defaults_of(known: Iterable[Landscape]) -> dict[Problem, Config]:
    """The defaults of the spaces of `REFERENCES` at the recorded problems."""
    found = {}
    for problem in (each.problem for each in known):
        if problem.kernel in REFERENCES:
            space = find_kernel(REFERENCES[problem.kernel]).load_space()
            names = context(dict(problem.dims), problem.itemsize, device_named(problem.device))
            found[problem] = space.default(names)
    return found


def judged(section: Section, strategy: str) -> tuple[Landscape, ...]:
    """The problems a strategy searches: Optuna's GP takes seconds a problem, so not all of them."""
    every = _GP_EVERY if strategy == "gp" and len(section.landscapes) > _GP_MOST else 1
    return section.landscapes[::every]


def replayed(
    section: Section,
    known: Sequence[Landscape],
    defaults: Mapping[Problem, Config],
    seeds: int,
    executor: ProcessPoolExecutor,
) -> Iterator[Replayed]:
    """The section's strategies; the problems are shared out over processes."""
    if section.searched:
        known = list(executor.map(partial(searched, defaults=defaults), section.landscapes))
    for name in section.strategies:
        chosen = judged(section, name)
        once = 1 if name == "gp" else seeds
        # What tells where it would have stopped goes on until tuning would have ended.
        most = TRIALS if name in GIVEN else CHECKPOINTS[-1]
        settings = ([name], section.leave_out, once, most, defaults)
        parts = [
            executor.submit(replay_all, chosen[start::_PARTS], known, *settings)
            for start in range(_PARTS)
            if chosen[start::_PARTS]
        ]
        runs = [run for part in parts for run in part.result()[0].runs]
        yield Replayed(name, section.leave_out, tuple(runs))


_PARTS = 8
_GP_MOST, _GP_EVERY = 20, 6


def noise(landscape: Landscape) -> float:
    """What the recording cannot resolve, as a share of the time.

    Two standard errors of the difference to the best; the median over the ten next to it.
    """
    ran = sorted(
        (point for point in landscape.points if point.time_us is not None),
        key=lambda point: point.time_us or 0.0,
    )
    best = ran[0].rel_error
    return statistics.median(2 * (point.rel_error**2 + best**2) ** 0.5 for point in ran[1:11])


def report(known: Sequence[Landscape], seeds: int, jobs: int) -> Iterator[str]:
    """The whole output, line by line."""
    goals = []
    yield "# How few measurements a search needs"
    yield ""
    yield (
        "Regret above the exhaustive best in %, mean / 95th percentile / worst, after so many "
        f"distinct measured configurations. {', '.join(sorted(DRAWN))} draw: each from {seeds} "
        "seeds, gp from one. What a strategy that learns from no other problem gives does not "
        "depend on what is left out, and stands in the first table. *Stops* is where `transfer` "
        f"would have ended by itself, or after {TRIALS}."
    )
    yield ""
    yield (
        f"Searches of {', '.join(REFERENCES)} begin with the default of the space, as tuning does; "
        "the others with what the strategy asks first. *What searches left of the others*: what is "
        "known is what searches of that kernel on that GPU measured until they stopped, which knew "
        "nothing themselves, and nothing else."
    )
    defaults = defaults_of(known)
    with ProcessPoolExecutor(jobs) as executor:
        for section in sections(known):
            print(section.title, file=sys.stderr, flush=True)
            count = len(section.landscapes)
            resolved = statistics.median(map(noise, section.landscapes))
            size = statistics.fmean(len(each.points) for each in section.landscapes)
            yield ""
            yield f"## {section.title[0].upper()}{section.title[1:]}"
            yield ""
            yield (
                f"{count} problem{'s' * (count > 1)} of {size:.0f} configurations on average. "
                f"Noise floor of the recording: {resolved:.2%} at the median."
            )
            yield ""
            yield "| strategy | " + " | ".join(map(str, CHECKS)) + " | stops after | there |"
            yield "| --- | " + "---: | " * (len(CHECKS) + 2)
            for each in replayed(section, known, defaults, seeds, executor):
                cells = [_text(each.regret(count)) for count in CHECKS]
                stops = ["", ""]
                if each.strategy == "transfer":
                    after, there = each.stopped()
                    stops = [f"{after:.1f}", _text(there)]
                    goals += list(_verdicts(section, each))
                few = len(judged(section, each.strategy))
                name = f"{each.strategy} ({few} of them)" if few < count else each.strategy
                yield f"| {name} | " + " | ".join([*cells, *stops]) + " |"
                if each.strategy == "transfer":
                    raw = [_text(each.regret(count, tied=False)) for count in CHECKS]
                    yield "| transfer, noise not taken off | " + " | ".join([*raw, "", ""]) + " |"
    yield ""
    yield "## Nothing measured twice"
    yield ""
    yield from duplicates(known)
    yield ""
    yield "## Goals"
    yield ""
    yield "```"
    yield from goals
    yield "```"


def duplicates(known: Iterable[Landscape]) -> Iterator[str]:
    """Configurations of complete spaces that are the binary and grid of another."""
    yield "| kernels | device | configurations | the same binary as another |"
    yield "| --- | --- | ---: | ---: |"
    groups: dict[tuple[str, str], list[Landscape]] = {}
    for each in known:
        kind = "pointwise" if each.problem.kernel in KERNELS else each.problem.kernel
        groups.setdefault((kind, each.problem.device), []).append(each)
    for (kind, slug), landscapes in groups.items():
        total = sum(len(each.points) for each in landscapes)
        same = sum(_same(each) for each in landscapes)
        if any(point.binary and point.binary.hash for each in landscapes for point in each.points):
            yield f"| {kind} | {slug} | {total} | {same} |"


def _same(landscape: Landscape) -> int:
    hashes = [point.binary.hash for point in landscape.points if point.binary]
    return len(hashes) - len(set(hashes))


def _verdicts(section: Section, each: Replayed) -> Iterator[str]:
    goal = section.goal
    if section.leave_out == "everything":
        return  # shown, not judged: nothing is known there
    regret = each.stopped()[1] if goal.after is None else each.regret(goal.after)
    where = "where it stops" if goal.after is None else f"after {goal.after}"
    yield _verdict(f"{section.title}: mean {where}", regret.mean, goal.mean)
    if goal.p95 is not None:
        yield _verdict(f"{section.title}: p95 {where}", regret.p95, goal.p95)


def _verdict(what: str, value: float, goal: float) -> str:
    return f"{'PASS' if value <= goal else 'FAIL'}  {what}: {value:.2%} (at most {goal:.1%})"


def _text(regret: Regret) -> str:
    return " / ".join(f"{100 * share:.2f}" for share in (regret.mean, regret.p95, regret.worst))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, replay, print; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("landscapes", nargs="*", type=Path, help="default: all that are recorded")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    paths = arguments.landscapes or sorted(shipped_landscapes().glob("*.csv.gz"))
    known = [landscape for path in paths for landscape in recorded.read(path)[1]]
    lines = []
    for line in report(known, arguments.seeds, arguments.jobs):
        print(line, flush=True)
        lines.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(line.startswith("FAIL") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
