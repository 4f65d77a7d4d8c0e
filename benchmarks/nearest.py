"""What a call loses whose size was never tuned: rules for what to serve it, on recorded problems.

    python benchmarks/nearest.py [-o FILE] [--jobs N] [--no-estimates]

Of each recorded problem its size is left out: no rule knows anything of that size, of any kernel or
dtype. Loss is the recorded time of what a rule serves over the exhaustive best, less one. `suited`
is the rule that runs (tunekit/runtime/nearest.py), called as a call does. The estimates compile
every configuration, which takes minutes the first time. Matmul is not among the problems: nothing
of it ships.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import estimate

from tunekit.core.config import Config
from tunekit.core.device import Device, device_named
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import Launch
from tunekit.paths import shipped_database, shipped_landscapes
from tunekit.portfolio.choose import Portfolio, choose
from tunekit.runtime.known import Sized, size_of
from tunekit.runtime.nearest import LIMITS, Limits, neighbours
from tunekit.search import landscape as recorded
from tunekit.search.decide import rank_estimates
from tunekit.search.landscape import Landscape
from tunekit.search.transfer import Transfer
from tunekit.store.cache import CacheRow, read_cache

GOAL = 0.02
"""Largest mean loss of what runs, for each GPU."""
PORTFOLIOS = (2, 4, 8)
BUCKETS = (2, 4, 6)
"""Octaves of a bucket."""
STEPS = (2, 4, 6)
"""Octaves to the neighbours of a thinned database."""
SHOWN = 12


@dataclass(frozen=True)
class Case:
    """A problem whose size was left out.

    Attributes:
        rows: what a database has of the other sizes, of that kernel, dtype, class and device.
        strangers: the same of the other alignment classes.
        known: landscapes of the other sizes on that device.
    """

    landscape: Landscape
    rows: tuple[Sized, ...]
    strangers: tuple[Sized, ...] = ()
    known: tuple[Landscape, ...] = ()

    @property
    def problem(self) -> Problem:
        """What is asked for."""
        return self.landscape.problem

    @property
    def size(self) -> int:
        """Its number of elements."""
        return size_of(self.problem)

    @property
    def kernel(self) -> Kernel:
        """Its kernel."""
        return KERNELS[self.problem.kernel]

    @property
    def device(self) -> Device:
        """Its GPU model."""
        return device_named(self.problem.device)

    @cached_property
    def launch(self) -> Launch:
        """Its launch."""
        return estimate.launch_of(self.landscape, self.device)

    @cached_property
    def names(self) -> dict[str, int]:
        """What constraints of the space may speak of."""
        return context(self.launch.dims, self.problem.itemsize, self.device)

    @cached_property
    def default(self) -> Config:
        """The space's default here."""
        return self.kernel.load_space().default(self.names)

    def loss(self, config: Config) -> float:
        """Of serving that configuration."""
        best_us = self.landscape.best.time_us
        assert best_us is not None
        return self.landscape.times_us[config] / best_us - 1.0

    def first(self, rows: Iterable[CacheRow]) -> Config:
        """The first configuration that the space allows here, else the default."""
        space = self.kernel.load_space()
        allowed = (row.config for row in rows if space.violated(row.config, self.names) is None)
        return next(allowed, self.default)


Rule = Callable[[Case], Config]


def ratio(one: int, other: int) -> float:
    """How many times larger or smaller."""
    return max(one, other) / min(one, other)


def nearest(case: Case, rows: Sequence[Sized] | None = None) -> Config:
    """The row of the nearest size, of two the larger."""
    ranked = sorted(
        case.rows if rows is None else rows,
        key=lambda each: (ratio(each.size, case.size), -each.size),
    )
    return case.first(each.row for each in ranked)


def nearest_of_any_class(case: Case) -> Config:
    """The same, divisible by 16 or not."""
    return nearest(case, (*case.rows, *case.strangers))


def larger(case: Case) -> Config:
    """The row of the next larger size, else of the next smaller."""
    ranked = sorted(case.rows, key=lambda o: (o.size < case.size, ratio(o.size, case.size)))
    return case.first(each.row for each in ranked)


def smaller(case: Case) -> Config:
    """The row of the next smaller size, else of the next larger."""
    ranked = sorted(case.rows, key=lambda o: (o.size > case.size, ratio(o.size, case.size)))
    return case.first(each.row for each in ranked)


def default(case: Case) -> Config:
    """The space's default."""
    return case.default


def suited(case: Case, limits: Limits = LIMITS, rows: Sequence[Sized] | None = None) -> Config:
    """What a call is served."""
    triton = next(iter(case.rows)).row.provenance.triton
    chosen = case.rows if rows is None else rows
    near, _ = neighbours(chosen, case.problem, case.launch, case.device, triton, limits)
    return case.first(near)


