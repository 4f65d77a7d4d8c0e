"""examples/ in Triton's interpreter; run by `test_examples.py` in a process of its own."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from cases import ALL, Example

from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Status
from tunekit.core.problem import ITEMSIZES
from tunekit.core.space import context
from tunekit.evaluate.inputs import draw_for
from tunekit.evaluate.interpreter import InterpreterEvaluator
from tunekit.evaluate.job import Job
from tunekit.evaluate.tensors import clone_of, empty_of
from tunekit.evaluate.verify import largest_error, reference_outputs, tolerance_of
from tunekit.kernels.plan import Input
from tunekit.runtime import call

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

RTX4090 = DEVICES["rtx4090"]
CASES = [(example, dtype) for example in ALL for dtype in example.kernel.dtypes]


def refuse(*inputs: Any, **scalars: float) -> None:
    raise AssertionError("the reference was called instead of the kernel")


def drawn(example: Example, dtype: str) -> list[torch.Tensor]:
    metas = example.kernel.input_metas(example.odd, dtype)
    inputs = [empty_of(meta, "cpu") for meta in metas]
    draw_for(example.kernel, inputs, example.odd, dtype, seed=1)
    return inputs


def sliced(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in a wider tensor: another stride between rows."""
    if tensor.dim() < 2:
        return tensor
    wider = torch.full((*tensor.shape[:-1], tensor.shape[-1] + 5), 77, dtype=tensor.dtype)
    view = wider[..., : tensor.shape[-1]]
    view.copy_(tensor)
    return view


def check_call(example: Example, inputs: list[torch.Tensor]) -> None:
    """The launched results, also those in place, are what the reference gives in float64."""
    kernel = example.kernel
    launch = call.plan_of(kernel, inputs)
    expected = reference_outputs(kernel, launch.results, inputs, kernel.scalars)
    before = [clone_of(x) for x in inputs]
    results = dataclasses.replace(kernel, reference=refuse)(*inputs)  # type: ignore[operator]
    results = results if isinstance(results, tuple) else (results,)
    changed = set()
    for index, (result, values) in enumerate(zip(results, expected, strict=True)):
        tolerance = tolerance_of(kernel, launch, index, values)
        assert largest_error(result, values, tolerance) <= 1.0
        if isinstance(start := launch.start_of(index), Input):
            assert result is inputs[start.index]
            changed.add(start.index)
    for index, (x, then) in enumerate(zip(inputs, before, strict=True)):
        assert index in changed or torch.equal(x, then), f"input {index} is changed"


@pytest.mark.parametrize(("example", "dtype"), CASES, ids=str)
def test_a_call(example: Example, dtype: str) -> None:
    check_call(example, drawn(example, dtype))


@pytest.mark.parametrize("example", ALL, ids=str)
def test_a_call_of_slices_of_wider_tensors(example: Example) -> None:
    check_call(example, [sliced(x) for x in drawn(example, "float16")])


@pytest.mark.parametrize("example", ALL, ids=str)
def test_configurations_from_all_over_the_space(example: Example) -> None:
    kernel, dtype = example.kernel, example.kernel.dtypes[0]
    launch = kernel.launch_for(example.odd, dtype, RTX4090)
    configs = kernel.load_space().configs(context(launch.dims, ITEMSIZES[dtype], RTX4090))
    evaluator = InterpreterEvaluator(RTX4090)
    for config in (configs[0], configs[len(configs) // 2], configs[-1]):
        job = Job(example.reference, example.odd, dtype, {}, config, "rtx4090")
        outcome = evaluator.evaluate(job)
        assert outcome.status is Status.OK, f"{config}: {outcome.reason}"
