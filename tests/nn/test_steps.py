from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from tunekit.nn.steps import VOCABULARY, Steps, in_words, read_function, read_method, read_module

X = object()
"""Stands for the tensor."""
INF = math.inf


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        (nn.Mish(), (("mish",),)),
        (nn.ReLU(), (("relu",),)),
        (nn.ReLU(inplace=True), (("relu",),)),
        (nn.ReLU6(), (("clamp", 0.0, 6.0),)),
        (nn.Hardtanh(), (("clamp", -1.0, 1.0),)),
        (nn.Hardtanh(-2, 0.5), (("clamp", -2.0, 0.5),)),
        (nn.GELU(), (("gelu", "none"),)),
        (nn.GELU("tanh"), (("gelu", "tanh"),)),
        (nn.SiLU(inplace=True), (("silu",),)),
        (nn.Hardswish(), (("hardswish",),)),
        (nn.Hardsigmoid(), (("hardsigmoid",),)),
        (nn.Sigmoid(), (("sigmoid",),)),
        (nn.Tanh(), (("tanh",),)),
        (nn.LeakyReLU(0.2), (("leaky_relu", 0.2),)),
        (nn.ELU(0.5), (("elu", 0.5),)),
        (nn.Softplus(2, 10), (("softplus", 2.0, 10.0),)),
        (nn.Identity(), ()),
        (nn.BatchNorm2d(3), None),
        (nn.PReLU(), None),
        (nn.Softmax(1), None),
    ],
)
def test_modules(module: nn.Module, steps: Steps | None) -> None:
    assert read_module(module, drops=True) == steps


def test_dropout_is_the_identity_where_nothing_is_dropped() -> None:
    for module in (nn.Dropout(), nn.Dropout2d(0.1), nn.AlphaDropout()):
        assert read_module(module, drops=True) is None
        assert read_module(module, drops=False) == ()
    assert read_module(nn.Dropout(0.0), drops=True) == ()


def test_a_subclass_may_compute_anything() -> None:
    class Odd(nn.ReLU):
        pass

    assert read_module(Odd(), drops=False) is None


Call = Callable[[Any], Any]


def steps_of(call: Call) -> Steps | None:
    """Of the only call in a function, as torch.fx sees it."""
    _, node, _ = fx.symbolic_trace(call).graph.nodes
    x = node.all_input_nodes[0]
    if node.op == "call_method":
        return read_method(node.target, node.args[1:], node.kwargs)
    return read_function(node.target, node.args, node.kwargs, x)


