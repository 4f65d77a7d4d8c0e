from __future__ import annotations

import importlib.util
import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tunekit.cli import main
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Status
from tunekit.errors import KernelError
from tunekit.evaluate.job import Job, Outcome
from tunekit.evaluate.pool import Worker
from tunekit.evaluate.trial import NO_REFERENCE
from tunekit.kernels.kernel import Kernel, Tolerance
from tunekit.kernels.plan import TensorMeta
from tunekit.planned import PlannedKernel
from tunekit.store.cache import read_cache

TESTS = Path(__file__).resolve().parent
KERNELS_FILE = TESTS / "planned_kernels.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planned_kernels", KERNELS_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planned_kernels"] = module  # what is pickled names its module
    spec.loader.exec_module(module)
    return module


KERNELS = _load()
CPU = torch.device("cpu")


def of(name: str) -> PlannedKernel:
    kernel = getattr(KERNELS, name)
    assert isinstance(kernel, PlannedKernel)
    return kernel


class TestDecorator:
    def test_what_a_kernel_says_of_itself(self) -> None:
        kernel = of("add_in_place")
        assert isinstance(kernel, Kernel)
        assert (kernel.name, kernel.summary) == ("add_in_place", "x += w.")
        assert (kernel.sizes, kernel.input_count, dict(kernel.scalars)) == (("n",), 2, {})
        assert kernel.dtypes == ("float32", "float16", "bfloat16")
        assert kernel.load_space().default({"n": 5}) == Config(BLOCK=32)
        assert (kernel.elementwise, kernel.batched) == (False, False)
        assert re.fullmatch("[0-9a-f]{12}", kernel.source_hash)

    def test_scalars_dtypes_flops_and_tolerances(self) -> None:
        kernel = of("scale_and_place")
        assert dict(kernel.scalars) == {"factor": 2.0}
        assert kernel.flops is not None
        assert kernel.flops({"rows": 3, "columns": 5}) == 15
        assert kernel.tolerance is None
        launch = kernel.launch_for((3, 5), "float16", DEVICES["h100"])
        for name, expected in (
            ("allowed_by_a_little", Tolerance(1e-3, 1e-6)),
            ("allowed_in_16_bits", Tolerance(1e-2, 1e-5)),
        ):
            tolerance = of(name).tolerance
            assert tolerance is not None
            assert tolerance(launch, launch.outputs[0]) == expected
        assert of("counts").dtypes == ("int64",)
        tolerance = of("allowed_in_16_bits").tolerance
        assert tolerance is not None
        assert tolerance(launch, launch.outputs[1]) is None

    def test_the_bytes_that_have_to_move(self) -> None:
        kernel = of("counts")
        launch = kernel.launch_for((50,), "int64", DEVICES["h100"])
        assert kernel.bytes_moved(launch) == 50 * 8 + 100 * 4
        assert kernel.allocated_bytes(launch) == 50 * 8 + 101 * 4
        assert kernel.shape_of(launch) == (50,)
        assert kernel.shape_text((50,)) == "n=50"

    def test_a_copy_and_what_is_unpickled_is_the_kernel(self) -> None:
        kernel = of("add_in_place")
        assert deepcopy(kernel) is kernel
        assert pickle.loads(pickle.dumps(kernel)) is kernel

    def test_two_plans_of_one_function_are_two_kernels(self) -> None:
        hashes = {of(name).source_hash for name in ("counts", "forgets_to_zero")}
        assert len(hashes) == 2


