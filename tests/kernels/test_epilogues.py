"""The formulas over all of float32, in the interpreter: no compiler, no GPU."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import triton

from tunekit.kernels import epilogues

BARE = """
    from tunekit.kernels import epilogues
    from tunekit.kernels.kernel import pointwise

    mish = pointwise("mish", epilogue=epilogues.mish, reference=None)
    gelu = pointwise("gelu", epilogue=epilogues.gelu_nonpositive, reference=None)
"""

SPECIAL = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, -0.0, 3e38, -3e38, 1e-40, 88.0])
X = torch.cat(
    [
        torch.linspace(-30, 30, 40_001),
        torch.logspace(-30, 38, 3_000),
        -torch.logspace(-30, 38, 3_000),
        # Every special value beside every other and beside ordinary ones, on either side.
        torch.cartesian_prod(torch.cat([SPECIAL, torch.tensor([1.5, -1.5])]), SPECIAL).flatten(),
        torch.cartesian_prod(SPECIAL, torch.tensor([1.5, -1.5])).flatten(),
    ]
)
NOT_POSITIVE = torch.where(X > 0, -X, X)


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, interpret: Callable[..., list[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    path = tmp_path_factory.mktemp("kernel") / "bare.py"
    path.write_text(textwrap.dedent(BARE))
    inputs = {f"{path}:mish": X, f"{path}:gelu": NOT_POSITIVE, "mish_mish": X, "identity": X}
    config = {"BLOCK_SIZE": 8192, "VEC": 4, "num_warps": 8, "num_stages": 1}
    cases = [{"kernel": name, "config": config, "inputs": [x]} for name, x in inputs.items()]
    return dict(zip(("mish", "gelu", "mish_mish", "identity"), interpret(cases), strict=True))


def _assert_near(
    result: torch.Tensor, expected: torch.Tensor, relative: float, absolute: float
) -> None:
    """Equal where infinite or nan, else within the bounds."""
    torch.testing.assert_close(
        result.double(), expected.float().double(), rtol=relative, atol=absolute, equal_nan=True
    )


def test_mish(results: dict[str, torch.Tensor]) -> None:
    _assert_near(results["mish"], F.mish(X.double()), 2e-6, 1e-15)


def test_mish_mish(results: dict[str, torch.Tensor]) -> None:
    _assert_near(results["mish_mish"], F.mish(F.mish(X.double())), 4e-6, 1e-15)


def test_gelu_of_what_is_not_positive(results: dict[str, torch.Tensor]) -> None:
    expected = F.gelu(NOT_POSITIVE.double())
    _assert_near(results["gelu"], expected, 0.0, 2e-7)
    near_zero = NOT_POSITIVE > -3
    _assert_near(results["gelu"][near_zero], expected[near_zero], 1e-5, 1e-30)


def test_identity(results: dict[str, torch.Tensor]) -> None:
    assert torch.equal(results["identity"].view(torch.int32), X.view(torch.int32))


def test_no_epilogue_uses_what_the_interpreter_lacks() -> None:
    nodes = list(ast.walk(ast.parse(inspect.getsource(epilogues))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not {"libdevice", "inline_asm_elementwise"} & (names | attributes)


def test_every_epilogue_is_a_device_function_with_a_docstring() -> None:
    functions = [v for v in vars(epilogues).values() if isinstance(v, triton.JITFunction)]
    assert len(functions) >= 6
    assert all(function.fn.__doc__ for function in functions)
