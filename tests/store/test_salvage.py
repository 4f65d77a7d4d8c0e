"""What is saved of a damaged database is what was written, and how it went is said in words."""

from __future__ import annotations

import importlib.util
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.counter import Counter
from tunekit.core.evaluation import Decision, Evaluation, Source, Status
from tunekit.errors import StoreError
from tunekit.store.cache import read_cache
from tunekit.store.database import Store
from tunekit.store.salvage import Salvage, salvage, save

MakeEvaluation = Callable[..., Evaluation]
MakeDecision = Callable[..., Decision]


def _load_damage() -> Any:
    spec = importlib.util.spec_from_file_location("damage", Path(__file__).with_name("damage.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["damage"] = module
    spec.loader.exec_module(module)
    return module


damaging = _load_damage()


def candidates_of(evaluations: list[Evaluation]) -> tuple[Candidate, ...]:
    """Configurations that are to be measured on the same problems."""
    return tuple(
        Candidate(each.problem, Config(BLOCK_SIZE=48), f"a.py line {n}", "2026-01-31T01:00:00Z")
        for n, each in enumerate(evaluations[::9])
    )


def counters_of(evaluations: list[Evaluation]) -> tuple[Counter, ...]:
    """What a profiler read of some evaluations."""
    return tuple(
        Counter(each.uid, f"metric {n % 3}", n / 7, "%", "a tool", "2026-01-31T01:00:00Z")
        for n, each in enumerate(evaluations[::4])
    )


@pytest.fixture
def written(
    tmp_path: Path,
    make_evaluation: MakeEvaluation,
    make_decision: MakeDecision,
    make_problem: Callable[..., Any],
) -> tuple[Path, list[Evaluation], list[Decision]]:
    """A database with rows of all kinds, the last of them in its write-ahead log alone."""
    evaluations, decisions = [], []
    for number in range(6):
        problem = make_problem(1024 << number)
        source = Source.ESTIMATED if number == 5 else Source.MEASURED
        rows = [
            make_evaluation(
                1.0 + index / 7,
                64 << index,
                problem=problem,
                source=source,
                at=f"00:0{number}:00",
                # Longer than a page, so that rows have pages of their own.
                samples_us=(1.0 + index / 7,) * (900 if index == 2 and number < 5 else 0),
            )
            for index in range(8)
        ]
        failed = make_evaluation(
            None, 3, problem=problem, status=Status.WRONG, reason="differs: ☃ " * 20
        )
        evaluations += [*rows, failed]
        decisions.append(
            make_decision(
                rows[0],
                at=f"12:0{number}:00",
                default=rows[1].uid,
                rows=tuple(row.uid for row in rows[:3]),
                speedup=rows[1].time_us / rows[0].time_us,
                copy_us=2.5,
            )
        )
    path = tmp_path / "sound" / "studies.db"
    store = Store.open(path)
    half = len(evaluations) // 2
    store.add(evaluations[:half])
    for decision in decisions[:3]:
        store.decide(decision)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.add(evaluations[half:])
    store.add_candidates(candidates_of(evaluations))
    store.add_counter_rows(counters_of(evaluations))
    for decision in decisions[3:]:
        store.decide(decision)
    # Copied while it is open, as a crash leaves it.
    crashed = tmp_path / "crashed"
    shutil.copytree(path.parent, crashed)
    store.close()
    return crashed / path.name, evaluations, decisions


def a_copy(path: Path, folder: Path) -> Path:
    folder.mkdir()
    for each in path.parent.iterdir():
        if not each.name.endswith("-shm"):
            shutil.copy(each, folder)
    return folder / path.name


def without_log(path: Path) -> Path:
    """The same as one file."""
    Store.open(path).close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path


def test_of_a_sound_file_everything_is_found(
    written: tuple[Path, list[Evaluation], list[Decision]], tmp_path: Path
) -> None:
    path, evaluations, decisions = written
    candidates, counters = candidates_of(evaluations), counters_of(evaluations)
    expected = Salvage(tuple(evaluations), tuple(decisions), 0, candidates, counters)
    assert (path.with_name("studies.db-wal")).stat().st_size > 0
    assert salvage(path) == expected
    assert salvage(without_log(path)) == expected
    save(expected, tmp_path / "new.db")
    with Store.open(tmp_path / "new.db", readonly=True) as store, Store.open(path) as old:
        assert (store.evaluations(), store.decisions()) == (evaluations, decisions)
        assert (*store.candidates(), *store.all_counters()) == (*candidates, *counters)
        assert store.cache() == old.cache() != []


def test_without_a_header_and_a_schema_all_other_pages_are_found(
    written: tuple[Path, list[Evaluation], list[Decision]],
) -> None:
    path, evaluations, decisions = written
    data = without_log(path).read_bytes()
    path.write_bytes(bytes(4096) + data[4096:])
    candidates, counters = candidates_of(evaluations), counters_of(evaluations)
    assert salvage(path) == Salvage(tuple(evaluations), tuple(decisions), 0, candidates, counters)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"not a database.*tunekit doctor --db"):
        Store.open(path)
    assert path.read_bytes() == before


def test_what_only_describes_a_row_is_checked_too(
    written: tuple[Path, list[Evaluation], list[Decision]],
) -> None:
    path, evaluations, decisions = written
    data = without_log(path).read_bytes()
    path.write_bytes(data.replace(b"beat the default", b"lost to a default", 0).replace(
        b"beat the default", b"lost the default"
    ))  # fmt: skip
    found = salvage(path)
    assert (found.evaluations, found.decisions) == (tuple(evaluations), ())
    assert found.refused == len(decisions)
    with Store.open(path, readonly=True) as store:
        with pytest.raises(StoreError, match=r"damaged: its columns are not those.*doctor --db"):
            store.decisions()
        assert store.evaluations() == evaluations


def test_no_other_configuration_than_the_one_that_won_is_in_the_cache(
    written: tuple[Path, list[Evaluation], list[Decision]],
) -> None:
    path, _, _ = written
    data = without_log(path).read_bytes()
    assert len(read_cache(path)) == 6
    path.write_bytes(data.replace(b'"BLOCK_SIZE":64,', b'"BLOCK_SIZE":32,'))
    with pytest.raises(StoreError, match="damaged: uid: expected"):
        read_cache(path)


def test_a_decision_is_saved_only_with_all_it_rests_on(
    written: tuple[Path, list[Evaluation], list[Decision]],
) -> None:
    path, evaluations, decisions = written
    without_log(path)
    gone = evaluations[1].uid
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER evaluations_refuse_update")
        raw.execute("UPDATE evaluations SET shape = '[1]' WHERE uid = ?", [gone])
    found = salvage(path)
    assert gone not in {each.uid for each in found.evaluations}
    assert len(found.evaluations) == len(evaluations) - 1
    assert found.decisions == tuple(decisions[1:])
    assert found.refused == 2


def test_an_existing_file_is_not_overwritten(
    written: tuple[Path, list[Evaluation], list[Decision]], tmp_path: Path
) -> None:
    target = tmp_path / "there.db"
    target.write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        save(salvage(written[0]), target)
    assert target.read_text() == "mine"


def test_nothing_is_left_where_it_cannot_be_written(
    written: tuple[Path, list[Evaluation], list[Decision]], tmp_path: Path
) -> None:
    found = salvage(written[0])
    wrong = Salvage(found.evaluations[1:], found.decisions, 0)
    with pytest.raises(StoreError):
        save(wrong, tmp_path / "new.db")
    assert not list(tmp_path.glob("new.db*"))


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"\r" * 5000, bytes(10_000)])
def test_of_nothing_nothing_is_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert salvage(path) == Salvage((), (), 0)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreError, match=f"{path}: cannot read"):
            salvage(path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(1000, 1400), marks=pytest.mark.soak)]
)
def test_whatever_is_damaged_only_what_was_written_is_read(
    written: tuple[Path, list[Evaluation], list[Decision]],
    tmp_path: Path,
    seeds: range,
    tally: Callable[[str, str, int], None],
) -> None:
    sound, evaluations, decisions = written
    known = {each.uid: each for each in evaluations}
    decided = {each.uid: each for each in decisions}
    more = {*candidates_of(evaluations), *counters_of(evaluations)}
    for seed in seeds:
        rng = random.Random(seed)
        path = a_copy(sound, tmp_path / f"damaged-{seed}")
        if rng.random() < 0.5:
            without_log(path)
        how = f"{damaging.damage(path, rng)}, seed {seed}"
        before = path.read_bytes()
        found = salvage(path)
        assert path.read_bytes() == before
        assert all(known.get(each.uid) == each for each in found.evaluations), how
        assert all(decided.get(each.uid) == each for each in found.decisions), how
        assert more >= {*found.candidates, *found.counters}, how
        new = path.with_name("new.db")
        save(found, new)
        with Store.open(new, readonly=True) as store:
            assert tuple(store.evaluations()) == found.evaluations, how
            assert tuple(store.decisions()) == found.decisions, how
            assert tuple(store.candidates()) == found.candidates, how
            assert tuple(store.all_counters()) == found.counters, how
        refused = _read_as_ever(path, known, decided, more, how)
        tally("Foreign data", "databases damaged", 1)
        tally("Foreign data", "damaged databases refused, in a line", refused)
        tally("Foreign data", "rows in damaged databases", len(known) + len(decided) + len(more))
        tally("Foreign data", "rows saved", sum(map(len, _rows_of(found))))
        shutil.rmtree(path.parent)


def _rows_of(found: Salvage) -> tuple[tuple[object, ...], ...]:
    return found.evaluations, found.decisions, found.candidates, found.counters


def _read_as_ever(
    path: Path,
    known: dict[str, Evaluation],
    decided: dict[str, Decision],
    more: set[Candidate | Counter],
    how: str,
) -> bool:
    """Read a damaged file as every command does: a line that says so, or what was written."""
    try:
        for row in read_cache(path):
            won = known[row.winner]
            assert (row.problem, row.config, row.time_us) == (
                won.problem, won.config, won.time_us,
            ), how  # fmt: skip
            assert row.provenance == won.provenance, how
        with Store.open(path, readonly=True) as store:
            assert all(known[each.uid] == each for each in store.evaluations()), how
            assert all(decided[each.uid] == each for each in store.decisions()), how
            assert more >= {*store.candidates(), *store.all_counters()}, how
    except StoreError as error:
        said = str(error)
    else:
        return False
    assert said.startswith(f"{path}: "), how
    assert "\n" not in said, how
    return True
