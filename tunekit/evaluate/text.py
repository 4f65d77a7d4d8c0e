"""An exception as one line."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """An exception's type and first line of text, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
