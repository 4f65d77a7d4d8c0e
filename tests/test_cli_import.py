"""`tunekit import` of configurations, and `tunekit tune` after it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tunekit import arguments, cli, gpu
from tunekit.core.config import Config
from tunekit.evaluate.host import Host
from tunekit.runtime import known, lookup
from tunekit.search import tune as tuning
from tunekit.store.database import Store

PYTHON = """
import triton
from mine import sizes

wide = [
    triton.Config({"BLOCK": block, "VEC": 4}, num_warps=warps, num_stages=1)
    for block in [1536, 2048, 64] for warps in [4, 8]
]
narrow = [triton.Config({"BLOCK": 512, "VEC": 2}, num_warps=4, num_stages=1)]
theirs = [triton.Config({"BLOCK": size}) for size in sizes()]
other = [triton.Config({"ROWS": 4})]
"""
ENTRY = {"BLOCK_SIZE": 512, "VEC": 2, "num_warps": 4, "num_stages": 1}
TABLE = {
    str(size): ENTRY | {"BLOCK_SIZE": block}
    for size, block in [
        (64, 256),
        (4096, 512),
        (65536, 1024),
        (2**20, 2048),
        (2**24, 4096),
        (2, 128),
    ]
}
FOR = ("--kernel", "mish_mish", "--target", "h100")


class Ended(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command where there is no GPU, and nothing shipped with tunekit."""
    absent = tmp_path / "nothing-shipped.db"
    for module in (arguments, known):
        monkeypatch.setattr(module, "shipped_database", lambda: absent)
    monkeypatch.setattr(cli.tune, "shipped_landscapes", lambda: tmp_path / "no-landscapes")
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    monkeypatch.setattr(tuning, "project_study", lambda session: None)
    monkeypatch.setenv("TUNEKIT_DB", str(tmp_path / "mine.db"))
    monkeypatch.chdir(tmp_path)

    def command(*given: object) -> Ended:
        capsys.readouterr()
        return Ended(cli.main([str(each) for each in given]), *capsys.readouterr())

    return command


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    path = tmp_path / "configs.py"
    path.write_text(PYTHON)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "E=8,N=7168,device_name=NVIDIA_H100_80GB_HBM3.json"
    path.write_text(json.dumps(TABLE, indent=4))
    return path


def candidates(tmp_path: Path, **wanted: Any) -> list[tuple[int, str]]:
    """Block and origin of each."""
    with Store.open(tmp_path / "mine.db", readonly=True) as store:
        return [(each.config["BLOCK_SIZE"], each.origin) for each in store.candidates(**wanted)]


def test_lists_of_a_python_file(run: Run, configs: Path, tmp_path: Path) -> None:
    ended = run("import", "configs.py", *FOR, "--shape", "4096", "--rename", "BLOCK=BLOCK_SIZE")
    assert ended.status == 0
    assert ended.out.splitlines() == [
        "configs.py: Python, configurations: 6 in wide, 1 in narrow, 1 in other",
        "  1 left out: no BLOCK_SIZE, VEC and ROWS, which the space has not",
        "mish_mish 4096 float32 on h100: 5 candidates, 2 with values off the space's lists, left "
        "out as they violate a constraint: 2 × every_thread_has_work",
        f"5 new candidates of configs.py into {tmp_path / 'mine.db'}: `tunekit tune` evaluates "
        "them first",
    ]
    assert ended.err == "tunekit: configs.py line 10: a call of mine.sizes is not evaluated\n"
    assert candidates(tmp_path) == [
        (1536, "configs.py line 6"), (1536, "configs.py line 6"), (2048, "configs.py line 6"),
        (2048, "configs.py line 6"), (512, "configs.py line 9"),
    ]  # fmt: skip
    again = run("import", "configs.py", *FOR, "--shape", "4096", "--rename", "BLOCK=BLOCK_SIZE")
    assert again.out.splitlines()[-1].startswith("0 new candidates of configs.py")


