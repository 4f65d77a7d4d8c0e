from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import triton

import tunekit
from tunekit import gpu
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.errors import SpaceError
from tunekit.kernels.kernel import Kernel, pointwise
from tunekit.kernels.library import mish_mish
from tunekit.runtime import explanation
from tunekit.runtime.explanation import Explanation
from tunekit.runtime.lookup import Choice, Served
from tunekit.runtime.verdict import Candidate, Verdict, ratio_text
from tunekit.store.cache import CacheRow, read_cache
from tunekit.store.database import Store

H100 = DEVICES["h100"]
N = 1 << 20


def config(block: int = 2048, **axes: int) -> Config:
    return Config({"BLOCK_SIZE": block, "VEC": 4, "num_warps": 4, "num_stages": 1, **axes})


def problem(n: int = N, **changes: str) -> Problem:
    found = mish_mish.problem_of(mish_mish.launch_for((n,), "float32", H100), H100)
    return dataclasses.replace(found, **changes)


def add(
    path: Path,
    of: Problem,
    config: Config,
    *,
    estimated: bool = False,
    under: str = triton.__version__,
    driver: str = "580.1",
) -> None:
    """Make `config` the decided winner of a problem."""
    provenance = Provenance(
        gpu_name="NVIDIA H100",
        sm_count=132,
        driver=driver,
        torch="2.11.0",
        triton=under,
        tunekit="0.1.0",
        protocol="test-1",
        created_at="2026-01-31T00:00:00Z",
    )
    source = Source.ESTIMATED if estimated else Source.MEASURED
    evaluation = Evaluation(
        problem=of,
        shape=(max(dict(of.dims)["n"], 1),),
        config=config,
        status=Status.OK,
        source=source,
        provenance=provenance,
        verified_by=VerifiedBy.INTERPRETER if estimated else VerifiedBy.DEVICE,
        time_us=2.5,
    )
    with Store.open(path) as store:
        store.add([evaluation])
        store.decide(Decision(of, source, evaluation.uid, "", "won", provenance.created_at))


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The person's database, which is not there yet."""
    path = tmp_path / "mine.db"
    monkeypatch.setenv("TUNEKIT_DB", str(path))
    return path


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, person: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped database, which is not there yet; there is no GPU."""
    path = tmp_path / "shipped.db"
    monkeypatch.setattr("tunekit.runtime.known.shipped_database", lambda: path)
    monkeypatch.setattr(explanation, "shipped_database", lambda: path)
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    return path


@pytest.fixture
def on_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one, with another driver than that of the rows."""
    monkeypatch.setattr(gpu, "gpu_count", lambda: 1)
    monkeypatch.setattr(gpu, "device_at", lambda index: H100)
    present = gpu.PresentGpu(0, "NVIDIA H100", "590.2", H100)
    monkeypatch.setattr(gpu, "present_gpu", lambda index: present)


def explain(
    *shape: int, offset: int = 0, database: Path | None = None, kernel: Kernel = mish_mish
) -> Explanation:
    metas = kernel.input_metas(shape or (N,), "float32")
    moved = [dataclasses.replace(meta, misalignment=offset) for meta in metas]
    return explanation.explain(kernel, kernel.plan(moved, H100), H100, database)


def verdicts(explained: Explanation) -> list[tuple[str, int]]:
    """Of each row in order, with its size."""
    rows = explained.candidates
    return [(str(each.verdict), dict(each.row.problem.dims)["n"]) for each in rows]


def only(explained: Explanation, verdict: Verdict) -> Candidate:
    (found,) = (each for each in explained.candidates if each.verdict is verdict)
    return found


def test_the_row_of_the_very_problem(person: Path, on_h100: None) -> None:
    add(person, problem(), config(), driver="590.2")
    explained = explain()
    assert explained.choice.served is Served.EXACT
    assert explained.why == "measured for this very problem on NVIDIA H100, 2.50 µs"
    (row,) = explained.candidates
    assert (row.verdict, row.why, row.differs, row.foreign) == (Verdict.SERVED, "won", (), ())
    assert (explained.notes, explained.advice, explained.command) == ((), "", "")


