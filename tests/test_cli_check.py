"""`tunekit check`: what it prints, its exit status, and what it says of a person's mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from triton.runtime import driver

from tunekit import gpu
from tunekit.cli import main
from tunekit.rules.check import RULES

KERNELS = Path(__file__).resolve().parent / "rules" / "kernels.py"
ADD, TWICE = f"{KERNELS}:ADD", f"{KERNELS}:STORES_TWICE"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_active", None)  # and back to what it was
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def check(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str, str]:
    status = main(["check", *command])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_what_is_broken_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = check(capsys, TWICE, "--shape", "4112", "--target", "h100")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "stores_twice  4112  float32  for NVIDIA H100 80GB HBM3"
    assert lines[1].split(None, 1) == [
        "configuration",
        "BLOCK_SIZE=1024, num_warps=4 (what a call is served: default)",
    ]
    assert lines[2].split(None, 1) == ["grid", "5 × 1 × 1; all programs followed lane by lane"]
    assert [line for line in lines if line in ("broken", "undecided", "ok")] == [
        "broken",
        "undecided",
        "ok",
    ]
    at = lines.index("broken")
    assert lines[at + 1].startswith("  stores           One program stores the same elements of y0")
    assert lines[at + 2].strip() == "2 stores on a way through the code; 1 output"
    assert lines[at + 3].strip().startswith("tt.store at kernels.py:")
    assert lines[-1] == "17 rules: 15 ok, 1 broken, 1 undecided"
    unseen = lines[lines.index("not to be seen in a compiled kernel") + 1]
    assert "computes the right thing" in unseen


def test_without_a_target_it_is_for_an_rtx_4090(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = check(capsys, ADD, "--shape", "4112")
    assert status == 0
    assert "NVIDIA GeForce RTX 4090" in out.splitlines()[0]


def test_strict_ends_with_1_where_a_rule_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = check(capsys, TWICE, "--shape", "4112", "--strict")
    assert status == 1
    assert "17 rules" in out
    assert err == "tunekit: stores_twice breaks 1 of the rules: stores\n"
    assert check(capsys, ADD, "--shape", "4112", "--strict")[0] == 0


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = check(capsys, TWICE, "--shape", "4112", "--json", "--config", "num_warps=8")
    data = json.loads(out)
    assert status == 0
    assert (data["shape"], data["dtype"], data["grid"]) == ([4112], "float32", [5, 1, 1])
    assert data["config"] == {"BLOCK_SIZE": 1024, "num_warps": 8}
    assert data["config_from"] == "given by --config"
    stores = next(each for each in data["findings"] if each["rule"] == "stores")
    assert stores["verdict"] == "broken"
    assert set(stores) == {"rule", "verdict", "says", "fact", "places"}


def test_what_the_cache_serves_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped database has this shape measured on an H100."""
    shape = ("--shape", "64,128,254,254", "--target", "h100")
    status, out, _ = check(capsys, "mish_mish", *shape)
    assert status == 0
    assert "(what a call is served: exact)" in out
    assert out.splitlines()[-1] == "17 rules: 17 ok"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, out, _ = check(capsys, TWICE, "--shape", "4112")
    assert "\x1b[1;31mbroken" in out
    lines = re.sub(r"\x1b\[[\d;]*m", "", out).splitlines()
    assert max(map(len, lines)) <= min(width, 100)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([ADD, "--shape", "4112", "--config", "BLOCK=1024"], "has the axes BLOCK_SIZE, num_warps"),
        (
            [ADD, "--shape", "4112", "--config", "num_warps=-1"],
            "expected AXIS=N, such as num_warps",
        ),
        ([ADD, "--shape", "4112", "--config", ""], "has the axes BLOCK_SIZE, num_warps"),
        ([ADD], "give at least one --shape"),
        ([ADD, "--shape", "0"], "every dim must be at least 1"),
        (["mish", "--shape", "64"], "unknown kernel 'mish'"),
        ([ADD, "--shape", "64", "--target", "rtx"], "rtx"),
        ([ADD, "--shape", "64", "--device", "cuda:0", "--target", "h100"], "give one of them"),
        ([ADD, "--shape", "64", "--device", "cuda:0"], "has 0 CUDA GPUs"),
        ([ADD, "--shape", "64", "--param", "scale=1"], "add has no scalar 'scale'"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    status, out, err = check(capsys, *command)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err


def test_what_does_not_compile_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = check(capsys, ADD, "--shape", "4112", "--config", "BLOCK_SIZE=1000")
    assert (status, out) == (1, "")
    assert err.startswith("tunekit: add with BLOCK_SIZE=1000, num_warps=4 does not compile for")
    assert err.count("\n") == 1


def test_the_page_shows_what_is_printed_and_names_every_rule(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (KERNELS.parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    shown = page.partition("```text\n")[2].partition("```")[0].splitlines()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    original = f"{KERNELS.parent / 'originals.py'}:mish_mish"
    _, out, _ = check(capsys, original, "--shape", "64,128,254,254", "--target", "h100")
    printed = iter(re.sub(r"\x1b\[[\d;]*m", "", out).splitlines())
    assert [line for line in shown if line != "…" and line not in printed] == []
    rows = re.findall(r"^\| `([\w -]+)` \|", page, re.MULTILINE)
    assert rows == list(RULES)
