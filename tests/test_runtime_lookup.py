from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import triton

import tunekit
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.core.space import Space, context
from tunekit.errors import ShapeError, SpaceError, UnknownDeviceError, UnknownKernelError
from tunekit.kernels.library import add_min_gelu_mul, mish_mish
from tunekit.runtime.lookup import Served, choices, choose, lookup, merged_rows
from tunekit.store.cache import CacheRow, read_cache, read_cache_like
from tunekit.store.database import Store

H100 = DEVICES["h100"]
N = 1 << 20
FLAT = Config(BLOCK_SIZE=2048, VEC=4, num_warps=4, num_stages=1)
NOT_TUNED = pytest.mark.filterwarnings("ignore::tunekit.notices.TunekitWarning")


def config(block: int = 2048, **axes: int) -> Config:
    return Config({**FLAT, "BLOCK_SIZE": block, **axes})


def problem(n: int = N, dtype: str = "float32", device: str = "h100", **changes: str) -> Problem:
    model = DEVICES[device]
    found = mish_mish.problem_of(mish_mish.launch_for((n,), dtype, model), model)
    return dataclasses.replace(found, **changes)


def add(
    path: Path,
    of: Problem,
    config: Config,
    *,
    estimated: bool = False,
    run_triton: str = triton.__version__,
    driver: str = "580.1",
) -> None:
    """Make `config` the decided winner of a problem."""
    provenance = Provenance(
        gpu_name="NVIDIA H100",
        sm_count=132,
        driver=driver,
        torch="2.11.0",
        triton=run_triton,
        tunekit="0.1.0",
        protocol="test-1",
        created_at="2026-01-31T00:00:00Z",
    )
    source = Source.ESTIMATED if estimated else Source.MEASURED
    evaluation = Evaluation(
        problem=of,
        shape=(dict(of.dims)["n"],),
        config=config,
        status=Status.OK,
        source=source,
        provenance=provenance,
        verified_by=VerifiedBy.INTERPRETER if estimated else VerifiedBy.DEVICE,
        time_us=1.0,
    )
    decision = Decision(of, source, evaluation.uid, "", "", provenance.created_at)
    with Store.open(path) as store:
        store.add([evaluation])
        store.decide(decision)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The person's database, which is not there yet; none ships."""
    path = tmp_path / "person" / "mine.db"
    monkeypatch.setenv("TUNEKIT_DB", str(path))
    return path


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, person: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped database, which is not there yet; nothing is known of earlier tests."""
    path = tmp_path / "shipped.db"
    monkeypatch.setattr("tunekit.runtime.known.shipped_database", lambda: path)
    tunekit.reload()
    return path


def served(n: int = N, dtype: str = "float32", device: str = "h100") -> tuple[str, int | None]:
    """How a size is served, and the size of the row."""
    choice = lookup(mish_mish, (n,), dtype, device=device)
    return str(choice.served), choice.row and dict(choice.row.problem.dims)["n"]


def test_a_configuration_off_the_lists_of_the_space_is_served(person: Path) -> None:
    """An imported one that won: what has to hold are the constraints."""
    odd, loop = config(2560, num_warps=5), config(8192, num_stages=4, num_warps=12)
    values = {axis.name: axis.values for axis in mish_mish.load_space().axes}
    assert 2560 not in values["BLOCK_SIZE"]
    add(person, problem(), odd)
    add(person, problem(64 * N), loop)
    for n, expected in ((N, odd), (2 * N, odd), (64 * N, loop)):
        assert lookup("mish_mish", (n,), "float32", device="h100").config == expected
    # At a small size that loop would not repeat, which a constraint forbids.
    small = problem(4096)
    add(person, dataclasses.replace(small, dims=(("n", 8192),)), loop)
    tunekit.reload()
    names = context({"n": 4096}, 4, H100)
    assert mish_mish.load_space().violated(loop, names) == "loop_repeats"
    assert lookup("mish_mish", (4096,), "float32", device="h100").config != loop


def test_the_measured_row_of_the_very_problem(person: Path) -> None:
    add(person, problem(), config(4096))
    add(person, problem(2 * N), config(1024))
    choice = lookup("mish_mish", (1024, 1024), torch.float32, device="H100")
    assert (choice.served, choice.config) == (Served.EXACT, config(4096))
    assert choice.problem == problem()
    assert choice.row is not None
    assert choice.row.config == choice.config


@pytest.mark.parametrize(
    ("asked", "sizes", "nearest"),
    [
        (N, [N // 4, 2 * N], 2 * N),
        (N, [N // 2, 8 * N], N // 2),
        (N, [N // 2, 2 * N], 2 * N),  # a tie: the larger
        (3 * N, [N, 9 * N], 9 * N),
    ],
)
def test_the_nearest_measured_size(
    person: Path, asked: int, sizes: list[int], nearest: int
) -> None:
    for size in sizes:
        add(person, problem(size), FLAT)
    assert served(asked) == ("nearest", nearest)


SPREAD, WIDE = config(256, VEC=2), config(8192, num_warps=8)
"""On an H100 SPREAD fills half the GPU from N / 4 elements on, WIDE an eighth from N."""


@pytest.mark.parametrize(
    ("asked", "rows", "nearest"),
    [
        # A larger size's configuration that would leave most of the GPU idle: the smaller's.
        (N // 4, {N // 16: SPREAD, N: WIDE}, N // 16),
        (N // 4, {N // 2048: SPREAD, N: WIDE}, N),  # not at any distance
        (4 * N, {N: SPREAD, 16 * N: WIDE}, 16 * N),
        # A smaller size's, once programs have to queue: the larger's, though it is further.
        (2 * N, {N // 2: SPREAD, 32 * N: WIDE}, 32 * N),
        (N // 2, {3 * N // 8: SPREAD, 8 * N: config(1024)}, 3 * N // 8),
        # It had been more than full there already: nothing is different here.
        (64 * N, {16 * N: SPREAD, 1024 * N: WIDE}, 16 * N),
        # Between two that do not suit the nearer.
        (N, {N // 4: SPREAD, 2 * N: config(4096)}, 2 * N),
        (N, {N // 4: SPREAD, 8 * N: config(4096)}, N // 4),
    ],
)
def test_the_nearest_size_whose_configuration_suits_this_one(
    person: Path, asked: int, rows: Mapping[int, Config], nearest: int
) -> None:
    for size, its in rows.items():
        add(person, problem(size), its)
    assert served(asked) == ("nearest", nearest)


@NOT_TUNED
@pytest.mark.parametrize("estimated", [False, True])
def test_the_default_goes_before_what_was_tuned_for_a_gpu_that_was_not_full(
    person: Path, estimated: bool
) -> None:
    add(person, problem(N // 4), SPREAD, estimated=estimated)
    kind = "estimated" if estimated else "nearest"
    assert served(N) == (kind, N // 4)
    assert served(N + 16) == ("default", None)
    model = DEVICES["h100"]
    found = list(choices(mish_mish, mish_mish.launch_for((16 * N,), "float32", model), model))
    assert [(each.served, each.config) for each in found[1:]] == [(kind, SPREAD)]


def test_where_the_space_has_no_default_any_row_will_do(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(space: Space, names: object) -> Config:
        raise SpaceError("no default here")

    add(person, problem(N // 64), SPREAD)
    monkeypatch.setattr(Space, "default", none)
    found = choices(mish_mish, mish_mish.launch_for((N,), "float32", H100), H100)
    assert next(found).config == SPREAD
    with pytest.raises(SpaceError, match="no default here"):
        next(found)


def test_every_repetition_of_a_loop_counts(person: Path) -> None:
    looping = config(1024, num_stages=2)  # an H100 is full of its programs from 2.2 million on
    add(person, problem(4 * N), looping)
    add(person, problem(1024 * N), WIDE)
    assert served(32 * N) == ("nearest", 4 * N)


@NOT_TUNED
def test_a_row_with_an_axis_of_0_is_passed_over(person: Path) -> None:
    add(person, problem(2 * N), config(0))
    assert served(N) == ("default", None)


@NOT_TUNED
@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_hash": "0" * 12},
        {"kernel": "identity"},
        {"alignment": "p1,p16,i32x16"},
        {"device": "h200"},
        {"dtype": "float16"},
    ],
)
@pytest.mark.parametrize("estimated", [False, True])
def test_a_row_of_another_kernel_alignment_device_or_dtype_is_not_served(
    person: Path, changes: Mapping[str, str], estimated: bool
) -> None:
    add(person, problem(**changes), FLAT, estimated=estimated)
    choice = lookup(mish_mish, (N,), device="h100")
    names = context({"n": N}, 4, H100)
    default = mish_mish.load_space().default(names)
    assert (choice.served, choice.config, choice.row) == (Served.DEFAULT, default, None)


@NOT_TUNED
def test_a_size_that_is_no_multiple_of_16_is_another_class(person: Path) -> None:
    add(person, problem(N), FLAT)
    assert served(N + 1) == ("default", None)
    add(person, problem(N + 3), FLAT)
    tunekit.reload()
    assert served(N + 1) == ("nearest", N + 3)


def test_measured_at_another_size_outranks_estimated_at_this_one(person: Path) -> None:
    add(person, problem(N), FLAT, estimated=True)
    add(person, problem(64 * N), FLAT)
    assert served(N) == ("nearest", 64 * N)
    assert served(64 * N) == ("exact", 64 * N)


def test_an_estimate_is_better_than_nothing(person: Path) -> None:
    add(person, problem(N), FLAT, estimated=True)
    add(person, problem(4 * N), FLAT, estimated=True)
    assert served(N) == ("estimated", N)
    assert served(4 * N) == ("estimated", 4 * N)
    assert served(16 * N) == ("estimated", 4 * N)


@pytest.mark.parametrize("estimated", [False, True])
def test_a_neighbour_whose_configuration_is_not_allowed_here_is_passed_over(
    person: Path, estimated: bool
) -> None:
    looping = config(8192, num_warps=8, num_stages=2)  # at a small size its loop would run once
    add(person, problem(64 * N), looping, estimated=estimated)
    add(person, problem(1024 * N), FLAT, estimated=estimated)
    kind = "estimated" if estimated else "nearest"
    assert served(N) == (kind, 1024 * N)
    assert served(65 * N)[1] == 64 * N


@NOT_TUNED
def test_no_neighbour_is_allowed_here(person: Path) -> None:
    add(person, problem(64 * N), config(8192, num_warps=8, num_stages=2))
    assert served(N) == ("default", None)


@NOT_TUNED
def test_a_row_from_before_the_space_had_other_axes_is_passed_over(person: Path) -> None:
    add(person, problem(N), Config(BLOCK_SIZE=1024, num_warps=4))
    assert served(N) == ("default", None)
    add(person, problem(2 * N), FLAT)
    tunekit.reload()
    assert served(N) == ("nearest", 2 * N)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (False, False, ("exact", "mine")),
        (True, False, ("exact", "theirs")),  # measured outranks estimated whosever it is
        (False, True, ("exact", "mine")),
        (True, True, ("estimated", "mine")),
    ],
)
def test_the_persons_database_comes_first(
    person: Path, shipped: Path, mine: bool, theirs: bool, expected: tuple[str, str]
) -> None:
    add(person, problem(), config(1024), estimated=mine, run_triton="0.1")
    add(shipped, problem(), config(4096), estimated=theirs)
    choice = lookup(mish_mish, (N,), device="h100")
    owner = {1024: "mine", 4096: "theirs"}[choice.config["BLOCK_SIZE"]]
    assert (str(choice.served), owner) == expected


def test_a_shipped_neighbour_outranks_an_estimate_of_the_persons(
    person: Path, shipped: Path
) -> None:
    add(person, problem(N), FLAT, estimated=True)
    add(shipped, problem(2 * N), FLAT)
    assert served(N) == ("nearest", 2 * N)


def test_among_equals_the_running_triton_version_is_preferred(person: Path) -> None:
    add(person, problem(N // 2), FLAT)
    add(person, problem(2 * N), FLAT, run_triton="0.1")
    assert served(N) == ("nearest", N // 2)
    assert served(2 * N) == ("exact", 2 * N)


def test_among_equals_the_running_driver_is_preferred_and_triton_counts_for_more(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunekit.runtime.lookup.driver_of", lambda device: "580.1")
    add(person, problem(N // 2), FLAT)
    add(person, problem(2 * N), FLAT, driver="590.1")
    assert served(N) == ("nearest", N // 2)
    add(person, problem(N // 4), FLAT, run_triton="0.1")
    add(person, problem(4 * N), FLAT, driver="590.1")
    tunekit.reload()
    model = DEVICES["h100"]
    launch = mish_mish.launch_for((N,), "float32", model)
    sizes = [dict(each.row.problem.dims)["n"] for each in _rows_in_order(launch, model)]
    assert sizes == [N // 2, 2 * N, 4 * N, N // 4]


def _rows_in_order(launch: Any, model: Any) -> list[Any]:
    from tunekit.runtime.lookup import _in_order

    return [each for each in _in_order(mish_mish, launch, model) if each.row is not None]


def test_the_driver_is_asked_only_where_rows_differ_in_it(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: object) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("tunekit.runtime.lookup.driver_of", refuse)
    add(person, problem(N // 2), FLAT)
    add(person, problem(2 * N), FLAT)
    assert served(N) == ("nearest", 2 * N)


def test_a_row_of_another_source_of_the_kernel_or_of_another_gpu_is_never_served(
    person: Path,
) -> None:
    add(person, problem(kernel_hash="another"), config(4096))
    add(person, problem(device="h200"), config(4096))
    with pytest.warns(tunekit.TunekitWarning, match="nothing is tuned"):
        assert served() == ("default", None)


def test_one_file_named_twice_is_read_as_one(
    person: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(shipped, problem(), FLAT)
    monkeypatch.setenv("TUNEKIT_DB", str(shipped))
    opened = counted(monkeypatch)
    assert served() == ("exact", N)
    assert opened == [shipped]


def test_what_is_served_where_the_first_choice_cannot_be(shipped: Path) -> None:
    near, far = config(512), config(4096)
    add(shipped, problem(4 * N), far)
    add(shipped, problem(2 * N), near)
    add(shipped, problem(8 * N), near)
    add(shipped, problem(16 * N), config(256, num_warps=2), estimated=True)
    model = DEVICES["h100"]
    launch = mish_mish.launch_for((N,), "float32", model)
    found = list(choices(mish_mish, launch, model))
    assert [each.config for each in found[:3]] == [near, far, config(256, num_warps=2)]
    assert [each.served for each in found] == ["nearest", "nearest", "estimated", "default"]


def test_databases_are_read_once_until_reload(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(person, problem(2 * N), FLAT)
    opened = counted(monkeypatch)
    assert served() == ("nearest", 2 * N)
    add(person, problem(N), FLAT)
    assert served() == ("nearest", 2 * N)
    assert served(4 * N, "float32") == ("nearest", 2 * N)
    assert len(opened) == 2
    tunekit.reload()
    assert served() == ("exact", N)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The databases that are read from here on."""
    opened: list[Path] = []

    def counting(problem: Problem, path: Path, **options: Any) -> list[CacheRow]:
        opened.append(path)
        return read_cache_like(problem, path, **options)

    monkeypatch.setattr("tunekit.runtime.known.read_cache_like", counting)
    return opened


