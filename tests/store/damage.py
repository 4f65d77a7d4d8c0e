"""Ways in which a database file is damaged, each from a random number generator alone."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

PAGE_BYTES = 4096


def flipped(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 3, 30, 300])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwritten(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data))
        length = min(rng.choice([1, 16, 500, 9000]), len(data) - start)
        data[start : start + length] = rng.randbytes(length)


def zeroed(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 5)):
        start = rng.randrange(len(data) // PAGE_BYTES) * PAGE_BYTES
        data[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)


def swapped(data: bytearray, rng: random.Random) -> None:
    one, other = (rng.randrange(len(data) // PAGE_BYTES) * PAGE_BYTES for _ in range(2))
    page = data[one : one + PAGE_BYTES]
    data[one : one + PAGE_BYTES] = data[other : other + PAGE_BYTES]
    data[other : other + PAGE_BYTES] = page


def truncated(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def without_header(data: bytearray, rng: random.Random) -> None:
    length = rng.choice([16, 24, 100, 120, PAGE_BYTES])
    data[:length] = rng.randbytes(length)


def text_changed(data: bytearray, rng: random.Random) -> None:
    """A digit or a letter of some text, so that every structure stays sound."""
    for _ in range(rng.randint(1, 20)):
        for _ in range(200):
            place = rng.randrange(len(data))
            if chr(data[place]).isdigit():
                data[place] = ord(rng.choice("0123456789"))
                break


BYTES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flipped,
    overwritten,
    zeroed,
    swapped,
    truncated,
    without_header,
    text_changed,
)

_GARBAGE = (None, "", "nonsense", -1, 2**62, 0.5, b"\xff\x00", '{"n": []}', "[]", "x" * 9000)


def garbage_rows(path: Path, rng: random.Random) -> None:
    """Rows that no tunekit wrote, with whatever SQLite takes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        names = raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("PRAGMA ignore_check_constraints = ON")
        for _ in range(rng.randint(1, 30)):
            table = rng.choice(
                ["problems", "runs", "evaluations", "decisions", "candidates", "counters"]
            )
            columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")][1:]
            column, value = rng.choice(columns), rng.choice(_GARBAGE)
            with suppress(sqlite3.IntegrityError):
                raw.execute(
                    f"UPDATE {table} SET {column} = ? WHERE id = "
                    f"(SELECT id FROM {table} ORDER BY random() LIMIT 1)",
                    [value],
                )


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file in one of these ways; says in which."""
    if rng.random() < 0.1:
        garbage_rows(path, rng)
        return "garbage_rows"
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and rng.random() < 0.3:
        log.unlink()
        return "without_log"
    how = rng.choice(BYTES)
    target = log if log.exists() and rng.random() < 0.4 else path
    data = bytearray(target.read_bytes())
    how(data, rng)
    target.write_bytes(data)
    return how.__name__
