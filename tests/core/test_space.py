"""A space file yields the configurations it describes, or one line that says what is wrong."""

from __future__ import annotations

import copy
import itertools
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunekit.core import space as module
from tunekit.core.axis import Axis, Constraint
from tunekit.core.config import Config
from tunekit.core.device import Device
from tunekit.core.expression import Expression
from tunekit.core.space import Space, context, shipped_spaces
from tunekit.core.space_tables import MAX_FILE_BYTES
from tunekit.errors import SpaceError

DEVICE = Device(
    slug="test",
    names=("Test GPU",),
    compute_capability=90,
    sm_count=100,
    sm_clock_hz=1.5e9,
    dram_bytes_per_s=1e12,
    dram_bytes=2**34,
    l2_bytes=2**25,
    dram_channels=32,
    dram_banks=16,
    max_threads_per_sm=2048,
    max_blocks_per_sm=32,
    shared_bytes_per_sm=200_000,
    shared_bytes_per_block=100_000,
    source="made up",
)

SMALL = """
description = "for tests"

[axes]
BLOCK = { from = 64, to = 256 }
VEC = [4, 1, 2]

[default]
BLOCK = 128
VEC = "16 // itemsize"

[constraints]
load_fits = "VEC * itemsize <= 16"
block_within = "BLOCK <= n or VEC == 1"
"""


def parse(text: str) -> Space:
    return Space.parse(text, "spaces/foo.toml", "foo")


def facts(n: int = 10**6, itemsize: int = 4) -> dict[str, int]:
    return context({"n": n}, itemsize, DEVICE)


def one_axis(values: str = "[1, 2]", default: str = "1", rest: str = "") -> str:
    return f"[axes]\nVEC = {values}\n[default]\nVEC = {default}\n{rest}"


def error_of(text: str) -> str:
    with pytest.raises(SpaceError) as caught:
        parse(text)
    return str(caught.value)


# what a good file means


def test_parse() -> None:
    space = parse(SMALL)
    assert space.name == "foo"
    assert space.origin == "spaces/foo.toml"
    assert space.description == "for tests"
    assert space.axes == (Axis("BLOCK", (64, 128, 256)), Axis("VEC", (1, 2, 4)))
    assert space.axis_names == ("BLOCK", "VEC")
    assert space.defaults["VEC"] == Expression.parse("16 // itemsize")
    assert space.constraints[0] == Constraint("load_fits", Expression.parse("VEC * itemsize <= 16"))
    assert space.size == 9


def test_the_example_of_the_documentation_is_a_space() -> None:
    assert module.__doc__ is not None
    lines = module.__doc__.splitlines()
    space = parse("\n".join(line for line in lines if line.startswith("    ")))
    assert space.default(facts()) == Config(BLOCK_SIZE=1024, VEC=4)
    assert space.size == 8 * 3


def test_constraints_and_description_are_optional() -> None:
    space = parse(one_axis())
    assert space.constraints == ()
    assert space.description == ""
    assert space.configs({}) == [Config(VEC=1), Config(VEC=2)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("[8]", (8,)),
        ("[3, 1]", (1, 3)),
        ("{ from = 1, to = 1 }", (1,)),
        ("{ from = 1, to = 8 }", (1, 2, 4, 8)),
        ("{ to = 1024, from = 512 }", (512, 1024)),
        ("{ from = 1, to = 4611686018427387904 }", tuple(2**bit for bit in range(63))),
    ],
)
def test_axis_values(values: str, expected: tuple[int, ...]) -> None:
    assert parse(one_axis(values)).axes == (Axis("VEC", expected),)


def test_a_space_can_be_written_in_python() -> None:
    always = Expression.parse("VEC <= n")
    space = Space(
        name="mine",
        axes=(Axis("VEC", (1, 2)),),
        defaults={"VEC": Expression.parse("1")},
        constraints=(Constraint("fits", always),),
        origin="mine.py",
    )
    assert space.configs({"n": 1}) == [Config(VEC=1)]


def test_a_space_can_be_hashed_copied_and_pickled() -> None:
    space = parse(SMALL)
    assert pickle.loads(pickle.dumps(space)) == space == copy.deepcopy(space)
    assert len({space, parse(SMALL)}) == 1