def test_a_database_that_cannot_be_read_is_warned_of_once(person: Path, shipped: Path) -> None:
    add(shipped, problem(), FLAT)
    person.parent.mkdir(exist_ok=True)
    person.write_bytes(b"no database at all " * 100)
    with pytest.warns(tunekit.TunekitWarning, match=re.escape(f"{person}: not a database")) as all:
        assert served() == ("exact", N)
    assert len(all) == 1
    assert Path(all[0].filename) == Path(__file__)
    assert served() == ("exact", N)
    assert served(2 * N) == ("nearest", N)


def test_the_command_that_tunes_is_named_once_for_each_dtype_and_device() -> None:
    command = "`tunekit tune mish_mish --shape 64,128,254,254 --dtype float16`"
    with pytest.warns(tunekit.TunekitWarning, match=re.escape(command)):
        lookup(mish_mish, (64, 128, 254, 254), "float16", device="rtx4090")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert served(dtype="float16", device="rtx4090") == ("default", None)
    for dtype, device in (("float32", "rtx4090"), ("float16", "h100")):
        with pytest.warns(tunekit.TunekitWarning, match=f"--dtype {dtype}"):
            served(dtype=dtype, device=device)
    tunekit.reload()
    with pytest.warns(tunekit.TunekitWarning, match="mish_mish float16 on rtx4090"):
        served(dtype="float16", device="rtx4090")