def suited_of_any_class(case: Case) -> Config:
    """The same, divisible by 16 or not."""
    return suited(case, rows=(*case.rows, *case.strangers))


def better_neighbour(case: Case) -> Config:
    """The faster one of the next smaller and the next larger row: what no rule can know."""
    return min((smaller(case), larger(case)), key=case.loss)


def bucketed(case: Case, octaves: int) -> Config:
    """One configuration a bucket of sizes: with the least mean loss of the others in it."""
    group = [
        each
        for each in case.known
        if (each.problem.kernel, each.problem.dtype) == (case.problem.kernel, case.problem.dtype)
    ]
    bucket = _bucket(case.size, octaves)
    nearby = min((abs(_bucket(size_of(o.problem), octaves) - bucket) for o in group), default=0)
    inside = [o for o in group if abs(_bucket(size_of(o.problem), octaves) - bucket) == nearby]
    return _least_mean(case, [(1.0, each) for each in inside])


def _bucket(size: int, octaves: int) -> int:
    return (size.bit_length() - 1) // octaves


def portfolio(case: Case, count: int) -> Config:
    """Of `count` configurations that serve the kernel's other problems, what serves the nearest."""
    group = {
        each.problem: each.times_us
        for each in case.known
        if each.problem.kernel == case.problem.kernel
    }
    found = _PORTFOLIOS.get((case.problem.kernel, case.problem.device, case.size, count))
    if found is None:
        found = choose(group, count, worst_steps=2000, mean_steps=1000)
        _PORTFOLIOS[case.problem.kernel, case.problem.device, case.size, count] = found
    alike = sorted(
        (ratio(each.size, case.size), -each.size, found.served_by[each.row.problem])
        for each in case.rows
        if each.row.problem in found.served_by
    )
    space = case.kernel.load_space()
    for _, _, index in alike:
        config = found.configs[index]
        if space.violated(config, case.names) is None:
            return config
    return case.default


_PORTFOLIOS: dict[tuple[str, str, int, int], Portfolio[Problem]] = {}


def interpolated(case: Case, *, winners: bool) -> Config:
    """What loses least at the next smaller and the next larger size, the nearer weighing more.

    Args:
        case: the problem.
        winners: choose among those two sizes' winners only; else among all configurations.
    """
    alike = [each for each in case.known if _kind(each.problem) == _kind(case.problem)]
    below = [each for each in alike if size_of(each.problem) < case.size]
    above = [each for each in alike if size_of(each.problem) > case.size]
    pair = [max(below, key=_size)] if below else []
    pair += [min(above, key=_size)] if above else []
    near = 1.0
    if len(pair) == 2:
        near = 1 - math.log(case.size / _size(pair[0])) / math.log(_size(pair[1]) / _size(pair[0]))
    weights = [near, 1 - near][: len(pair)]
    weighed = list(zip(weights, pair, strict=True))
    return _least_mean(case, weighed, {o.best.config for o in pair} if winners else None)


def _least_mean(
    case: Case, weighed: Sequence[tuple[float, Landscape]], among: Iterable[Config] | None = None
) -> Config:
    def cost(config: Config) -> tuple[float, float]:
        known = [
            (weight, math.log(each.times_us[config] / (each.best.time_us or math.inf)))
            for weight, each in weighed
            if config in each.times_us
        ]
        missing = sum(weight for weight, _ in weighed) - sum(weight for weight, _ in known)
        return round(missing, 9), sum(weight * loss for weight, loss in known)

    configs = [each for each in case.landscape.times_us if among is None or each in set(among)]
    return min(configs, key=cost, default=case.default)


def learned(case: Case) -> Config:
    """What the search's model expects to be fastest, from all other sizes of all kernels."""
    expected = Transfer(case.problem, list(case.landscape.times_us), case.known).expected()
    return min(expected, key=lambda config: expected[config])


FROM_ROWS: dict[str, Rule] = {
    "default": default,
    "nearest": nearest,
    "next smaller": smaller,
    "next larger": larger,
    "nearest of any class": nearest_of_any_class,
    "**suited**": suited,
    "suited, of any class": suited_of_any_class,
    "(the better neighbour)": better_neighbour,
}
"""Rules that need what a call has: one row a problem."""