def test_one_list_for_several_problems(run: Run, configs: Path, tmp_path: Path) -> None:
    ended = run(
        "import", configs, *FOR, "--list", "narrow", "--rename", "BLOCK=BLOCK_SIZE",
        "--shape", "4096", "--shape", "64,64,64", "--dtype", "float16", "--dtype", "float32",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.out.count(": 1 candidates") == 4
    assert candidates(tmp_path, device="h100") == [(512, "configs.py line 9")] * 4


def test_of_a_table_the_nearest_sizes(run: Run, table: Path, tmp_path: Path) -> None:
    ended = run("import", table, *FOR, "--shape", "5000", "--size-name", "n")
    assert ended.status == 0
    assert [block for block, _ in candidates(tmp_path)] == [512, 1024, 256, 2048]
    assert candidates(tmp_path)[0][1] == f"{table.name} entry 4096"


def test_a_table_without_the_name_of_its_size(run: Run, table: Path, tmp_path: Path) -> None:
    ended = run("import", table, *FOR, "--shape", "5000")
    assert ended.status == 0
    assert "all its sizes are taken: --size-name NAME" in ended.out
    assert [block for block, _ in candidates(tmp_path)] == [256, 512, 1024, 2048, 4096]


def test_a_cache_of_triton_s(run: Run, tmp_path: Path) -> None:
    timings = [
        [{"kwargs": {"BLOCK_SIZE": block, "VEC": 4}, "num_warps": 4, "num_stages": 1}, time]
        for block, time in [(1024, 0.2), (512, 0.1), (2048, float("inf"))]
    ]
    path = tmp_path / "kernel.autotune.json"
    path.write_text(json.dumps({"key": [4096], "configs_timings": timings}))
    assert run("import", path, *FOR, "--shape", "4096").status == 0
    assert [block for block, _ in candidates(tmp_path)] == [512, 1024, 2048]
    assert candidates(tmp_path)[0][1] == "kernel.autotune.json entry 2, 0.1 ms there"


def test_what_was_imported_is_tuned_first_and_served(
    run: Run,
    configs: Path,
    tmp_path: Path,
    estimate_host: Callable[..., Host],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = Config(BLOCK_SIZE=1536, VEC=4, num_warps=8, num_stages=1)
    host = estimate_host(lambda config: 1.0 if config == best else 2.0)
    monkeypatch.setattr(Host, "estimating", lambda device: host)
    rename = ("--rename", "BLOCK=BLOCK_SIZE")
    assert run("import", configs, *FOR, "--shape", "4096", *rename).status == 0
    tune = ("tune", "mish_mish", "--shape", "4096", "--target", "h100", "--trials", "4")
    said = re.sub(r"\s+", " ", run(*tune).out.replace("│", ""))
    assert host.pool.configs[2] == best
    assert "imported 3 of 5; more --trials evaluate the rest; 2 with values off" in said
    assert "the winner is configs.py line 6" in said
    lookup.forget()
    assert lookup.lookup("mish_mish", (4096,), "float32", device="h100").config == best
    lookup.forget()
    again = json.loads(run(*tune, "--json").out)
    assert again[0]["imported"] == {
        "count": 5, "off_list": 2, "evaluated": 3, "won": "configs.py line 6",
    }  # fmt: skip
    assert "first 5 imported ones, 2 with values off" in run(*tune, "--verbose").err
    assert json.loads(run("show", "--json").out)[0]["config"] == dict(best)
    assert (
        "BLOCK_SIZE=1536" in run("explain", "mish_mish", "--shape", "4096", "--target", "h100").out
    )


OWN = """
import torch
import triton
import triton.language as tl

import tunekit


@triton.jit
def copy_kernel(out, x, rows, columns, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    for row in range(ROWS):
        place = tl.arange(0, BLOCK)
        at = (tl.program_id(0) * ROWS + row) * columns + place
        mask = (place < columns) & (tl.program_id(0) * ROWS + row < rows)
        tl.store(out + at, tl.load(x + at, mask), mask)


@tunekit.kernel(
    space={"ROWS": [1, 2, 4], "num_warps": [4, 8]},
    reference=lambda x: x.clone(),
    shapes={"x": ("rows", "columns")},
)
def copy(x):
    rows, columns = x.shape
    out = torch.empty_like(x)
    return tunekit.launch(
        copy_kernel, out, x, rows, columns, BLOCK=triton.next_power_of_2(columns),
        grid=lambda config: (triton.cdiv(rows, config["ROWS"]),), outputs=out,
    )
"""


def test_for_a_kernel_of_one_s_own_with_named_sizes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    table = {
        str(rows): {"BLOCK_R": block, "num_warps": 4, "num_stages": 3, "waves_per_eu": 2}
        for rows, block in [(1, 1), (64, 3), (4096, 16)]
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    ended = run(
        "import", "table.json", "--kernel", "own.py:copy", "--dim", "rows=50,5000",
        "--dim", "columns=256", "--target", "h100", "--size-name", "rows",
        "--rename", "BLOCK_R=ROWS", "--rename", "waves_per_eu=",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[1:3] == [
        f"copy rows={rows} columns=256 float32 on h100: 3 candidates, 2 with values off the "
        "space's lists"
        for rows in (50, 5000)
    ]
    with Store.open(tmp_path / "mine.db", readonly=True) as store:
        found = [
            (dict(each.problem.dims)["rows"], each.config["ROWS"]) for each in store.candidates()
        ]
    assert found == [(50, 3), (50, 1), (50, 16), (5000, 16), (5000, 3), (5000, 1)]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["configs.py"], 2, r"configs\.py: 8 configurations \(Python\): say what they are for"),
        (["configs.py", "--shape", "64"], 2, "--shape, --dim, --list and what else .* --kernel"),
        (["configs.py", "--target", "h100"], 2, "--device and --target go with --kernel"),
        (["configs.py", "--kernel", "mish_mish"], 2, "give at least one --shape"),
        (["configs.py", "--kernel", "mash", "--shape", "64"], 2, "mash"),
        (["configs.py", *FOR, "--shape", "64"], 1, "no configuration has the axes of the space"),
        (["configs.py", *FOR, "--shape", "64", "--list", "x"], 2, "--list 'x': the lists are wide"),
        (["configs.py", *FOR, "--shape", "64", "--rename", "BLOCK"], 2, "expected THEIRS=OURS"),
        (["configs.py", *FOR, "--shape", "64", "--rename", "B=C"], 2, "no configuration has that"),
        (["table.json", *FOR, "--shape", "64", "--size-name", "M"], 2, "the sizes of mish_mish"),
        (["list.json", *FOR, "--shape", "64", "--size-name", "n"], 2, "is not keyed by a size"),
        (["huge.json", *FOR, "--shape", "64"], 1, "every configuration violates a constraint"),
        (["rows.jsonl", *FOR, "--shape", "64"], 1, "holds evaluations, .* leave --kernel"),
        (["text", *FOR, "--shape", "64"], 1, "text: no list of triton.Config"),
        (["none", *FOR, "--shape", "64"], 1, "none: cannot read: No such file"),
        (["text"], 1, "text line 1: not JSON"),
    ],
)
def test_what_is_refused_is_one_line_and_stores_nothing(
    run: Run, configs: Path, tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    (tmp_path / "table.json").write_text(json.dumps(TABLE))
    (tmp_path / "list.json").write_text(json.dumps([ENTRY]))
    (tmp_path / "huge.json").write_text(json.dumps([ENTRY | {"BLOCK_SIZE": 2**30}]))
    (tmp_path / "rows.jsonl").write_text('{"record": "evaluation"}\n')
    (tmp_path / "text").write_text("text\n")
    ended = run("import", *arguments)
    assert ended.status == status, ended.err
    (line,) = [each for each in ended.err.splitlines() if "not evaluated" not in each]
    assert re.search(said, line), line
    if (tmp_path / "mine.db").exists():
        with Store.open(tmp_path / "mine.db", readonly=True) as store:
            assert store.candidates() == []
            assert store.problems() == []
