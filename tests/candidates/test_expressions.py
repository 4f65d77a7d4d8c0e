"""Expressions made of literals have the value that Python gives them; others are refused."""

from __future__ import annotations

import ast
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.candidates.expressions import Expressions
from tunekit.candidates.values import Budget, NotEvaluatedError, Scope
from tunekit.errors import ImportFormatError


def evaluator(skipped: list[str] | None = None, steps: int = 100_000) -> Expressions:
    def no_call(*about: object) -> object:
        raise AssertionError("nothing of a file is called here")

    told: list[str] = [] if skipped is None else skipped
    return Expressions(
        Budget(steps), lambda error: told.append(error.reason), no_call, lambda *about: None
    )


def value(text: str, **names: object) -> object:
    return evaluator().value(ast.parse(text, mode="eval").body, Scope(names))


@pytest.mark.parametrize(
    "text",
    [
        "[16, 32, *[64, 128], *(256,)]",
        "(1, 'a', None, True, 1.5, -2, +3, not 1)",
        "{'a': 1, **{'b': 2}, **dict(c=3)}",
        "{1: 2} | {3: 4}",
        "[a + 1 for a in range(8) if a % 2 if a != 3]",
        "[(a, b) for a in (1, 2) for b in range(a)]",
        "[b for a in [[1, 2], [3]] for b in a]",
        "{a: a * a for a in range(4)}",
        "sorted({a % 3 for a in range(9)})",
        "[1, 2] + [3] * 2 + list(range(10, 0, -3))",
        "2 ** 7 + 7 // 2 - 7 % 3 * (1 << 4 >> 2) | 5 & 6 ^ 3",
        "7 / 2",
        "1 < 2 <= 2 < 3",
        "1 < 2 > 5",
        "(1 and 2) or 3",
        "0 or [] or 'x'",
        "5 if 2 in (1, 2) and 3 not in [4] else 6",
        "None is None and max(1, 2) is not None",
        "(1, 2) == (1, 2) and [1] != [2]",
        "[1, 2, 3, 4][1:][::-1][0]",
        "{'a': {'b': 5}}['a']['b']",
        "{'a': 1}.get('b', 7) + {'a': 1}.get('a')",
        "[[k, v] for k, v in {'a': 1, 'b': 2}.items()]",
        "list({'a': 1}.keys()) + list({'a': 1}.values())",
        "list(itertools.product([1, 2], (3, 4)))",
        "list(itertools.product([1, 2], repeat=3))",
        "list(itertools.product()) + list(itertools.product([], [1])) + list(zip())",
        "list(itertools.chain([1], (2, 3)))",
        "list(itertools.chain.from_iterable([[1], [2]]))",
        "list(zip([1, 2, 3], (4, 5)))",
        "list(enumerate([7, 8], 1))",
        "[min(3, 2), max([4, 9]), sum([1, 2]), abs(-3), len((1, 2)), int('7'), bool(0)]",
        "list(reversed([1, 2])) + sorted((3, 1)) + [*tuple([5])]",
        "any(a > 2 for a in [1, 3]) and all([1, 1])",
        "(b := 4) + b",
        "dict([('a', 1), ('b', 2)])",
    ],
)
def test_it_is_what_python_gives(text: str) -> None:
    assert value(text) == eval(text, {"itertools": itertools})


OPERATORS = ["+", "-", "*", "//", "%", "<", ">=", "==", "and", "or", "^", "|"]
numbers = st.integers(-40, 40).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda part: f"(-{part})"),
        st.tuples(inner, inner, inner).map(lambda parts: "({} if {} else {})".format(*parts)),
    ),
    max_leaves=12,
)


