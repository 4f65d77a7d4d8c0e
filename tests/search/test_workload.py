from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Provenance, Source, VerifiedBy
from tunekit.errors import KernelError, UnknownKernelError
from tunekit.kernels.library import KERNELS
from tunekit.recorded import Recorded, Served, Timed
from tunekit.search.workload import Workload, workload
from tunekit.search.worth import Tuned
from tunekit.store.cache import CacheRow

CONFIG = Config(BLOCK_SIZE=1024, VEC=4, num_warps=4, num_stages=1)
H100 = DEVICES["h100"]
PROVENANCE = Provenance(
    "NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "graph-cold-3", "2026-01-31T12:00:00Z"
)


def called(
    *shape: int,
    kernel: str = "mish_mish",
    dtype: str = "float32",
    device: str = "h100",
    time_us: float = 2.0,
    count: int = 10,
) -> Recorded:
    found, model = KERNELS[kernel], DEVICES[device]
    launch = found.launch_for(shape, dtype, model)
    return Recorded(
        kernel, found.problem_of(launch, model), shape, Served.DEFAULT, CONFIG, count,
        found.bytes_moved(launch), time_us, Timed.BOUND, "0.1.0",
    )  # fmt: skip


def row(recorded: Recorded, source: Source = Source.MEASURED) -> CacheRow:
    return CacheRow(
        problem=recorded.problem, config=CONFIG, time_us=1.5, source=source,
        verified_by=VerifiedBy.DEVICE, provenance=PROVENANCE, speedup=None, copy_us=None,
        default_time_us=None, default_config=None, binary=None, reason="", shape=recorded.shape,
        winner="", decided_at="",
    )  # fmt: skip


def tasks(found: Workload) -> list[tuple[str, tuple[int, ...], str]]:
    return [(each.kernel.name, each.shape, each.dtype) for each in found.tasks]


def test_most_expensive_first() -> None:
    calls = [
        called(64, 64, time_us=1.0),
        called(32, kernel="add_min_gelu_mul", time_us=9.0),
        called(64, 64, dtype="float16", count=100),
    ]
    found = workload(calls, Tuned([]), H100)
    assert tasks(found) == [
        ("mish_mish", (64, 64), "float16"),
        ("add_min_gelu_mul", (32,), "float32"),
        ("mish_mish", (64, 64), "float32"),
    ]
    assert (found.notes, found.failures) == ([], [])
    assert found.tasks[1].reference == "add_min_gelu_mul"
    assert found.tasks[1].scalars == {"add_value": 0.5, "multiply_value": 2.0}


def test_scalars_that_are_given() -> None:
    (task,) = workload([called(64)], Tuned([]), H100, {"scale": 3.0}).tasks
    assert task.scalars == {"scale": 3.0}


def test_what_is_measured_here_is_left_out() -> None:
    one, other = called(64), called(128)
    found = workload([one, other], Tuned([row(one), row(other, Source.ESTIMATED)]), H100)
    assert tasks(found) == [("mish_mish", (128,), "float32")]
    assert found.notes == ["skipped 1 already measured on h100"]


def test_another_gpu_model_gives_shapes() -> None:
    there, here, tuned = called(64, device="h200"), called(128), called(256, device="rtx4090")
    calls = [there, called(64, time_us=0.5), here, tuned]
    # Measured there, which says nothing of here; and the other way round.
    rows = [row(there), row(replace(tuned, problem=replace(tuned.problem, device="h100")))]
    found = workload(calls, Tuned(rows), H100)
    assert tasks(found) == [("mish_mish", (64,), "float32"), ("mish_mish", (128,), "float32")]
    assert found.notes == [
        "1 of 3 problems: recorded on h200, tuned for their shapes on h100",
        "skipped 1 already measured on h100",
    ]


def test_a_gpu_that_is_in_no_table() -> None:
    one = called(64)
    unknown = replace(one, problem=replace(one.problem, device="rtx9090"))
    found = workload([unknown], Tuned([]), H100)
    assert len(found.tasks) == 1
    assert found.notes == ["1 of 1 problems: recorded on rtx9090, tuned for their shapes on h100"]


def test_source_that_changed_since() -> None:
    one = called(64)
    old = replace(one, problem=replace(one.problem, kernel_hash="older"))
    found = workload([old], Tuned([row(old)]), H100)
    assert tasks(found) == [("mish_mish", (64,), "float32")]
    assert found.notes == ["the source of mish_mish changed since: tuned as it is now"]


def test_tensors_that_tuning_does_not_allocate() -> None:
    one = called(64)
    calls = [
        replace(called(n), problem=replace(called(n).problem, alignment="p1,p1,i32x16"))
        for n in (16, 32, 48, 64)
    ]
    strided = replace(one, shape=(65,))
    found = workload([*calls, strided], Tuned([]), H100)
    assert found.tasks == []
    assert found.notes == [
        "skipped 4 with tensors that start at no multiple of 16 bytes, which tuning does not "
        "allocate: mish_mish 16 float32; mish_mish 32 float32; mish_mish 48 float32; 1 more",
        "skipped 1 whose layout tuning does not allocate: mish_mish 65 float32",
    ]


def test_a_kernel_that_is_not_found_is_told_once() -> None:
    calls = [replace(called(n), reference="my_gelu") for n in (16, 32)]
    found = workload([*calls, called(64)], Tuned([]), H100)
    assert tasks(found) == [("mish_mish", (64,), "float32")]
    (failure,) = found.failures
    assert isinstance(failure, UnknownKernelError)
    assert "unknown kernel 'my_gelu'" in str(failure)
    assert str(failure).endswith("name it yourself: `tunekit tune path/file.py:NAME --recorded …`")


def test_a_module_that_cannot_be_imported() -> None:
    found = workload([replace(called(64), reference="no_such_module:GELU")], Tuned([]), H100)
    (failure,) = found.failures
    assert isinstance(failure, KernelError)
    assert "cannot import 'no_such_module'" in str(failure)


def test_a_kernel_of_ones_own(write_module: Callable[..., Path]) -> None:
    path = write_module(
        """
        import triton
        import tunekit

        @triton.jit
        def double(x):
            return x + x

        DOUBLE = tunekit.pointwise("double", epilogue=double, reference=lambda x: x + x)
        """
    )
    one = called(64)
    mine = replace(one, reference=f"{path}:DOUBLE", problem=replace(one.problem, kernel="double"))
    (task,) = workload([mine], Tuned([]), H100).tasks
    assert (task.kernel.name, task.reference) == ("double", f"{path}:DOUBLE")


def test_a_shape_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise KernelError("mish_mish: two axes at least")

    one = called(64)
    monkeypatch.setattr(type(KERNELS["mish_mish"]), "launch_for", refuse)
    found = workload([one], Tuned([]), H100)
    assert [str(each) for each in found.failures] == ["mish_mish: two axes at least"]
