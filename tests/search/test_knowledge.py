from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.evaluation import (
    Decision,
    Evaluation,
    Provenance,
    Source,
    Status,
    VerifiedBy,
)
from tunekit.core.problem import Problem
from tunekit.errors import ImportFormatError
from tunekit.records import write_lines
from tunekit.search import knowledge
from tunekit.search.knowledge import LEFT_OUT, Knowledge, floor_us, left_out, read_landscapes
from tunekit.search.landscape import Landscape, Point, landscapes_of, write
from tunekit.search.neighbours import DISTANCES
from tunekit.store.database import Store

PROBLEM = Problem.of("mish_mish", "0a1b2c", {"n": 2**20}, "float32", "p16", "h100")
PROVENANCE = Provenance(
    "NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-cold-1", "2026-01-31T12:00:00Z"
)
ONE, TWO = Config(BLOCK=128), Config(BLOCK=256)
WARM = "graph-warm-1"


def _sized(n: int, **changes: str) -> Problem:
    return replace(PROBLEM, dims=(("n", n),), **changes)


def _recorded(problem: Problem, time_us: float = 2.0, protocol: str = "graph-cold-1") -> Landscape:
    return Landscape(problem, (Point(ONE, Status.OK, time_us),), protocol)


def _evaluated(
    problem: Problem,
    time_us: float = 2.0,
    config: Config = ONE,
    *,
    protocol: str = "graph-cold-1",
    source: Source = Source.MEASURED,
) -> Evaluation:
    measured = source is Source.MEASURED
    return Evaluation(
        problem,
        (64, 64),
        config,
        Status.OK,
        source,
        replace(PROVENANCE, protocol=protocol),
        verified_by=VerifiedBy.DEVICE if measured else VerifiedBy.INTERPRETER,
        time_us=time_us,
        samples_us=(time_us,) * 3 if measured else (),
    )