FROM_LANDSCAPES: dict[str, Rule] = {
    **{f"bucket of {n} octaves": lambda case, n=n: bucketed(case, n) for n in BUCKETS},
    **{f"portfolio of {n}": lambda case, n=n: portfolio(case, n) for n in PORTFOLIOS},
    "interpolated, two winners": lambda case: interpolated(case, winners=True),
    "interpolated, all": lambda case: interpolated(case, winners=False),
    "the search's model": learned,
}
"""Rules that need every configuration's time at the other sizes."""


def cases(known: Sequence[Landscape], rows: Mapping[Problem, CacheRow]) -> list[Case]:
    """Every problem with its size left out."""
    found = []
    for each in known:
        problem = each.problem
        here = [row for row in rows.values() if row.problem.device == problem.device]
        others = [row for row in here if row.problem.dims != problem.dims]
        alike = [row for row in others if _kind(row.problem) == _kind(problem)]
        strange = [
            row
            for row in others
            if row not in alike and _kind(row.problem)[:-1] == _kind(problem)[:-1]
        ]
        landscapes = tuple(
            other
            for other in known
            if other.problem.device == problem.device and other.problem.dims != problem.dims
        )
        found.append(Case(each, _sized(alike), _sized(strange), landscapes))
    return found


def _kind(problem: Problem) -> tuple[str, str, str, str]:
    return problem.device, problem.kernel, problem.dtype, problem.alignment


def _size(landscape: Landscape) -> int:
    return size_of(landscape.problem)


def _sized(rows: Iterable[CacheRow]) -> tuple[Sized, ...]:
    return tuple(Sized(row, size_of(row.problem)) for row in rows)


def best_rows(
    known: Iterable[Landscape], rows: Mapping[Problem, CacheRow]
) -> dict[Problem, CacheRow]:
    """Rows as if each landscape's fastest configuration had won."""
    return {each.problem: replace(rows[each.problem], config=each.best.config) for each in known}


def estimated(known: Sequence[Landscape], jobs: int) -> dict[Problem, Config]:
    """What the analytic model puts first for each problem, from binaries made here."""
    binaries, found = estimate.Binaries(jobs), {}
    for number, each in enumerate(known, start=1):
        print(f"\restimates: {number} of {len(known)}", end="", file=sys.stderr)
        case = Case(each, ())
        made = binaries.of(each, case.device)
        moved = case.kernel.bytes_moved(case.launch)
        times_us = {
            config: estimate.estimated_us(case.launch, moved, config, made[config], case.device)
            for config in made
        }
        found[each.problem] = rank_estimates(times_us, case.default)[0]
    print(file=sys.stderr)
    return found


def table(chosen: Sequence[Case], rules: Mapping[str, Rule]) -> Iterator[str]:
    """Mean, 95th percentile and worst by GPU; means by dtype and class."""
    groups = groups_of(chosen)
    yield "| rule | " + " | ".join(groups) + " |"
    yield "| --- | " + "---: | " * len(groups)
    for name, rule in rules.items():
        losses = {id(case): case.loss(rule(case)) for case in chosen}
        cells = []
        for group, members in groups.items():
            own = [losses[id(case)] for case in members]
            mean = f"{statistics.fmean(own):.2%}"
            whole = f"{mean} / {percentile(own):.1%} / {max(own):.1%}"
            cells.append(mean if " " in group else whole)
        yield f"| {name} | " + " | ".join(cells) + " |"


def groups_of(chosen: Iterable[Case]) -> dict[str, list[Case]]:
    """By GPU, then by GPU and dtype, then by GPU and class."""
    groups: dict[tuple[int, str], list[Case]] = defaultdict(list)
    for case in chosen:
        device = case.problem.device
        groups[0, device].append(case)
        groups[1, f"{device} {case.problem.dtype}"].append(case)
        groups[2, f"{device} {'n % 16 = 0' if case.size % 16 == 0 else 'other n'}"].append(case)
    return {name: groups[order, name] for order, name in sorted(groups)}


def percentile(losses: Iterable[float], share: float = 0.95) -> float:
    """The smallest that so large a share does not exceed."""
    ranked = sorted(losses)
    return ranked[math.ceil(share * len(ranked)) - 1]


def by_size(chosen: Sequence[Case]) -> Iterator[str]:
    """Mean loss of each size, over kernels and dtypes."""
    rules = {"default": default, "nearest": nearest, "suited": suited}
    yield "| elements | GPU | problems | next sizes | " + " | ".join(rules) + " |"
    yield "| ---: | --- | ---: | --- | " + "---: | " * len(rules)
    groups: dict[tuple[int, str], list[Case]] = defaultdict(list)
    for case in chosen:
        groups[case.size, case.problem.device].append(case)
    for (size, device), members in sorted(groups.items()):
        means = [
            f"{statistics.fmean(each.loss(rule(each)) for each in members):.2%}"
            for rule in rules.values()
        ]
        yield f"| {size:,} | {device} | {len(members)} | {_next_sizes(members[0])} | " + (
            " | ".join(means) + " |"
        )


