"""Rows of `candidates`: configurations from elsewhere, to be measured."""

from __future__ import annotations

from tunekit import records
from tunekit.core.candidate import Candidate
from tunekit.errors import ImportFormatError, StoreError
from tunekit.store import rows
from tunekit.store.digest import candidate_digest

_COLUMNS = (*records.CANDIDATE_KEYS, "uid")


def candidate_row(candidate: Candidate, problem_id: int) -> dict[str, object]:
    """Columns of `candidates`."""
    row = {
        "uid": candidate.uid,
        "problem_id": problem_id,
        "config": rows.json_text(dict(candidate.config)),
        "origin": candidate.origin,
        "created_at": candidate.created_at,
    }
    return {**row, "digest": candidate_digest(row)}


def to_candidate(row: rows.Row) -> Candidate:
    """A candidate from a row of `candidate_rows`; see `rows.read` for the errors."""
    candidate = records.candidate_from_dict(rows.as_record("candidate", row, _COLUMNS))
    if row["digest"] != candidate_digest(row):
        raise ImportFormatError("its columns are not those that were written")
    return candidate


def checked_candidate(candidate: Candidate) -> Candidate:
    """The candidate as it will be read back.

    Raises:
        StoreError: it could not be read back.
    """
    try:
        return records.candidate_from_dict(records.candidate_to_dict(candidate))
    except ImportFormatError as error:
        raise StoreError(f"a candidate of {candidate.problem.key}: {error}") from None
