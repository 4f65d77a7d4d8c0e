"""What a person sees on a terminal and in a pipe, and what a script gets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit import report, report_json
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Source, Status
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Outcome
from tunekit.gpu import PresentGpu
from tunekit.kernels.library import KERNELS
from tunekit.search.confirm import Confirmed
from tunekit.search.task import Progress, Result, Task
from tunekit.search.tune import tune
from tunekit.store.cache import CacheRow
from tunekit.store.database import Store

MakeHost = Callable[..., Host]
Print = Callable[[Callable[[report.Console], None]], list[str]]

KERNEL = KERNELS["mish_add_hardtanh_scale"]  # the longest name
SHAPE = (128, 64, 256, 256)
DEFAULT = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
WIDTHS = (70, 80, 120, 160)
DATABASE = Path("/some/folder/studies.db")


def time_us(config: Config) -> float:
    return 6000.0 - config["BLOCK_SIZE"] / 100 + config["num_warps"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "studies.db") as store:
        yield store


def search(host: Host, store: Store, dtype: str = "float32", trials: int = 8) -> Result:
    task = Task(KERNEL, KERNEL.name, SHAPE, dtype, {}, trials)
    return tune(task, host, store, Progress(), write_study=False)


@pytest.fixture
def result(gpu_host: MakeHost, store: Store) -> Result:
    return search(gpu_host(time_us), store)


@pytest.fixture
def estimate(estimate_host: MakeHost, store: Store) -> Result:
    return search(estimate_host(time_us), store)


@pytest.fixture
def rows(result: Result, store: Store) -> list[CacheRow]:
    (row,) = store.cache()
    sizes = (2**30, 8192, 2**24)
    return [replace(row, problem=replace(row.problem, dims=(("n", size),))) for size in sizes]


@pytest.fixture
def on_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """The lines a terminal of that width shows, without styles."""

    def show(width: int, what: Callable[[report.Console], None]) -> list[str]:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        what(report.Console())
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()

    return show


@pytest.fixture
def in_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Print:
    def show(what: Callable[[report.Console], None]) -> list[str]:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        what(report.Console())
        return capsys.readouterr().out.splitlines()

    return show


def words(lines: list[str]) -> str:
    """All there is, whatever line it stands on."""
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_fit_and_nothing_is_cut(
    width: int, rows: list[CacheRow], on_terminal: Callable[..., list[str]]
) -> None:
    present = [PresentGpu(0, "NVIDIA H100 80GB HBM3", "580.1", DEVICES["h100"])]
    for show in (
        lambda console: console.print_rows(rows),
        lambda console: console.print_kernels(KERNELS.values()),
        lambda console: console.print_devices(present, DEVICES.values()),
    ):
        lines = on_terminal(width, show)
        tables = [line for line in lines if not line.startswith(("default ÷", "cuda:0"))]
        assert max(map(len, tables)) <= width
        assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [*WIDTHS, *range(115, 135)])
def test_every_row_is_shown_in_full(
    width: int, rows: list[CacheRow], on_terminal: Callable[..., list[str]]
) -> None:
    shown = words(on_terminal(width, lambda console: console.print_rows(rows)))
    assert shown.count("mish_add_hardtanh_scale") == 3
    assert shown.index("n=8192") < shown.index("n=16777216") < shown.index("n=1073741824")
    assert shown.count("measured") == shown.count("h100") == 3
    assert shown.count(f"{rows[0].time_us:.2f}") == 3


def test_a_narrow_terminal_gets_a_few_lines_a_row(
    rows: list[CacheRow], on_terminal: Callable[..., list[str]]
) -> None:
    lines = on_terminal(80, lambda console: console.print_rows(rows[:1]))
    assert lines[0] == "mish_add_hardtanh_scale"
    assert lines[1] == "  device: h100  dtype: float32  dims: n=1073741824"
    assert lines[2] == f"  configuration: {rows[0].config}"
    assert lines[3].startswith("  time µs: ")
    assert lines[3].endswith("source: measured")


def test_a_pipe_gets_one_line_a_row(rows: list[CacheRow], in_pipe: Print) -> None:
    head, rule, *body, foot = in_pipe(lambda console: console.print_rows(rows))
    assert head.split()[:5] == ["kernel", "device", "dtype", "dims", "configuration"]
    assert set(rule) == {"─"}
    assert len(body) == 3
    assert all(str(rows[0].config) in line for line in body)
    assert foot.startswith("default ÷")


def test_one_result_in_full(result: Result, in_pipe: Print) -> None:
    shown = words(in_pipe(lambda console: console.print_results([result], DATABASE)))
    assert "mish_add_hardtanh_scale 128,64,256,256 float32 on NVIDIA H100 80GB HBM3: " in shown
    assert "measured and verified" in shown
    assert str(result.winner.config) in shown
    assert "% of 3350 GB/s" in shown
    assert "; 10–90 %: " in shown
    assert f"× the winner's time ({DEFAULT})" in shown
    assert "plain copy" in shown
    assert "8 of 106 configurations, in " in shown
    assert "the budget of 8 configurations" in shown
    assert "/some/folder/studies.db" in shown
    assert "estimate" not in shown


def test_an_estimate_says_that_it_is_one(estimate: Result, in_pipe: Print) -> None:
    shown = words(in_pipe(lambda console: console.print_results([estimate], DATABASE)))
    assert "estimated, verified by the interpreter" in shown
    assert "This is an estimate: run `tunekit confirm`" in shown
    assert "median" not in shown
    assert "copy" not in shown


def test_several_results_are_a_table(
    result: Result, gpu_host: MakeHost, store: Store, in_pipe: Print
) -> None:
    other = search(gpu_host(time_us), store, dtype="bfloat16")
    lines = in_pipe(lambda console: console.print_results([result, other], DATABASE))
    assert [line.split()[2] for line in lines[2:4]] == ["float32", "bfloat16"]
    assert lines[-1] == "saved in /some/folder/studies.db"


def test_no_results_print_nothing(in_pipe: Print) -> None:
    assert in_pipe(lambda console: console.print_results([], DATABASE)) == []


def test_a_default_that_failed_is_said(gpu_host: MakeHost, store: Store, in_pipe: Print) -> None:
    wrong = Outcome(Status.WRONG, reason="differs", max_error=2.0)
    result = search(gpu_host(lambda c: wrong if c == DEFAULT else time_us(c)), store)
    shown = words(in_pipe(lambda console: console.print_results([result], DATABASE)))
    assert "default did not run: it is among those that failed" in shown.replace("│ ", "")
    assert "1 wrong" in shown
    assert report_json.result_to_json(result)["default_config"] is None


def test_a_gpu_of_unknown_bandwidth_has_no_share_of_it(result: Result, in_pipe: Print) -> None:
    unknown = replace(result, device=replace(result.device, dram_bytes_per_s=0.0))
    for results in ([unknown], [unknown, unknown]):
        lines = in_pipe(lambda console, results=results: console.print_results(results, DATABASE))
        assert "%" not in "".join(line for line in lines if "GB/s" in line)


def test_what_looks_like_markup_is_printed_as_it_is(in_pipe: Print, result: Result) -> None:
    path = Path("/home/[bold]/:smile:/studies.db")
    assert str(path) in "".join(in_pipe(lambda console: console.print_results([result], path)))
    assert in_pipe(lambda console: console.say("[red]:smile:")) == ["[red]:smile:"]


def test_quiet_prints_nothing(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    console = report.Console(quiet=True)
    console.print_results([result], DATABASE)
    with console.progress("mish") as watched:
        watched.begin(10, [])
    assert capsys.readouterr().out == ""


def test_progress_in_a_pipe_is_a_line_every_fifth(
    gpu_host: MakeHost, store: Store, in_pipe: Print
) -> None:
    host = gpu_host(time_us)

    def watch(console: report.Console) -> None:
        with console.progress("mish 4096 float32") as watched:
            task = Task(KERNEL, KERNEL.name, SHAPE, "float32", {}, 10)
            tune(task, host, store, watched, write_study=False)

    lines = in_pipe(watch)
    assert lines[0] == "mish 4096 float32: 0 of 10 evaluated"
    assert [line.partition(":")[2].split()[0] for line in lines] == ["0", "2", "4", "6", "8", "10"]
    best_us = min(map(time_us, host.pool.configs))
    assert lines[-1] == f"mish 4096 float32: 10 of 10 evaluated, best {best_us:.2f} µs"


def test_progress_on_a_terminal_is_a_bar_that_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with report.Console().progress("mish_add_hardtanh_scale 128,64,256,256 bfloat16") as watched:
        watched.begin(106, [])
        watched.done, watched.best_us = 40, 5000.25
        watched.on_change(watched)
    shown = capsys.readouterr().out
    assert "40/106" in shown
    assert "best 5000.25 µs" in shown
    assert "…" not in shown
    assert shown.endswith("\x1b[2K")  # erases the line


def _confirmed(before: CacheRow, result: Result) -> Confirmed:
    other = Config(BLOCK_SIZE=512, VEC=4, num_warps=4, num_stages=1)
    winner = result.winner
    return Confirmed(
        before,
        result,
        expected_us={winner.config: 4000.0},
        measured_us={winner.config: 5000.0, other: 6000.0},
    )


def test_a_confirmation_shows_expected_against_measured(
    rows: list[CacheRow], result: Result, in_pipe: Print
) -> None:
    before = replace(rows[0], source=Source.ESTIMATED, config=DEFAULT)
    item = _confirmed(before, result)
    lines = in_pipe(lambda console: console.print_confirmed([item], result.device))
    winner, other = lines[2:4]
    assert f"{result.winner.config} *" in winner
    assert winner.split()[-4:] == ["estimated", "4000.00", "5000.00", "1.250"]
    assert other.split()[-2:] == ["estimated", "6000.00"]
    assert lines[-1].startswith("1 confirmed on NVIDIA H100 80GB HBM3, 1 with another winner")
    data = json.loads(json.dumps(report_json.confirmed_to_json(item)))
    assert data["before"] == {
        "source": "estimated",
        "config": dict(DEFAULT),
        "time_us": before.time_us,
    }
    assert [each["expected_us"] for each in data["measured"]] == [4000.0, None]


def test_nothing_to_confirm(in_pipe: Print) -> None:
    lines = in_pipe(lambda console: console.print_confirmed([], DEVICES["h100"]))
    assert lines == ["nothing to confirm on NVIDIA H100 80GB HBM3"]


def test_scripts_get_the_same_facts(result: Result, rows: list[CacheRow]) -> None:
    data = json.loads(json.dumps(report_json.result_to_json(result)))
    assert data["config"] == dict(result.winner.config)
    assert data["shape"] == list(SHAPE)
    assert (data["source"], data["verified_by"]) == ("measured", "device")
    assert data["speedup_over_default"] == result.default.time_us / result.winner.time_us
    assert data["gb_per_s"] == pytest.approx(result.bytes_moved / result.winner.time_us / 1e3)
    assert (data["evaluated"], data["known_before"], data["space_size"]) == (8, 0, 106)
    assert data["statuses"] == {"ok": 8}
    row = json.loads(json.dumps(report_json.row_to_json(rows[0])))
    assert row["alignment"] == rows[0].problem.alignment
    assert row["gpu_name"] == "NVIDIA H100 80GB HBM3"


def test_devices_and_kernels_as_data() -> None:
    present = [PresentGpu(0, "NVIDIA H100 80GB HBM3", "580.1", DEVICES["h100"])]
    data = json.loads(json.dumps(report_json.devices_to_json(present, DEVICES.values())))
    assert data["present"][0]["target"] == "h100"
    assert [each["target"] for each in data["known"]] == list(DEVICES)
    kernel = json.loads(json.dumps(report_json.kernel_to_json(KERNEL)))
    assert kernel["scalars"] == {"add_value": 0.5, "scale": 2.0}
