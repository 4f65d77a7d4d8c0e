"""An exception as one line, and in full."""

from __future__ import annotations

import re
import traceback

MAX_DETAILS = 16_000
"""Characters of the longest full text."""
_HEAD = 4_000
_GAP = 50
"""Of a longer one, how many are its beginning, and how many say that some are left out."""

_QUOTES_SOURCE = re.compile(r"at \d+:\d+:$")


def one_line(error: BaseException) -> str:
    """An exception's type and what it says, on one line of at most 300 characters.

    That is its first line of text; Triton's compile errors quote the source first and end with
    what is wrong, or leave that to the error they were raised from.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    said = lines[0]
    if _QUOTES_SOURCE.match(said):
        said = lines[-1]
        if said == "^" and error.__cause__ is not None:
            return one_line(error.__cause__)
    return f"{type(error).__name__}: {said}"[:300]


def full_text(error: BaseException) -> str:
    """An exception as Python prints it, with those it was raised from, shortened.

    Triton's compile errors quote the source there and say what the compiler said of it.
    """
    return shortened("".join(traceback.format_exception(error)).strip())


def shortened(said: str) -> str:
    """The beginning and the end of a text that is longer than `MAX_DETAILS`."""
    if len(said) <= MAX_DETAILS:
        return said
    end = MAX_DETAILS - _HEAD - _GAP
    gap = f"\n… {len(said) - _HEAD - end} characters are left out …\n"
    return said[:_HEAD] + gap + said[-end:]
