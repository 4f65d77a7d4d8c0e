"""Under torch.compile; `test_interpreter.py` runs it in Triton's interpreter."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.utils._triton

from tests.autotuning.conftest import Clock, Made

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.usefixtures("tunes"),
]

SPACIOUS = """
import torch, triton, tunekit
import triton.language as tl

@tunekit.autotune(space={"BLOCK": [16, 32, 64]}, key=["n"])
@triton.jit
def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) + 1, mask=at < n)
"""


def compiled(made: ModuleType) -> tuple[torch.Tensor, int]:
    """What a compiled function that calls the kernel gives, and of how many graphs it is."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    def function(x: torch.Tensor) -> torch.Tensor:
        x = x * 2
        out = torch.empty_like(x)
        made.kernel[lambda meta: (-(-40 // meta["BLOCK"]),)](x, out, 40)
        return out * 3

    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        found = torch.compile(function, backend=backend)(torch.ones(40))
    return found, len(graphs)


@pytest.mark.parametrize("has_triton", [True, False])
def test_a_kernel_of_a_space_breaks_the_graph_and_is_right(
    has_triton: bool, module: Made, clock: Clock, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.utils._triton, "has_triton", lambda: has_triton)
    made = module(SPACIOUS)
    found, graphs = compiled(made)
    assert torch.equal(found, torch.full((40,), 9.0))
    assert made.kernel.best_config.kwargs == {"BLOCK": 64}
    assert graphs >= 1  # what is before, and what is after if PyTorch goes on


def test_where_pytorch_has_no_triton_a_list_breaks_the_graph_too(
    module: Made, clock: Clock, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.utils._triton, "has_triton", lambda: False)
    configs = "configs=[triton.Config({'BLOCK': block}) for block in (16, 32)]"
    made = module(SPACIOUS.replace('space={"BLOCK": [16, 32, 64]}', configs))
    found, graphs = compiled(made)
    assert torch.equal(found, torch.full((40,), 9.0))
    assert made.kernel.best_config.kwargs == {"BLOCK": 32}
    assert graphs == 2  # what is before and what is after
