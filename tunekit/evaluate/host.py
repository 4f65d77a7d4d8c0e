"""Where evaluations are made: on a GPU that is present, or for one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Self

from tunekit._version import __version__
from tunekit.core.device import Device
from tunekit.core.evaluation import Provenance, Source
from tunekit.errors import WorkerError
from tunekit.evaluate.estimate_pool import EstimatePool
from tunekit.evaluate.job import Job, Race
from tunekit.evaluate.pool import MeasuringPool, Pool, Worker

ESTIMATE_PROTOCOL = "estimate-1"


class Host:
    """A device, the pool that evaluates for it, and what every evaluation's provenance says.

    Attributes:
        warm: whether jobs are measured with their inputs still in the L2 cache.
    """

    def __init__(
        self,
        device: Device,
        pool: Pool,
        source: Source,
        protocol: str,
        driver: str,
        warm: bool = False,
    ) -> None:
        self.device, self.pool, self.source, self.warm = device, pool, source, warm
        self._protocol, self._driver = protocol, driver

    @classmethod
    def on_gpu(cls, index: int, warm: bool = False) -> Host:
        """Measure on CUDA GPU `index`, whose worker starts at once and is not waited for.

        Raises:
            UnknownDeviceError: there is no such GPU.
        """
        from tunekit.evaluate.measure import protocol_name
        from tunekit.gpu import select_gpu

        gpu = select_gpu(index)
        pool = Worker(f"device:{index}", gpu.device.slug)
        pool.start()
        return cls(gpu.device, pool, Source.MEASURED, protocol_name(warm), gpu.driver, warm)

    @classmethod
    def estimating(cls, device: Device) -> Host:
        """Compile for `device`, check in the interpreter, estimate."""
        return cls(device, EstimatePool(device.slug), Source.ESTIMATED, ESTIMATE_PROTOCOL, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.close()

    def race(self, jobs: Sequence[Job], rounds: int) -> Race:
        """Interleaved samples of several configurations and of a plain copy.

        Raises:
            WorkerError: the pool cannot measure, or died of it.
        """
        if not isinstance(self.pool, MeasuringPool):
            raise WorkerError("finalists can be measured on a GPU only")
        return self.pool.race(jobs, rounds)

    def provenance(self, created_at: str) -> Provenance:
        """Where and with what this run evaluates."""
        return Provenance(
            gpu_name=self.device.names[0],
            sm_count=self.device.sm_count,
            driver=self._driver,
            torch=version("torch"),
            triton=version("triton"),
            tunekit=__version__,
            protocol=self._protocol,
            created_at=created_at,
        )