@pytest.mark.parametrize("values", [(), (0, 1), (-1,), (2, 1), (1, 1)])
def test_axis_refuses(values: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match="axis VEC: expected positive integers, ascending"):
        Axis("VEC", values)


@pytest.mark.parametrize(
    ("axes", "defaults"),
    [((), {}), ((Axis("A", (1,)), Axis("A", (2,))), {"A": 1}), ((Axis("A", (1,)),), {"B": 1})],
)
def test_space_refuses_axes_and_defaults_that_do_not_match(
    axes: tuple[Axis, ...], defaults: dict[str, int]
) -> None:
    expressions = {name: Expression.parse(str(value)) for name, value in defaults.items()}
    with pytest.raises(SpaceError, match=r"^mine\.py: (axes|default): expected"):
        Space("mine", axes, expressions, (), "mine.py")


# context


def test_context_holds_dims_itemsize_and_facts() -> None:
    known = context({"n": 7, "channels": 3}, 2, DEVICE)
    assert known == {"n": 7, "channels": 3, "itemsize": 2, **DEVICE.facts()}


@pytest.mark.parametrize("name", ["itemsize", "sm_count"])
def test_context_refuses_a_dim_that_hides_a_fact(name: str) -> None:
    with pytest.raises(SpaceError, match=f"^dim {name}: the name is taken"):
        context({name: 1}, 4, DEVICE)


def test_an_axis_may_not_hide_a_dim() -> None:
    space = parse(one_axis())
    known = {"VEC": 3}
    for use in (space.default, space.configs, lambda names: space.violated(Config(VEC=1), names)):
        with pytest.raises(SpaceError, match=r"^spaces/foo.toml: axes.VEC: a dim"):
            use(known)


# the default


@pytest.mark.parametrize(("itemsize", "vec"), [(4, 4), (16, 1)])
def test_default_follows_the_context(itemsize: int, vec: int) -> None:
    default = parse(SMALL).default(facts(itemsize=itemsize))
    assert default == Config(BLOCK=128, VEC=vec)
    assert list(default) == ["BLOCK", "VEC"]


def test_default_order_is_that_of_the_axes() -> None:
    swapped = SMALL.replace("BLOCK = 128\n", "").replace(
        'VEC = "16 // itemsize"', 'VEC = "16 // itemsize"\nBLOCK = 128'
    )
    assert list(parse(swapped).default(facts())) == ["BLOCK", "VEC"]


def test_default_must_be_a_value_of_the_axis() -> None:
    with pytest.raises(SpaceError) as caught:
        parse(SMALL).default(facts(itemsize=2))
    assert str(caught.value) == (
        "spaces/foo.toml: default.VEC: 8 (16 // itemsize) is not a value of the axis: 1, 2, 4"
    )


def test_literal_default_must_be_a_value_of_the_axis() -> None:
    with pytest.raises(SpaceError) as caught:
        parse(one_axis(default="3")).default({})
    assert str(caught.value) == "spaces/foo.toml: default.VEC: 3 is not a value of the axis: 1, 2"


def test_default_must_meet_the_constraints() -> None:
    with pytest.raises(SpaceError) as caught:
        parse(SMALL).default(facts(n=100))
    assert str(caught.value) == (
        "spaces/foo.toml: default: BLOCK=128, VEC=4 violates block_within "
        "(BLOCK <= n or VEC == 1), where BLOCK=128, VEC=4, n=100"
    )


def test_default_does_not_see_the_axes() -> None:
    text = SMALL.replace("16 // itemsize", "BLOCK // 32")
    with pytest.raises(SpaceError, match=r"default.VEC: there is no name BLOCK.*itemsize"):
        parse(text).default(facts())


# constraints


def test_violated_names_the_first() -> None:
    space = parse(SMALL)
    assert space.violated(Config(BLOCK=64, VEC=4), facts()) is None
    assert space.violated(Config(BLOCK=64, VEC=4), facts(n=1)) == "block_within"
    assert space.violated(Config(BLOCK=64, VEC=4), facts(n=1, itemsize=8)) == "load_fits"
    assert space.violated(Config(VEC=1, BLOCK=64), facts(n=1)) is None


def test_violated_accepts_values_that_are_not_tried() -> None:
    assert parse(SMALL).violated(Config(BLOCK=100, VEC=3), facts()) is None


@pytest.mark.parametrize("config", [Config(BLOCK=64), Config(BLOCK=64, VEC=1, num_warps=4)])
def test_violated_refuses_other_axes(config: Config) -> None:
    with pytest.raises(SpaceError, match=r"^spaces/foo.toml: axes: a configuration has BLOCK, VEC"):
        parse(SMALL).violated(config, facts())


def test_unknown_name_is_named_with_the_nearest() -> None:
    space = parse(SMALL.replace("VEC * itemsize", "VEC * itemsise"))
    for use in (space.configs, space.default):
        with pytest.raises(SpaceError) as caught:
            use(facts())
        message = str(caught.value)
        assert message.startswith(
            "spaces/foo.toml: constraints.load_fits: "
            "there is no name itemsise (did you mean itemsize?), expected one of: "
        )
        assert all(name in message for name in (" n,", "BLOCK", "VEC", "sm_count"))


def test_unknown_name_does_not_hide_behind_or() -> None:
    space = parse(one_axis(rest='[constraints]\nfine = "VEC > 0 or absent"'))
    with pytest.raises(SpaceError, match="there is no name absent"):
        space.violated(Config(VEC=1), {})


def test_division_by_zero_names_key_and_values() -> None:
    space = parse(one_axis(rest='[constraints]\nc = "8 // (VEC - 1) > 0"'))
    with pytest.raises(SpaceError) as caught:
        space.configs({})
    assert str(caught.value) == (
        "spaces/foo.toml: constraints.c: division by zero, at column 1 of '8 // (VEC - 1) > 0', "
        "where VEC=1"
    )


# all configurations


def test_configs_are_the_points_that_violate_nothing() -> None:
    space, known = parse(SMALL), facts(n=128, itemsize=8)
    points = [
        Config(BLOCK=block, VEC=vec) for block, vec in itertools.product((64, 128, 256), (1, 2, 4))
    ]
    expected = [point for point in points if space.violated(point, known) is None]
    configs = space.configs(known)
    assert configs == expected
    assert len(configs) == 5
    assert configs == space.configs(known)
    assert all(list(config) == ["BLOCK", "VEC"] for config in configs)


def test_configs_leave_the_context_alone() -> None:
    known = facts()
    parse(SMALL).configs(known)
    assert known == facts()


def test_configs_refuse_to_be_empty() -> None:
    with pytest.raises(SpaceError) as caught:
        parse(SMALL.replace("or VEC == 1", "")).configs(facts(n=1, itemsize=8))
    assert str(caught.value) == (
        "spaces/foo.toml: constraints leave no configuration of 9: "
        "block_within rejected 6, load_fits rejected 3, where itemsize=8, n=1"
    )


def test_configs_refuse_constraints_that_take_too_long_at_once() -> None:
    """Points and constraints are each within their bounds, and their product is hours."""
    axes = "\n".join(f"a{index} = [1, 2]" for index in range(19))
    default = "\n".join(f"a{index} = 1" for index in range(19))
    long = " + ".join(["a1"] * 45)
    constraints = "\n".join(f'c{index} = "{long}"' for index in range(100))
    space = parse(f"[axes]\n{axes}\n[default]\n{default}\n[constraints]\n{constraints}")
    began = time.process_time()
    with pytest.raises(SpaceError, match="take too long; leave values of an axis out"):
        space.configs(facts(n=1, itemsize=4))
    assert time.process_time() - began < 5


def test_configs_refuse_a_huge_product_at_once() -> None:
    axes = "\n".join(f"a{index} = {{ from = 1, to = 4096 }}" for index in range(20))
    default = "\n".join(f"a{index} = 1" for index in range(20))
    space = parse(f"[axes]\n{axes}\n[default]\n{default}")
    assert space.size == 13**20
    with pytest.raises(SpaceError, match=r"axes: they span more than 1,000,000 points"):
        space.configs({})