class TestOnTheCpu:
    """Where kernels cannot run the reference does, and the result is as the plan says."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_several_results(self, dtype: torch.dtype) -> None:
        x = torch.randn(3, 5).to(dtype)
        y, place = of("scale_and_place")(x)
        assert torch.equal(y, x * 2)
        assert torch.equal(place, x.argmax(1))
        assert (y.dtype, place.dtype) == (dtype, torch.int64)
        assert torch.equal(of("scale_and_place")(x, factor=-1)[0], -x)

    def test_in_place(self) -> None:
        x, w = torch.randn(5), torch.randn(5)
        expected = x + w
        version = x._version
        assert of("add_in_place")(x, w) is x
        assert torch.equal(x, expected)
        assert x._version > version

    def test_whole_numbers_and_atomics(self) -> None:
        index = torch.randint(0, 100, (50,))
        result = of("counts")(index)
        assert torch.equal(result, torch.bincount(index, minlength=100).int())
        assert result.dtype == torch.int32

    @pytest.mark.parametrize(
        ("inputs", "scalars", "said"),
        [
            ((), {}, "scale_and_place takes 1 tensors, got none"),
            ((3,), {}, "scale_and_place: input 0 is int, not a tensor"),
            ((torch.zeros(3), 2.0), {}, "scale_and_place: input 1 is float, not a tensor"),
            ((torch.zeros(3, 5).to(torch.complex64),), {}, "input 0 is torch.complex64, which no"),
            ((torch.zeros(3, 5), torch.zeros(3, device="meta")), {}, "input 1 is on meta, input 0"),
            ((torch.zeros(3, 5),) * 2, {}, "scale_and_place takes 1 tensors (x), got 2"),
            ((torch.zeros(3),), {}, "x has shape (3,), expected (rows, columns)"),
            ((torch.zeros(3, 5).t(),), {}, "the elements of a row have to lie side by side"),
            ((torch.zeros(3, 5),), {"scale": 3}, "has no scalar 'scale'; it has: factor"),
            ((torch.zeros(3, 5, requires_grad=True),), {}, "has no backward, and a tensor requir"),
        ],
    )
    def test_a_call_that_is_wrong(
        self, inputs: tuple[Any, ...], scalars: dict[str, float], said: str
    ) -> None:
        with pytest.raises(KernelError) as error:
            of("scale_and_place")(*inputs, **scalars)
        assert said in str(error.value)
        assert "\n" not in str(error.value)

    def test_without_autograd_a_tensor_may_require_grad(self) -> None:
        x = torch.zeros(3, 5, requires_grad=True)
        with torch.no_grad():
            assert not of("scale_and_place")(x)[0].requires_grad

    def test_without_a_reference_nothing_runs(self) -> None:
        with pytest.raises(KernelError, match=r"^without_reference has no reference: it runs on a"):
            of("without_reference")(torch.zeros(3, 5))

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("one_result_short", "one_result_short: the reference gives 1 results, the plan 2"),
            (
                "other_shape",
                r"other_shape: result 1 of the reference is \(3, 5\), of the plan \(3,",
            ),
        ],
    )
    def test_a_reference_with_other_results(self, name: str, said: str) -> None:
        with pytest.raises(KernelError, match=f"^{said}"):
            of(name)(torch.zeros(3, 5))


def test_calls_in_tritons_interpreter(pass_interpreted: Callable[..., None]) -> None:
    pass_interpreted(TESTS / "planned_interpreted.py")


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Worker]:
    with Worker("interpret", "rtx4090") as one:
        yield one


@pytest.fixture(scope="module")
def compiler() -> Iterator[Worker]:
    with Worker("compile", "rtx4090") as one:
        yield one


class TestEvaluation:
    """What becomes of each kernel where it is tuned: compiled, and tried in the interpreter."""

    def evaluated(self, worker: Worker, name: str, dtype: str = "") -> Outcome:
        kernel = of(name)
        shape = (50,) if len(kernel.sizes) == 1 else (13, 20)
        default = kernel.load_space().default(dict(zip(kernel.sizes, shape, strict=True)))
        block = max(kernel.load_space().axes[0].values)
        config = Config(default, BLOCK=block)
        job = Job(f"{KERNELS_FILE}:{name}", shape, dtype or kernel.dtypes[0], {}, config, "rtx4090")
        ((_, outcome),) = worker.evaluate([job])
        return outcome

    @pytest.mark.parametrize(
        "name", ["scale_and_place", "add_in_place", "counts", "strided", "allowed_by_a_little"]
    )
    def test_what_is_right_passes(self, name: str, interpreter: Worker, compiler: Worker) -> None:
        outcome = self.evaluated(interpreter, name)
        assert (outcome.status, outcome.reason) == (Status.OK, "")
        assert self.evaluated(compiler, name).status is Status.OK

    def test_without_a_reference_it_is_compared_with_the_default(self, interpreter: Worker) -> None:
        outcome = self.evaluated(interpreter, "without_reference")
        assert (outcome.status, outcome.reason) == (Status.OK, NO_REFERENCE)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("wrong_second", r"differs .*\(output 1: \d+ of \d+ elements, such as"),
            ("unwritten_second", r"differs .*\(output 1: \d+ of \d+ elements are not written\)"),
            ("forgets_to_zero", r"differs .*\(\d+ of 100 elements are not written\)"),
            ("forgets_without_reference", r"differs .*\(\d+ of 100 elements"),
            ("off_by_a_little", r"differs .*\(output 0: "),
            ("allowed_in_16_bits", r"differs .*\(output 0: "),
        ],
    )
    def test_what_is_wrong_is_told(self, name: str, said: str, interpreter: Worker) -> None:
        outcome = self.evaluated(interpreter, name)
        assert outcome.status is Status.WRONG
        assert re.search(said, outcome.reason)

    def test_a_tolerance_is_of_the_results_dtype(self, interpreter: Worker) -> None:
        assert self.evaluated(interpreter, "allowed_in_16_bits", "float16").status is Status.OK

    @pytest.mark.parametrize("name", ["one_result_short", "other_shape", "plan_raises"])
    def test_a_mistake_of_the_kernel_is_no_configurations(
        self, name: str, interpreter: Worker
    ) -> None:
        with pytest.raises(KernelError) as error:
            self.evaluated(interpreter, name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_reference_that_raises_is_an_error_with_its_reason(self, interpreter: Worker) -> None:
        outcome = self.evaluated(interpreter, "reference_raises")
        assert outcome.status is Status.ERROR
        assert "ZeroDivisionError" in outcome.reason


class TestTune:
    def tune(self, name: str, tmp_path: Path, *arguments: str) -> int:
        database = str(tmp_path / "mine.db")
        where = ("--target", "rtx4090", "--db", database)
        return main(["tune", f"{KERNELS_FILE}:{name}", *where, *arguments])

    def test_one_that_has_everything(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.tune("counts", tmp_path, "--dim", "n=500,64", "--json") == 0
        small, large = sorted(json.loads(capsys.readouterr().out), key=lambda each: each["shape"])
        assert [each["dims"] for each in (small, large)] == [{"n": 64}, {"n": 500}]
        assert small["statuses"] == large["statuses"] == {"ok": 2}
        assert small["dtype"] == "int64"
        assert small["alignment"] != large["alignment"]
        rows = read_cache(tmp_path / "mine.db")
        assert {row.problem.kernel for row in rows} == {"counts"}
        assert len(rows) == 2

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (
                "plan_raises",
                r"plan_raises: the plan, line \d+ fails on tensors of shape \(7,\): Ze",
            ),
            ("inputs_raise", r"inputs=bad_inputs fails on \{'n': 7\}, float32, meta: Runtime"),
        ],
    )
    def test_a_plan_that_fails_is_one_line(
        self, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.tune(name, tmp_path, "--dim", "n=7") == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert re.search(said, lines[0])

    def test_sizes_that_are_wrong_are_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments, said in (
            (("--dim", "m=7"), "counts has the sizes n; give NAME=NUMBER, such as n=4096"),
            (("--shape", "3,4"), "counts has the sizes n, 1 numbers; or give one problem"),
            ((), "give at least one problem: --dim n=…"),
            (("--dim", "n=7", "--dtype", "float16"), "counts is tuned in int64"),
        ):
            assert self.tune("counts", tmp_path, *arguments) == 2
            lines = capsys.readouterr().err.strip().splitlines()
            assert len(lines) == 1
            assert said in lines[0]


def test_the_plan_sees_metadata_alone() -> None:
    meta = TensorMeta((4, 6), (9, 1), "float16", 6)
    launch = of("scale_and_place").plan((meta,), DEVICES["h100"])
    assert launch.inputs == (meta,)
    assert launch.outputs == (
        TensorMeta.contiguous((4, 6), "float16"),
        TensorMeta.contiguous((4,), "int64"),
    )
