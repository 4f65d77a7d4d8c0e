"""How often a decision errs, and whether it is the same every time, under the noise of real races.

    python benchmarks/decide_noise.py [-o FILE] [--tunings N]

No GPU: true times are those of recorded landscapes, and noise is what the races in studies.db left
when each configuration's median is taken out, drawn as whole rounds, so that what configurations
have in common stays in common. Every tuning measures, selects the entrants, races and decides with
tunekit's own code. Same seeds, same output.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunekit.core.config import Config
from tunekit.core.device import device_named
from tunekit.core.evaluation import Binary, Decision, Evaluation, Source
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.kernels.library import KERNELS
from tunekit.search import race
from tunekit.search.decide import (
    CLEAR,
    TIE_BAND,
    Finalist,
    Verdict,
    decide,
    paired_gain,
    simplicity,
)
from tunekit.search.landscape import read
from tunekit.store.database import Store

Array = NDArray[np.float64]

ROOT = Path(__file__).resolve().parent.parent
DEVICES = ("h100", "h200")
FALSE_GOAL, MISSED_GOAL = 0.01, 0.05
"""Largest share of runs that name one no better than the default; that miss a gain of 2 %."""
SAME_GOAL, LOSS_GOAL = 28 / 30, 0.01
"""Least share of tunings that name the same winner; largest loss of a winner."""
GAIN = 0.02
FIRST = 1.0
"""Deviation of a measurement of the search, in deviations of two configurations' ratio in one round
of a race. An assumption: studies.db keeps races only."""
RIVALS = 6
"""Configurations raced against the default where nothing is better than it."""


@dataclass(frozen=True)
class Case:
    """A problem with its true times."""

    problem: Problem
    default: Config
    times_us: Mapping[Config, float]
    binaries: Mapping[Config, Binary | None]

    @property
    def elements(self) -> int:
        """Its size."""
        return dict(self.problem.dims)["n"]

    @cached_property
    def best_us(self) -> float:
        """The exhaustive best."""
        return min(self.times_us.values())

    @cached_property
    def tied(self) -> frozenset[Config]:
        """Within the tie band of the best."""
        limit = self.best_us * (1.0 + TIE_BAND)
        return frozenset(config for config, time in self.times_us.items() if time <= limit)

    def loss(self, config: Config) -> float:
        """True time over the best's, less one."""
        return self.times_us[config] / self.best_us - 1.0


Noise = dict[tuple[str, int], list[Array]]
"""By GPU and size: of each recorded race log samples less their median, rounds × configurations."""


@dataclass(frozen=True, slots=True)
class Disturbed:
    """What is added to the recorded noise.

    Attributes:
        tail, tail_mean: share of samples that are slowed, and by how much on average (exponential).
        drift: a round's step of each configuration's own random walk.
        common: height of a slow wave that all configurations share.
    """

    name: str
    tail: float = 0.0
    tail_mean: float = 0.0
    drift: float = 0.0
    common: float = 0.0


