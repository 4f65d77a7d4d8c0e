"""Expressions compute what Python would, and no text makes them do anything else."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunekit.core.expression import (
    FUNCTIONS,
    MAX_DEPTH,
    MAX_LENGTH,
    VALUE_LIMIT,
    Expression,
    ExpressionError,
    cdiv,
    next_power_of_2,
)

NAMES = {"n": 4096, "itemsize": 4, "zero": 0, "minus": -7}


def value(text: str, **names: int) -> int:
    return Expression.parse(text).evaluate({**NAMES, **names})


def outcome(text: str, **names: int) -> int | str:
    """The value, or the message that says why there is none."""
    try:
        return value(text, **names)
    except ExpressionError as error:
        return str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42),
        ("1_000", 1000),
        ("True", 1),
        ("False", 0),
        ("n", 4096),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("7 - 9", -2),
        ("7 // 2", 3),
        ("minus // 2", -4),
        ("minus % 4", 1),
        ("-n + 1", -4095),
        ("--3", 3),
        ("3 < 4", 1),
        ("4 <= 3", 0),
        ("n == 4096 != zero", 1),
        ("1 < 3 < 2", 0),
        ("3 > 2 >= 2 > 1", 1),
        ("1 and 2", 2),
        ("zero or 5", 5),
        ("not n", 0),
        ("not zero and n > 1", 1),
        ("1 if n > 4096 else 2", 2),
        ("1 if n >= 4096 else 2", 1),
        ("min(3, 1, 2)", 1),
        ("max(3, n)", 4096),
        ("abs(minus)", 7),
        ("cdiv(n + 1, 1024)", 5),
        ("next_power_of_2(n - 1)", 4096),
        ("  n \t+\n 1 ", 4097),
        (str(VALUE_LIMIT - 1), VALUE_LIMIT - 1),
        (str(-VALUE_LIMIT + 1), -VALUE_LIMIT + 1),
    ],
)
def test_value(text: str, expected: int) -> None:
    result = value(text)
    assert result == expected
    assert type(result) is int


def test_names_are_collected_without_functions() -> None:
    assert Expression.parse("min(n, VEC) // 2 if a else VEC").names == {"n", "VEC", "a"}
    assert Expression.parse("1 + 2").names == frozenset()


def test_text_has_single_spaces() -> None:
    assert Expression.parse(" a\n  +  b ").text == "a + b"
    assert str(Expression.parse("a  +b")) == "a +b"


def test_expressions_of_the_same_text_are_equal() -> None:
    assert Expression.parse("a + 1") == Expression.parse(" a + 1 ")
    assert len({Expression.parse("a + 1"), Expression.parse("a + 1")}) == 1
    assert Expression.parse("a + 1") != Expression.parse("a + 2")


def test_an_expression_is_immutable() -> None:
    with pytest.raises(AttributeError):
        Expression.parse("a").text = "b"  # type: ignore[misc]


def test_an_expression_survives_pickling() -> None:
    expression = pickle.loads(pickle.dumps(Expression.parse("cdiv(a, 2)")))
    assert expression == Expression.parse("cdiv(a, 2)")
    assert expression.evaluate({"a": 5}) == 3


@pytest.mark.parametrize("text", ["zero and 1 // zero", "n or 1 // zero", "1 if n else 1 // zero"])
def test_what_is_not_reached_is_not_computed(text: str) -> None:
    value(text)


def test_a_comparison_stops_where_it_fails() -> None:
    assert value("2 < 1 < 1 // zero") == 0


@pytest.mark.parametrize(
    ("text", "what", "column"),
    [
        ("n + absent", "unknown name 'absent'", 5),
        ("1 + n // zero", "division by zero", 5),
        ("n % zero", "division by zero", 1),
        ("cdiv(n, zero)", "division by zero", 1),
        ("1 + next_power_of_2(zero)", "next_power_of_2 needs at least 1, got 0", 5),
        (f"{VALUE_LIMIT - 1} + 1", "beyond 63 bits", 1),
        (f"-{VALUE_LIMIT - 1} - 1", "beyond 63 bits", 1),
        (f"next_power_of_2({VALUE_LIMIT - 1})", "beyond 63 bits", 1),
    ],
)
def test_no_value(text: str, what: str, column: int) -> None:
    expression = Expression.parse(text)
    with pytest.raises(ExpressionError) as caught:
        expression.evaluate(NAMES)
    assert what in str(caught.value)
    assert str(caught.value).endswith(f"at column {column} of {text!r}")


def test_a_name_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ExpressionError, match="beyond 63 bits"):
        value("huge", huge=VALUE_LIMIT)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("1 +", "at column"),
        ("(1", "at column 1"),
        ("1)", "at column 2"),
        ("a b", "at column"),
        ("01", "at column"),
        ("a = 1", "at column"),
        ("a := 1", "':' is not allowed, at column 3"),
        ("2 ** 3", "** is not allowed"),
        ("1 << 2", "<< is not allowed"),
        ("4 >> 1", ">> is not allowed"),
        ("n / 2", "/ is not allowed"),
        ("+n", "unary + is not allowed"),
        ("~n", "'~' is not allowed"),
        ("n & 1", "'&' is not allowed"),
        ("n in n", "in is not allowed"),
        ("n is n", "is is not allowed"),
        ("(1, 2)", "Tuple is not allowed"),
        ("()", "Tuple is not allowed"),
        ("None", "Constant is not allowed"),
        ("(n for n in n)", "GeneratorExp is not allowed"),
        ("(yield)", "Yield is not allowed"),
        ("1.5", "'.' is not allowed"),
        ("1e5", "'1e5' is no decimal integer"),
        ("0x10", "'0x10' is no decimal integer"),
        ("1j", "'1j' is no decimal integer"),
        ("1if n else 2", "'1if' is no decimal integer"),
        ("'n'", "is not allowed"),
        ("n.real", "'.' is not allowed, at column 2"),
        ("n[0]", "'[' is not allowed"),
        ("{n}", "'{' is not allowed"),
        ("lambda: 1", "':' is not allowed"),
        ("n # comment", "'#' is not allowed"),
        ("n; n", "';' is not allowed"),
        ("ﬁ", "is not allowed"),
        ("n\0", "is not allowed"),
        ("min", "min is a function, not a value"),
        ("min + 1", "min is a function, not a value"),
        ("min(1)", "min takes at least 2 arguments, got 1"),
        ("max()", "max takes at least 2 arguments, got 0"),
        ("abs(1, 2)", "abs takes 1 argument, got 2"),
        ("cdiv(1)", "cdiv takes 2 arguments, got 1"),
        ("next_power_of_2()", "next_power_of_2 takes 1 argument, got 0"),
        ("cdiv(a=1, b=2)", "positional arguments only"),
        ("min(*n)", "positional arguments only"),
        ("min(1, **n)", "positional arguments only"),
        ("n(1)", "can be called"),
        ("min(1, 2)(3)", "can be called"),
        ("pow(9, 9)", "only min, max, abs, cdiv, next_power_of_2 can be called"),
        (str(VALUE_LIMIT), "beyond 63 bits"),
        ("9" * 400, "beyond 63 bits"),
    ],
)
def test_refused(text: str, what: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(text)
    message = str(caught.value)
    assert what in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "__import__(os)",
        "().__class__",
        "().__class__.__bases__[0].__subclasses__()",
        "9**9**9",
        "1<<99999",
        "f'{n}'",
        "eval(n)",
        "[n for n in range(9)]",
        "(" * 200 + "1" + ")" * 200,
        "(" * 249 + "1" + ")" * 249,
        "(" * MAX_LENGTH,
        "-" * (MAX_LENGTH - 1) + "1",
        "not " * 124 + "1",
        "abs(" * 99 + "1" + ")" * 99,
        "1" + "*1" * 249,
        "1" + "*1" * 100_000,
        "1 if 1 else " * 40 + "x",
        "9" * 100_000,
        " " * 1_000_000,
    ],
)
def test_hostile_text_is_refused_or_harmless(text: str) -> None:
    assert len(str(outcome(text, x=1))) < 2 * MAX_LENGTH


def test_growth_stops_at_the_limit() -> None:
    with pytest.raises(ExpressionError, match="beyond 63 bits"):
        value("n" + " * n" * 40)


def test_depth_is_bounded_exactly() -> None:
    assert value("1" + " + 1" * MAX_DEPTH) == MAX_DEPTH + 1
    with pytest.raises(ExpressionError, match=f"more than {MAX_DEPTH} operations are nested"):
        Expression.parse("1" + " + 1" * (MAX_DEPTH + 1))


def test_parentheses_alone_nest_nothing() -> None:
    assert value("(" * 60 + "n" + ")" * 60) == 4096


def test_length_is_bounded_exactly() -> None:
    longest = "n" * MAX_LENGTH
    assert Expression.parse(longest).names == {longest}
    with pytest.raises(ExpressionError, match=f"{MAX_LENGTH} characters, this one has 501"):
        Expression.parse(longest + "n")


@given(st.integers(-(10**6), 10**6), st.integers(-(10**3), 10**3).filter(bool))
def test_cdiv_rounds_up(dividend: int, divisor: int) -> None:
    quotient = cdiv(dividend, divisor)
    assert quotient - 1 < dividend / divisor <= quotient


@given(st.integers(1, 2**62))
def test_next_power_of_2_is_the_smallest(number: int) -> None:
    power = next_power_of_2(number)
    assert power.bit_count() == 1
    assert power // 2 < number <= power


SYMBOLS = ["+", "-", "*", "//", "%", "<", "<=", "==", "!=", ">=", ">", "and", "or"]


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    symbols = st.sampled_from(SYMBOLS)
    return st.one_of(
        st.builds("({} {} {})".format, inner, symbols, inner),
        st.builds("({} < {} <= {})".format, inner, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("min({}, {})".format, inner, inner),
        st.builds("max({}, {}, {})".format, inner, inner, inner),
        st.builds("cdiv({}, {})".format, inner, inner),
        st.builds("abs({})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("(not {})".format, inner),
    )


LEAVES = st.sampled_from(["n", "itemsize", "zero", "minus", "0", "1", "2", "100", "True", "False"])
EXPRESSIONS = st.recursive(LEAVES, _combined, max_leaves=12)


@given(EXPRESSIONS)
def test_the_value_is_that_of_python(text: str) -> None:
    functions = {"min": min, "max": max, "abs": abs, "cdiv": cdiv}
    try:
        expected = eval(text, {"__builtins__": {}, **functions}, dict(NAMES))
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match=r"division by zero|beyond 63 bits"):
            value(text)
        return
    result = outcome(text)
    assert result == expected or "beyond 63 bits" in str(result)


TOKENS = [
    *("n", "zero", "0", "1", "9223372036854775807", "True", "None", *SYMBOLS, *FUNCTIONS),
    *("(", ")", ",", "not", "if", "else", "in", "is", "=", "/", "**", ".", "[", "]", "'", "#", ":"),
    *("lambda", "for", "yield", "await", "import", "__class__"),
]


@given(
    st.one_of(st.text(max_size=40), st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join))
)
@example("(" * 200)
@example("\ud800")
@example("\\\n")
def test_any_text_ends_in_a_value_or_an_expression_error(text: str) -> None:
    result = outcome(text)
    if isinstance(result, str):
        assert result.isprintable()
    else:
        assert type(result) is int
        assert -VALUE_LIMIT < result < VALUE_LIMIT
