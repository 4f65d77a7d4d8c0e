"""What a call is served; `test_interpreter.py` runs it in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import triton

import tunekit
from tests.autotuning.conftest import Clock, Made
from tunekit.autotuning import autotuned, here
from tunekit.cli import main
from tunekit.core.config import Config
from tunekit.errors import UsageError
from tunekit.notices import TunekitWarning
from tunekit.store.cache import read_cache

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ROOT = Path(__file__).resolve().parents[2]


_left: list[bytes] = []
"""The database that a tuning left, made once."""


@pytest.fixture
def tuned(adding: Made, clock: Clock, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sizes 60 and 160 were tuned by a program that has ended: blocks of 64 and 16 won."""
    if not _left:
        with monkeypatch.context() as patch:
            patch.setenv("TUNEKIT_ON_MISS", "tune")
            made = adding(16, 32, 64)
            made.add(60)
            clock.table = lambda config: float(config["BLOCK"])
            made.add(160)
        clock.measured_configs.clear()
        clock.raced_configs.clear()
        _left.append(database.read_bytes())
        autotuned.forget_all()
    database.write_bytes(_left[0])
    return database


def block_of(made: object, *size: int) -> int:
    made.add(*size)  # type: ignore[attr-defined]
    return made.add_kernel.best_config.kwargs["BLOCK"]  # type: ignore[attr-defined, no-any-return]


def test_what_won_is_served_and_nothing_is_measured(
    tuned: Path, adding: Made, clock: Clock
) -> None:
    made = adding(16, 32, 64)
    assert [block_of(made, size) for size in (60, 160, 60)] == [64, 16, 64]
    assert clock.measured_configs == []
    assert [key[0] for key in made.add_kernel.cache] == [60, 160]