@given(expressions)
def test_of_any_arithmetic_it_is_what_python_gives(text: str) -> None:
    try:
        expected = eval(text)
    except ZeroDivisionError:
        with pytest.raises(NotEvaluatedError):
            value(text)
    else:
        assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("n", "n is not known here"),
        ("os.environ", "os.environ is not evaluated"),
        ("open('x')", "a call of open is not evaluated"),
        ("().__class__", "__class__"),
        ("[].__class__.__bases__", "is not evaluated"),
        ("'a'.format(1)", "is not evaluated"),
        ("'%s' % 1", "an operation that is not evaluated"),
        ("f'{1}'", "an expression of the kind JoinedStr"),
        ("b'1'", "an expression of the kind Constant"),
        ("1j", "an expression of the kind Constant"),
        ("...", "an expression of the kind Constant"),
        ("1 // 0", "division"),
        ("1 << 64", "not evaluated"),
        ("2 ** 63", "a number of more than 63 bits"),
        ("1e308 * 10", "a number that is not finite"),
        ("[1] * 100000", "not evaluated"),
        ("range(100000)", "a range of more than 20000 numbers"),
        ("itertools.product(range(200), repeat=2)", "a product of more than"),
        ("itertools.product([1], repeat=-1)", "a product that is not evaluated"),
        ("itertools.chain(*[range(9999)] * 9)", "more than 20000 items"),
        ("itertools.chain.from_iterable([range(9999)] * 9999)", "more than 20000 items"),
        ("list(zip(*[range(9999)] * 9))", "more than 20000 items"),
        ("[*range(9999), *range(9999), *range(9999)]", "more than 20000 items"),
        ("filter(None, [1])", "a call of filter that is not evaluated"),
        ("{(1, (2, 3)): 4}", "a key that is not evaluated"),
        ("[1][5]", "an index that is not there"),
        ("{}['a']", "an index that is not there"),
        ("[1]['a']", "an index that is not evaluated"),
        ("[1, 2][::0]", "a slice that is not evaluated"),
        ("min('a', 'b')", "a call of min that is not evaluated"),
        ("len()", "a call of len that is not evaluated"),
        ("int('9' * 5)", "not evaluated"),
        ("[1 for a in 5]", "nothing that can be gone through"),
        ("[1 for a, b in [(1, 2, 3)]]", "as many names as values"),
        ("1 < 'a'", "a comparison that is not evaluated"),
        ("lambda: 1", ""),
        ("await x", "an expression of the kind"),
    ],
)
def test_what_is_not_evaluated_says_why(text: str, reason: str) -> None:
    if not reason:
        value(text)
        return
    with pytest.raises(NotEvaluatedError) as caught:
        value(text)
    assert reason in caught.value.reason


def test_a_condition_that_is_not_known_is_taken_to_hold_and_told() -> None:
    skipped: list[str] = []
    tree = ast.parse("[a for a in (1, 2) if unknown(a)]", mode="eval").body
    assert evaluator(skipped).value(tree, Scope()) == [1, 2]
    assert set(skipped) == {"a condition is taken to hold: a call of unknown is not evaluated"}


@pytest.mark.parametrize(
    ("text", "taken"),
    [("[1, 2] if n else [3, 2]", [1, 2, 3]), ("4 if n else 4", 4)],
)
def test_of_two_branches_lists_are_put_together(text: str, taken: object) -> None:
    assert value(text) == taken
    with pytest.raises(NotEvaluatedError, match="n is not known"):
        value("4 if n else 5")


def test_steps_are_counted() -> None:
    tree = ast.parse("[a for a in range(10000)]", mode="eval").body
    with pytest.raises(ImportFormatError, match="more than 200000 steps"):
        evaluator(steps=5_000).value(tree, Scope())


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("import triton as tr", "tr.Config"),
        ("from triton import Config as C", "C"),
        ("from triton.runtime.autotuner import Config", "Config"),
    ],
)
def test_a_config_by_whatever_name(imports: str, name: str) -> None:
    from tunekit.candidates.python_file import read_python

    contents = read_python(f"{imports}\nsome = [{name}({{'B': 1}}, num_warps=2)]\n")
    assert [dict(each.values) for each in contents.listed] == [{"B": 1, "num_warps": 2}]


def test_lists_are_changed_in_place() -> None:
    made = evaluator()
    scope = Scope({"some": [1], "table": {"a": 1}})
    for text in ("some.append(2)", "some.extend([3, 4])", "table.update(b=2)"):
        assert made.value(ast.parse(text, mode="eval").body, scope) is None
    assert scope.names == {"some": [1, 2, 3, 4], "table": {"a": 1, "b": 2}}
