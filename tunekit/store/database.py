"""The database a person or the project keeps: adding to it and reading from it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import sqlite_utils

from tunekit import records
from tunekit.core.candidate import Candidate
from tunekit.core.counter import Counter
from tunekit.core.evaluation import Decision, Evaluation, Source
from tunekit.core.problem import Problem
from tunekit.errors import StoreError
from tunekit.store import rows
from tunekit.store.cache import CacheRow, select_cache
from tunekit.store.candidates import candidate_row, checked_candidate, to_candidate
from tunekit.store.connection import explained, open_readonly, open_writable
from tunekit.store.counters import checked_counter, counter_row, latest, to_counter
from tunekit.store.guard import bounded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MergeResult:
    """How many rows were new."""

    evaluations: int
    decisions: int
    candidates: int = 0
    counters: int = 0

    def __str__(self) -> str:
        text = f"{self.evaluations} new evaluations and {self.decisions} new decisions"
        if self.candidates or self.counters:
            text += f", {self.candidates} new candidates, {self.counters} new counters"
        return text


class Store:
    """A tunekit database: append-only rows, and the cache that evaluations and decisions make.

    A store belongs to the thread that opened it. Any number of processes may add at once.

    Every method raises StoreError when the file cannot be read or written, StoreLockedError when
    another process holds it for longer than 30 s.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._db = sqlite_utils.Database(
            connection, recursive_triggers=False, execute_plugins=False
        )

    @classmethod
    def open(cls, path: str | Path, *, readonly: bool = False, immutable: bool = False) -> Self:
        """Open a database; unless it is read only it is created, with its folder, when absent.

        Args:
            path: of the file.
            readonly: never write; an older file is migrated in memory.
            immutable: only with `readonly`: nobody writes the file meanwhile, as is true of the
                one that ships.

        Raises:
            StoreError: it cannot be opened, or is no database.
            StoreVersionError: another program's, or a newer tunekit's.
        """
        path = Path(path)
        if readonly:
            return cls(open_readonly(path, immutable=immutable), path)
        return cls(open_writable(path), path)

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, evaluations: Iterable[Evaluation]) -> int:
        """Add evaluations in one transaction; those already there are skipped.

        Returns:
            How many were new.

        Raises:
            StoreError: one of them is inconsistent; none is added.
        """
        checked = [rows.checked_evaluation(evaluation) for evaluation in evaluations]
        with self._transaction():
            return self._insert_evaluations(checked)

    def decide(self, decision: Decision) -> None:
        """Add a decision; one that is already there is skipped.

        Raises:
            StoreError: an evaluation it names is absent or another problem's, or the winner is
                not verified.
        """
        decision = rows.checked_decision(decision)
        with self._transaction():
            self._insert_decisions([decision])

    def add_candidates(self, candidates: Iterable[Candidate]) -> int:
        """Add configurations to be measured, in one transaction; those already there are skipped.

        Returns:
            How many were new.

        Raises:
            StoreError: one of them is inconsistent; none is added.
        """
        checked = [checked_candidate(candidate) for candidate in candidates]
        with self._transaction():
            return self._insert_candidates(checked)

    def add_counters(
        self, evaluation: str, values: Mapping[str, tuple[float, str]], tool: str
    ) -> int:
        """Add hardware counters of an evaluation, in one transaction.

        Args:
            evaluation: its uid.
            values: value and unit of each counter, by name.
            tool: what read them, and its version.

        Returns:
            How many were new.

        Raises:
            StoreError: there is no such evaluation, or one of them is inconsistent; none is added.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return self.add_counter_rows(
            Counter(evaluation, name, value, unit, tool, now)
            for name, (value, unit) in values.items()
        )

    def add_counter_rows(self, counters: Iterable[Counter]) -> int:
        """The same of counters that say when they were read; those already there are skipped."""
        checked = [checked_counter(counter) for counter in counters]
        with self._transaction():
            return self._insert_counters(checked)

    def merge(self, other: str | Path) -> MergeResult:
        """Add what another database holds, in one transaction.

        Raises:
            StoreError: the other file cannot be read, or holds what this one refuses; nothing is
                added.
        """
        other = Path(other)
        with Store.open(other, readonly=True) as source, source._snapshot():
            found: list[records.Line] = [
                *source.evaluations(),
                *source.decisions(),
                *source.candidates(),
                *source.all_counters(),
            ]
        return self._append(found, other)

    def import_lines(self, path: str | Path) -> MergeResult:
        """Add what the lines of a `.jsonl` file say, in one transaction.

        Raises:
            ImportFormatError: a line does not follow the format; nothing is added.
            StoreError: a decision or a counter does not fit the evaluations; nothing is added.
        """
        return self._append(records.read_lines(path), Path(path))

    def evaluations(
        self,
        problem: Problem | None = None,
        *,
        kernel: str | None = None,
        device: str | None = None,
        source: Source | None = None,
    ) -> list[Evaluation]:
        """The evaluations that match, in the order they were added."""
        where = _matching(problem, kernel, device, source)
        return self._read("evaluation_rows", where, rows.to_evaluation)

    def decisions(
        self,
        problem: Problem | None = None,
        *,
        kernel: str | None = None,
        device: str | None = None,
        source: Source | None = None,
    ) -> list[Decision]:
        """The decisions that match, in the order they were added."""
        where = _matching(problem, kernel, device, source)
        return self._read("decision_rows", where, rows.to_decision)

    def candidates(
        self,
        problem: Problem | None = None,
        *,
        kernel: str | None = None,
        device: str | None = None,
    ) -> list[Candidate]:
        """The configurations to be measured that match, in the order they were added."""
        return self._read("candidate_rows", _matching(problem, kernel, device, None), to_candidate)

    def counters(self, evaluation: str) -> dict[str, Counter]:
        """Hardware counters of the evaluation with that uid: the latest of each name, by name."""
        return latest(self._read("counters", {"evaluation_uid": evaluation}, to_counter))

    def all_counters(self) -> list[Counter]:
        """Every counter of every evaluation, in the order they were added."""
        return self._read("counters", {}, to_counter)

    def problems(self) -> list[Problem]:
        """Every problem that something is known of, or is to be measured on, sorted."""
        return sorted(self._read("problems", {}, rows.to_problem), key=rows.sort_key)

    def cache(self, kernel: str | None = None, device: str | None = None) -> list[CacheRow]:
        """The verified winner of each problem, sorted."""
        return select_cache(self._db.conn, self.path, kernel=kernel, device=device)

    def publish(self, destination: str | Path) -> None:
        """Write a compact copy that a read-only folder can hold: no log, no free pages.

        Raises:
            StoreError: the copy cannot be written.
        """
        destination = Path(destination)
        if destination.exists() and destination.samefile(self.path):
            raise StoreError(f"{destination}: is the database itself; publish to another file")
        temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
        try:
            with explained(destination):
                self._db.execute("VACUUM INTO ?", [str(temporary)])
            os.replace(temporary, destination)
            for rest in ("-wal", "-shm"):
                destination.with_name(destination.name + rest).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{destination}: cannot write: {error.strerror}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def _append(self, found: Iterable[records.Line], origin: Path) -> MergeResult:
        evaluations: list[Evaluation] = []
        decisions: list[Decision] = []
        candidates: list[Candidate] = []
        counters: list[Counter] = []
        for line in found:
            match line:
                case Evaluation():
                    evaluations.append(rows.checked_evaluation(line))
                case Decision():
                    decisions.append(line)
                case Candidate():
                    candidates.append(checked_candidate(line))
                case Counter():
                    counters.append(checked_counter(line))
        with self._transaction():
            added = self._insert_evaluations(evaluations)
            try:
                return MergeResult(
                    added,
                    self._insert_decisions(decisions),
                    self._insert_candidates(candidates),
                    self._insert_counters(counters),
                )
            except StoreError as error:
                raise StoreError(f"{origin}: {error}; nothing was added") from None

    def _insert_evaluations(self, evaluations: Sequence[Evaluation]) -> int:
        problem_ids: dict[Problem, int] = {}
        run_ids: dict[str, int] = {}
        new = []
        for evaluation in evaluations:
            problem, run = evaluation.problem, evaluation.provenance.key
            if problem not in problem_ids:
                problem_ids[problem] = self._lookup("problems", rows.problem_row(problem))
            if run not in run_ids:
                run_ids[run] = self._lookup("runs", rows.run_row(evaluation))
            new.append(rows.evaluation_row(evaluation, problem_ids[problem], run_ids[run]))
        return self._insert("evaluations", new)

    def _insert_decisions(self, decisions: Iterable[Decision]) -> int:
        new = []
        for decision in decisions:
            self._check(decision)
            problem_id = self._lookup("problems", rows.problem_row(decision.problem))
            new.append(rows.decision_row(decision, problem_id))
        return self._insert("decisions", new)

    def _insert_candidates(self, candidates: Iterable[Candidate]) -> int:
        problem_ids: dict[Problem, int] = {}
        new = []
        for candidate in candidates:
            problem = candidate.problem
            if problem not in problem_ids:
                problem_ids[problem] = self._lookup("problems", rows.problem_row(problem))
            new.append(candidate_row(candidate, problem_ids[problem]))
        return self._insert("candidates", new)

    def _insert_counters(self, counters: Iterable[Counter]) -> int:
        new = []
        known: set[str] = set()
        there = "SELECT 1 FROM evaluations WHERE uid = ?"
        for counter in counters:
            uid = counter.evaluation
            if uid not in known and self._db.execute(there, [uid]).fetchone() is None:
                raise StoreError(f"counter {counter.name}: {uid} is no evaluation of the database")
            known.add(uid)
            new.append(counter_row(counter))
        return self._insert("counters", new)

    def _insert(self, table: str, new: list[dict[str, object]]) -> int:
        before = self._db.conn.total_changes
        self._db.table(table).insert_all(new, ignore=True)
        return self._db.conn.total_changes - before

    def _lookup(self, table: str, row: dict[str, object]) -> int:
        """The id of the row with that key, which is added when there is none."""
        key = [row["key"]]
        known = f"SELECT id FROM {table} WHERE key = ?"
        found = self._db.execute(known, key).fetchone()
        if found is None:
            self._db.table(table).insert(row)
            found = self._db.execute(known, key).fetchone()
        return int(found[0])

    def _check(self, decision: Decision) -> None:
        """Refuse a decision that rests on what is not there."""
        key = decision.problem.key
        winner = self._evaluation(decision, decision.winner, "winner")
        if not winner.verified:
            raise StoreError(f"decision on {key}: the winner {winner.uid} is not verified")
        if decision.default:
            self._evaluation(decision, decision.default, "default")
        there = "SELECT uid FROM evaluation_rows WHERE problem_key = ? AND source = ?"
        with bounded(self._db.conn, self.path) as metered:
            found = list(metered(self._db.query(there, [key, decision.source.value])))
        absent = set(decision.rows) - {row["uid"] for row in found}
        if absent:
            raise StoreError(
                f"decision on {key}: {min(absent)}, a row it rests on, is no {decision.source} "
                "evaluation of that problem"
            )

    def _evaluation(self, decision: Decision, uid: str, role: str) -> Evaluation:
        key = decision.problem.key
        found = self._read("evaluation_rows", {"uid": uid}, rows.to_evaluation)
        if not found:
            raise StoreError(f"decision on {key}: its {role} {uid} is not in the database")
        (evaluation,) = found
        if evaluation.problem != decision.problem:
            raise StoreError(
                f"decision on {key}: its {role} {uid} belongs to {evaluation.problem.key}"
            )
        if evaluation.source is not decision.source:
            raise StoreError(
                f"decision on {key}: it is {decision.source} and its {role} {evaluation.source}"
            )
        return evaluation

    def _read(
        self, table: str, where: Mapping[str, object], convert: Callable[[rows.Row], T]
    ) -> list[T]:
        condition = " AND ".join(f"{column} = :{column}" for column in where) or None
        with explained(self.path), bounded(self._db.conn, self.path) as metered:
            rows_there = self._db[table].rows_where(condition, dict(where), order_by="id")
            found = list(metered(rows_there))
        return [rows.read(convert, row, self.path) for row in found]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; IMMEDIATE waits for other writers, a later upgrade would fail."""
        with explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.conn.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several reads of one moment."""
        with explained(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")


def _matching(
    problem: Problem | None, kernel: str | None, device: str | None, source: Source | None
) -> dict[str, object]:
    wanted = {
        "problem_key": None if problem is None else problem.key,
        "kernel": kernel,
        "device": device,
        "source": None if source is None else source.value,
    }
    return {column: value for column, value in wanted.items() if value is not None}
