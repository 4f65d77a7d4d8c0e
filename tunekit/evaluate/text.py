"""An exception as one line."""

from __future__ import annotations

import re

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
