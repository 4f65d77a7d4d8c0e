from __future__ import annotations

import pytest

from tunekit.evaluate.text import MAX_DETAILS, full_text, one_line, shortened


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too small"), "ValueError: too small"),
        (ValueError(), "ValueError: "),
        (KeyError("n"), "KeyError: 'n'"),
        (RuntimeError("\n\n  first  \nsecond"), "RuntimeError: first"),
    ],
)
def test_the_type_and_the_first_line(error: Exception, line: str) -> None:
    assert one_line(error) == line


def test_it_is_short() -> None:
    assert len(one_line(ValueError("x" * 1000))) == 300


class CompilationError(Exception):
    """As Triton's: its text quotes the source and ends with what is wrong, if that is known."""


QUOTE = "at 24:12:\n    start = program\n            ^"


def test_a_compile_error_says_what_is_wrong_and_not_where_it_began() -> None:
    error = CompilationError(f"{QUOTE}\nno such thing")
    assert one_line(error) == "CompilationError: no such thing"


def test_a_compile_error_in_a_called_function_says_what_is_wrong_there() -> None:
    innermost = TypeError("missing y")
    inner = CompilationError(f"{QUOTE}\nTypeError('missing y')")
    inner.__cause__ = innermost
    outer = CompilationError(QUOTE)
    outer.__cause__ = inner
    assert one_line(outer) == "CompilationError: TypeError('missing y')"


def test_a_compile_error_that_says_nothing_is_explained_by_its_cause() -> None:
    error = CompilationError(QUOTE)
    error.__cause__ = ValueError("why")
    assert one_line(error) == "ValueError: why"
    error.__cause__ = None
    assert one_line(error) == "CompilationError: ^"


def test_in_full_it_is_with_what_it_was_raised_from() -> None:
    try:
        try:
            raise ValueError("why")
        except ValueError as cause:
            raise CompilationError(f"{QUOTE}\nno such thing") from cause
    except CompilationError as error:
        said = full_text(error)
    assert said.startswith("Traceback (most recent call last):")
    assert said.endswith(f"CompilationError: {QUOTE}\nno such thing")
    assert "ValueError: why" in said
    assert "direct cause" in said


def test_of_what_is_very_long_the_beginning_and_the_end_are_kept() -> None:
    text = "".join(f"{number:08}" for number in range(10_000))
    said = shortened(text)
    assert 15_900 < len(said) <= MAX_DETAILS
    head, gap, tail = said.split("\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    left_out = len(text) - len(head) - len(tail)
    assert gap == f"… {left_out} characters are left out …"
    assert shortened(text[:MAX_DETAILS]) == text[:MAX_DETAILS]
