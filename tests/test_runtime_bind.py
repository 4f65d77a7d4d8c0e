from __future__ import annotations

import pytest
import torch

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.kernels.library import KERNELS
from tunekit.kernels.plan import Constant, Group, Input, Integer, Launch, Output, Scalar, TensorMeta
from tunekit.runtime.bind import Binder

CONFIG = Config(BLOCK_SIZE=128, num_warps=4)
META = TensorMeta((64,), (1,), "float32")
TENSORS = [torch.ones(64), torch.zeros(64)]
OUTPUT = torch.empty(64)


def assert_bound_alike(launch: Launch, scalars: dict[str, float]) -> None:
    expected = launch.bind(TENSORS, [OUTPUT], scalars, CONFIG)
    bind = Binder(launch, CONFIG)
    for _ in range(2):
        bound = bind(TENSORS, [OUTPUT], scalars)
        # Not by `==`, which a tensor answers element by element.
        assert {name: flat(value) for name, value in bound.items()} == {
            name: flat(value) for name, value in expected.items()
        }


def flat(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(flat(each) for each in value)
    return id(value) if isinstance(value, torch.Tensor) else (type(value), value)


def test_every_kind_of_slot() -> None:
    launch = Launch(
        function=None,
        arguments={
            "tensors": Group((Input(1), Input(0), Output(0), Integer(7), Scalar("b"))),
            "x": Input(0),
            "n": Integer(64),
            "b": Scalar("b"),
            "output": Output(0),
            "epilogue": Constant(max),
            "WIDE": Constant(False),
            "nothing": Group(()),
        },
        inputs=(META, META),
        outputs=(META,),
        dims={"n": 64},
        grid=lambda config: (1, 1, 1),
    )
    assert_bound_alike(launch, {"a": 1, "b": 2})


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_of_the_library(name: str) -> None:
    kernel = KERNELS[name]
    assert_bound_alike(kernel.launch_for((64,), "float32", DEVICES["h100"]), dict(kernel.scalars))
