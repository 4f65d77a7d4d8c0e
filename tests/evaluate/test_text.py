from __future__ import annotations

import pytest

from tunekit.evaluate.text import one_line


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