def test_another_process_is_served_and_loads_nothing_that_tunes(
    tuned: Path, adding: Made, tmp_path: Path
) -> None:
    adding(16, 32, 64)  # leaves theirs.py
    program = """
        import sys
        from tunekit.autotuning import autotuned, here
        here.device_here = lambda: "h100"
        import theirs
        theirs.add(60)
        print(theirs.add_kernel.best_config.kwargs["BLOCK"])
        heavy = ("optuna", "sqlalchemy", "sqlite_utils", "tunekit.autotuning.tuning")
        print([name for name in heavy if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[:2] == ["64", "[]"], done.stdout + done.stderr


def test_a_script_is_named_after_its_file(tuned: Path, adding: Made, tmp_path: Path) -> None:
    made = adding(16, 32, 64)
    path = Path(made.__file__ or "")
    path.write_text(
        "from tunekit.autotuning import here\n"
        'here.device_here = lambda: "h100"\n'
        f"{path.read_text()}\n"
        "add(60)\n"
        'print(add_kernel.kernel.name, add_kernel.best_config.kwargs["BLOCK"])\n'
    )
    done = subprocess.run(
        [sys.executable, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["theirs:add_kernel", "64"], done.stdout + done.stderr


def test_a_size_that_nothing_was_measured_at_is_served_the_nearest(
    tuned: Path, adding: Made
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = adding(16, 32, 64)
        # 61 and 161 are of another alignment class than 64 and 160: 16 does not divide them.
        assert [block_of(made, size) for size in (68, 240)] == [64, 16]


def test_or_the_first_of_the_list_with_one_warning_that_says_what_to_do(
    tuned: Path, adding: Made
) -> None:
    made = adding(32, 64, 16, more=', on_miss="default"')
    with pytest.warns(TunekitWarning) as told:
        assert block_of(made, 68) == 32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert block_of(made, 68) == 32
        assert block_of(made, 60) == 64  # measured
    (warning,) = told
    assert "theirs:add_kernel at n = 68, float32, on h100" in str(warning.message)
    assert "TUNEKIT_ON_MISS=tune" in str(warning.message)
    assert warning.filename.endswith("theirs.py")


def test_the_environment_has_the_last_word(
    tuned: Path, adding: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEKIT_ON_MISS", "default")
    with pytest.warns(TunekitWarning):
        assert block_of(adding(32, 64, 16), 68) == 32
    monkeypatch.setenv("TUNEKIT_ON_MISS", "guess")
    with pytest.raises(UsageError, match="TUNEKIT_ON_MISS='guess': expected one of tune, nearest"):
        adding(32, 64).add(68)


@pytest.mark.parametrize(
    "changed",
    [
        {"body": "x = tl.load(x_ptr + at, mask=mask)\n    y = tl.load(y_ptr + at, mask=mask) * 1"},
        {"name": "others"},
    ],
)
def test_another_kernel_is_not_served(tuned: Path, adding: Made, changed: dict[str, str]) -> None:
    made = adding(16, 32, 64, **changed)
    with pytest.warns(TunekitWarning, match="nothing is tuned"):
        assert block_of(made) == 16


@pytest.mark.parametrize("other", ["dtype", "device", "alignment"])
def test_another_problem_is_not_served(
    other: str, tuned: Path, adding: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = adding(16, 32, 64)
    if other == "device":
        monkeypatch.setattr(here, "device_here", lambda: "rtx4090")
    dtype = torch.float16 if other == "dtype" else torch.float32
    x = torch.zeros(61, dtype=dtype)
    x = x[1:] if other == "alignment" else x[:60]
    with pytest.warns(TunekitWarning, match="nothing is tuned"):
        made.add_kernel[(4,)](x, x.clone(), torch.empty_like(x), 60)
    assert made.add_kernel.best_config.kwargs["BLOCK"] == 16


def test_what_left_the_list_is_not_served(tuned: Path, adding: Made) -> None:
    with pytest.warns(TunekitWarning):
        assert block_of(adding(32, 128, more=', on_miss="default"')) == 32


def test_a_database_that_cannot_be_read_is_a_warning(
    adding: Made, clock: Clock, database: Path
) -> None:
    database.write_bytes(b"no database at all, but some text that is long enough to be one")
    with pytest.warns(TunekitWarning) as told:
        assert block_of(adding(16, 32)) == 16
    assert "not a database" in str(told[0].message)


def test_without_a_gpu_the_first_runs_and_nothing_is_said(adding: Made, database: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = adding(32, 16, more=', on_miss="tune"')
        assert block_of(made) == 32
    assert not database.exists()


def test_a_kernel_has_what_tritons_has(tuned: Path, adding: Made) -> None:
    made = adding(16, 32, 64, more=', reset_to_zero=["out_ptr"]')
    kernel = made.add_kernel
    assert isinstance(kernel, triton.runtime.Autotuner)
    assert kernel.arg_names == ["x_ptr", "y_ptr", "out_ptr", "n", "BLOCK"]
    assert kernel.fn.arg_names == kernel.arg_names
    assert kernel.base_fn.__name__ == "add_kernel"
    assert [each.kwargs["BLOCK"] for each in kernel.configs] == [16, 32, 64]
    assert (kernel.keys, kernel.reset_to_zero, kernel.cache) == (["n"], ["out_ptr"], {})
    made.add(60)
    assert kernel.cache == {
        (60, "torch.float32", "torch.float32", "torch.float32"): kernel.best_config
    }


def test_the_cache_may_be_cleared_and_filled_by_others(tuned: Path, adding: Made) -> None:
    made = adding(16, 32, 64)
    assert block_of(made) == 64
    (key,) = made.add_kernel.cache
    made.add_kernel.cache.clear()
    made.add_kernel.cache[key] = made.add_kernel.configs[1]
    made.add_kernel.cache["another"] = made.add_kernel.configs[0]
    assert block_of(made) == 32


def test_other_configurations_may_be_put_there(tuned: Path, adding: Made) -> None:
    made = adding(16, 32)
    made.add_kernel.configs = [triton.Config({"BLOCK": 32})]
    assert block_of(made) == 32


def test_calls_may_be_made_in_any_form(tuned: Path, adding: Made) -> None:
    kernel = adding(16, 32, 64).add_kernel
    x, out = torch.ones(60), torch.empty(60)
    for _ in range(2):
        for form in ("by place", "by name", "mixed", "run", "grid"):
            out.zero_()
            kernel.best_config = None
            if form == "by place":
                kernel[(4,)](x, x, out, 60)
            elif form == "by name":
                kernel[(4,)](n=60, out_ptr=out, x_ptr=x, y_ptr=x)
            elif form == "mixed":
                kernel[lambda meta: (triton.cdiv(60, meta["BLOCK"]),)](x, x, n=60, out_ptr=out)
            elif form == "run":
                kernel.run(x, x, out, 60, grid=(4,), warmup=False)
            else:
                kernel[4, 1](x, x, out, 60)
            assert torch.equal(out, x + x), form
            assert kernel.best_config.kwargs["BLOCK"] == 64
    assert len(kernel.cache) == 1


def test_an_argument_may_be_a_tensor_or_none(database: Path, clock: Clock, module: Made) -> None:
    made = module(
        """
