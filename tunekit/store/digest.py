"""A digest of every column of a row, so that a letter changed on the disk does not go unnoticed.

The uid of a row is its identity: what was evaluated, where, with what, and the times. What only
describes it (the reason, the registers, what verified it) is covered by this alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

EVALUATION_COLUMNS = (
    "uid",
    "shape",
    "config",
    "status",
    "reason",
    "source",
    "verified_by",
    "time_us",
    "samples_us",
    "binary_hash",
    "registers",
    "spill_bytes",
    "shared_bytes",
    "load_bytes",
    "store_bytes",
    "max_error",
    "disturbance",
)
DECISION_COLUMNS = (
    "uid",
    "source",
    "winner",
    "default_uid",
    "row_uids",
    "reason",
    "speedup",
    "copy_us",
    "created_at",
)
CANDIDATE_COLUMNS = ("uid", "config", "origin", "created_at")


def digest(*values: object) -> str:
    """16 hex digits of some columns' values, as SQLite holds them; empty where one is a blob."""
    try:
        text = json.dumps(values, separators=(",", ":"))
    except TypeError:
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def evaluation_digest(row: Mapping[str, object]) -> str:
    """Of a row of `evaluations`."""
    return digest(*(row[name] for name in EVALUATION_COLUMNS))


def decision_digest(row: Mapping[str, object]) -> str:
    """Of a row of `decisions`."""
    return digest(*(row[name] for name in DECISION_COLUMNS))


def candidate_digest(row: Mapping[str, object]) -> str:
    """Of a row of `candidates`; a counter's uid covers every column of its own."""
    return digest(*(row[name] for name in CANDIDATE_COLUMNS))
