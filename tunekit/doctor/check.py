"""What a check found, and how one that fails of itself is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  # worth knowing
    PROBLEM = "problem"  # something will not work, or not as it should


@dataclass(frozen=True, slots=True)
class Check:
    """What was found about one thing.

    Attributes:
        name: what was looked at, one or two words.
        state: how bad it is.
        says: what was found, one line.
        do: what to do about it, one line; empty where there is nothing.
    """

    name: str
    state: State
    says: str
    do: str = ""


def ok(name: str, says: str) -> Check:
    """It is as it should be."""
    return Check(name, State.OK, says)


def note(name: str, says: str, do: str = "") -> Check:
    """It is worth knowing."""
    return Check(name, State.NOTE, says, do)


def problem(name: str, says: str, do: str) -> Check:
    """It has to be mended."""
    return Check(name, State.PROBLEM, says, do)


def guarded(name: str, run: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks of one family; what they raise is a problem, too, and ends no more than them."""
    try:
        yield from run()
    except Exception as error:  # whatever is broken, the next family is asked
        said = " ".join(str(error).split())[:300]
        yield problem(
            name,
            f"cannot be examined: {type(error).__name__}: {said}",
            "mend that, or report it as a bug of tunekit's",
        )


def size_text(size_bytes: float) -> str:
    """`4.7 MB` (10⁶ bytes)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError
