"""Configurations in JSON, of each format that is known."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tunekit.candidates.json_file import parse_json, read_json
from tunekit.candidates.listed import Contents, Near
from tunekit.errors import ImportFormatError


def read(document: Any) -> Contents:
    return read_json(parse_json(json.dumps(document)))


def triton_config(block: int, **more: Any) -> dict[str, Any]:
    """As `triton.Config.__dict__` is written."""
    return {
        "kwargs": {"BLOCK_M": block, "GROUP_M": 8}, "num_warps": 4, "num_ctas": 1,
        "num_stages": 3, "maxnreg": None, "pre_hook": None, "ir_override": None,
    } | more  # fmt: skip


def test_the_cache_of_an_autotuning_is_read_fastest_first() -> None:
    contents = read(
        {
            "key": [4096, 4096, "torch.float16"],
            "configs_timings": [
                [triton_config(64), [0.052, 0.051, 0.054]],
                [triton_config(256), [math.inf] * 3],
                [triton_config(128, num_warps=8), [0.0415, 0.041, 0.042]],
                [triton_config(32), 0.09],
                [triton_config(16), math.nan],
            ],
        }
    )
    assert contents.kind == "Triton's cache of an autotuning"
    assert [each.values["BLOCK_M"] for each in contents.listed] == [128, 64, 32, 256, 16]
    assert contents.listed[0].values == {
        "BLOCK_M": 128, "GROUP_M": 8, "num_warps": 8, "num_ctas": 1, "num_stages": 3,
        "maxnreg": None,
    }  # fmt: skip
    assert [each.place for each in contents.listed] == [
        "entry 3, 0.0415 ms there",
        "entry 1, 0.052 ms there",
        "entry 4, 0.09 ms there",
        "entry 2, which failed there",
        "entry 5, which failed there",
    ]


def test_what_triton_writes_here_is_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Triton's own code, so that another format of a later version is noticed."""
    import triton
    from triton.runtime import autotuner
    from triton.runtime.jit import JITFunction

    written: dict[str, str] = {}

    class Manager:
        def get_file(self, name: str) -> None:
            return None

        def put(self, text: str, name: str, binary: bool) -> None:
            written[name] = text

    class Fn(JITFunction):  # type: ignore[misc]
        cache_key = "some key"

        def __init__(self) -> None:
            self.__name__ = "some_kernel"

    class Backend:
        def hash(self) -> str:
            return "backend"

    class Active:
        def get_current_target(self) -> None:
            return None

    monkeypatch.setattr(autotuner, "get_cache_manager", lambda key: Manager())
    monkeypatch.setattr("triton.compiler.compiler.make_backend", lambda target: Backend())
    monkeypatch.setattr(autotuner.driver, "_active", Active())
    tuner = object.__new__(autotuner.Autotuner)
    tuner.fn = Fn()
    configs = [triton.Config({"B": b}, num_warps=2, num_stages=1) for b in (16, 32)]
    tuner.cache = {}
    tuner.configs_timings = dict(zip(configs, ([0.2, 0.1, 0.3], [0.1, 0.1, 0.1]), strict=True))
    tuner.check_disk_cache((4096, "fp16"), configs, lambda: None)
    (name,) = written
    assert name == "some_kernel.autotune.json"
    contents = read_json(parse_json(written[name]))
    assert [each.values["B"] for each in contents.listed] == [32, 16]
    assert contents.listed[0].values["num_warps"] == 2


def test_a_table_by_size() -> None:
    entry = {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 64, "num_warps": 4, "num_stages": 4}
    contents = read(
        {
            "triton_version": "3.4.0",
            "1": entry,
            "64": entry | {"BLOCK_SIZE_M": 64},
            "M_LEQ_256": entry | {"num_warps": 8},
            "any": entry | {"waves_per_eu": 2, "cache_modifier": ".cg"},
            "remark": "by hand",
            "0": entry,
            "16x16": entry,
        }
    )
    assert contents.kind == "a table of configurations"
    assert [each.near for each in contents.listed] == [
        Near(size=1), Near(size=64), Near(size=256), None, None, None,
    ]  # fmt: skip
    assert contents.listed[1].values["BLOCK_SIZE_M"] == 64
    assert contents.listed[3].values["cache_modifier"] == ".cg"
    assert contents.notes == ("'remark' is not read: expected a configuration by name",)
    assert contents.groups == {"entries": 6}


def test_tables_of_tables() -> None:
    contents = read(
        {
            "forward": {"default": {"B": 64, "PRELOAD": False}, "large": {"B": 128}},
            "backward": {"kernel_N64": {"B": 32}},
            "16": {"B": 16},
            "32": {"kwargs": {"B": 32}},
        }
    )
    assert contents.groups == {"forward": 2, "backward": 1, "entries": 2}
    assert [each.values["B"] for each in contents.listed] == [64, 128, 32, 16, 32]
    assert [each.near for each in contents.listed][2:] == [Near(size=64), Near(16), Near(32)]


def test_a_list_of_configurations() -> None:
    contents = read([{"B": 1, "num_warps": 4}, {"kwargs": {"B": 2}, "num_warps": 8}])
    assert [dict(each.values) for each in contents.listed] == [
        {"B": 1, "num_warps": 4},
        {"B": 2, "num_warps": 8},
    ]


def test_an_export_of_tunekit() -> None:
    entry = {
        "kernel": "mish_mish", "kernel_hash": "0a", "device": "h100", "dtype": "float32",
        "dims": {"n": 4096}, "config": {"BLOCK_SIZE": 512, "num_warps": 4},
    }  # fmt: skip
    contents = read({"schema": "tunekit-export/1", "entries": [entry]})
    (listed,) = contents.listed
    assert listed.values == entry["config"]
    assert listed.near == Near(dims={"n": 4096}, kernel="mish_mish", dtype="float32", device="h100")
    assert contents.groups == {"mish_mish": 1}


def test_a_portfolio_of_tunekit() -> None:
    portfolio = {"kernel": "gelu", "device": "h100", "configs": [{"B": 1}, {"B": 2}]}
    contents = read({"schema": "tunekit-portfolio/1", "count": 2, "portfolios": [portfolio]})
    assert [each.values["B"] for each in contents.listed] == [1, 2]
    assert {each.near for each in contents.listed} == {Near(kernel="gelu", device="h100")}


@pytest.mark.parametrize("form", [[], ["--portfolio", "2"]])
def test_what_tunekit_exports_is_read(form: list[str], tmp_path: Any) -> None:
    from tunekit.cli import main

    path = tmp_path / "mish.json"
    arguments = ["export", "mish_mish", "--device", "h100", "--format", "json", "-o", str(path)]
    assert main([*arguments, *form]) == 0
    contents = read_json(parse_json(path.read_text()))
    assert contents.kind == "an export of tunekit's"
    axes = {"BLOCK_SIZE", "VEC", "num_warps", "num_stages"}
    assert {frozenset(each.values) for each in contents.listed} == {frozenset(axes)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON: "),
        ("[" * 100_000, "no JSON: "),
        ('{"a": 1, "a": 2}', "key 'a' appears twice"),
        ("1" * 5_000, "no JSON: |expected a JSON object"),
        ('"text"', "expected a JSON object or a list of objects"),
        ("{}", "holds no configuration"),
        ("[]", "holds no configuration"),
        ('{"a": 1}', "holds no configuration: 'a' is not read"),
        ("[1]", "entry 1: expected a configuration, an object of values by name, got 1"),
        ("[{}]", "entry 1: expected a configuration of 1 to 32 values"),
        ('[{"kwargs": 1}]', "entry 1: kwargs: expected an object"),
        ('{"configs_timings": 1}', "configs_timings: expected a list of pairs, got 1"),
        ('{"configs_timings": [[]]}', "configs_timings 1: expected a configuration and its time"),
        ('{"configs_timings": [[{"kwargs": {"B": 1}}, "fast"]]}', "expected a time in ms"),
        ('{"configs_timings": [[{"kwargs": {"B": 1}}, []]]}', "expected a time in ms"),
        ('{"configs_timings": []}', "holds no configuration"),
        ('{"schema": "tunekit-export/2"}', "schema: expected tunekit-export/1 or tunekit-portf"),
        ('{"schema": "tunekit-export/1"}', "entries: expected a list"),
        ('{"schema": "tunekit-export/1", "entries": [{"dims": {"n": "x"}}]}', "dims: expected"),
        ('{"schema": "tunekit-portfolio/1", "portfolios": [1]}', "portfolios 1: expected an obj"),
        ("[" + '{"B": 1},' * 5_000 + '{"B": 1}]', "more than 5000 configurations"),
    ],
)
def test_what_is_refused_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ImportFormatError, match=message) as caught:
        read_json(parse_json(text))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
