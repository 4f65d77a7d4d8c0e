"""What Nsight Compute is asked, and what is made of every kind of answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.config import Config
from tunekit.errors import ProfileError, UsageError
from tunekit.evaluate.job import Job
from tunekit.profile.counters import GRID, KNOWN, SM
from tunekit.profile.find import find_ncu
from tunekit.profile.run import check_metrics, count

DATA = Path(__file__).parent / "data"
TWO = (DATA / "two-launches.csv").read_bytes()
MakeNcu = Callable[..., Any]


def jobs(vector: tuple[int, ...] = (1, 4)) -> list[Job]:
    return [
        Job(
            kernel="mish_add_hardtanh_scale",
            shape=(128, 64, 256, 256),
            dtype="float32",
            scalars={"add_value": 0.5, "scale": 2.0},
            config=Config(BLOCK_SIZE=1024, VEC=width, num_warps=4, num_stages=1),
            target="h100",
        )
        for width in vector
    ]


def refusal(fake: Any, deadline_s: float = 30.0, more: tuple[str, ...] = ()) -> str:
    """What is said where nothing was counted: one line."""
    with pytest.raises(ProfileError) as refused:
        count(find_ncu(fake.path), jobs(), 0, more, deadline_s)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_both_launches_are_counted(make_ncu: MakeNcu) -> None:
    fake = make_ncu(says="a kernel prints this")
    winner, default = count(find_ncu(fake.path), jobs(), 2)
    assert (winner.binary, default.binary) == ("5882d22d226b9921", "ca2069c66c6433c5")
    assert winner.launch.counters[SM.name].value == 30.02
    assert default.launch.counters[SM.name].value == 17.72
    assert winner.launch.counters[GRID.name].value == 524288


def test_what_is_asked(make_ncu: MakeNcu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    fake = make_ncu()
    count(find_ncu(fake.path), jobs(), 2, ["my__counter.sum"])
    ((arguments, environment),) = fake.asked
    options = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    assert arguments[0] == "--csv"
    assert options["--page"] == "raw"
    assert options["--print-units"] == "base"
    assert options["--profile-from-start"] == "off"
    assert options["--cache-control"] == "all"
    assert options["--clock-control"] == "none"
    assert options["--metrics"].split(",") == [*(each.name for each in KNOWN), "my__counter.sum"]
    assert arguments[-5:-2] == [sys.executable, "-m", "tunekit.profile.child"]
    assert arguments[-1] == "2"
    assert environment == {"LC_ALL": "C", "TRITON_INTERPRET": None}
    assert not Path(arguments[-2]).exists()  # the folder is gone


def test_a_counter_that_the_gpu_does_not_have_is_absent(make_ncu: MakeNcu) -> None:
    for each in count(find_ncu(make_ncu().path), jobs(), 0, ["bogus__metric.sum"]):
        assert "bogus__metric.sum" not in each.launch.counters


def test_the_program_is_run_for_real_and_says_that_there_is_no_gpu(
    make_ncu: MakeNcu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    fake = make_ncu((DATA / "program-failed.log").read_text(), runs_program=True)
    assert refusal(fake, 120.0) == (
        "nothing was profiled: --device cuda:0: this machine has 0 CUDA GPUs"
    )


def test_what_has_a_remedy_is_said_before_what_fails_of_it(make_ncu: MakeNcu) -> None:
    log = "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n"
    fake = make_ncu(log, {"error": "RuntimeError: CUDA error"}, status=1)
    assert "NVreg_RestrictProfilingToAdminUsers=0" in refusal(fake)
    fake = make_ncu(log + TWO.decode())  # some versions let the program go on
    assert "NVreg_RestrictProfilingToAdminUsers=0" in refusal(fake)


def test_what_the_program_says_is_said_before_that_it_failed(make_ncu: MakeNcu) -> None:
    log = (DATA / "program-failed.log").read_text()
    fake = make_ncu(log, {"error": "it does not fit in the GPU's free memory"}, status=1)
    assert refusal(fake) == "nothing was profiled: it does not fit in the GPU's free memory"


def test_an_unknown_error_is_quoted(make_ncu: MakeNcu) -> None:
    fake = make_ncu("==ERROR== The GPU is on holiday.\n", {}, status=1)
    assert refusal(fake) == 'Nsight Compute says "The GPU is on holiday"'


def test_what_it_says_elsewhere_is_heard_where_it_fails(make_ncu: MakeNcu) -> None:
    says = "==ERROR== '/nowhere/ncu.log' cannot be used as the output log file"
    assert "cannot be used as the output log file" in refusal(
        make_ncu(None, {}, status=1, says=says)
    )
    # What a kernel's module prints is no error of the profiler's.
    fake = make_ncu(says="ERROR: a library is chatty")
    assert len(count(find_ncu(fake.path), jobs(), 0)) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"log": None, "launched": {}}, "ended with exit status 0"),
        ({"log": None, "launched": {}, "status": 3, "says": "hm"}, "status 3 after saying 'hm'"),
        ({"log": (DATA / "no-kernels.log").read_text()}, "tells of no launch where 2 ran"),
        ({"log": (DATA / "one-launch.csv").read_bytes()}, "tells of 1 launches where 2 ran"),
        ({"log": b"\x00\xff\x80" * 1000}, "tells of no launch where 2 ran"),
        ({"log": b'"ID","' + b"\xff" * 100}, "wrote what cannot be read"),
        ({"log": TWO + b'"2","x"\n'}, "wrote what cannot be read: a line of 2 fields"),
        ({"log": b"x" * 17_000_000}, "more than 16 MB"),
        ({"log": b"", "launched": [1]}, "nothing was profiled"),
        ({"log": b"", "launched": {"launched": [{"grid": [1, 1, 1]}]}}, "cannot be read"),
        ({"log": b"", "launched": {"launched": [{"binary": "a", "grid": "x"}]}}, "cannot be read"),
        ({"log": b"", "launched": {"launched": 7}}, "cannot be read"),
    ],
)
def test_garbage_is_one_line(make_ncu: MakeNcu, answer: dict[str, Any], said: str) -> None:
    assert said in refusal(make_ncu(**answer))


def test_a_launch_of_another_kernel_is_refused(make_ncu: MakeNcu) -> None:
    others = {"launched": [{"binary": "a", "grid": [7, 1, 1]}] * 2}
    assert "where one of (7, 1, 1) ran" in refusal(make_ncu(launched=others))


def test_a_log_without_any_of_the_counters_is_refused(make_ncu: MakeNcu) -> None:
    log = TWO.replace(b"__", b"_")
    assert "none of the counters asked for" in refusal(make_ncu(log))


def test_it_is_killed_at_its_deadline(make_ncu: MakeNcu) -> None:
    began = time.monotonic()
    said = refusal(make_ncu(sleep_s=60), 1.5)
    assert time.monotonic() - began < 30
    assert said.endswith("did not end within 1.5 s and was killed: give it more by --timeout")


def test_one_that_cannot_be_run_any_more(make_ncu: MakeNcu) -> None:
    ncu = find_ncu(make_ncu().path)
    ncu.path.unlink()
    with pytest.raises(ProfileError, match="cannot be run: No such file"):
        count(ncu, jobs(), 0)


@pytest.mark.parametrize(
    "name",
    ["", "sm", "--export", "sm__inst executed.sum", "a__b,c__d", "regex:.*", "group:x__y",
     "a__b..sum", "sm__é.sum", "a__" + "b" * 300],
)  # fmt: skip
def test_a_name_that_cannot_be_a_counters_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        check_metrics([name])


def test_names_of_counters() -> None:
    names = ["sm__inst_executed_pipe_fma.sum", "launch__waves_per_multiprocessor"]
    assert check_metrics([*names, names[0]]) == tuple(names)
    assert check_metrics(["TriageCompute__x.avg.pct_of_peak_sustained_elapsed"])
    with pytest.raises(UsageError, match="at most 200"):
        check_metrics([f"a__b{index}.sum" for index in range(201)])