@pytest.mark.parametrize(
    ("call", "steps"),
    [
        (lambda x: F.mish(x), (("mish",),)),
        (lambda x: F.mish(input=x), (("mish",),)),
        (lambda x: F.relu(x, inplace=True), (("relu",),)),
        (lambda x: F.relu_(x), (("relu",),)),
        (lambda x: torch.relu(x), (("relu",),)),
        (lambda x: x.relu(), (("relu",),)),
        (lambda x: x.relu_(), (("relu",),)),
        (lambda x: F.relu6(x), (("clamp", 0.0, 6.0),)),
        (lambda x: F.hardtanh(x), (("clamp", -1.0, 1.0),)),
        (lambda x: F.hardtanh(x, min_val=0, max_val=2), (("clamp", 0.0, 2.0),)),
        (lambda x: x.clamp(-1, 1), (("clamp", -1.0, 1.0),)),
        (lambda x: x.clamp(max=0.0), (("clamp", -INF, 0.0),)),
        (lambda x: x.clamp_(min=-1), (("clamp", -1.0, INF),)),
        (lambda x: x.clamp(min=0), (("relu",),)),
        (lambda x: x.clamp_min(0), (("relu",),)),
        (lambda x: x.clip(0, 1), (("clamp", 0.0, 1.0),)),
        (lambda x: torch.clamp(x, max=0), (("clamp", -INF, 0.0),)),
        (lambda x: torch.clamp_max(x, 2), (("clamp", -INF, 2.0),)),
        (lambda x: F.gelu(x), (("gelu", "none"),)),
        (lambda x: F.gelu(x, approximate="tanh"), (("gelu", "tanh"),)),
        (lambda x: F.silu(x), (("silu",),)),
        (lambda x: F.hardswish(x), (("hardswish",),)),
        (lambda x: F.leaky_relu(x, 0.1), (("leaky_relu", 0.1),)),
        (lambda x: torch.sigmoid(x), (("sigmoid",),)),
        (lambda x: x.sigmoid(), (("sigmoid",),)),
        (lambda x: torch.tanh(x), (("tanh",),)),
        (lambda x: x + 0.5, (("add", 0.5),)),
        (lambda x: 1 + x, (("add", 1.0),)),
        (lambda x: x.add(0.5), (("add", 0.5),)),
        (lambda x: x.add_(0.5, alpha=2), (("add", 1.0),)),
        (lambda x: torch.add(x, 3, alpha=2), (("add", 6.0),)),
        (lambda x: operator.iadd(x, 0.5), (("add", 0.5),)),
        (lambda x: x - 0.5, (("add", -0.5),)),
        (lambda x: x.sub(0.5), (("add", -0.5),)),
        (lambda x: 2 - x, (("mul", -1.0), ("add", 2.0))),
        (lambda x: x * 2, (("mul", 2.0),)),
        (lambda x: 2 * x, (("mul", 2.0),)),
        (lambda x: torch.mul(x, 2), (("mul", 2.0),)),
        (lambda x: x.mul_(2), (("mul", 2.0),)),
        (lambda x: -x, (("mul", -1.0),)),
        (lambda x: x / 4, (("mul", 0.25),)),
        (lambda x: x.div(-2), (("mul", -0.5),)),
        (lambda x: F.dropout(x, training=False), ()),
    ],
)
def test_calls(call: Call, steps: Steps) -> None:
    assert steps_of(call) == steps


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x * x,
        lambda x: x + True,
        lambda x: x / 3,  # 1/3 is no float: another rounding
        lambda x: x / 0,
        lambda x: 2 / x,
        lambda x: x**2,
        lambda x: x // 2,
        lambda x: x.div(2, rounding_mode="floor"),
        lambda x: x + torch.ones(3),
        lambda x: x + 1j,
        lambda x: x + 10**400,
        lambda x: x.clamp(),
        lambda x: x.clamp(min=math.nan),
        lambda x: torch.clamp(x, torch.zeros(3), torch.ones(3)),
        lambda x: torch.add(x, 1, out=None),
        lambda x: F.gelu(x, approximate="other"),
        lambda x: F.dropout(x),
        lambda x: F.softmax(x, 1),
        lambda x: x.view(-1),
        lambda x: x.__getitem__(0),
    ],
)
def test_other_calls_are_no_steps(call: Call) -> None:
    _, *nodes, _ = fx.symbolic_trace(call).graph.nodes
    node = nodes[-1]
    x = next(each for each in node.all_input_nodes if each.op == "placeholder")
    if node.op == "call_method":
        assert read_method(node.target, node.args[1:], node.kwargs) is None
    else:
        assert read_function(node.target, node.args, node.kwargs, x) is None


@pytest.mark.parametrize(
    "call",
    [
        F.hardsigmoid, F.tanh, F.sigmoid, F.elu, F.softplus, torch.neg, torch.clip, F.hardtanh_,
        F.leaky_relu_, torch.sigmoid_, torch.tanh_, torch.relu_,
    ],
)  # fmt: skip
def test_every_step_that_is_read_is_in_the_vocabulary(call: Any) -> None:
    more = (0, 1) if call is torch.clip else ()
    steps = read_function(call, (X, *more), {}, X)
    assert steps
    for name, *values in steps:
        assert len(VOCABULARY[str(name)]) == len(values)


@pytest.mark.parametrize(
    ("call", "steps"),
    [
        (lambda x: F.hardtanh(x * 2 + 0.5), (("mul", 2.0), ("add", 0.5), ("clamp", -1.0, 1.0))),
        (lambda x: 2 - F.mish(x), (("mish",), ("mul", -1.0), ("add", 2.0))),
        (
            lambda x: F.leaky_relu(x - 1, 0.2) / 4,
            (("add", -1.0), ("leaky_relu", 0.2), ("mul", 0.25)),
        ),
    ],
)
def test_the_steps_compute_what_the_code_does(call: Call, steps: Steps) -> None:
    meaning: dict[str, Callable[..., torch.Tensor]] = {
        "add": torch.add,
        "clamp": torch.clamp,
        "leaky_relu": F.leaky_relu,
        "mish": F.mish,
        "mul": torch.mul,
    }
    x = y = torch.linspace(-4, 4, 41)
    for name, *values in steps:
        y = meaning[str(name)](y, *values)
    assert torch.equal(y, call(x))


def test_words() -> None:
    steps = (("mish",), ("add", 0.5), ("clamp", -1.0, INF), ("gelu", "none"), ("gelu", "tanh"))
    assert in_words(steps) == "mish → add 0.5 → clamp -1..inf → gelu → gelu tanh"
    assert in_words(()) == "nothing"
