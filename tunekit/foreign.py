"""The short form of an evaluation: what other tools and other people's kernels can say.

A line without `record` becomes the record of the full form, in which what it does not say is said
to be unknown: empty, 0 or null, and nothing is made up (docs/evaluations-format.md).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from tunekit.core.evaluation import Source, Status
from tunekit.errors import ImportFormatError
from tunekit.store import fields
from tunekit.store.fields import Record

REQUIRED_KEYS = ("kernel", "dims", "dtype", "device", "config", "status")

UNKNOWN: Mapping[str, object] = {
    "alignment": "",
    "shape": [],
    "reason": "",
    "source": Source.MEASURED.value,
    "verified_by": None,
    "time_us": None,
    "samples_us": [],
    "max_error": None,
    "disturbance": "",
    "gpu_name": "",
    "sm_count": 0,
    "driver": "",
    "torch": "",
    "triton": "",
    "tunekit": "",
    "protocol": "",
    "created_at": "",
}
"""What a key that is left out says."""

BINARY_UNKNOWN: Mapping[str, object] = {
    "binary_hash": "",
    "registers": 0,
    "spill_bytes": 0,
    "shared_bytes": 0,
    "load_bytes": 0,
    "store_bytes": 0,
}
"""The same of the compiled kernel; when none of these is given, nothing is known of it."""

TRITON_NAMES: Mapping[str, tuple[str, int]] = {
    "n_regs": ("registers", 1),
    "n_spills": ("spill_bytes", 4),
    "spills": ("spill_bytes", 4),
    "shared": ("shared_bytes", 1),
}
"""What Triton calls these of a compiled kernel, and how many of ours one is: it counts spills in
words of four bytes."""

_FULL_FORM_KEYS = frozenset({"format", "uid", "kernel_hash", "winner", "rows"})


def full_record(line: Record) -> dict[str, object]:
    """The record of the full form that a line of the short form stands for; not yet checked.

    Raises:
        ImportFormatError: it lacks a key, has one too many, or says the same thing twice.
    """
    if not line.keys().isdisjoint(_FULL_FORM_KEYS):
        raise ImportFormatError('missing record: "evaluation" or "decision"')
    missing = [key for key in REQUIRED_KEYS if key not in line]
    if missing:
        raise ImportFormatError(f"missing record, or for the short form {', '.join(missing)}")
    record = _in_our_names(line)
    fields.check_keys(record, REQUIRED_KEYS, optional=(*UNKNOWN, *BINARY_UNKNOWN))
    compiled = any(record.get(key) is not None for key in BINARY_UNKNOWN)
    binary = BINARY_UNKNOWN if compiled else dict.fromkeys(BINARY_UNKNOWN)
    # Null is how many a tool says that it does not know.
    given = {
        key: value for key, value in record.items() if value is not None or key in REQUIRED_KEYS
    }
    full = {"kernel_hash": "", **UNKNOWN, **binary, **given}
    full["time_us"] = _time_us(full)
    return full


def _in_our_names(line: Record) -> dict[str, object]:
    record = dict(line)
    for theirs, (ours, scale) in TRITON_NAMES.items():
        if theirs not in record:
            continue
        if ours in record:
            raise ImportFormatError(f"{theirs}: says the same as another key, {ours}")
        count = record[theirs]
        record[ours] = None if count is None else scale * fields.integer(record, theirs)
        del record[theirs]
    return record


def _time_us(record: Record) -> object:
    """The time, or the median of the samples where they are all there is."""
    given = record["time_us"]
    samples = record["samples_us"]
    if given is not None or not samples or record["status"] != Status.OK.value:
        return given
    return statistics.median(fields.samples(record, "samples_us", most=fields.MAX_SAMPLES))