def _next_sizes(case: Case) -> str:
    below = max((each.size for each in case.rows if each.size < case.size), default=None)
    above = min((each.size for each in case.rows if each.size > case.size), default=None)
    parts = [f"÷ {case.size / below:.3g}"] if below else []
    parts += [f"× {above / case.size:.3g}"] if above else []
    return ", ".join(parts)


def worst(chosen: Sequence[Case], rule: Rule) -> Iterator[str]:
    """Where a rule loses most, and what it served there."""
    yield "| loss | kernel | dtype | GPU | elements | served | best |"
    yield "| ---: | --- | --- | --- | ---: | --- | --- |"
    for case in sorted(chosen, key=lambda each: -each.loss(rule(each)))[:SHOWN]:
        config, problem = rule(case), case.problem
        yield (
            f"| {case.loss(config):.1%} | {problem.kernel} | {problem.dtype} | {problem.device} | "
            f"{case.size:,} | {_short(config)} | {_short(case.landscape.best.config)} |"
        )


def _short(config: Config) -> str:
    return " ".join(str(value) for value in config.values())


def thinned(chosen: Sequence[Case]) -> Iterator[str]:
    """With one smaller and one larger row only, and with a single row."""
    rules: dict[str, Callable[[Case], Config]] = {
        "default": default,
        "nearest": nearest,
        "suited": suited,
    }
    yield "| rows at | cases | " + " | ".join(rules) + " |"
    yield "| --- | ---: | " + "---: | " * len(rules)
    for title, few in _databases(chosen):
        if few:
            cells = []
            for rule in rules.values():
                own = [each.loss(rule(each)) for each in few]
                mean = statistics.fmean(own)
                cells.append(f"{mean:.2%} / {percentile(own):.1%} / {max(own):.1%}")
            yield f"| {title} | {len(few)} | " + " | ".join(cells) + " |"


def _databases(chosen: Sequence[Case]) -> Iterator[tuple[str, list[Case]]]:
    def at(case: Case, octaves: int) -> list[Sized]:
        return [each for each in case.rows if _octaves(each.size, case.size) == octaves]

    for below in STEPS:
        for above in STEPS:
            pairs = [
                replace(case, rows=(one, other))
                for case in chosen
                for one in at(case, -below)
                for other in at(case, above)
            ]
            yield f"n ÷ {2**below} and n × {2**above}", pairs
    for octaves in (*(-step for step in STEPS), *STEPS):
        sign = "÷" if octaves < 0 else "×"
        single = [replace(case, rows=(one,)) for case in chosen for one in at(case, octaves)]
        yield f"n {sign} {2 ** abs(octaves)} alone", single


def _octaves(size: int, other: int) -> int:
    return round(math.log2(size / other))


def varied() -> dict[str, Limits]:
    """The rule's limits, each halved and doubled."""
    found = {"as they are": LIMITS}
    for name in ("idle", "crowded", "full", "misfit", "far"):
        for factor in (0.5, 2.0):
            value = getattr(LIMITS, name) * factor
            found[f"{name} = {value:g}"] = replace(LIMITS, **{name: value})
    return found


def limits_table(chosen: Sequence[Case]) -> Iterator[str]:
    """What other limits lose, by GPU, and with the fewer rows of `thinned`."""
    devices = sorted({case.problem.device for case in chosen})
    few = [case for _, group in _databases(chosen) for case in group]
    yield f"| limits | {' | '.join(devices)} | fewer rows |"
    yield "| --- | " + "---: | " * (len(devices) + 1)
    for name, limits in varied().items():
        groups = [[case for case in chosen if case.problem.device == slug] for slug in devices]
        means = [f"{_mean(group, limits):.2%}" for group in (*groups, few)]
        yield f"| {name} | {' | '.join(means)} |"


def held_out(chosen: Sequence[Case]) -> Iterator[str]:
    """Limits that would be chosen on one GPU alone, and what they lose on the other."""
    devices = sorted({case.problem.device for case in chosen})
    groups = {slug: [c for c in chosen if c.problem.device == slug] for slug in devices}
    grid = [
        replace(LIMITS, idle=LIMITS.idle * 2.0**one, crowded=LIMITS.crowded * 2.0**other)
        for one in range(-2, 3)
        for other in range(-2, 3)
    ]
    yield "| chosen on | idle | crowded | mean loss there | judged on | mean loss |"
    yield "| --- | ---: | ---: | ---: | --- | ---: |"
    for slug in devices:
        best = min(grid, key=lambda limits: round(_mean(groups[slug], limits), 9))
        for other in devices:
            if other != slug:
                there, here = _mean(groups[slug], best), _mean(groups[other], best)
                yield (
                    f"| {slug} | {best.idle:g} | {best.crowded:g} | {there:.2%} | {other} | "
                    f"{here:.2%} |"
                )


