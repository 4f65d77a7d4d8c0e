from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import triton

sys.path.insert(0, str(Path(__file__).parent))

from cases import ALL, EXAMPLES, Example

from tunekit import export
from tunekit.core.device import DEVICES, Device
from tunekit.core.evaluation import Source, VerifiedBy
from tunekit.evaluate.compile import CompileOnlyDriver, compile_launch
from tunekit.evaluate.host import Host
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.tensors import empty_of
from tunekit.kernels.plan import alignment_class
from tunekit.search.task import Progress, Task
from tunekit.search.tune import tune
from tunekit.store.cache import read_cache
from tunekit.store.database import Store

MAIN = [example for example in ALL if example.name not in ("softmax_long", "rms_norm")]


def test_every_example_has_its_cases() -> None:
    assert {example.file for example in ALL} == {path.name for path in EXAMPLES.glob("*.py")}


def test_in_tritons_interpreter(pass_interpreted: Callable[..., None]) -> None:
    pass_interpreted(Path(__file__).with_name("interpreted.py"))


@pytest.mark.parametrize("example", ALL, ids=str)
def test_on_the_cpu_a_call_is_the_reference(example: Example) -> None:
    kernel, dtype = example.kernel, "bfloat16"
    inputs = [empty_of(meta, "cpu") for meta in kernel.input_metas(example.odd, dtype)]
    draw_for(kernel, inputs, example.odd, dtype, seed=1)
    expected = kernel.by_reference([x.clone() for x in inputs], kernel.scalars)
    torch.testing.assert_close(kernel(*inputs), expected)  # type: ignore[operator]


def test_a_residual_is_changed_in_place() -> None:
    kernel = next(example.kernel for example in ALL if example.name == "add_rms_norm")
    x, residual, weight = torch.randn(4, 96), torch.randn(4, 96), torch.randn(96)
    total = x + residual
    y, returned = kernel(x, residual, weight, eps=1e-5)  # type: ignore[operator]
    assert returned is residual
    assert torch.equal(residual, total)
    torch.testing.assert_close(y, torch.rms_norm(total, (96,), weight, 1e-5))


@pytest.fixture(scope="module", params=["rtx4090", "h100"])
def compiling_for(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Triton compiles for that GPU, whatever this machine has."""
    from triton.runtime import driver

    device = DEVICES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_active", CompileOnlyDriver(device))
        yield device


@pytest.mark.parametrize(
    ("example", "shape"), [(example, shape) for example in ALL for shape in example.real], ids=str
)
def test_the_default_compiles_without_spills(
    example: Example, shape: tuple[int, ...], compiling_for: Device
) -> None:
    launch = example.kernel.launch_for(shape, "bfloat16", compiling_for)
    config = example.kernel.default(launch, compiling_for)
    binary = compile_launch(launch, config, example.kernel.scalars).binary
    assert binary.spill_bytes == 0
    assert binary.load_bytes == binary.store_bytes == 16


@pytest.mark.parametrize(
    ("example", "one", "other"),
    [
        (ALL[0], (8192, 4096), (77, 4096)),
        (ALL[1], (512, 128256), (1, 128256)),
        (ALL[3], (8192, 4096), (77, 4096)),
        (ALL[4], (1, 32, 8, 4096, 128), (1, 32, 8, 77, 128)),
        (ALL[5], (4096, 11008, 4096), (77, 11008, 4096)),
    ],
    ids=str,
)
def test_what_is_tuned_serves_any_number_of_rows(
    example: Example, one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    launches = [
        example.kernel.launch_for(shape, "float16", DEVICES["h100"]) for shape in (one, other)
    ]
    assert len(set(map(alignment_class, launches))) == 1


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each example tuned, two configurations of it, for a GPU that is not there."""
    path = tmp_path_factory.mktemp("tuned") / "studies.db"
    with Host.estimating(DEVICES["rtx4090"]) as host, Store.open(path) as store:
        for example in MAIN:
            kernel, scalars = example.kernel, example.kernel.scalar_values()
            task = Task(kernel, example.reference, example.odd, "float16", scalars, trials=2)
            tune(task, host, store, Progress(), write_study=False)
    return path


def test_each_is_tuned_and_served(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEKIT_DB", str(database))
    rows = {row.problem.kernel: row for row in read_cache(database)}
    assert rows.keys() == {example.name for example in MAIN}
    for example in MAIN:
        row = rows[example.name]
        assert row.source is Source.ESTIMATED
        assert row.verified_by is VerifiedBy.INTERPRETER


def test_the_table_exported_gives_the_winners(database: Path) -> None:
    rows = read_cache(database)
    table: dict[str, object] = {}
    exec(export.render(rows, "python"), table)
    for row in rows:
        problem = row.problem
        found = table["lookup"](problem.kernel, "rtx4090", "float16", dict(problem.dims))  # type: ignore[operator]
        assert isinstance(found, triton.Config)
        assert {**found.kwargs, "num_warps": found.num_warps} == {
            axis: value for axis, value in row.config.items() if axis != "num_stages"
        }
