"""What a terminal is shown of text from outside."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunekit.printable import LONGEST, one_line, printable


def test_escapes_of_a_terminal_are_shown_and_not_obeyed() -> None:
    assert printable("\x1b[2J\x07\x9b") == r"\x1b[2J\x07\x9b"
    assert printable("right\u202eleft") == r"right\u202eleft"
    assert printable("a\nb", keep="\n") == "a\nb"
    assert printable("µs ÷ …") == "µs ÷ …"


@given(st.text(st.characters(codec=None)))
def test_nothing_is_left_that_cannot_be_printed(text: str) -> None:
    assert printable(text).isprintable()
    assert one_line(text).isprintable()


def test_of_a_long_message_beginning_and_end_are_left() -> None:
    said = one_line("begin" + "x" * 10_000 + "end")
    assert said.startswith("beginx")
    assert said.endswith("xend")
    assert len(said) <= LONGEST + 3