def _sizes(landscapes: list[Landscape]) -> list[int]:
    return [dict(each.problem.dims)["n"] for each in landscapes]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder of recorded landscapes, a file each."""

    def make(*landscapes: Landscape) -> Path:
        for number, landscape in enumerate(landscapes):
            write([landscape], "an H100", tmp_path / "recorded" / f"{number}.csv.gz")
        return tmp_path / "recorded"

    return make


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[Store]]:
    with Store.open(tmp_path / "mine.db") as mine, Store.open(tmp_path / "other.db") as other:
        yield [mine, other]


def test_what_was_imported_counts_for_its_problem_whatever_the_kernel_s_source(
    tmp_path: Path,
) -> None:
    def candidate(problem: Problem, config: Config) -> Candidate:
        return Candidate(problem, config, "a.py line 1", "2026-01-31T12:00:00Z")

    here, before = candidate(PROBLEM, TWO), candidate(replace(PROBLEM, kernel_hash="9f"), ONE)
    elsewhere = candidate(_sized(64), ONE)
    with (
        Store.open(tmp_path / "one.db") as one,
        Store.open(tmp_path / "other.db") as other,
    ):
        one.add_candidates([elsewhere, here])
        other.add_candidates([before])
        assert Knowledge(None, [one, other]).candidates(PROBLEM) == [here, before]
        assert Knowledge(None, [one, other]).winners_before(PROBLEM, Source.MEASURED) == []


class TestNear:
    def test_the_folder_and_every_store_count(
        self, folder: Callable[..., Path], stores: list[Store]
    ) -> None:
        path = folder(_recorded(_sized(2**19)), _recorded(_sized(2**18)))
        stores[0].add([_evaluated(_sized(2**21)), _evaluated(_sized(2**21), 3.0, TWO)])
        stores[1].add([_evaluated(_sized(2**22))])
        found = Knowledge(path, stores).near(PROBLEM)
        assert sorted(_sizes(found)) == [2**18, 2**19, 2**21, 2**22]
        by_size = dict(zip(_sizes(found), found, strict=True))
        assert dict(by_size[2**21].times_us) == {ONE: 2.0, TWO: 3.0}

    def test_of_one_problem_the_stores_evaluations_are_put_together(
        self, stores: list[Store]
    ) -> None:
        stores[0].add([_evaluated(_sized(2**21), 2.0, ONE)])
        stores[1].add([_evaluated(_sized(2**21), 3.0, TWO)])
        (found,) = Knowledge(None, stores).near(PROBLEM)
        assert dict(found.times_us) == {ONE: 2.0, TWO: 3.0}

    def test_what_was_tuned_a_moment_ago_counts(self, stores: list[Store]) -> None:
        known = Knowledge(None, stores)
        assert known.near(PROBLEM) == []
        stores[0].add([_evaluated(_sized(2**21))])
        assert _sizes(known.near(PROBLEM)) == [2**21]

    def test_nothing_is_known_of_nothing(self) -> None:
        assert Knowledge(None).near(PROBLEM) == []
        assert Knowledge(None).floor_us(PROBLEM) is None

    def test_a_folder_that_is_not_there_holds_nothing(self, tmp_path: Path) -> None:
        assert Knowledge(tmp_path / "absent").near(PROBLEM) == []

    def test_a_damaged_file_is_named_when_it_is_needed(self, tmp_path: Path) -> None:
        (tmp_path / "some.csv.gz").write_bytes(b"no landscape")
        known = Knowledge(tmp_path)
        with pytest.raises(ImportFormatError, match=r"some\.csv\.gz"):
            known.near(PROBLEM)

    def test_other_files_of_the_folder_are_left_alone(self, folder: Callable[..., Path]) -> None:
        path = folder(_recorded(_sized(2**21)))
        (path / "notes.txt").write_text("no landscape")
        assert _sizes(Knowledge(path).near(PROBLEM)) == [2**21]

    def test_cold_and_warm_are_apart(
        self, folder: Callable[..., Path], stores: list[Store]
    ) -> None:
        path = folder(_recorded(_sized(2**19)), _recorded(_sized(2**18), protocol=WARM))
        stores[0].add([_evaluated(_sized(2**21)), _evaluated(_sized(2**22), protocol=WARM)])
        known = Knowledge(path, stores)
        assert sorted(_sizes(known.near(PROBLEM))) == [2**19, 2**21]
        assert sorted(_sizes(known.near(PROBLEM, warm=True))) == [2**18, 2**22]

    def test_estimates_say_nothing(self, stores: list[Store]) -> None:
        stores[0].add([_evaluated(_sized(2**21), source=Source.ESTIMATED)])
        assert Knowledge(None, stores).near(PROBLEM) == []

    def test_the_nearest_is_first(self, folder: Callable[..., Path], stores: list[Store]) -> None:
        problems = [
            _sized(2**24),
            _sized(2**21),
            _sized(2**21, device="h200"),
            _sized(2**20, kernel="relu"),
            _sized(2**19, dtype="float16"),
            PROBLEM,
        ]
        path = folder(*map(_recorded, problems[:3]))
        stores[0].add(map(_evaluated, problems[3:]))
        found = [each.problem for each in Knowledge(path, stores).near(PROBLEM)]
        weights = [DISTANCES.weight(PROBLEM, each) for each in found]
        assert len(found) == len(problems)
        assert weights == sorted(weights, reverse=True)
        assert found[0] == PROBLEM

    def test_what_is_too_far_is_left_out(
        self, folder: Callable[..., Path], stores: list[Store]
    ) -> None:
        other = replace(PROBLEM, dims=(("k", 2**20),))
        path = folder(_recorded(_sized(2**47)), _recorded(other))
        stores[0].add([_evaluated(_sized(1)), _evaluated(replace(other, device="h200"))])
        assert Knowledge(path, stores).near(PROBLEM) == []

    def test_there_are_so_many_at_most_the_nearest(
        self, folder: Callable[..., Path], stores: list[Store], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(knowledge, "_MOST", 3)
        path = folder(_recorded(_sized(2**23)), _recorded(_sized(2**18)))
        stores[0].add([_evaluated(_sized(2**21)), _evaluated(_sized(2**24))])
        assert _sizes(Knowledge(path, stores).near(PROBLEM)) == [2**21, 2**18, 2**23]


class TestWinnersBefore:
    @staticmethod
    def _decided(store: Store, row: Evaluation, at: str) -> None:
        store.add([row])
        store.decide(Decision(row.problem, row.source, row.uid, "", "", f"2026-01-31T{at}:00Z"))

    def test_of_an_earlier_source_of_the_kernel_the_latest_first(self, stores: list[Store]) -> None:
        self._decided(stores[0], _evaluated(replace(PROBLEM, kernel_hash="older")), "12:00")
        newer = _evaluated(replace(PROBLEM, kernel_hash="old"), config=TWO)
        self._decided(stores[1], newer, "13:00")
        assert Knowledge(None, stores).winners_before(PROBLEM, Source.MEASURED) == [TWO, ONE]

    def test_each_once_and_three_at_most(self, stores: list[Store]) -> None:
        for number in range(6):
            row = _evaluated(PROBLEM, 1.0 + number, Config(BLOCK=1 << number // 2))
            self._decided(stores[0], row, f"1{number}:00")
        found = Knowledge(None, stores).winners_before(PROBLEM, Source.MEASURED)
        assert found == [Config(BLOCK=4), Config(BLOCK=2), Config(BLOCK=1)]
        self._decided(stores[1], _evaluated(PROBLEM, config=Config(BLOCK=8)), "11:00")
        assert Knowledge(None, stores).winners_before(PROBLEM, Source.MEASURED) == found

    @pytest.mark.parametrize(
        "change",
        [
            {"kernel": "relu"},
            {"device": "h200"},
            {"dtype": "float16"},
            {"alignment": "p1"},
            {"dims": (("n", 2**21),)},
        ],
    )
    def test_of_other_problems_none(self, stores: list[Store], change: dict[str, Any]) -> None:
        self._decided(stores[0], _evaluated(replace(PROBLEM, **change)), "12:00")
        assert Knowledge(None, stores).winners_before(PROBLEM, Source.MEASURED) == []

    def test_of_another_source_none(self, stores: list[Store]) -> None:
        self._decided(stores[0], _evaluated(PROBLEM, source=Source.ESTIMATED), "12:00")
        known = Knowledge(None, stores)
        assert known.winners_before(PROBLEM, Source.MEASURED) == []
        assert known.winners_before(PROBLEM, Source.ESTIMATED) == [ONE]

    def test_what_was_measured_of_an_earlier_source_is_a_landscape(
        self, stores: list[Store]
    ) -> None:
        stores[0].add([_evaluated(replace(PROBLEM, kernel_hash="old"))])
        (found,) = Knowledge(None, stores).near(PROBLEM)
        assert dict(found.times_us) == {ONE: 2.0}
        assert DISTANCES.weight(PROBLEM, found.problem) == 1.0


class TestFloor:
    def test_it_is_the_best_of_the_identity_at_exactly_that_size(
        self, folder: Callable[..., Path], stores: list[Store]
    ) -> None:
        bare = replace(PROBLEM, kernel="identity", kernel_hash="ffff")
        path = folder(_recorded(bare, 3.0))
        known = Knowledge(path, stores)
        assert known.floor_us(PROBLEM) == 3.0
        again = replace(bare, kernel_hash="eeee")
        stores[0].add([_evaluated(again, 2.5), _evaluated(again, 4.0, TWO)])
        assert known.floor_us(PROBLEM) == 2.5

    @pytest.mark.parametrize(
        "changes",
        [
            {"dims": (("n", 2**20 + 1),)},
            {"dims": (("n", 2**19),)},
            {"dtype": "float16"},
            {"alignment": "p4"},
            {"device": "h200"},
            {"kernel": "relu"},
            {"kernel": "mish_mish"},
        ],
    )
    def test_of_another_problem_it_is_unknown(
        self, changes: dict[str, str], folder: Callable[..., Path], stores: list[Store]
    ) -> None:
        bare = replace(PROBLEM, kernel="identity", kernel_hash="ffff")
        other = replace(bare, **changes)  # type: ignore[arg-type]
        stores[0].add([_evaluated(other)])
        assert Knowledge(folder(_recorded(other)), stores).floor_us(PROBLEM) is None

    def test_cold_and_warm_are_apart(self, stores: list[Store]) -> None:
        bare = replace(PROBLEM, kernel="identity", kernel_hash="ffff")
        known = Knowledge(None, stores)
        stores[0].add([_evaluated(bare, 1.0, protocol=WARM)])
        assert (known.floor_us(PROBLEM), known.floor_us(PROBLEM, warm=True)) == (None, 1.0)
        stores[0].add([_evaluated(bare, 2.0)])
        assert (known.floor_us(PROBLEM), known.floor_us(PROBLEM, warm=True)) == (2.0, 1.0)

    def test_the_identity_has_no_floor(self, stores: list[Store]) -> None:
        """It would stop at its own first time."""
        bare = replace(PROBLEM, kernel="identity", kernel_hash="ffff")
        stores[0].add([_evaluated(bare, 1.0)])
        assert Knowledge(None, stores).floor_us(bare) is None
        assert floor_us(bare, [_recorded(bare)]) is None

    def test_it_is_found_among_landscapes_as_well(self) -> None:
        bare = replace(PROBLEM, kernel="identity", kernel_hash="ffff")
        landscapes = [_recorded(PROBLEM, 1.0), _recorded(bare, 3.0), _recorded(_sized(2), 0.5)]
        assert floor_us(PROBLEM, landscapes) == 3.0
        assert floor_us(PROBLEM, [*landscapes, _recorded(bare, 2.0)]) == 2.0
        assert floor_us(_sized(2**19), landscapes) is None

    def test_an_estimate_is_no_floor(self, stores: list[Store]) -> None:
        bare = replace(PROBLEM, kernel="identity", kernel_hash="ffff")
        stores[0].add([_evaluated(bare, 1.0, source=Source.ESTIMATED)])
        assert Knowledge(None, stores).floor_us(PROBLEM) is None


class TestReadLandscapes:
    def test_every_kind_of_file_says_the_same(self, tmp_path: Path) -> None:
        rows = [
            _evaluated(PROBLEM, 2.0, ONE),
            _evaluated(PROBLEM, 3.0, TWO),
            _evaluated(_sized(2**10), 1.0),
            _evaluated(_sized(2**11), 1.0, source=Source.ESTIMATED),
        ]
        landscapes = landscapes_of(rows)
        assert len(landscapes) == 2
        write(landscapes, "an H100", tmp_path / "some.csv.gz")
        write_lines(tmp_path / "some.jsonl", rows)
        (tmp_path / "some.jsonl.gz").write_bytes(
            gzip.compress((tmp_path / "some.jsonl").read_bytes())
        )
        with Store.open(tmp_path / "some.db") as store:
            store.add(rows)
        for name in ("some.csv.gz", "some.jsonl", "some.jsonl.gz", "some.db"):
            assert read_landscapes(tmp_path / name) == landscapes

    @pytest.mark.parametrize("name", ["some.csv.gz", "some.jsonl", "some.txt"])
    def test_another_file_is_refused(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text("no landscape")
        with pytest.raises(ImportFormatError, match="some"):
            read_landscapes(tmp_path / name)


ALL = [
    _recorded(_sized(n, kernel=kernel, dtype=dtype, device=device), protocol=protocol)
    for n, kernel, dtype, device, protocol in itertools.product(
        (2**10, 2**20),
        ("mish_mish", "relu"),
        ("float32", "float16"),
        ("h100", "h200"),
        ("graph-cold-1", WARM),
    )
]


class TestLeftOut:
    @pytest.mark.parametrize(
        ("name", "gone", "remaining"),
        [
            ("problem", ("kernel", "dims", "dtype", "device"), 15),
            ("size", ("dims",), 8),
            ("kernel", ("kernel",), 8),
            ("device", ("device",), 8),
        ],
    )
    @pytest.mark.parametrize("judged", [ALL[0].problem, ALL[9].problem, ALL[-1].problem])
    def test_nothing_that_has_it_in_common_remains_and_all_else_does(
        self, name: str, gone: tuple[str, ...], remaining: int, judged: Problem
    ) -> None:
        found = left_out(name, judged, ALL)
        assert found == [
            each
            for each in ALL
            if any(getattr(each.problem, part) != getattr(judged, part) for part in gone)
        ]
        assert len(found) == 2 * remaining  # cold and warm

    @pytest.mark.parametrize("judged", [ALL[0].problem, ALL[-1].problem])
    def test_neither_the_kernel_nor_the_size_remains(self, judged: Problem) -> None:
        found = left_out("kernel-and-size", judged, ALL)
        assert len(found) == 2 * 4
        assert all(each.problem.kernel != judged.kernel for each in found)
        assert all(each.problem.dims != judged.dims for each in found)

    def test_everything_is_left_out(self) -> None:
        assert left_out("everything", PROBLEM, ALL) == []

    def test_a_size_is_left_out_of_every_gpu(self) -> None:
        """The same size on another GPU would tell nearly all."""
        assert not [
            each
            for each in left_out("size", _sized(2**20, device="h20"), ALL)
            if each.problem.dims == (("n", 2**20),)
        ]

    def test_nothing_is_left_out_where_nothing_is_judged(self) -> None:
        assert left_out("nothing", ALL[0].problem, ALL) == ALL

    @pytest.mark.parametrize("name", [name for name in LEFT_OUT if name != "nothing"])
    @pytest.mark.parametrize("judged", [each.problem for each in ALL[::5]])
    def test_the_problem_itself_never_remains(self, name: str, judged: Problem) -> None:
        assert all(each.problem != judged for each in left_out(name, judged, ALL))

    @pytest.mark.parametrize("name", LEFT_OUT)
    def test_of_folder_and_stores_the_same_is_left_out(
        self, name: str, folder: Callable[..., Path], stores: list[Store]
    ) -> None:
        cold = [each for each in ALL if not each.warm]
        path = folder(*cold[::2])
        stores[0].add(_evaluated(each.problem) for each in cold[1::2])
        found = Knowledge(path, stores, leave_out=name).near(cold[0].problem)
        kept = {
            each.problem
            for each in left_out(name, cold[0].problem, cold)
            if DISTANCES.weight(cold[0].problem, each.problem) >= 1e-3
        }
        assert {each.problem for each in found} == kept

    def test_the_order_stays(self) -> None:
        kept = left_out("size", PROBLEM, ALL)
        assert kept == [each for each in ALL if each in kept]
