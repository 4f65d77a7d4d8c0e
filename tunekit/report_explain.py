"""What `tunekit explain` prints."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunekit.report import Console

if TYPE_CHECKING:
    from tunekit.core.problem import Problem
    from tunekit.runtime.explanation import Explanation
    from tunekit.runtime.verdict import Candidate, Database

_SHOWN = 8
_ALIKE = 3
"""Rows shown, and how many of them differ from the problem in the same."""
_LABEL = 13
"""Characters of the first column."""


def print_explained(console: Console, explained: Explanation) -> None:
    """What is served and why, where it was looked for, the likeliest rows, and what to run."""
    for line in _lines(explained, console.width):
        console.say(line)


def _lines(explained: Explanation, width: int) -> Iterator[str]:
    choice = explained.choice
    yield f"{choice.served}: {choice.config}"
    yield from _wrapped("why", explained.why, width)
    for note in explained.notes:
        yield from _wrapped("note", note, width)
    yield ""
    yield "the problem"
    for name, value in _fields(choice.problem):
        yield from _wrapped(name, value, width)
    yield ""
    yield "databases"
    for database in explained.databases:
        yield from _wrapped(database.whose, _database(database, choice.problem.kernel), width)
    if explained.candidates:
        yield ""
        yield "rows, those most like the problem first"
    shown = _shown(explained.candidates)
    for candidate in shown:
        yield from _candidate(candidate, choice.problem, width)
    if len(shown) < len(explained.candidates):
        yield f"  and {len(explained.candidates) - len(shown)} more; --json lists them all"
    if explained.advice:
        yield ""
        yield from _filled(explained.advice + (":" if explained.command else ""), width)
    if explained.command:
        yield f"  {explained.command}"


def _fields(problem: Problem) -> Iterator[tuple[str, str]]:
    from tunekit.runtime.verdict import dims_text

    for name in ("kernel", "kernel_hash", "dims", "dtype", "alignment", "device"):
        yield name, dims_text(problem) if name == "dims" else getattr(problem, name)


def _database(database: Database, kernel: str) -> str:
    rows = "1 row" if database.rows == 1 else f"{database.rows} rows"
    found = database.trouble or f"{rows} of {kernel}"
    return f"{database.path}: {found} ({database.named_by})"


def _shown(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first few, but not many that one reason speaks of alike."""
    alike: Counter[object] = Counter()
    shown: list[Candidate] = []
    for each in candidates:
        fields = tuple((it.field, it.row) for it in each.differs if it.field != "dims")
        alike[each.verdict, fields] += 1
        if alike[each.verdict, fields] <= _ALIKE and len(shown) < _SHOWN:
            shown.append(each)
    return shown


def _candidate(candidate: Candidate, problem: Problem, width: int) -> Iterator[str]:
    from tunekit.runtime.verdict import Verdict, dims_text, ratio_text

    row = candidate.row
    may_serve = candidate.verdict is not Verdict.DIFFERS
    of_other_dims = row.problem.dims != problem.dims
    facts = [
        dims_text(row.problem),
        *([ratio_text(candidate.size_ratio)] if of_other_dims else []),
        f"{row.source} {row.time_us:.2f} µs",
        candidate.database.whose,
        *(f"{each.field} {each.row}, here {each.call}" for each in candidate.foreign if may_serve),
        *([candidate.why] if candidate.why else []),
    ]
    yield from _wrapped(str(candidate.verdict), "; ".join(facts), width)
    for difference in candidate.differs:
        if difference.field != "dims":
            yield from _wrapped("", str(difference), width)


def _wrapped(label: str, text: str, width: int) -> list[str]:
    """A label, then text in a column of its own."""
    return _filled(text, width, f"  {label:<{_LABEL}}", " " * (_LABEL + 2))


def _filled(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