RECORDED = Disturbed("as recorded")
NOISES = (
    RECORDED,
    Disturbed("5 % of the samples slowed by 5 % on average", tail=0.05, tail_mean=0.05),
    Disturbed("all drift by 2 % together, each by 0.02 % a round", drift=0.0002, common=0.02),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A way of tuning, and of the world.

    Attributes:
        first: deviation of the search's measurements, in those of a ratio in a round.
        between: deviation of a configuration's own time from one tuning to another.
        apart: times are this far apart, as a share of what was recorded.
        searched: configurations measured; None for all, else half are the preferred ones and half
            others at random.
        preferred: whether neighbouring problems are known.
        every: each so-manieth problem only.
    """

    name: str
    first: float = FIRST
    between: float = 0.0
    apart: float = 1.0
    searched: int | None = None
    preferred: bool = True
    every: int = 6


SCENARIOS = (
    Scenario("complete search", every=2),
    Scenario("20 measured", searched=20),
    Scenario("search's measurements twice as noisy", first=2.0 * FIRST),
    Scenario("times half as far apart", apart=0.5),
    Scenario("no neighbours known", preferred=False),
    Scenario("0.1 % off from tuning to tuning", between=0.001),
    Scenario("0.2 % off from tuning to tuning", between=0.002),
)


@dataclass(frozen=True, slots=True)
class Tuned:
    """One simulated tuning."""

    winner: Config
    entrants: int
    rounds: int
    settled: bool


@dataclass(frozen=True)
class Repeated:
    """All tunings of one problem."""

    case: Case
    runs: tuple[Tuned, ...]

    @property
    def same(self) -> float:
        """Share that the most frequent winner has."""
        return Counter(run.winner for run in self.runs).most_common(1)[0][1] / len(self.runs)

    @property
    def losses(self) -> list[float]:
        """Of each winner, against the exhaustive best."""
        return [self.case.loss(run.winner) for run in self.runs]

    @property
    def apart(self) -> float:
        """How much slower the slowest winner is than the fastest."""
        return (1.0 + max(self.losses)) / (1.0 + min(self.losses)) - 1.0

    @property
    def slower(self) -> float:
        """Share of winners other than the default that are no better than it."""
        case = self.case
        named = (run.winner for run in self.runs if run.winner != case.default)
        worse = sum(case.times_us[config] >= case.times_us[case.default] for config in named)
        return worse / len(self.runs)


@cache
def recorded_cases(device: str) -> tuple[Case, ...]:
    """The problems of the landscapes recorded on a GPU, by kernel, dtype and size."""
    _, landscapes = read(ROOT / "benchmarks" / "landscapes" / f"{device}.csv.gz")
    cases = []
    for landscape in landscapes:
        problem = landscape.problem
        facts = context(dict(problem.dims), problem.itemsize, device_named(device))
        default = KERNELS[problem.kernel].load_space().default(facts)
        binaries = {point.config: point.binary for point in landscape.points}
        cases.append(Case(problem, default, landscape.times_us, binaries))
    return tuple(cases)


@cache
def recorded_races() -> tuple[tuple[Decision, tuple[Evaluation, ...]], ...]:
    """The measured decisions that ship, with the evaluations they rest on."""
    with Store.open(ROOT / "studies.db", readonly=True, immutable=True) as store:
        rows = {row.uid: row for row in store.evaluations(source=Source.MEASURED)}
        decisions = store.decisions(source=Source.MEASURED)
    return tuple((each, tuple(rows[uid] for uid in each.rows)) for each in decisions)


@cache
def recorded_noise() -> Noise:
    """Residuals of the races in the database that ships."""
    found: Noise = defaultdict(list)
    for decision, rows in recorded_races():
        logs = np.log([row.samples_us for row in rows]).T
        key = (decision.problem.device, dict(decision.problem.dims)["n"])
        found[key].append(logs - np.median(logs, axis=0))
    return dict(found)


@cache
def ratio_deviation(device: str, elements: int) -> float:
    """Deviation of the ratio of two configurations in a round, by 1.4826·MAD: the median pair's."""
    spreads = []
    for logs in recorded_noise()[device, elements]:
        for one, other in itertools.combinations(logs.T, 2):
            ratio = one - other
            spreads.append(1.4826 * np.median(np.abs(ratio - np.median(ratio))))
    return float(np.median(spreads))


def between_races() -> tuple[float, int]:
    """How far a configuration is off in another race of the same problem, and from how many pairs.

    From problems raced twice: the difference of a pair's gap in two races is noise of both races,
    whose variance is known, and what the races differ by: a method of moments, four deviations a
    pair and two races.
    """
    by_problem = defaultdict(list)
    for decision, rows in recorded_races():
        by_problem[decision.problem].append({row.config: row.samples_us for row in rows})
    excess = []
    for races in by_problem.values():
        for one, other in itertools.combinations(races, 2):
            for pair in itertools.combinations(sorted(one.keys() & other.keys(), key=str), 2):
                gap, error = paired_gain(*(one[config] for config in pair))
                again, other_error = paired_gain(*(other[config] for config in pair))
                excess.append((gap - again) ** 2 - error**2 - other_error**2)
    mean = sum(excess) / len(excess) if excess else 0.0
    return math.sqrt(max(mean, 0.0)) / 2.0, len(excess)


def drawer(
    generator: np.random.Generator, races: Sequence[Array], columns: int, added: Disturbed
) -> Callable[[int], Array]:
    """Draws rounds of log noise, rounds × columns, from races of one GPU and size.

    Where a race has too few configurations another's rounds stand beside it. A round's sign is
    random, so that equals are truly equal: medians of differences are not differences of medians.
    """
    parts: list[Array] = []
    while sum(part.shape[1] for part in parts) < columns:
        parts.append(races[int(generator.integers(len(races)))])
    length = min(len(part) for part in parts)
    table = np.concatenate([part[:length] for part in parts], axis=1)
    table = table[:, generator.permutation(table.shape[1])[:columns]]
    place, phase, done = np.zeros(columns), generator.uniform(0.0, 2.0 * math.pi), 0

    def draw(rounds: int) -> Array:
        nonlocal place, done
        noise: Array = table[generator.integers(length, size=rounds)]
        noise = noise * generator.choice([-1.0, 1.0], size=(rounds, 1))
        slowed = generator.random(noise.shape) < added.tail
        noise = noise + slowed * generator.exponential(added.tail_mean, noise.shape)
        walk = place + added.drift * generator.normal(size=noise.shape).cumsum(axis=0)
        place = walk[-1]
        wave = np.sin(phase + 2.0 * math.pi * (done + np.arange(rounds)) / 50.0)
        done += rounds
        drawn: Array = noise + walk + added.common * wave[:, None]
        return drawn

    return draw


def raced(
    times_us: Sequence[float],
    entrants: Sequence[Finalist],
    default: Config,
    draw: Callable[[int], Array],
    preference: Mapping[Config, float] | None = None,
) -> tuple[Verdict, race.Raced]:
    """Race and decide with tunekit's code."""

    def sample(rounds: int) -> list[list[float]]:
        found: list[list[float]] = (np.array(times_us) * np.exp(draw(rounds))).T.tolist()
        return found

    ran = race.run(entrants, default, sample, preference)
    return decide(ran.finalists, default, preference), ran


def false_and_missed(device: str, added: Disturbed, repeats: int) -> tuple[float, float, float]:
    """Share of runs that name one no better than the default, and that miss a true gain.

    Among rivals of the default's own time, and with one of them faster; at every size recorded.
    Third: mean rounds.
    """
    generator = np.random.default_rng(1)
    configs = [Config(BLOCK_SIZE=128 << place, num_warps=1) for place in range(RIVALS + 1)]
    field = [Finalist(config, ()) for config in configs]
    default, false, missed, rounds = configs[-1], 0, 0, []
    pools = [races for (name, _), races in sorted(recorded_noise().items()) if name == device]
    for races in pools:
        for _ in range(repeats):
            for gain in (0.0, GAIN):
                times = [100.0 / (1.0 + gain), *[100.0] * RIVALS]
                draw = drawer(generator, races, len(field), added)
                verdict, ran = raced(times, field, default, draw)
                rounds.append(ran.rounds)
                false += verdict.winner not in ((0, RIVALS) if gain else (RIVALS,))
                missed += bool(gain) and verdict.winner != 0
    runs = len(pools) * repeats
    return false / (2 * runs), missed / runs, float(np.mean(rounds))


def preference_of(case: Case, cases: Sequence[Case]) -> dict[Config, float]:
    """In how many neighbouring problems a configuration is best or tied.

    Neighbours are of the same kernel or dtype and differ by at most 4.5 powers of two in size.
    """
    counts: Counter[Config] = Counter()
    for other in cases:
        alike = other.problem.kernel == case.problem.kernel
        alike |= other.problem.dtype == case.problem.dtype
        near = abs(math.log2(other.elements / case.elements)) <= 4.5
        if other is not case and alike and near:
            counts.update(other.tied & case.times_us.keys())
    return {config: float(counts[config]) for config in case.times_us}


def searched(
    generator: np.random.Generator, case: Case, liked: Mapping[Config, float], scenario: Scenario
) -> list[Config]:
    """What a search measures: everything, or the preferred and some more, and the default."""
    ranked = sorted(case.times_us, key=lambda config: (-liked[config], simplicity(config)))
    if scenario.searched is None or scenario.searched >= len(ranked):
        return ranked
    half = scenario.searched // 2
    rest = generator.permutation(len(ranked) - half)[: scenario.searched - half] + half
    return list(dict.fromkeys([*ranked[:half], *(ranked[i] for i in rest), case.default]))


def tuned(
    generator: np.random.Generator, case: Case, liked: Mapping[Config, float], scenario: Scenario
) -> Tuned:
    """One tuning: measure, choose entrants, race, decide."""
    preference = liked if scenario.preferred else None
    configs = searched(generator, case, liked, scenario)
    true = {config: case.times_us[config] for config in configs}
    first = scenario.first * ratio_deviation(case.problem.device, case.elements)
    measured = [
        Finalist(config, (time * math.exp(generator.normal(0.0, first)),), binary)
        for config, time in true.items()
        for binary in (case.binaries[config],)
    ]
    entrants = race.entrants(measured, case.default, preference)
    offsets = np.exp(generator.normal(0.0, scenario.between, len(entrants)))
    times = [true[each.config] * float(o) for each, o in zip(entrants, offsets, strict=True)]
    races = recorded_noise()[case.problem.device, case.elements]
    draw = drawer(generator, races, len(entrants), RECORDED)
    verdict, ran = raced(times, entrants, case.default, draw, preference)
    return Tuned(entrants[verdict.winner].config, len(entrants), ran.rounds, ran.settled)


def closer(case: Case, apart: float) -> Case:
    """The same problem with its times nearer to the best."""
    times = {c: case.best_us * (t / case.best_us) ** apart for c, t in case.times_us.items()}
    return Case(case.problem, case.default, times, case.binaries)


def repeated(device: str, scenario: Scenario, tunings: int) -> list[Repeated]:
    """Independent tunings of each of the scenario's problems."""
    cases = [closer(case, scenario.apart) for case in recorded_cases(device)]
    found = []
    for number, case in list(enumerate(cases))[:: scenario.every]:
        generator = np.random.default_rng(number)
        liked = preference_of(case, cases)
        runs = tuple(tuned(generator, case, liked, scenario) for _ in range(tunings))
        found.append(Repeated(case, runs))
    return found


def row(name: str, found: Sequence[Repeated]) -> str:
    """One line of the table of repeated tunings."""
    runs = [run for each in found for run in each.runs]
    losses = [loss for each in found for loss in each.losses]
    cells = [
        str(len(found)),
        f"{np.mean([each.same >= SAME_GOAL for each in found]):.0%}",
        f"{np.mean([each.same for each in found]):.1%}",
        f"{np.mean(losses):.2%}",
        f"{np.mean([loss > LOSS_GOAL for loss in losses]):.1%}",
        f"{np.mean([each.apart > LOSS_GOAL for each in found]):.0%}",
        f"{np.mean([each.slower for each in found]):.2%}",
        f"{np.mean([run.entrants for run in runs]):.1f}",
        f"{np.mean([run.rounds for run in runs]):.0f}",
        f"{np.mean([run.settled for run in runs]):.0%}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


HEADER = (
    "| | problems | of these ≥ 28 of 30 the same | tunings that name the most frequent winner "
    "| mean loss | losses > 1 % | winners > 1 % apart | no better than the default | entrants "
    "| rounds | settled |"
)


def size_class(elements: int) -> str:
    """Small problems are launch and latency, large ones bandwidth."""
    for bits in (16, 20, 24):
        if elements <= 2**bits + 1:
            return f"up to 2^{bits}"
    return "above 2^24"


def verdict_line(what: str, value: float, goal: float) -> str:
    """One goal, kept or not."""
    return f"{'PASS' if value <= goal else 'FAIL'}  {what}: {value:.2%} (at most {goal:.0%})"


def report(tunings: int, repeats: int, jobs: int) -> Iterator[str]:
    """The whole output, line by line."""
    yield "# Decisions under the noise of recorded races"
    yield ""
    yield (
        f"- band of ties {TIE_BAND:.1%}, clear is {CLEAR:g} standard errors, looks after "
        f"{', '.join(map(str, itertools.accumulate(race.BLOCKS)))} rounds"
    )
    yield (
        f"- entrants: first measurement within {race.MARGIN:.0%} of the fastest; of these the "
        f"{race.FASTEST} fastest and the {race.PREFERRED} first in order of preference; the default"
    )
    off, pairs = between_races()
    yield (
        f"- from one race of a problem to another a configuration is {off:.2%} off beyond what the "
        f"rounds' noise explains ({pairs} pairs of configurations, all of 4096 elements)"
    )
    goals: list[str] = []
    with ProcessPoolExecutor(jobs) as pool:
        yield from _never_slower(pool, repeats, goals)
        yield from _same_winner(pool, tunings)
    yield ""
    yield "## Goals"
    yield ""
    yield "```"
    yield from goals
    yield "```"


def _never_slower(pool: ProcessPoolExecutor, repeats: int, goals: list[str]) -> Iterator[str]:
    yield ""
    yield "## Never slower"
    yield ""
    yield (
        f"{RIVALS} configurations race the default: all of its time, or one {GAIN:.0%} faster. "
        f"{repeats} races of either kind for each recorded size."
    )
    yield ""
    yield "| GPU | noise | names one that is no better | misses the faster one | rounds |"
    yield "| --- | --- | ---: | ---: | ---: |"
    runs = list(itertools.product(DEVICES, NOISES))
    results = pool.map(false_and_missed, *zip(*runs, strict=True), [repeats] * len(runs))
    for (device, added), (false, missed, rounds) in zip(runs, results, strict=True):
        yield f"| {device} | {added.name} | {false:.2%} | {missed:.2%} | {rounds:.0f} |"
        goals.append(verdict_line(f"{device}, {added.name}: no better", false, FALSE_GOAL))
        goals.append(verdict_line(f"{device}, {added.name}: missed", missed, MISSED_GOAL))


def _same_winner(pool: ProcessPoolExecutor, tunings: int) -> Iterator[str]:
    yield ""
    yield "## The same winner every time"
    yield ""
    yield (
        f"{tunings} independent tunings of recorded problems. Losses are against the exhaustive "
        "best, by recorded times; so is how far apart the fastest and the slowest winner of a "
        "problem are."
    )
    runs = list(itertools.product(DEVICES, SCENARIOS))
    found = dict(
        zip(runs, pool.map(repeated, *zip(*runs, strict=True), [tunings] * len(runs)), strict=True)
    )
    for device in DEVICES:
        yield ""
        yield f"### {device}"
        yield ""
        yield HEADER
        yield "| --- |" + " ---: |" * (HEADER.count("|") - 2)
        for scenario in SCENARIOS:
            yield row(scenario.name, found[device, scenario])
            if scenario is SCENARIOS[0]:
                yield from _by_size(found[device, scenario])


def _by_size(found: Sequence[Repeated]) -> Iterator[str]:
    groups = defaultdict(list)
    for each in sorted(found, key=lambda each: each.case.elements):
        groups[size_class(each.case.elements)].append(each)
    for name, group in groups.items():
        yield row(f"– {name}", group)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, simulate, print; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tunings", type=int, default=30, help="of each problem")
    parser.add_argument("--repeats", type=int, default=50, help="races of each recorded size")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    lines = []
    for line in report(arguments.tunings, arguments.repeats, arguments.jobs):
        print(line, flush=True)
        lines.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(line.startswith("FAIL") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
