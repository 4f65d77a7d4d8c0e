"""The documents say what is so; `UPDATE_DOCS=1 pytest tests/test_docs.py` rewrites docs/cli.md."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import os
import re
import shlex
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tunekit.cli import cli, main
from tunekit.core.evaluation import Source
from tunekit.evaluate.estimate import CONSTANTS
from tunekit.store.cache import read_cache

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
ADDING = ROOT / "docs" / "adding-an-op.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
COMMAND_LINE = ROOT / "docs" / "cli.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

_HELP = re.compile(r"^```text\n(Usage: tunekit *([a-z]*).*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

LAUNCHES = """
import dataclasses

import torch

import tunekit
from model import GatedUnit
from my_ops import mish_gate, silu_gate, squared_relu


def refuse(*inputs, **scalars):
    raise AssertionError("the reference was called instead of the kernel")


x, gate = torch.randn(2, 3, 1001).unbind()
x[0, 0] = gate[1, 0] = float("nan")
for op, inputs in ((squared_relu, (x,)), (silu_gate, (x, gate)), (mish_gate, (x, gate))):
    expected = op.reference(*inputs, **op.scalars)
    result = tunekit.ops.call(dataclasses.replace(op, reference=refuse), *inputs)
    torch.testing.assert_close(result, expected, equal_nan=True)

unit = GatedUnit(8, 16)
unit(torch.randn(4, 8)).sum().backward()
assert all(weights.grad is not None for weights in unit.parameters())
"""


RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


def _rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table whose header row begins with that cell."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    targets = {link.partition("#")[0] for link in _LINK.findall(text)}
    broken = {each for each in targets if "://" not in each and not (page.parent / each).exists()}
    assert not broken


@pytest.fixture(scope="module")
def my_ops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of docs/adding-an-op.md, as a reader pastes them."""
    folder = tmp_path_factory.mktemp("my_ops")
    for block in _PYTHON.findall(ADDING.read_text(encoding="utf-8")):
        name = block.splitlines()[0].removeprefix("# ")
        assert name.endswith(".py"), f"a block of {ADDING.name} that belongs to no file:\n{block}"
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(block)
    return folder