def test_rows_of_other_sizes_come_in_the_order_they_would_serve_in(person: Path) -> None:
    add(person, problem(8 * N), config(VEC=2))
    add(person, problem(2 * N), config(VEC=1))
    add(person, problem(64 * N), config(VEC=1))
    explained = explain(1024, 1024)
    assert verdicts(explained) == [("served", 2 * N), ("next", 8 * N), ("same", 64 * N)]
    assert explained.why == (
        f"nothing measured at n={N} fits: measured at n={2 * N}, the nearest that suits; 2.50 µs "
        "there"
    )
    assert [each.size_ratio for each in explained.candidates] == [2, 8, 64]
    assert only(explained, Verdict.NEXT).why == "choice 2"
    assert only(explained, Verdict.SAME).why == "its configuration is that of choice 1"
    assert explained.advice == f"to tune this very problem on a machine with {H100.names[0]}"
    assert explained.command == "tunekit tune mish_mish --shape 1024,1024 --dtype float32"


def test_the_order_is_that_of_the_look_up(person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far, near, nearest = config(512), config(4096), config(8192)
    add(person, problem(N // 64), far)
    add(person, problem(4 * N), near)
    add(person, problem(2 * N), nearest)
    rows = {row.config: row for row in read_cache(person)}
    served = [
        *(Choice(each, Served.NEAREST, rows[each], problem()) for each in (near, nearest)),
        Choice(config(1024), Served.DEFAULT, None, problem()),
        Choice(far, Served.NEAREST, rows[far], problem()),
    ]
    monkeypatch.setattr(explanation.lookup, "choices", lambda *asked: iter(served))
    assert verdicts(explain()) == [("served", 4 * N), ("next", 2 * N), ("next", N // 64)]
    assert [each.why for each in explain().candidates] == [
        "won",
        "choice 2: nearer, but its configuration suits this size less",
        "choice 4: the default goes before what won at so small a size",
    ]
    monkeypatch.setattr(explanation.lookup, "choices", lambda *asked: iter(served[2:]))
    assert explain().why.startswith("the rows of other sizes are of so much smaller ones that ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"kernel_hash": "0" * 12},
            f"kernel_hash: row 000000000000, call {mish_mish.source_hash} (another version of the "
            "kernel's source)",
        ),
        ({"device": "h200"}, "device: row h200, call h100"),
        ({"dtype": "float16"}, "dtype: row float16, call float32"),
        (
            {"alignment": "p1,p16,i32x16"},
            "alignment: row p1,p16,i32x16, call p16,p16,i32x16 (a tensor of the row starts at no "
            "multiple of 16 bytes)",
        ),
    ],
)
def test_a_row_is_passed_over_for_the_field_that_differs(
    person: Path, changes: dict[str, str], said: str
) -> None:
    add(person, problem(**changes), config())
    explained = explain()
    assert explained.choice.served is Served.DEFAULT
    row = only(explained, Verdict.DIFFERS)
    assert [str(each) for each in row.differs] == [said]


def test_a_miss_names_what_no_row_has(person: Path) -> None:
    default = "so the default of the space pointwise"
    assert explain().why == f"no row of mish_mish in any database; {default}"
    add(person, problem(device="h200"), config())
    add(person, problem(device="h200", dtype="float16"), config())
    assert explain().why == f"none of 2 rows is of device h100; {default}"
    add(person, problem(dtype="float16"), config())
    assert explain().why.startswith("no row has all fields of the problem and a configuration")


def test_a_kernel_whose_source_changed(person: Path) -> None:
    add(person, problem(kernel_hash="0" * 12), config())
    add(person, problem(kernel_hash="1" * 12, device="h200"), config())
    assert explain().why.startswith("none of 2 rows is of this version of the kernel's source; so")


def test_rows_that_differ_in_the_fewest_fields_come_first_then_the_nearest(person: Path) -> None:
    add(person, problem(N, dtype="float16", device="h200"), config())
    add(person, problem(N, dtype="float16"), config())
    add(person, problem(N, kernel_hash="0" * 12), config())
    add(person, problem(2 * N), config())
    add(person, problem(32 * N, dtype="float16"), config())
    add(person, problem(N // 4, device="h200"), config())
    found = [{each.field for each in row.differs} for row in explain().candidates]
    assert found == [
        {"dims"},
        {"kernel_hash"},
        {"dtype"},
        {"dtype", "device"},
        {"device", "dims"},
        {"dtype", "dims"},
    ]


def test_a_configuration_that_does_not_fit_here(person: Path) -> None:
    add(person, problem(64 * N), config(8192, num_warps=8, num_stages=2))
    add(person, problem(), Config(BLOCK_SIZE=1024, num_warps=4))
    first, second = explain().candidates
    assert first.verdict is second.verdict is Verdict.UNFIT
    assert first.why == (
        "BLOCK_SIZE=1024, num_warps=4 was found before the space pointwise had the axes "
        "BLOCK_SIZE, VEC, num_warps, num_stages"
    )
    assert " violates loop_repeats here: num_stages == 1 or n > " in second.why


@pytest.fixture
def with_space(tmp_path: Path) -> Callable[[str, str], Kernel]:
    """mish_mish with another default and a constraint."""

    def make(default: str, constraint: str) -> Kernel:
        space = tmp_path / "space.toml"
        space.write_text(
            "[axes]\nBLOCK_SIZE = [1024, 2048]\nVEC = [4]\nnum_warps = [4]\nnum_stages = [1]\n"
            f"[default]\nBLOCK_SIZE = {default}\nVEC = 4\nnum_warps = 4\nnum_stages = 1\n"
            f'[constraints]\nfits = "{constraint}"\n'
        )
        return dataclasses.replace(mish_mish, space=str(space), _spaces=[])

    return make


def test_a_constraint_that_has_no_value_here(
    person: Path, with_space: Callable[[str, str], Kernel]
) -> None:
    kernel = with_space("1024", "BLOCK_SIZE == 1024 or 1 // (n - n) == 1")
    add(person, problem(2 * N), config(2048))
    assert "division by zero" in only(explain(kernel=kernel), Verdict.UNFIT).why


def test_no_default_here(person: Path, with_space: Callable[[str, str], Kernel]) -> None:
    kernel = with_space("4096", "True")
    with pytest.raises(SpaceError, match="4096 is not a value"):
        explain(kernel=kernel)
    add(person, problem(), config(2048))
    assert explain(kernel=kernel).choice.served is Served.EXACT


def test_each_row_names_its_database(person: Path, shipped: Path) -> None:
    add(person, problem(), config(), estimated=True)
    add(shipped, problem(), config(512))
    add(shipped, problem(2 * N), config(512))
    explained = explain()
    mine, theirs = explained.databases
    assert (mine.whose, mine.path, mine.rows, mine.trouble) == ("yours", person, 1, "")
    assert (theirs.whose, theirs.path, theirs.rows, theirs.trouble) == ("shipped", shipped, 2, "")
    assert mine.named_by == "named by TUNEKIT_DB"
    found = [(each.verdict, each.database) for each in explained.candidates]
    assert found[:2] == [(Verdict.SERVED, theirs), (Verdict.OUTRANKED, mine)]
    assert "measured before estimated" in explained.candidates[1].why


def test_the_same_row_in_both_databases_is_served_once(person: Path, shipped: Path) -> None:
    add(person, problem(), config())
    shipped.write_bytes(person.read_bytes())
    assert verdicts(explain()) == [("served", N), ("outranked", N)]


def test_rows_of_other_sizes_that_the_other_database_has_too_come_last(
    person: Path, shipped: Path
) -> None:
    add(person, problem(2 * N), config())
    add(person, problem(4 * N, dtype="float16"), config())
    shipped.write_bytes(person.read_bytes())
    found = [verdict for verdict, _ in verdicts(explain())]
    assert found == ["served", "differs", "differs", "outranked"]


def test_an_estimate(person: Path) -> None:
    add(person, problem(), config(), estimated=True)
    explained = explain()
    assert explained.why == (
        "nothing measured fits: estimated for this very size; 2.50 µs, never run on that GPU"
    )
    assert explained.command.startswith("tunekit tune mish_mish")
    assert f"estimated for n={N}, the nearest that suits; " in explain(2 * N).why


def test_where_the_persons_database_is(
    person: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEKIT_DB")
    mine = explain().databases[0]
    assert mine.named_by == "TUNEKIT_DB is not set: the one in your data folder"
    assert mine.trouble == "no such file"
    monkeypatch.setenv("TUNEKIT_DB", str(shipped))
    assert [each.whose for each in explain().databases] == ["yours"]


@pytest.mark.parametrize("there", [True, False])
def test_another_database_in_place_of_the_persons(
    person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if not there:
        monkeypatch.delenv("TUNEKIT_DB")
    other = tmp_path / "my other.db"
    add(other, problem(), config())
    explained = explain(N, database=other)
    assert explained.choice.served is Served.EXACT
    assert explained.databases[0].path == other
    assert explained.notes[-1].startswith(f"calls read {other} only where TUNEKIT_DB names it; ")
    assert explain(2 * N, database=other).command.endswith(f" --db '{other}'")
    assert os.environ.get("TUNEKIT_DB") == (str(person) if there else None)
    assert explain().choice.served is Served.DEFAULT


def test_the_persons_database_by_its_name(person: Path) -> None:
    add(person, problem(), config())
    assert not any("calls read" in note for note in explain(database=person).notes)


def test_a_database_that_cannot_be_read(person: Path, shipped: Path) -> None:
    person.write_bytes(b"no database at all " * 100)
    add(shipped, problem(), config())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained = explain()
    assert explained.choice.served is Served.EXACT
    assert explained.databases[0].trouble.startswith("not a database")


def test_a_row_that_is_stored_meanwhile(person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_later(path: Path, *, kernel: str, immutable: bool) -> list[CacheRow]:
        if not person.exists():
            add(person, problem(), config())
        return read_cache(path, kernel=kernel, immutable=immutable)

    monkeypatch.setattr(explanation, "read_cache", read_later)
    assert only(explain(), Verdict.UNFIT).why == "new in this very moment: ask again"


def test_other_versions_are_told_and_do_not_disqualify(person: Path, on_h100: None) -> None:
    add(person, problem(), config(), under="0.1")
    explained = explain()
    assert explained.choice.served is Served.EXACT
    (row,) = explained.candidates
    assert [str(each) for each in row.foreign] == [
        f"Triton: row 0.1, call {triton.__version__}",
        "driver: row 580.1, call 590.2",
    ]
    assert explained.advice == (
        f"measured under Triton 0.1, not {triton.__version__}, driver 580.1, not 590.2; "
        "to measure again"
    )
    assert explained.command == "tunekit confirm mish_mish"


def test_a_driver_is_compared_on_that_gpu_alone(person: Path) -> None:
    add(person, problem(), config())
    assert explain().candidates[0].foreign == ()


def test_what_was_measured_under_other_versions_is_measured_again_on_that_gpu_alone(
    person: Path,
) -> None:
    add(person, problem(), config(), under="0.1")
    explained = explain()
    assert explained.candidates[0].foreign
    assert (explained.advice, explained.command) == ("", "")


def test_a_tensor_that_is_not_aligned(person: Path) -> None:
    add(person, problem(), config())
    explained = explain(N, offset=4)
    (difference,) = only(explained, Verdict.DIFFERS).differs
    assert difference.why == "a tensor of the call starts at no multiple of 16 bytes"
    assert "multiple of 16 bytes: pass tensors that do, not views such as x[1:]" in explained.advice
    assert explained.command == ""


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (N + 1, "a size of the call is no multiple of 16"),
        (1, "a size of the call is 1"),
        (2**31, "a size of the call needs 64 bits"),
    ],
)
def test_what_an_alignment_class_means(person: Path, asked: int, why: str) -> None:
    add(person, problem(N), config())
    alignment, dims = only(explain(asked), Verdict.DIFFERS).differs
    assert (alignment.field, alignment.why, dims.field) == ("alignment", why, "dims")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(2.0, "2 × the size"), (1 / 3, "the size ÷ 3"), (1.0001, "about the size"),
     (5000.4, "5,000 × the size")],
)  # fmt: skip
def test_how_sizes_compare(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


def test_a_row_of_no_elements(person: Path) -> None:
    add(person, problem(0), config())
    assert [size for _, size in verdicts(explain())] == [0]


def test_what_decides_where_a_call_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (note,) = explain().notes
    assert note.startswith("this machine has no CUDA GPU: calls run the eager reference here; ")
    assert explain().advice.endswith(" (here --target h100 estimates it)")
    monkeypatch.setattr(explanation, "EAGER", True)
    monkeypatch.setattr(explanation, "INTERPRETED", True)
    eager, interpreted = explain().notes
    assert eager.startswith("TUNEKIT_EAGER is set")
    assert interpreted.startswith("TRITON_INTERPRET is set")


def test_another_gpu_than_the_one_here(on_h100: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "device_at", lambda index: DEVICES["h200"])
    assert explain().notes == ("this machine has h200; this is about a call on h100",)


def test_a_kernel_of_ones_own_is_tuned_by_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunekit.kernels import epilogues

    own = pointwise("own", epilogue=epilogues.mish, reference=lambda x: x)
    monkeypatch.setattr(tunekit, "own_kernel", own, raising=False)
    assert explain(7, kernel=own).command.startswith("tunekit tune tunekit:own_kernel --shape 7 ")
