from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import pytest

from tunekit import gpu
from tunekit._version import __version__
from tunekit.core.config import Config
from tunekit.core.device import DEVICES
from tunekit.core.evaluation import Provenance, Source
from tunekit.errors import UnknownDeviceError, WorkerError
from tunekit.evaluate.estimate_pool import EstimatePool
from tunekit.evaluate.host import ESTIMATE_PROTOCOL, Host
from tunekit.evaluate.job import Job
from tunekit.evaluate.measure import protocol_name
from tunekit.evaluate.pool import MeasuringPool, Worker

MakeHost = Callable[..., Host]

H100 = DEVICES["h100"]
JOB = Job("identity", (16,), "float32", {}, Config(BLOCK_SIZE=128), "h100")


def _time_us(config: Config) -> float:
    return 2.0


def test_what_an_evaluation_s_provenance_says(gpu_host: MakeHost) -> None:
    assert gpu_host(_time_us).provenance("2026-01-31T00:00:00Z") == Provenance(
        gpu_name="NVIDIA H100 80GB HBM3",
        sm_count=132,
        driver="580.1",
        torch=version("torch"),
        triton=version("triton"),
        tunekit=__version__,
        protocol="graph-1",
        created_at="2026-01-31T00:00:00Z",
    )


def test_a_pool_that_measures_races(gpu_host: MakeHost) -> None:
    race = gpu_host(_time_us).race([JOB], rounds=3)
    (config,) = race.samples_us
    assert len(config) == len(race.copy_us) == 3
    assert config[0] == 2.0


def test_a_pool_that_estimates_does_not(estimate_host: MakeHost) -> None:
    with pytest.raises(WorkerError, match="on a GPU only"):
        estimate_host(_time_us).race([JOB], rounds=3)


def test_which_pools_measure() -> None:
    assert isinstance(Worker("device:0", "h100"), MeasuringPool)
    assert not isinstance(EstimatePool("h100"), MeasuringPool)


def test_the_pool_ends_with_the_host(gpu_host: MakeHost) -> None:
    host = gpu_host(_time_us)
    with host:
        assert not host.pool.closed
    assert host.pool.closed


def test_a_host_that_estimates() -> None:
    with Host.estimating(DEVICES["rtx4090"]) as host:
        assert (host.device.slug, host.source) == ("rtx4090", Source.ESTIMATED)
        assert isinstance(host.pool, EstimatePool)
        made = host.provenance("2026-01-31T00:00:00Z")
        assert (made.driver, made.protocol) == ("", ESTIMATE_PROTOCOL)


@pytest.mark.parametrize("warm", [False, True])
def test_a_host_on_a_gpu(warm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    present = gpu.PresentGpu(1, "NVIDIA H100 80GB HBM3", "580.1", H100)
    monkeypatch.setattr(gpu, "select_gpu", {1: present}.__getitem__)
    started: list[Worker] = []
    monkeypatch.setattr(Worker, "start", lambda self: started.append(self))
    with Host.on_gpu(1, warm=warm) as host:
        assert (host.device, host.source, host.warm) == (H100, Source.MEASURED, warm)
        assert started == [host.pool]
        made = host.provenance("2026-01-31T00:00:00Z")
        assert (made.driver, made.protocol) == ("580.1", protocol_name(warm))


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(UnknownDeviceError, match="cuda:77"):
        Host.on_gpu(77)
