"""Which memory format a fused convolution runs in: what was measured decides, else PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import tunekit
from tunekit import records
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Decision, Evaluation, Provenance, Source, Status, VerifiedBy
from tunekit.core.problem import Problem
from tunekit.kernels.library import mish_add_hardtanh_scale, mish_mish
from tunekit.nn import formats
from tunekit.nn.conv import fused_conv
from tunekit.nn.formats import CONTIGUOUS, LAST, choose, problem_of, stays_last
from tunekit.paths import user_database
from tunekit.runtime.lookup import nearest_row
from tunekit.store.database import Store


class OnGpu:
    """A tensor that says it is on a GPU; what chooses a format looks at nothing but metadata."""

    is_cuda = True

    def __init__(self, *shape: int, last: bool = False, dtype: torch.dtype = torch.float16) -> None:
        self.tensor = torch.empty(shape, dtype=dtype, device="meta")
        if last:
            self.tensor = self.tensor.to(memory_format=torch.channels_last)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor, name)

    def get_device(self) -> int:
        return 0


@pytest.fixture(autouse=True)
def on_an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "device_at", lambda index: DEVICES["h100"])
    tunekit.reload()


def module(**options: Any) -> Any:
    return fused_conv(nn.Conv2d(8, 16, **{"kernel_size": 3, **options}), mish_mish)


Measure = Callable[..., None]


@pytest.fixture
def measured() -> Measure:
    """Makes a format the decided winner of a problem."""

    def add(problem: Problem, config: Config, at: str = "00:00:00", **changes: Any) -> None:
        provenance = Provenance(
            "NVIDIA H100", 132, "580.1", "2.11.0", "3.6.0", "0.1.0", "module-stream-1",
            f"2026-01-31T{at}Z",
        )  # fmt: skip
        samples = (10.0, 11.0, 12.0)
        fields = {
            "problem": problem,
            "shape": (2, 8, 16, 16),
            "config": config,
            "status": Status.OK,
            "source": Source.MEASURED,
            "provenance": provenance,
            "verified_by": VerifiedBy.DEVICE,
            "time_us": statistics.median(samples),
            "samples_us": samples,
            "max_error": 0.5,
        }
        evaluation = Evaluation(**(fields | changes))
        with Store.open(user_database()) as store:
            store.add([evaluation])
            store.decide(
                Decision(
                    problem=problem,
                    source=evaluation.source,
                    winner=evaluation.uid,
                    default="",
                    reason="faster",
                    created_at=provenance.created_at,
                    rows=(evaluation.uid,),
                )
            )

    return add


@pytest.mark.parametrize("weight_last", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_where_nothing_is_measured_pytorchs_rule_holds(last: bool, weight_last: bool) -> None:
    conv = module()
    if weight_last:
        conv = conv.to(memory_format=torch.channels_last)
    x = OnGpu(2, 8, 16, 16, last=last)
    assert stays_last(conv, x) is (last or weight_last)
    assert choose(conv, x) is (last or weight_last)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("config", [CONTIGUOUS, LAST])
def test_what_was_measured_is_followed(config: Config, last: bool, measured: Measure) -> None:
    conv, x = module(), OnGpu(2, 8, 16, 16, last=last)
    measured(problem_of(conv, x), config)
    assert choose(conv, x) is (config == LAST)
    assert nearest_row(problem_of(conv, x)).config == config  # type: ignore[union-attr]


def test_it_is_asked_once_until_the_databases_are_read_again(measured: Measure) -> None:
    conv, x = module(), OnGpu(2, 8, 16, 16)
    assert choose(conv, x) is False
    measured(problem_of(conv, x), LAST)
    assert choose(conv, x) is False
    tunekit.reload()
    assert choose(conv, x) is True
    measured(problem_of(conv, x), CONTIGUOUS, at="01:00:00")
    assert choose(conv, x) is True
    tunekit.reload()
    assert choose(conv, x) is False


def test_a_module_that_is_gone_is_forgotten() -> None:
    conv = module()
    before = len(formats._chosen)
    choose(conv, OnGpu(2, 8, 16, 16))
    assert len(formats._chosen) == before + 1
    del conv
    assert len(formats._chosen) == before


def test_of_sizes_that_were_not_measured_the_nearest_decides(measured: Measure) -> None:
    conv = module()
    measured(problem_of(conv, OnGpu(2, 8, 16, 16)), LAST)
    measured(problem_of(conv, OnGpu(64, 8, 64, 64)), CONTIGUOUS)
    assert choose(conv, OnGpu(1, 8, 16, 16)) is True
    assert choose(conv, OnGpu(4, 8, 16, 16)) is True
    assert choose(conv, OnGpu(32, 8, 64, 64)) is False
    assert choose(conv, OnGpu(256, 8, 64, 64)) is False
    assert choose(conv, OnGpu(0, 8, 16, 16)) is True


def test_the_very_sizes_are_nearer_than_others_of_one_product(measured: Measure) -> None:
    conv = module()
    shapes = [(1, 32, 32), (4, 16, 16), (16, 8, 8), (2, 16, 32), (2, 32, 16)]
    wanted = [LAST, CONTIGUOUS, LAST, CONTIGUOUS, LAST]
    for (images, high, wide), config in zip(shapes, wanted, strict=True):
        measured(problem_of(conv, OnGpu(images, 8, high, wide)), config)
    tunekit.reload()
    for (images, high, wide), config in zip(shapes, wanted, strict=True):
        assert choose(conv, OnGpu(images, 8, high, wide)) is (config == LAST)


def test_what_was_only_estimated_decides_nothing(measured: Measure) -> None:
    conv, x = module(), OnGpu(2, 8, 16, 16)
    measured(
        problem_of(conv, x),
        LAST,
        source=Source.ESTIMATED,
        verified_by=VerifiedBy.INTERPRETER,
        samples_us=(),
    )
    assert nearest_row(problem_of(conv, x)) is None
    assert choose(conv, x) is False


@pytest.mark.parametrize("shape", [(2, 8, 16), (2, 8)], ids=["three dims", "two dims"])
def test_of_other_dims_nothing_is_looked_up(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "nearest_row", None)
    assert choose(fused_conv(nn.Conv1d(8, 16, 3), mish_mish), OnGpu(*shape)) is False


def test_on_the_cpu_and_of_other_dtypes_nothing_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formats, "nearest_row", None)
    assert choose(module(), torch.empty(2, 8, 16, 16)) is False
    assert choose(module(), OnGpu(2, 8, 16, 16, dtype=torch.float64)) is False


def test_all_that_a_convolution_depends_on_is_in_its_problem() -> None:
    x = OnGpu(2, 8, 16, 16)
    modules = [
        module(),
        module(kernel_size=1),
        module(kernel_size=(3, 1)),
        module(stride=2),
        module(stride=(1, 2)),
        module(padding=1),
        module(padding="same"),
        module(padding=1, padding_mode="circular"),
        module(dilation=2),
        module(groups=2),
        module(bias=False),
        module().to(memory_format=torch.channels_last),
        fused_conv(nn.Conv2d(8, 32, 3), mish_mish),
        fused_conv(nn.Conv2d(8, 16, 3), mish_add_hardtanh_scale),
        fused_conv(nn.ConvTranspose2d(8, 16, 3), mish_mish),
        fused_conv(nn.ConvTranspose2d(8, 16, 3, stride=2, output_padding=1), mish_mish),
        fused_conv(nn.ConvTranspose2d(8, 16, 3, stride=2), mish_mish),
    ]
    problems = [problem_of(each, x) for each in modules]
    assert len(set(problems)) == len(modules)
    others = [OnGpu(2, 8, 16, 16, last=True), OnGpu(2, 8, 16, 16, dtype=torch.bfloat16)]
    others += [OnGpu(2, 8, 16, 17), OnGpu(1, 8, 32, 16)]
    assert len({problem_of(modules[0], each) for each in (x, *others)}) == 1 + len(others)
    # Two modules of one kind, and scalars, are one problem.
    assert problem_of(module(), x) == problems[0]
    scaled = fused_conv(nn.Conv2d(8, 16, 3), mish_add_hardtanh_scale, {"scale": 9.0})
    assert problem_of(scaled, x) == problems[13]


def test_tf32_is_another_problem_in_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = module()
    found: dict[bool, list[Problem]] = {}
    for allowed in (False, True):
        monkeypatch.setattr(formats.torch.backends.cudnn, "allow_tf32", allowed)
        found[allowed] = [
            problem_of(conv, OnGpu(2, 8, 16, 16, dtype=dtype))
            for dtype in (torch.float32, torch.float16)
        ]
    assert found[False][0] != found[True][0]
    assert found[False][1] == found[True][1]


def test_a_choice_is_not_kept_when_tf32_is_switched(
    measured: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, x = module(), OnGpu(2, 8, 16, 16, dtype=torch.float32)
    monkeypatch.setattr(formats.torch.backends.cudnn, "allow_tf32", True)
    measured(problem_of(conv, x), LAST)
    assert choose(conv, x) is True
    monkeypatch.setattr(formats.torch.backends.cudnn, "allow_tf32", False)
    assert choose(conv, x) is False


def test_the_dtype_may_be_given_as_autocast_makes_it() -> None:
    conv = module()
    wanted = problem_of(conv, OnGpu(2, 8, 16, 16))
    assert problem_of(conv, OnGpu(2, 8, 16, 16, dtype=torch.float32), torch.float16) == wanted


def test_a_problem_can_be_written_as_a_line_and_read(measured: Measure) -> None:
    """Its name and class are text that goes through files like any other's."""
    conv = fused_conv(
        nn.ConvTranspose3d(8, 16, (3, 1, 2), stride=(1, 2, 1), padding=(1, 0, 0)), mish_mish
    )
    problem = replace(problem_of(conv, OnGpu(2, 8, 4, 16, 16)))
    measured(problem, LAST)
    with Store.open(user_database()) as store:
        (row,) = store.cache()
        assert row.problem == problem
        lines = [records.to_line(each) for each in store.evaluations()]
    assert [records.from_line(line).problem for line in lines] == [problem]
