"""Whatever a file holds: it is read, or refused in one line; and what is written is read back.

Bytes, mutations of valid inputs, and texts made by the grammar. `make test` tries a fixed few of
each, `make soak` many more, and others every time.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tunekit.core.expression import MAX_LENGTH, Expression, ExpressionError


def _load(name: str) -> ModuleType:
    """A module beside this one."""
    spec = importlib.util.spec_from_file_location(
        f"fuzz_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzzed = _load("targets")

SLOWEST_S = 10.0
"""One input may take that long where other processes have the processor, too."""

FAST = settings(
    derandomize=True, max_examples=25, suppress_health_check=list(HealthCheck), database=None
)
NAMED = sorted(fuzzed.TARGETS)


def many(examples: int) -> settings:
    return settings(
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        database=None,
    )


LITTLE = [pytest.param(FAST, id="few")]
BOTH = [*LITTLE, pytest.param(many(700), id="many", marks=pytest.mark.soak)]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["ok", "measured", "inf", "float32", "a" * 2_000, 2**48, 10**400, "\x1b[2J"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """Bytes; or a valid input, some of its bytes or of its JSON replaced."""
    target = fuzzed.TARGETS[name]
    how = draw(st.sampled_from(["bytes", "cut", "tokens", "json", "text"]))
    seed = draw(st.sampled_from(_seeds(name)))
    if how == "bytes":
        return draw(st.binary(max_size=200))
    if how == "text":
        return draw(st.text(max_size=100)).encode("utf-8", "surrogatepass")
    if how == "json" and (changed := _json_changed(draw, seed)) is not None:
        return changed
    pieces = [token.encode() for token in target.tokens] or [b"\0", b"\xff", b"1"]
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 16))
        piece = draw(st.sampled_from(pieces) | st.binary(max_size=8))
        data[start : start + (0 if how == "tokens" else length)] = piece
    return bytes(data)


def _seeds(name: str) -> list[bytes]:
    if name not in _kept:
        _kept[name] = list(fuzzed.TARGETS[name].seeds())
    return _kept[name]


_kept: dict[str, list[bytes]] = {}


def _json_changed(draw: st.DrawFn, seed: bytes) -> bytes | None:
    try:
        record = json.loads(seed)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    record.pop("uid", None)  # it would refuse whatever else is changed
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(record)) | st.text(max_size=5))
        if draw(st.integers(0, 5)):
            record[name] = draw(values)
        else:
            record.pop(name, None)
    try:
        return json.dumps(record, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    except ValueError:  # an integer too long to be printed
        return b"{}"


def tried(
    chosen: settings, strategy: st.SearchStrategy[Any], check: Callable[[Any], object]
) -> int:
    """Check as many inputs as the settings say; returns how many that were."""
    count = 0

    @chosen
    @given(strategy)
    def run(data: Any) -> None:
        nonlocal count
        count += 1
        began = time.perf_counter()
        check(data)
        assert time.perf_counter() - began < SLOWEST_S

    run()
    return count


@pytest.mark.parametrize("chosen", BOTH)
@pytest.mark.parametrize("name", NAMED)
def test_a_parser_reads_or_refuses_in_one_line(
    name: str, chosen: settings, tally: Callable[[str, str, int], None]
) -> None:
    target = fuzzed.TARGETS[name]
    count = tried(chosen, mutated(name), lambda data: fuzzed.keeps_the_property(target, data))
    tally("Fuzzing", f"{name}: properties", count)


@pytest.mark.parametrize("name", NAMED)
def test_a_seed_is_valid(name: str) -> None:
    target = fuzzed.TARGETS[name]
    assert any(fuzzed.keeps_the_property(target, seed) for seed in target.seeds())


names = st.sampled_from(["n", "rows", "itemsize", "sm_count"])
number = st.integers(0, 2**40)


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def put(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.tuples(*parts).map(lambda found: form.format(*found))

    operator = st.sampled_from(["+", "-", "*", "//", "%", "<", "<=", "==", "!=", ">=", ">"])
    return st.one_of(
        put("({} {} {})", inner, operator, inner),
        put("({} and {})", inner, inner),
        put("({} or {})", inner, inner),
        put("(not {})", inner),
        put("(-{})", inner),
        put("({} if {} else {})", inner, inner, inner),
        put("({} {} {} {} {})", inner, operator, inner, operator, inner),
        put("min({}, {})", inner, inner),
        put("max({}, {}, {})", inner, inner, inner),
        put("abs({})", inner),
        put("cdiv({}, {})", inner, inner),
        put("next_power_of_2({})", inner),
    )


expressions = st.recursive(number.map(str) | names, _combined, max_leaves=12)


@pytest.mark.parametrize("chosen", BOTH)
def test_an_expression_means_what_python_means(
    chosen: settings, tally: Callable[[str, str, int], None]
) -> None:
    scope = {"__builtins__": {}, "min": min, "max": max, "abs": abs}
    scope |= {"cdiv": lambda a, b: -(-a // b), "next_power_of_2": _next_power}

    def check(text: str) -> None:
        if len(text) > MAX_LENGTH:
            with pytest.raises(ExpressionError):
                Expression.parse(text)
            return
        try:
            value = Expression.parse(text).evaluate(fuzzed.NAMES)
        except ExpressionError:
            return  # a division by zero, a value beyond 63 bits, next_power_of_2 of less than 1
        assert value == int(eval(text, scope, dict(fuzzed.NAMES)))

    tally("Fuzzing", "expressions by their grammar: properties", tried(chosen, expressions, check))


def _next_power(value: int) -> int:
    assert value >= 1
    return 1 << (value - 1).bit_length()


axis_names = st.sampled_from(["A", "B", "num_warps", "C1", "n", "min", "if", "é", "a b", ""])
axis_values = (
    st.lists(st.integers(-2, 2**63) | st.integers(1, 9), max_size=5).map(json.dumps)
    | st.tuples(st.integers(0, 70), st.integers(0, 70)).map(
        lambda ends: f"{{from = {2 ** ends[0]}, to = {2 ** ends[1]}}}"
    )
    | values.map(lambda value: json.dumps(value, default=str) if value != 10**400 else "9" * 5_000)
)
entries = st.lists(
    st.tuples(axis_names, axis_values | expressions.map(json.dumps)), min_size=0, max_size=4
)


def _table(title: str, found: list[tuple[str, str]]) -> str:
    lines = (f"{json.dumps(name)} = {value}\n" for name, value in found)
    return f"[{title}]\n{''.join(lines)}"


spaces = st.tuples(entries, entries, entries).map(
    lambda tables: "".join(map(_table, ("axes", "default", "constraints"), tables)).encode(
        "utf-8", "surrogatepass"
    )
)


@pytest.mark.parametrize("chosen", BOTH)
def test_a_space_file_by_the_grammar(
    chosen: settings, tally: Callable[[str, str, int], None]
) -> None:
    target = fuzzed.TARGETS["space files"]
    count = tried(chosen, spaces, lambda data: fuzzed.keeps_the_property(target, data))
    tally("Fuzzing", "space files by their grammar: properties", count)


@pytest.mark.parametrize(
    "inputs", [20, pytest.param(2_000, marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_a_database_with_other_bytes_is_read_or_refused(
    inputs: int, tally: Callable[[str, str, int], None]
) -> None:
    target = fuzzed.TARGETS["databases"]
    (seed,) = target.seeds()
    draw = random.Random(20 if inputs == 20 else None)
    for _ in range(inputs):
        data = bytearray(seed)
        for _ in range(draw.choice((1, 2, 8, 64))):
            # Pages begin with what says where their cells are.
            page = draw.randrange(len(data) // 4_096) * 4_096
            near = draw.choice((16, 200, 4_096))
            data[page + draw.randrange(near)] = draw.choice(
                (0, 1, 2, 5, 13, 255, draw.randrange(256))
            )
        began = time.perf_counter()
        try:
            fuzzed.keeps_the_property(target, bytes(data))
        except BaseException:
            found = Path("found.db").absolute()
            found.write_bytes(data)
            print(f"the database that breaks it: {found}")
            raise
        assert time.perf_counter() - began < SLOWEST_S
    tally("Fuzzing", "databases with other bytes: mutations", inputs)