# files that are wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "axes: the table is missing"),
        ("[axes]\nVEC = [1]", "default: the table is missing"),
        ("[axes]\n[default]", "axes: expected at least one axis"),
        ("axes = 3\n[default]", "axes: expected a table, got 3"),
        ("[[axes]]\n[default]", "axes: expected a table, got [{}]"),
        ("[axes]\nVEC = [1]\n[default]\nVEC = 1\nVEC = 2", "not valid TOML: "),
        ("[axes", "not valid TOML: "),
        ("[axes]\nVEC = " + "[" * 5000, "not valid TOML: nested too deeply"),
        ("[axes]\nVEC = 1" + "0" * 5000, "not valid TOML: a number is too long"),
        ("[axes]\na" + ".a" * 9000 + " = 1", "line 2: expected at most 100 dots"),
        ("x" * (MAX_FILE_BYTES + 1), "expected at most 65536 characters"),
        ("[axis]\n", "axis: there is no key axis (did you mean axes?), expected one of: axes, "),
        ("'a\\nb' = 1\n", r"'a\\nb': there is no key 'a\\nb', expected one of: "),
        (f"description = 1\n{one_axis()}", "description: expected a string, got 1"),
        (one_axis(rest="constraints = 1"), "default.constraints: there is no axis constraints"),
        (f"constraints = []\n{one_axis()}", "constraints: expected a table, got []"),
    ],
)
def test_refused_tables(text: str, message: str) -> None:
    assert error_of(text).startswith(f"spaces/foo.toml: {message}")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ("'abc'", "'abc'"),
        ("8", "8"),
        ("true", "True"),
        ("[]", "[]"),
        ("[0]", "[0]"),
        ("[-1]", "[-1]"),
        ("[1, 2.0]", "[1, 2.0]"),
        ("[1, true]", "[1, True]"),
        ("[1, '2']", "[1, '2']"),
        ("[[1]]", "[[1]]"),
        ("[9223372036854775808]", "[an integer beyond 63 bits]"),
        (f"[0x{'f' * 9000}]", "[an integer beyond 63 bits]"),
        ("2020-01-01", "datetime.date(2020, 1, 1)"),
        ("{}", "{}"),
        ("{ from = 1 }", "{'from': 1}"),
        ("{ from = 1, to = 4, step = 2 }", "{'from': 1, 'step': 2, 'to': 4}"),
    ],
)
def test_refused_axis(values: str, shown: str) -> None:
    assert error_of(one_axis(values)) == (
        "spaces/foo.toml: axes.VEC: expected a list of positive integers or "
        f"{{from = .., to = ..}}, got {shown}"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("[1, 2, 1]", "axes.VEC: expected each value once, got 1 more than once"),
        ("{ from = 3, to = 8 }", "axes.VEC.from: expected a power of two, got 3"),
        ("{ from = 1, to = 12 }", "axes.VEC.to: expected a power of two, got 12"),
        ("{ from = 0, to = 8 }", "axes.VEC.from: expected a power of two, got 0"),
        ("{ from = -2, to = 8 }", "axes.VEC.from: expected a power of two, got -2"),
        ("{ from = true, to = 8 }", "axes.VEC.from: expected a power of two, got True"),
        ("{ from = 1, to = '8' }", "axes.VEC.to: expected a power of two, got '8'"),
        ("{ from = 1, to = 8.0 }", "axes.VEC.to: expected a power of two, got 8.0"),
        ("{ from = 1, to = 9223372036854775808 }", "axes.VEC.to: expected a power of two, got an"),
        ("{ from = 8, to = 4 }", "axes.VEC: expected from <= to, got from 8 to 4"),
    ],
)
def test_refused_values(values: str, message: str) -> None:
    assert error_of(one_axis(values)).startswith(f"spaces/foo.toml: {message}")


@pytest.mark.parametrize("name", ["'a b'", "''", "1", "ö", "if", "True", "a-b", "'a\\u0007'"])
@pytest.mark.parametrize("table", ["axes", "default", "constraints"])
def test_keys_are_names(table: str, name: str) -> None:
    name = name.replace("ö", "'ö'")
    text = f"[{table}]\n{name} = [1]\n" + "".join(
        f"[{other}]\n" + ("VEC = [1]\n" if other == "axes" else "VEC = 1\n")
        for other in ("axes", "default")
        if other != table
    )
    if table == "default":
        text = f"[axes]\nVEC = [1]\n[default]\nVEC = 1\n{name} = 1"
    message = error_of(text)
    assert message.startswith(f"spaces/foo.toml: {table}.")
    assert message.endswith(": expected a name as in Python")
    assert message.isprintable()


