"""What tuning a model stores: the faster format where it is right and clearly faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import tunekit
from tunekit.core.config import FORMAT_AXIS
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Provenance, Status
from tunekit.errors import NothingTunedError, UsageError
from tunekit.kernels.library import mish_mish
from tunekit.nn import formats, tuning
from tunekit.nn.conv import fused_conv
from tunekit.nn.uses import Use
from tunekit.store.database import Store

PROVENANCE = Provenance(
    "NVIDIA H100 80GB HBM3", 132, "580", "2.11.0", "3.6.0", "0.1", "graph", "2026-01-01T00:00:00Z"
)
HOST: Any = SimpleNamespace(device=DEVICES["h100"], provenance=lambda created_at: PROVENANCE)
CPU = torch.device("cpu")

Tuned = Callable[..., tuning.TunedModule]


class Timed:
    """Takes as long as it was told, with a little noise that repeats."""

    def __init__(self, time_us: float) -> None:
        self._times = self._around(time_us)

    @staticmethod
    def _around(time_us: float) -> Iterator[float]:
        while True:
            yield from (time_us * factor for factor in (1.0, 1.001, 0.999))

    def sample_us(self) -> float:
        return next(self._times)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "modules.db") as store:
        yield store


@pytest.fixture
def tuned(store: Store, monkeypatch: pytest.MonkeyPatch) -> Tuned:
    """Tunes the format of a small module that takes these times and has these errors."""
    module: Any = fused_conv(nn.Conv2d(4, 6, 3), mish_mish)
    use = Use("stem.0", module, (2, 4, 8, 8), False, torch.float32, (2, 6, 6, 6))
    still = SimpleNamespace(read=lambda: None, lasting="")

    def tune(
        times_us: dict[bool, float], errors: dict[bool, float] | None = None
    ) -> tuning.TunedModule:
        wrong = errors or {False: 0.1, True: 0.1}
        monkeypatch.setattr(tuning, "StreamTimer", lambda run: Timed(times_us[run.args[1]]))
        monkeypatch.setattr(tuning, "fused_error", lambda module, x, last: wrong[last])
        monkeypatch.setattr(tuning, "Watch", lambda index: still)
        monkeypatch.setattr("tunekit.evaluate.measure.state_disturbance", lambda *readings: "")
        monkeypatch.setattr(formats, "device_at", lambda index: DEVICES["h100"])
        return tuning._tune_format(use, CPU, HOST, store, ())

    return tune


def test_the_faster_format_wins(tuned: Tuned, store: Store) -> None:
    found = tuned({False: 100.0, True: 80.0})
    assert (found.channels_last, found.stays_last) == (True, False)
    assert str(found).startswith("stem.0: channels-last (contiguous 100.0 µs, channels-last 80.0")
    (row,) = store.cache()
    assert dict(row.config) == {FORMAT_AXIS: 1}
    assert row.speedup == pytest.approx(1.25)
    assert row.problem == found.problem
    assert row.problem.kernel == "Conv2d+mish_mish"
    assert row.provenance.protocol == tuning.PROTOCOL


@pytest.mark.parametrize("last_us", [99.9, 100.0, 120.0])
def test_a_format_is_not_changed_for_nothing(last_us: float, tuned: Tuned, store: Store) -> None:
    assert not tuned({False: 100.0, True: last_us}).channels_last
    (row,) = store.cache()
    assert dict(row.config) == {FORMAT_AXIS: 0}


def test_a_wrong_result_is_stored_as_wrong_and_never_served(tuned: Tuned, store: Store) -> None:
    found = tuned({False: 100.0, True: 1.0}, {False: 0.1, True: 7.0})
    assert not found.channels_last
    assert found.times_us == {False: 100.0}
    statuses = {row.config[FORMAT_AXIS]: row.status for row in store.evaluations()}
    assert statuses == {0: Status.OK, 1: Status.WRONG}


def test_where_both_are_wrong_nothing_is_cached(tuned: Tuned, store: Store) -> None:
    with pytest.raises(NothingTunedError, match=r"stem\.0: .*7 times the allowed error"):
        tuned({False: 1.0, True: 1.0}, {False: 7.0, True: 9.0})
    assert store.cache() == []
    assert len(store.evaluations()) == 2


def test_a_model_without_a_fused_convolution_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"no fused convolution: make them by tunekit\.nn\.fuse"):
        tunekit.nn.tune(nn.Conv2d(4, 6, 3), torch.zeros(1, 4, 8, 8))


def test_a_model_that_is_on_no_gpu_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"on a GPU .* model\.cuda\(\)"):
        tunekit.nn.tune(fused_conv(nn.Conv2d(4, 6, 3), mish_mish), torch.zeros(1, 4, 8, 8))
