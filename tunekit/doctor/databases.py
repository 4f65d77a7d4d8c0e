"""Your database and the one that ships."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tunekit.core.evaluation import Source
from tunekit.doctor.check import Check, note, ok, problem, size_text
from tunekit.doctor.probe import ProbeFailed, ask
from tunekit.errors import StoreError, StoreLockedError, StoreVersionError
from tunekit.here import Here
from tunekit.store import schema
from tunekit.store.cache import CacheRow
from tunekit.store.health import Health, examine
from tunekit.store.prune import would_prune
from tunekit.store.salvage import salvage

_WORTH_PRUNING_BYTES = 10e6


def check_database(name: str, path: Path, here: Here, *, shipped: bool = False) -> Iterator[Check]:
    """Whether a database is sound, what it holds, and what of that is of other versions.

    Args:
        name: of the check.
        path: of the file.
        here: what this machine has.
        shipped: it comes with tunekit and is never written.
    """
    if not os.path.lexists(path):
        if shipped:
            yield problem(name, f"{path}: is not there", "install tunekit again")
        else:
            yield ok(name, f"{path}: not there yet, made when first needed")
            yield from _left_over(name, path)
        return
    try:
        health = examine(path, immutable=shipped)
    except (StoreVersionError, StoreLockedError) as error:
        says, _, do = str(error).rpartition("; ")
        yield problem(name, says, do)
        return
    except StoreError as error:
        says, _, do = str(error).rpartition("; ")
        yield from _damaged(name, path, [says.removeprefix(f"{path}: ")], do)
        return
    if health.findings:
        yield from _damaged(name, path, health.findings, "")
        return
    yield ok(name, f"{path}: {_size(path)}, {_contents(health)}")
    yield from _about_rows(name, health.cache, here)
    if not shipped:
        yield from _about_size(name, path)
        yield from _left_over(name, path)


def _contents(health: Health) -> str:
    counts = health.counts
    newest = len(schema.MIGRATIONS)
    older = "" if health.version == newest else f" (migrated to {newest} when it is next written)"
    more = "".join(
        f", {counts[name]} {name}" for name in ("candidates", "counters") if counts[name]
    )
    return (
        f"version {health.version}{older}, sound, {counts['problems']} problems, "
        f"{counts['evaluations']} evaluations, {counts['decisions']} decisions{more}"
    )


def _damaged(name: str, path: Path, findings: Iterable[str], do: str) -> Iterator[Check]:
    *most, last = findings
    for finding in most:
        yield problem(name, f"{path}: {finding}", "see below what can be saved")
    try:
        found = salvage(path)
    except StoreError as error:
        yield problem(name, f"{path}: {last}", do or str(error))
        return
    if found.evaluations or found.decisions or found.candidates:
        command = f"tunekit doctor --db {shlex.quote(str(path))} --salvage NEW.db"
        yield problem(
            name,
            f"{path}: {last}; can be saved: {found}",
            f"`{command}` writes them to a new file",
        )
    else:
        yield problem(
            name,
            f"{path}: {last}; it holds no row of tunekit's that could be saved",
            "move it away, or use another --db",
        )


def _about_rows(name: str, cache: Iterable[CacheRow], here: Here) -> Iterator[Check]:
    """What of the rows is of another source, Triton or driver, or was never measured."""
    rows = [row for row in cache if not row.config.is_memory_format]
    hashes = _hashes(rows)
    current = [row for row in rows if not _is_stale(row, hashes)]
    stale = [row for row in rows if _is_stale(row, hashes)]
    if stale:
        kernels = ", ".join(sorted({row.problem.kernel for row in stale}))
        yield note(
            name,
            f"{len(stale)} rows are of an earlier source of {kernels}: they are not served, and "
            "begin the search when those are tuned again",
            "`tunekit tune` those kernels again",
        )
    others = [versions for row in current if (versions := here.other_versions(row))]
    if others:
        yield note(
            name,
            f"{len(others)} rows were found under {' or '.join(sorted(set(others)))}, and here is "
            f"{here}: they serve, at equal distance after those found under these",
            "`tunekit confirm` measures the best few again, on their GPU",
        )
    estimated = [row for row in current if row.source is Source.ESTIMATED]
    if estimated:
        says = f"{len(estimated)} rows are estimated, never run on that GPU"
        if any(row.problem.device in here.drivers for row in estimated):
            yield note(name, says, "`tunekit confirm` measures them")
        else:
            yield ok(name, f"{says}; `tunekit confirm` measures them where there is one")


def _is_stale(row: CacheRow, hashes: Mapping[str, str]) -> bool:
    return hashes.get(row.problem.kernel, row.problem.kernel_hash) != row.problem.kernel_hash


def _about_size(name: str, path: Path) -> Iterator[Check]:
    try:
        pruned = would_prune(path)
    except StoreError:
        return  # it was sound a moment ago; it changes while it is looked at
    freed = pruned.before_bytes - pruned.after_bytes
    count = pruned.dropped["evaluations"] + pruned.dropped["decisions"]
    if not count:
        return
    says = f"{count} rows that no decision rests on; without them it is {size_text(freed)} smaller"
    if freed < _WORTH_PRUNING_BYTES:
        yield ok(name, says)
    else:
        yield note(name, says, "`tunekit prune` drops them: they no longer help a search then")


def _left_over(name: str, path: Path) -> Iterator[Check]:
    """Files beside a database: copies a migration made, and what crashes left."""
    folder = path.parent
    try:
        beside = sorted(each for each in folder.iterdir() if path.name in each.name)
    except OSError:
        return
    copies = [each for each in beside if each.name.endswith(".bak")]
    if copies:
        text = ", ".join(f"{each.name} ({_size(each)})" for each in copies)
        yield note(
            name,
            f"copies from before a migration: {text}",
            "remove them when the database is as it should be",
        )
    crashed = [each.name for each in beside if each.name.endswith(".tmp")]
    if not path.exists():
        crashed += [each.name for each in beside if each.name.endswith(("-wal", "-shm"))]
    if crashed:
        yield note(
            name,
            f"left over in {folder}: {', '.join(crashed)}",
            "remove them, unless the database they belong to is to be put back",
        )


def _size(path: Path) -> str:
    return size_text(path.stat().st_size)


def _hashes(rows: Iterable[CacheRow]) -> Mapping[str, str]:
    """Of the kernels as they are now; of those of the library alone."""
    names = sorted({row.problem.kernel for row in rows})
    try:
        return dict(ask("hashes", *names)) if names else {}
    except ProbeFailed:
        return {}
