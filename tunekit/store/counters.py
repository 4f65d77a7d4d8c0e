"""Rows of `counters`: hardware counters of evaluations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tunekit import records
from tunekit.core.counter import Counter
from tunekit.errors import ImportFormatError, StoreError
from tunekit.store import rows

_COLUMNS = (*records.COUNTER_KEYS, "uid")


def counter_row(counter: Counter) -> dict[str, object]:
    """Columns of `counters`."""
    return {
        "uid": counter.uid,
        "evaluation_uid": counter.evaluation,
        "name": counter.name,
        "value": float(counter.value),
        "unit": counter.unit,
        "tool": counter.tool,
        "created_at": counter.created_at,
    }


def to_counter(row: rows.Row) -> Counter:
    """A counter from a row of `counters`; see `rows.read` for the errors."""
    named = {**row, "evaluation": row["evaluation_uid"]}
    return records.counter_from_dict(rows.as_record("counter", named, _COLUMNS))


def checked_counter(counter: Counter) -> Counter:
    """The counter as it will be read back.

    Raises:
        StoreError: it could not be read back.
    """
    try:
        record = records.counter_to_dict(counter)
        del record["uid"]
        return records.counter_from_dict(record)
    except ImportFormatError as error:
        raise StoreError(f"a counter of {counter.evaluation}: {error}") from None


def latest(counters: Iterable[Counter]) -> dict[str, Counter]:
    """The latest of each name, by name; of two of one moment the later one given."""
    found: dict[str, Counter] = {}
    for counter in sorted(counters, key=lambda each: datetime.fromisoformat(each.created_at)):
        found[counter.name] = counter
    return dict(sorted(found.items()))
