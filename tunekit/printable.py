"""Text from outside, as a message or a table may hold it: nothing in it is obeyed by a terminal."""

from __future__ import annotations

LONGEST = 2_000
"""Most characters of one message."""


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with what cannot be printed escaped, as `\x1b`; characters of `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else repr(char)[1:-1] for char in text
    )


def one_line(text: str) -> str:
    """A message as one line, the middle left out of one that is very long."""
    line = printable(" ".join(text[: 100 * LONGEST].split()))
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST // 2]} … {line[-(LONGEST // 2) :]}"