def test_a_scalar_shape_is_tuned_as_one_element() -> None:
    with pytest.warns(tunekit.TunekitWarning, match="--shape 1 "):
        assert dict(lookup(mish_mish, (), device="h100").problem.dims) == {"n": 1}


def test_the_command_names_a_kernel_of_ones_own_by_its_module_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine of mine.py").write_text(
        "import tunekit\n"
        "from tunekit.kernels import epilogues\n"
        "twice = tunekit.pointwise('twice', epilogue=epilogues.mish, reference=lambda x: x)\n"
        "listed = [tunekit.pointwise('listed', epilogue=epilogues.mish, reference=lambda x: x)]\n"
    )
    (tmp_path / "my_kernels.py").write_text((tmp_path / "mine of mine.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "mine of mine.py"
    with pytest.warns(tunekit.TunekitWarning, match=re.escape(f"tune '{file}:twice' --shape 7")):
        lookup(f"{file}:twice", (7,), device="h100")
    with pytest.warns(tunekit.TunekitWarning, match="tune my_kernels:twice --shape 7"):
        lookup("my_kernels:twice", (7,), "bf16", device="h100")

    import my_kernels

    with pytest.warns(tunekit.TunekitWarning, match="tune listed --shape 7"):
        lookup(my_kernels.listed[0], (7,), device="h100")


def test_no_command_tunes_unaligned_tensors(person: Path) -> None:
    from tunekit.runtime.advice import warn_untuned

    add(person, problem(), FLAT)
    launch = mish_mish.launch_for((N,), "float32", H100)
    unaligned = dataclasses.replace(launch.inputs[0], misalignment=4)
    launch = dataclasses.replace(launch, inputs=(unaligned,))
    assert choose(mish_mish, launch, H100).served is Served.DEFAULT
    with pytest.warns(tunekit.TunekitWarning, match="multiple of 16 bytes") as all:
        warn_untuned(mish_mish, launch, H100, (N,))
    assert "tunekit tune" not in str(all[0].message)


def test_what_cannot_be_looked_up() -> None:
    with pytest.raises(UnknownKernelError):
        lookup("mish_mash", (1,), device="h100")
    with pytest.raises(ShapeError, match="at least 1"):
        lookup(mish_mish, (4, 0), device="h100")
    with pytest.raises(ShapeError, match="float64"):
        lookup(mish_mish, (4,), torch.float64, device="h100")
    with pytest.raises(UnknownDeviceError, match="gtx9"):
        lookup(mish_mish, (4,), device="gtx9")


def test_without_a_gpu_a_model_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.runtime.lookup.gpu_count", lambda: 0)
    for device in (None, "cuda", "cuda:1"):
        with pytest.raises(UnknownDeviceError, match="no CUDA GPU"):
            lookup(mish_mish, (4,), device=device)


def test_a_gpu_of_this_machine(person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(person, problem(), FLAT)
    present = [DEVICES["rtx3090"], H100]
    monkeypatch.setattr("tunekit.runtime.lookup.gpu_count", lambda: len(present))
    monkeypatch.setattr("tunekit.runtime.lookup.device_at", present.__getitem__)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    for device in (None, "cuda", "cuda:1"):
        assert lookup(mish_mish, (N,), device=device).served is Served.EXACT
    with pytest.raises(UnknownDeviceError, match="2 CUDA GPUs"):
        lookup(mish_mish, (N,), device="cuda:2")


def test_merged_rows_are_one_a_problem_and_sorted(person: Path, shipped: Path) -> None:
    add(person, problem(4 * N), config(1024))
    add(person, problem(N), config(1024), estimated=True)
    add(shipped, problem(4 * N), config(4096))
    add(shipped, problem(N), config(4096))
    add(shipped, problem(2 * N), config(4096))
    rows = merged_rows(read_cache(person), read_cache(shipped, immutable=True))
    found = [(dict(row.problem.dims)["n"], row.config["BLOCK_SIZE"]) for row in rows]
    assert found == [(N, 4096), (2 * N, 4096), (4 * N, 1024)]


def test_another_kernel_is_not_disturbed(person: Path) -> None:
    add(person, problem(), FLAT)
    with pytest.warns(tunekit.TunekitWarning, match="add_min_gelu_mul"):
        assert lookup(add_min_gelu_mul, (N,), device="h100").served is Served.DEFAULT