def _mean(chosen: Iterable[Case], limits: Limits) -> float:
    return statistics.fmean(case.loss(suited(case, limits)) for case in chosen)


def report(
    known: Sequence[Landscape], shipped: Mapping[Problem, CacheRow], jobs: int | None
) -> Iterator[str]:
    """The whole output, line by line; no estimates without `jobs`."""
    served = cases(known, shipped)
    winners = cases(known, best_rows(known, shipped))
    yield "# What is served where nothing was tuned"
    yield ""
    yield (
        f"{len(known)} recorded problems, each with its size left out: of whatever kernel and "
        "dtype, a rule knows nothing of that size. Loss against the exhaustive best in the "
        "recording: mean / 95th percentile / worst for each GPU, the mean for each dtype and for "
        "sizes divisible by 16 and others."
    )
    yield ""
    yield (
        "The sizes that ship are those recorded, four times apart where divisible by 16 and "
        "sixteen times elsewhere, so that with one left out the neighbours are that far on both "
        "sides: a size that is asked for between two of them has one at most half as many octaves "
        "off."
    )
    yield ""
    yield "## With the rows of the shipped database"
    yield ""
    own = {case.problem: shipped[case.problem].config for case in served}
    floor = {"(its own row, not left out)": lambda case: own[case.problem]}
    yield from table(served, {**FROM_ROWS, **floor})
    yield ""
    yield (
        "Its own row loses something, too: a decision takes of tied configurations the one that "
        "serves neighbours, and the best of a recording is partly luck."
    )
    yield ""
    yield "## With the fastest recorded configuration of each other size"
    yield ""
    rules: dict[str, Rule] = {**FROM_ROWS, **FROM_LANDSCAPES}
    if jobs is not None:
        guesses = estimated(known, jobs)
        rules["estimated for this size"] = lambda case: guesses[case.problem]
    yield from table(winners, rules)
    yield ""
    yield (
        "The better neighbour is known only afterwards. Buckets, portfolios, interpolation and the "
        "model need times of all configurations, where a call has one row a problem. An estimate "
        "needs each configuration compiled, and no measurement of any size."
    )
    yield ""
    yield "## By size, with the rows of the shipped database"
    yield ""
    yield from by_size(served)
    yield ""
    yield "## Where `nearest` loses most"
    yield ""
    yield "Configurations are block size, vector, warps, stages."
    yield ""
    yield from worst(served, nearest)
    yield ""
    yield "## Where `suited` loses most"
    yield ""
    yield from worst(served, suited)
    yield ""
    yield "## With fewer rows"
    yield ""
    yield (
        "The shipped database thinned to one smaller and one larger size, and to a single one: "
        "what a denser or a sparser one is worth. Both GPUs."
    )
    yield ""
    yield from thinned(served)
    yield ""
    yield "## The limits of `suited`"
    yield ""
    yield (
        "Chosen by hand beside both recordings; halved and doubled, one at a time. Mean loss for "
        "each GPU, and over all the cases with fewer rows."
    )
    yield ""
    yield from limits_table(served)
    yield ""
    yield "The two that matter most, chosen among 25 pairs on one GPU alone:"
    yield ""
    yield from held_out(served)
    yield ""
    yield "## Goals"
    yield ""
    yield "```"
    for group, members in groups_of(served).items():
        mean = statistics.fmean(case.loss(suited(case)) for case in members)
        verdict = "PASS" if mean <= GOAL else "FAIL"
        yield f"{verdict}  {group}: mean loss of what runs: {mean:.2%} (at most {GOAL:.0%})"
    yield "```"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, judge, print; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compiling threads")
    parser.add_argument("--no-estimates", action="store_true", help="compile nothing")
    parser.add_argument("-o", "--output", type=Path, help="also write the report here")
    arguments = parser.parse_args(argv)
    shipped = {row.problem: row for row in read_cache(shipped_database(), immutable=True)}
    files = [shipped_landscapes() / f"{slug}.csv.gz" for slug in ("h100", "h200")]
    known = [each for file in files for each in recorded.read(file)[1] if each.problem in shipped]
    lines = []
    for line in report(known, shipped, None if arguments.no_estimates else arguments.jobs):
        print(line, flush=True)
        lines.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any(line.startswith("FAIL") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
