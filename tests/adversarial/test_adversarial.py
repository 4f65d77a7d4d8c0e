"""Kernels that deserve no trust: none of them is cached, and each names its reason."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Status
from tunekit.errors import NothingTunedError
from tunekit.evaluate.host import Host
from tunekit.evaluate.job import Job
from tunekit.search.task import Progress, Task
from tunekit.search.tune import tune
from tunekit.store.database import Store

PATH = Path(__file__).with_name("kernels.py")
ON_GPU = (2**23,)
"""32 MB of float32: that a kernel leaves work out shows in its time."""


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("adversarial_kernels", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


KERNELS = _load()
INTERPRETED = [each for each in KERNELS.ADVERSARIES if each.interpreted is not None]


def _name(each: Any) -> str:
    return str(getattr(each, "kernel", each).name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "mine.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Where there is no GPU."""
    with Host.estimating(DEVICES["rtx4090"]) as made:
        yield made


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[bool, Host]]:
    """A GPU with a cold L2 cache, and with a warm one."""
    with Host.on_gpu(0) as cold, Host.on_gpu(0, warm=True) as warm:
        yield {False: cold, True: warm}


def _tune(kernel: Any, shape: tuple[int, ...], host: Host, store: Store) -> None:
    task = Task(kernel, f"{PATH}:{kernel.name}", shape, "float32", {})
    tune(task, host, store, Progress(), write_study=False)


def _assert_refused(adversary: Any, reason: str, store: Store) -> None:
    """Each of its configurations ended `wrong`, the first for that reason; nothing is served.

    One that remembers what became of the first may be seen through sooner.
    """
    last = {row.config: row for row in store.evaluations()}
    assert [row.status for row in last.values()] == [Status.WRONG] * 2
    first, second = (row.reason for row in last.values())
    assert re.search(reason, first), first
    assert second
    assert store.cache() == []
    assert store.decisions() == []


class TestInterpreted:
    @pytest.mark.parametrize("adversary", INTERPRETED, ids=_name)
    def test_it_is_not_cached(self, adversary: Any, host: Host, store: Store) -> None:
        with pytest.raises(NothingTunedError, match=adversary.interpreted):
            _tune(adversary.kernel, (2**20,), host, store)
        _assert_refused(adversary, adversary.interpreted, store)

    @pytest.mark.parametrize("kernel", KERNELS.HONEST, ids=_name)
    def test_an_honest_one_is(self, kernel: Any, host: Host, store: Store) -> None:
        _tune(kernel, (2**20,), host, store)
        assert [row.status for row in store.evaluations()] == [Status.OK] * 2
        assert len(store.cache()) == 1

    def test_what_the_interpreter_cannot_tell_is_for_the_gpu_to_tell(self) -> None:
        names = {_name(each) for each in KERNELS.ADVERSARIES}
        assert names - set(map(_name, INTERPRETED)) == {
            "small_sizes", "racy", "unsteady", "large_by_address", "repeated", "tiring",
        }  # fmt: skip


@pytest.mark.soak
def test_the_interpreter_catches_what_it_can_in_every_dtype(
    tally: Callable[[str, str, int], None], tmp_path: Path
) -> None:
    with Host.estimating(DEVICES["rtx4090"]) as host:
        for adversary in INTERPRETED:
            for dtype in ("float32", "float16", "bfloat16"):
                task = Task(
                    adversary.kernel, f"{PATH}:{adversary.kernel.name}", (2**20,), dtype, {}
                )
                caught = True
                with Store.open(tmp_path / f"{adversary.kernel.name}-{dtype}.db") as store:
                    try:
                        tune(task, host, store, Progress(), write_study=False)
                        caught = False
                    except NothingTunedError:
                        assert store.cache() == []
                assert caught, (adversary.kernel.name, dtype)
                tally("Adversarial kernels", "tuned in the interpreter, kernel × dtype", 1)
                tally("Adversarial kernels", "of them caught", caught)


@pytest.mark.gpu
class TestOnGPU:
    @pytest.mark.parametrize("adversary", KERNELS.ADVERSARIES, ids=_name)
    def test_it_is_not_cached(
        self,
        adversary: Any,
        hosts: dict[bool, Host],
        store: Store,
        tally: Callable[[str, str, int], None],
    ) -> None:
        tally("Adversarial kernels", "tuned on a GPU", 1)
        with pytest.raises(NothingTunedError):
            _tune(adversary.kernel, ON_GPU, hosts[adversary.warm], store)
        _assert_refused(adversary, adversary.on_gpu, store)
        tally("Adversarial kernels", "of them caught, each for its own reason", 1)

    @pytest.mark.parametrize("warm", [False, True])
    @pytest.mark.parametrize("kernel", KERNELS.HONEST, ids=_name)
    def test_an_honest_one_is(
        self,
        kernel: Any,
        warm: bool,
        hosts: dict[bool, Host],
        store: Store,
        tally: Callable[[str, str, int], None],
    ) -> None:
        _tune(kernel, ON_GPU, hosts[warm], store)
        assert {row.status for row in store.evaluations()} == {Status.OK}
        assert len(store.cache()) == 1
        tally("Adversarial kernels", "honest ones built alike and cached", 1)

    def test_a_time_the_memory_does_not_allow_is_believed_only_of_who_is_right_on_other_values(
        self,
    ) -> None:
        """On a GPU said to have a fiftieth of its memory's rate, every time is such a time."""
        from tunekit.evaluate.on_device import DeviceEvaluator
        from tunekit.gpu import select_gpu

        device = select_gpu(0).device
        evaluator = DeviceEvaluator(replace(device, dram_bytes_per_s=device.dram_bytes_per_s / 50))
        config = Config(BLOCK_SIZE=1024, num_warps=4)
        jobs = [
            Job(f"{PATH}:{name}", ON_GPU, "float32", {}, config, device.slug, warm=True)
            for name in ("honest", "large_by_address")
        ]
        honest, keeping = (evaluator.evaluate(job) for job in jobs)
        assert honest.status is Status.OK
        assert keeping.status is Status.WRONG
        assert re.search(
            r"µs is less than the memory allows .* on other values it differs", keeping.reason
        )
