"""The formulas, computed in float32 by hand and in float64 by PyTorch: no compiler, no kernel."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import triton

from tunekit.kernels import epilogues


class _Language:
    """What the epilogues use of `triton.language`, on float32 tensors."""

    class PropagateNan:
        ALL = "all"

    @staticmethod
    def exp2(x: torch.Tensor) -> torch.Tensor:
        return torch.exp2(x)

    @staticmethod
    def rsqrt(x: torch.Tensor) -> torch.Tensor:
        return torch.rsqrt(x)

    @staticmethod
    def minimum(x: torch.Tensor, y: float, propagate_nan: str = "none") -> torch.Tensor:
        smaller = torch.clamp(x, max=y)
        return smaller if propagate_nan == "all" else torch.where(x.isnan(), y, smaller)

    @staticmethod
    def clamp(x: torch.Tensor, low: float, high: float, propagate_nan: str) -> torch.Tensor:
        assert propagate_nan == "all"
        return torch.clamp(x, low, high)


def _in_torch(name: str) -> Callable[..., torch.Tensor]:
    """The epilogue's own source, run on tensors instead of registers."""
    tree = ast.parse(inspect.getsource(epilogues))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
    keep = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    scope = {"tl": _Language, "LOG2_E": epilogues.LOG2_E.value}
    exec(compile(ast.Module(keep, []), "epilogues", "exec"), scope)
    function = scope[name]
    assert callable(function)
    return function


def _near(result: torch.Tensor, expected: torch.Tensor, relative: float, absolute: float) -> None:
    torch.testing.assert_close(
        result.double(), expected, rtol=relative, atol=absolute, equal_nan=True
    )


X = torch.cat(
    [
        torch.linspace(-30, 30, 200_001),
        torch.logspace(-30, 38, 5_000),
        -torch.logspace(-30, 38, 5_000),
        torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan]),
    ]
)


def test_mish() -> None:
    _near(_in_torch("mish")(X), F.mish(X.double()), 2e-6, 1e-9)


def test_mish_mish() -> None:
    _near(_in_torch("mish_mish")(X), F.mish(F.mish(X.double())), 3e-6, 1e-9)


def test_gelu_of_what_is_not_positive() -> None:
    x = torch.cat([X[X <= 0], torch.tensor([torch.nan])])
    result = _in_torch("gelu_nonpositive")(x)
    _near(result, F.gelu(x.double()), 0.0, 2e-7)
    _near(result[x > -4], F.gelu(x[x > -4].double()), 1e-5, 5e-8)


def test_gelu_agrees_with_its_definition_and_not_with_its_square() -> None:
    x = -torch.linspace(0.25, 4, 50)
    definition = 0.5 * x.double() * (1 + torch.erf(x.double() / 2**0.5))
    result = _in_torch("gelu_nonpositive")(x).double()
    torch.testing.assert_close(result, definition, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(result, definition * x.double(), rtol=0.1)


@pytest.mark.parametrize(("add_value", "scale"), [(0.5, 2.0), (0.0, 1.0), (-3.0, -0.25)])
def test_mish_add_hardtanh_scale(add_value: float, scale: float) -> None:
    result = _in_torch("mish_add_hardtanh_scale")(X, add_value, scale)
    _near(result, F.hardtanh(F.mish(X.double()) + add_value) * scale, 2e-6, 1e-6)


@pytest.mark.parametrize(("add_value", "multiply_value"), [(0.5, 2.0), (0.0, 1.0), (-3.0, -0.25)])
def test_add_min_gelu_mul(add_value: float, multiply_value: float) -> None:
    result = _in_torch("add_min_gelu_mul")(X, add_value, multiply_value)
    shifted = X.float().add(add_value).double()  # the sum is rounded to float32 by both
    _near(result, F.gelu(shifted.clamp(max=0.0)) * multiply_value, 0.0, 1e-6)


@pytest.mark.parametrize("name", ["mish_mish", "mish_add_hardtanh_scale", "add_min_gelu_mul"])
def test_infinities_and_nan_come_out_as_from_eager(name: str) -> None:
    """Of inf and nan; what eager makes nan stays nan, and nothing else becomes it."""
    x = torch.tensor([torch.inf, -torch.inf, torch.nan])
    scalars = () if name == "mish_mish" else (0.5, 2.0)
    expected = {
        "mish_mish": [torch.inf, torch.nan, torch.nan],
        "mish_add_hardtanh_scale": [2.0, torch.nan, torch.nan],
        "add_min_gelu_mul": [0.0, torch.nan, torch.nan],
    }[name]
    result = _in_torch(name)(x, *scalars)
    torch.testing.assert_close(result, torch.tensor(expected), equal_nan=True)


def test_no_epilogue_uses_what_the_interpreter_lacks() -> None:
    source = inspect.getsource(epilogues)
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    attributes = {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)}
    assert not {"libdevice", "inline_asm_elementwise"} & (names | attributes)


def test_every_epilogue_is_a_device_function_with_a_docstring() -> None:
    functions = [v for v in vars(epilogues).values() if isinstance(v, triton.JITFunction)]
    assert len(functions) >= 6
    assert all(function.fn.__doc__ for function in functions)