def test_the_ops_of_the_page_are_right_in_the_interpreter(
    my_ops: Path, run_python: RunPython
) -> None:
    (my_ops / "launches.py").write_text(LAUNCHES)
    strict = "import runpy, warnings; warnings.simplefilter('error')"
    both = f"{strict}; runpy.run_path('try_my_ops.py'); runpy.run_path('launches.py')"
    done = run_python("-c", both, cwd=my_ops, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_command_tunes_the_op(
    my_ops: Path, tmp_path: Path, run_python: RunPython
) -> None:
    command = re.search(r"^    tunekit (tune .*)$", ADDING.read_text(encoding="utf-8"), re.M)
    assert command is not None
    arguments = shlex.split(command[1])
    arguments[arguments.index("--shape") + 1] = "16,250"
    database = tmp_path / "mine.db"
    more = ("--trials", "4", "--target", "rtx4090", "--db", str(database), "--json")
    done = run_python("-m", "tunekit", *arguments, *more, cwd=my_ops)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(done.stdout)
    assert (result["kernel"], result["evaluated"]) == ("silu_gate", 4)
    assert (result["source"], result["verified_by"]) == ("estimated", "interpreter")
    assert [row.problem.kernel for row in read_cache(database)] == ["silu_gate"]


def test_every_command_is_documented() -> None:
    documented = [name for _, name in _HELP.findall(COMMAND_LINE.read_text(encoding="utf-8"))]
    assert sorted(documented) == ["", *sorted(cli.commands)]


def test_help_is_as_documented(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    def block(match: re.Match[str]) -> str:
        assert main([*filter(None, [match[2]]), "--help"]) == 0
        return f"```text\n{capsys.readouterr().out}```"

    page = COMMAND_LINE.read_text(encoding="utf-8")
    actual = _HELP.sub(block, page)
    if os.environ.get("UPDATE_DOCS"):
        COMMAND_LINE.write_text(actual, encoding="utf-8")
    else:
        assert page == actual, "out of date: UPDATE_DOCS=1 pytest tests/test_docs.py rewrites it"


def test_the_host_times_are_those_of_the_benchmark() -> None:
    results = ROOT / "benchmarks" / "results" / "launch-h100.md"
    measured = {row[0]: row[1] for row in _rows(results, "call")}
    told = {row[0]: row[1] for row in _rows(ROOT / "docs" / "runtime.md", "call")}
    assert told == {name: measured[name] for name in told} != {}
    readme = README.read_text(encoding="utf-8")
    for call in ("`tunekit.ops.mish_mish(x)`", "the same kernel under `triton.autotune`"):
        assert f"{measured[call]} µs" in readme


def test_the_module_times_are_those_of_the_benchmark() -> None:
    def times(page: Path, module: str) -> dict[tuple[str, str], list[str]]:
        rows = [row for row in _rows(page, module) if len(row) in (7, 12)]
        if len(rows[0]) == 12:
            rows = [row[:2] + row[3:8] for row in rows if row[2] == "contiguous"]
        return {(row[0], row[1]): row[2:] for row in rows}

    results = ROOT / "benchmarks" / "results"
    measured = times(results / "modules-h100.md", "module")
    assert times(ROOT / "docs" / "modules.md", "module") == measured != {}
    readme = README.read_text(encoding="utf-8")
    _, _, eager, compiled, tunekit = measured["mish_mish", "fp16"]
    assert (
        f"takes {tunekit} ms where `torch.compile` takes {compiled} and eager\nPyTorch {eager}"
        in readme
    )
    host = {row[0]: row[1] for row in _rows(results / "modules-host-h100.md", "call")}
    page = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
    for call, median in host.items():
        assert f"{float(median):.0f} µs" in page, call


def test_the_times_in_the_readme_are_those_of_the_benchmark() -> None:
    results = ROOT / "benchmarks" / "results" / "kernels-h100.md"
    times: dict[tuple[str, str, str], str] = {}
    dtype = ""
    for line in results.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("## "):
            dtype = line.removeprefix("## ")
        elif len(cells) > 3:
            times[cells[0], dtype, cells[1]] = cells[2]
    contenders = (
        "hand-written original",
        "torch.compile, max-autotune",
        "tunekit, tuned",
        "identity, tuned",
    )
    rows = _rows(README, "op")
    assert rows
    for op, of_dtype, *cited in rows:
        assert cited == [times[op, of_dtype, contender] for contender in contenders]


def test_the_gains_in_the_readme_are_those_of_the_shipped_database() -> None:
    gains: dict[str, list[float]] = defaultdict(list)
    for row in read_cache(ROOT / "studies.db", immutable=True):
        if row.source is Source.MEASURED and row.speedup is not None:
            gains[row.problem.device].append(100 * (row.speedup - 1))
    assert {slug: len(each) for slug, each in gains.items()} == {"h100": 174, "h200": 142}
    (middle, most), (other_middle, other_most) = (
        (statistics.median(gains[slug]), max(gains[slug])) for slug in ("h100", "h200")
    )
    assert (
        f"{middle:.1f} % faster at the median and {most:.1f} % at most on the H100, "
        f"{other_middle:.1f} % and {other_most:.1f} % on an H200"
    ) in " ".join(README.read_text(encoding="utf-8").split())


def test_the_range_of_the_landscapes_in_the_readme_is_right() -> None:
    ratios = []
    for slug in ("h100", "h200"):
        path = ROOT / "benchmarks" / "landscapes" / f"{slug}.csv.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            next(file)
            times: dict[tuple[str, ...], list[float]] = defaultdict(list)
            for row in csv.DictReader(file):
                if row["time_us"]:
                    key = (row["kernel"], row["dims"], row["dtype"], row["alignment"])
                    times[key].append(float(row["time_us"]))
        assert len(times) == {"h100": 174, "h200": 141}[slug]
        ratios += [max(each) / min(each) for each in times.values()]
    assert f"took {min(ratios):.1f} to {max(ratios):.1f} times" in README.read_text("utf-8")


def test_the_regrets_in_the_search_page_are_those_of_the_benchmark() -> None:
    """The first table of the results is the one cited: mean and 95th percentile of each."""
    results = (ROOT / "benchmarks" / "results" / "search.md").read_text(encoding="utf-8")
    printed = {}
    for line in results.partition("## Pointwise on an H200")[0].splitlines():
        name, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        if cells and "/" in cells[0]:
            pairs = [" / ".join(cell.split(" / ")[:2]) for cell in cells[:6]]
            printed.setdefault(name, dict(zip((1, 5, 10, 20, 30, 40), pairs, strict=True)))
    names = {"Optuna TPE": "tpe", "`transfer-tpe`": "transfer-tpe", "random": "random"}
    names |= {"`transfer`, what `tune` uses": "transfer"}
    cited = {row[0]: row[1:] for row in _rows(ROOT / "docs" / "search.md", "strategy")}
    assert names.keys() <= cited.keys()
    for name, strategy in names.items():
        assert cited[name] == [printed[strategy][count] for count in (1, 5, 10, 20, 40)]


def test_the_constants_of_the_model_are_as_documented() -> None:
    documented = {row[0].strip("`"): float(row[1]) for row in _rows(ARCHITECTURE, "constant")}
    assert documented == asdict(CONSTANTS)


def test_the_layers_are_as_documented() -> None:
    source = (ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8")
    (layers,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "LAYERS"
    )
    assert isinstance(layers, ast.Tuple)
    there = {path.stem for path in (ROOT / "tunekit").iterdir()}
    tested = [
        {name.value for name in ast.walk(layer) if isinstance(name, ast.Constant)} & there
        for layer in layers.elts
    ]
    documented = [set(re.findall(r"`(\w+)`", row[0])) for row in _rows(ARCHITECTURE, "layer")]
    assert documented == tested[::-1]
