"""What is tuned, from the person's database and from the one that ships."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunekit.core.evaluation import Source
from tunekit.core.problem import Problem
from tunekit.errors import StoreError
from tunekit.notices import warn
from tunekit.paths import shipped_database, user_database
from tunekit.store.cache import CacheRow, read_cache_like
from tunekit.store.rows import sort_key

_Key = tuple[str, str, str, str, str]
_LARGEST = 2**200


@dataclass(frozen=True, slots=True)
class Sized:
    """A row and the product of its problem's dims."""

    row: CacheRow
    size: int


@dataclass(slots=True)
class Group:
    """The rows of one kernel, dtype, alignment class and device: they differ in dims alone."""

    exact: dict[tuple[tuple[str, int], ...], CacheRow] = field(default_factory=dict)
    measured: list[Sized] = field(default_factory=list)
    estimated: list[Sized] = field(default_factory=list)

    def add(self, row: CacheRow) -> None:
        """Add the row of a problem that has none yet."""
        self.exact[row.problem.dims] = row
        rows = self.measured if row.source is Source.MEASURED else self.estimated
        rows.append(Sized(row, size_of(row.problem)))


class Known:
    """The rows calls may be served, each group read when it is first asked for, then kept."""

    def __init__(self) -> None:
        self._groups: dict[_Key, Group] = {}
        self._unreadable: set[Path] = set()
        self._lock = threading.Lock()

    def group(self, problem: Problem) -> Group:
        """The rows that differ from `problem` in dims alone.

        Warns once of a database that cannot be read; the other one is served all the same.
        """
        key = _key(problem)
        found = self._groups.get(key)
        if found is None:
            with self._lock:
                found = self._groups.get(key)
                if found is None:
                    found = self._groups[key] = _grouped(self._read_both(problem))
        return found

    def forget(self) -> None:
        """Read the databases again when next asked."""
        with self._lock:
            self._groups.clear()
            self._unreadable.clear()

    def _read_both(self, problem: Problem) -> list[CacheRow]:
        person, shipped = user_database(), shipped_database()
        rows = self._read(problem, person, immutable=False)
        if _is_same_file(person, shipped):
            return rows
        return merged_rows(rows, self._read(problem, shipped, immutable=True))

    def _read(self, problem: Problem, path: Path, *, immutable: bool) -> list[CacheRow]:
        if path in self._unreadable:
            return []
        try:
            return read_cache_like(problem, path, immutable=immutable)
        except StoreError as error:
            self._unreadable.add(path)
            warn(f"{error} (until tunekit.reload() nothing tuned in this file is used)")
            return []


def merged_rows(person: Sequence[CacheRow], shipped: Sequence[CacheRow]) -> list[CacheRow]:
    """One row a problem, sorted: a measured one before an estimated one, then the person's."""
    chosen: dict[Problem, CacheRow] = {}
    for row in (*person, *shipped):
        other = chosen.get(row.problem)
        if other is None or (other.source, row.source) == (Source.ESTIMATED, Source.MEASURED):
            chosen[row.problem] = row
    return sorted(chosen.values(), key=lambda row: sort_key(row.problem))


def size_of(problem: Problem) -> int:
    """The product of the dims: how large a problem is, for finding the nearest.

    No larger than `_LARGEST`: what a database says must not make a call fail of a ratio too large
    for a float.
    """
    return min(math.prod(size for _, size in problem.dims), _LARGEST)


def _grouped(rows: Iterable[CacheRow]) -> Group:
    group = Group()
    for row in rows:
        group.add(row)
    return group


def _key(problem: Problem) -> _Key:
    return (
        problem.kernel,
        problem.kernel_hash,
        problem.dtype,
        problem.alignment,
        problem.device,
    )


def _is_same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