import torch, triton, tunekit
import triton.language as tl

@tunekit.autotune(configs=[triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 32})], key=["n"],
                  on_miss="tune")
@triton.jit
def kernel(x_ptr, bias_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + at, mask=at < n)
    tl.store(out_ptr + at, x, mask=at < n)
"""
    )
    x, out = torch.ones(40), torch.empty(40)
    for bias in (x, None, x, None, x.half(), x):
        made.kernel[(3,)](x, bias, out, 40)
        assert torch.equal(out, x if bias is None else x + x)
    assert len(made.kernel.cache) == 3
    assert len(made.kernel._forms) == 1


def test_what_is_tuned_anew_is_served_after_a_reload(
    tuned: Path, adding: Made, tmp_path: Path
) -> None:
    made = adding(16, 32, 64)
    assert block_of(made) == 64
    os.rename(tuned, tmp_path / "elsewhere.db")
    assert block_of(made) == 64
    tunekit.reload()
    with pytest.warns(TunekitWarning, match="nothing is tuned"):
        assert block_of(made) == 16


def test_two_devices_of_a_process_are_two_problems(
    tuned: Path, adding: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = adding(16, 32, 64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    device = 0
    monkeypatch.setattr("tunekit.autotuning.forms.current_device", lambda: device)
    monkeypatch.setattr(here, "device_here", lambda: ("h100", "rtx4090")[device])
    assert block_of(made) == 64
    device = 1
    with pytest.warns(TunekitWarning, match="on rtx4090"):
        assert block_of(made) == 16
    device = 0
    assert block_of(made) == 64


# The commands know these rows, and import nothing by what they are called.


Run = Callable[..., str]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and gives what it prints."""

    def run(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return run


def test_the_rows_are_shown_explained_and_exported(tuned: Path, invoke: Run) -> None:
    assert "theirs" not in sys.modules
    assert "theirs:add_kernel" in invoke("show")
    assert "n=60" in invoke("show", "theirs:add_kernel")
    explained = invoke("explain", "theirs:add_kernel")
    assert "theirs:add_kernel: 2 rows of @tunekit.autotune" in explained
    assert "p16,p16,p16,i32" in explained
    assert "the output of the first was the reference" in explained
    assert '"BLOCK": 64' in invoke("explain", "theirs:add_kernel", "--json")
    exported = invoke("export", "theirs:add_kernel")
    assert "(('n', 60),): triton.Config({'BLOCK': 64}, num_warps=4, num_stages=3)" in exported
    assert "theirs" not in sys.modules


def test_a_shape_says_nothing_of_these_rows(tuned: Path, invoke: Run) -> None:
    told = invoke("explain", "theirs:add_kernel", "--shape", "60", status=2)
    assert "leave --shape and --dim out" in told


def test_the_rows_are_all_there_is(tuned: Path) -> None:
    rows = read_cache(tuned)
    assert [row.config for row in rows] == [
        Config(BLOCK=64, num_warps=4, num_stages=3),
        Config(BLOCK=16, num_warps=4, num_stages=3),
    ]
    assert {row.problem.alignment for row in rows} == {"p16,p16,p16,i32", "p16,p16,p16,i32x16"}