def test_an_axis_is_not_called_like_a_function() -> None:
    text = "[axes]\nmin = [1]\n[default]\nmin = 1"
    assert error_of(text).startswith("spaces/foo.toml: axes.min: this is a function")


@pytest.mark.parametrize(
    ("default", "message"),
    [
        ("true", "expected a positive integer or an expression in a string, got True"),
        ("0", "expected a positive integer or an expression in a string, got 0"),
        ("1.5", "expected a positive integer or an expression in a string, got 1.5"),
        ("[1]", "expected a positive integer or an expression in a string, got [1]"),
        (f"0x{'f' * 9000}", "expected a positive integer or an expression in a string, got an"),
        ("''", "the expression is empty"),
        ("'1 +'", "invalid syntax, at column 4 of '1 +'"),
        ("'2 ** 3'", "** is not allowed"),
        ("'x.y'", "'.' is not allowed, at column 2 of 'x.y'"),
    ],
)
def test_refused_default(default: str, message: str) -> None:
    assert error_of(one_axis(default=default)).startswith(
        f"spaces/foo.toml: default.VEC: {message}"
    )


def test_missing_default() -> None:
    assert error_of("[axes]\nVEC = [1]\n[default]") == (
        "spaces/foo.toml: default.VEC: missing; every axis needs a default"
    )


def test_default_of_no_axis() -> None:
    assert error_of(one_axis(rest="VEX = 1")) == (
        "spaces/foo.toml: default.VEX: there is no axis VEX (did you mean VEC?), "
        "expected one of: VEC"
    )


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("true", "expected an expression in a string, got True"),
        ("1", "expected an expression in a string, got 1"),
        ("{ a = 'VEC > 1' }", "expected an expression in a string, got {'a': 'VEC > 1'}"),
        ("''", "the expression is empty"),
        ("\"__import__('os')\"", '"\'" is not allowed, at column 12'),
        ("'VEC <'", "invalid syntax, at column 6 of 'VEC <'"),
        (f"'{'1*' * 300}1'", "an expression may have 500 characters, this one has 601"),
    ],
)
def test_refused_constraint(constraint: str, message: str) -> None:
    text = one_axis(rest=f"[constraints]\nfits = {constraint}")
    assert error_of(text).startswith(f"spaces/foo.toml: constraints.fits: {message}")


def test_long_values_are_cut() -> None:
    assert len(error_of(one_axis(f"'{'x' * 10000}'"))) < 250
    assert len(error_of(f"{'k' * 10000} = 1")) < 300


# files


def test_load_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL)
    for given_path in (path, str(path)):
        space = Space.load(given_path)
        assert space.name == "mine"
        assert space.origin == str(path)
        assert space.axes == parse(SMALL).axes


def test_load_path_relative_and_with_crlf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_bytes(SMALL.replace("\n", "\r\n").encode())
    monkeypatch.chdir(tmp_path)
    assert Space.load("mine.toml").size == 9
    assert Space.load(Path("mine.toml")).origin == "mine.toml"


def test_load_path_of_any_extension(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text(SMALL)
    assert Space.load(path).name == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "expected UTF-8 text, byte 0 is none"),
        (b"#" * (MAX_FILE_BYTES + 1), "expected at most 65536 bytes, the file has more"),
        (b"[axes", "not valid TOML: "),
        (b"\0", "not valid TOML: "),
    ],
)
def test_load_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(SpaceError) as caught:
        Space.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL + "#" * (MAX_FILE_BYTES - len(SMALL)))
    assert Space.load(path).size == 9


def test_load_missing_file() -> None:
    with pytest.raises(SpaceError) as caught:
        Space.load("no/such.toml")
    assert str(caught.value) == "no/such.toml: cannot be read: No such file or directory"


@pytest.mark.parametrize("path", ["/", "a\0b/c", "./\n.toml", "x" * 5000 + ".toml"])
def test_load_what_is_no_file(path: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Space.load(path)
    assert "cannot be read: " in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "\n", "x" * 5000, ".."])
def test_load_what_is_no_name(name: str) -> None:
    with pytest.raises(SpaceError, match=r"^there is no search space ") as caught:
        Space.load(name)
    assert str(caught.value).isprintable()


