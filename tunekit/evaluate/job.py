"""What crosses the pipe to a worker and back: strings and numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tunekit.core.config import Config
from tunekit.core.evaluation import Binary, Status, VerifiedBy


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration to evaluate; any failure can be repeated from it alone.

    Attributes:
        kernel: a reference `kernels.registry.find_kernel` understands.
        shape: of the inputs.
        scalars: values of the kernel's run-time scalars.
        target: slug of the GPU model to compile for; on a GPU, the model that is present.
        seed: of the inputs.
        deadline_s: seconds until the worker is killed and the job ends as a timeout.
        compile_deadline_s: seconds until a compiler at this job is killed, which is a timeout too.
        warm: measure with the inputs still in the L2 cache instead of a cold one.
        hopeless_us: a first sample slower than this is the only one; None measures in full.
    """

    kernel: str
    shape: tuple[int, ...]
    dtype: str
    scalars: Mapping[str, float]
    config: Config
    target: str
    seed: int = 0
    deadline_s: float = 60.0
    compile_deadline_s: float = 30.0
    warm: bool = False
    hopeless_us: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"config": dict(self.config), "scalars": dict(self.scalars)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """From what `to_json` gave."""
        return cls(**{**data, "shape": tuple(data["shape"]), "config": Config(data["config"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker says of a job; the parent adds problem and provenance.

    Attributes:
        time_us: of one launch: median of the samples, or the estimate.
        max_error: largest error in units of what is allowed.
        disturbance: what disturbed the measurement, empty if nothing did.
        grid: number of programs on axes 0, 1, 2, where it was compiled. Configurations of a problem
            with the same grid and the same hash of their binaries are one launch.
        details: what the compiler, CUDA or Python said in full, for a person; never stored.
    """

    status: Status
    reason: str = ""
    verified_by: VerifiedBy | None = None
    time_us: float | None = None
    samples_us: tuple[float, ...] = ()
    binary: Binary | None = None
    max_error: float | None = None
    disturbance: str = ""
    grid: tuple[int, int, int] | None = None
    details: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """From what `to_json` gave."""
        verified_by = data["verified_by"]
        binary = data["binary"]
        grid = data["grid"]
        return cls(
            status=Status(data["status"]),
            reason=data["reason"],
            verified_by=None if verified_by is None else VerifiedBy(verified_by),
            time_us=data["time_us"],
            samples_us=tuple(data["samples_us"]),
            binary=None if binary is None else Binary(**binary),
            max_error=data["max_error"],
            disturbance=data["disturbance"],
            grid=None if grid is None else (grid[0], grid[1], grid[2]),
            details=data["details"],
        )


@dataclass(frozen=True, slots=True)
class Race:
    """Several configurations of a problem, measured side by side.

    Attributes:
        samples_us: of one launch, a series for each configuration in the order asked. A round gives
            each series, and the copy, one sample.
        copy_us: of `out.copy_(x)`.
        disturbance: what disturbed the measurement, empty if nothing did.
        faults: what was wrong with each configuration's output after the race, empty if nothing.
    """

    samples_us: list[tuple[float, ...]]
    copy_us: tuple[float, ...]
    disturbance: str = ""
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Race:
        """From what `to_json` gave."""
        return cls(
            samples_us=[tuple(series) for series in data["samples_us"]],
            copy_us=tuple(data["copy_us"]),
            disturbance=data["disturbance"],
            faults=tuple(data["faults"]),
        )