def test_load_unknown_name() -> None:
    with pytest.raises(SpaceError, match=r"no search space pointwize \(did you mean pointwise\?\)"):
        Space.load("pointwize")


@pytest.mark.parametrize("layout", ["installed", "checkout"])
def test_shipped_spaces_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    package = tmp_path / "tunekit"
    package.mkdir()
    beside, inside = tmp_path / "spaces", package / "spaces"
    for folder in (beside, inside) if layout == "installed" else (beside,):
        folder.mkdir()
        (folder / f"{folder.parent.name}.toml").write_text(SMALL)
        (folder / "notes.txt").write_text("")
    monkeypatch.setattr(module, "_PACKAGE", package)
    expected = (
        inside / "tunekit.toml" if layout == "installed" else beside / f"{tmp_path.name}.toml"
    )
    assert shipped_spaces() == {expected.stem: expected}
    assert Space.load(expected.stem).origin == f"spaces/{expected.name}"


def test_no_spaces_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "tunekit")
    assert shipped_spaces() == {}
    with pytest.raises(SpaceError, match="expected one of: none"):
        Space.load("pointwise")


# the spaces that ship


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_shipped_space_parses(name: str) -> None:
    space = Space.load(name)
    assert space.name == name
    assert space.origin == f"spaces/{name}.toml"


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("n", [1, 1000, 64 * 128 * 254 * 254])
def test_pointwise_space(n: int, itemsize: int) -> None:
    space, known = Space.load("pointwise"), facts(n, itemsize)
    configs = space.configs(known)
    assert space.default(known) == Config(
        BLOCK_SIZE=1024, VEC=16 // itemsize, num_warps=4, num_stages=1
    )
    assert space.default(known) in configs
    assert len(set(configs)) == len(configs)
    assert all(config["VEC"] * itemsize <= 16 for config in configs)


def test_pointwise_space_loops_only_where_a_loop_repeats() -> None:
    space = Space.load("pointwise")
    assert {config["num_stages"] for config in space.configs(facts(n=1000))} == {1}
    assert {config["num_stages"] for config in space.configs(facts(n=10**9))} == {1, 2, 3}


# anything at all


def first_error(text: str) -> str | None:
    """What parsing a file and using its space in every way says is wrong with it."""
    try:
        space = parse(text)
        configs = space.configs(facts())
        default = space.default(facts())
    except SpaceError as error:
        return str(error)
    assert default in configs
    assert all(space.violated(config, facts()) is None for config in configs)
    return None


VALUES = st.recursive(
    st.sampled_from(
        [
            *("1", "[1, 2]", "{ from = 1, to = 8 }", "'A'", "'A > n'", "'min(A, n)'", "'B // 0'"),
            *("[1, 1]", "true", "-1", "1.5", "''", "2020-01-01", "inf", "9999999999999999999"),
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.sampled_from(["from", "to", "A"]), inner, max_size=3).map(
            lambda table: "{ " + ", ".join(f"{key} = {item}" for key, item in table.items()) + " }"
        ),
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(["A", "B", "n", "min", "if", "'a b'", "A.B", "description"])
HEADERS = st.sampled_from(["[axes]", "[default]", "[constraints]", "[other]", "[[axes]]", ""])
ENTRIES = st.dictionaries(KEYS, VALUES, max_size=3).map(
    lambda table: "".join(f"{key} = {item}\n" for key, item in table.items())
)
FILES = st.lists(st.builds("{}\n{}".format, HEADERS, ENTRIES), max_size=4).map("".join)
PLAUSIBLE = st.builds(
    "[axes]\nA = {}\nB = [1]\n[default]\nA = {}\nB = 1\n[constraints]\nc = {}\n".format,
    VALUES,
    VALUES,
    VALUES,
)


@given(st.one_of(st.text(), FILES, PLAUSIBLE))
@example("\ud800")
@example('"\\u0000" = 1')
@example("a = 0x" + "f" * 9000)
def test_any_text_ends_in_a_space_or_a_space_error(text: str) -> None:
    message = first_error(text)
    if message is not None:
        assert message.startswith("spaces/foo.toml: ")
        assert message.isprintable()
