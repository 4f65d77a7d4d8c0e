"""What was learned about one configuration, and which one won."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from tunekit.core.config import Config
from tunekit.core.problem import Problem


class Status(StrEnum):
    """How the evaluation of a configuration ended."""

    OK = "ok"
    REJECTED = "rejected"  # the device cannot hold it; the reason names the limit
    COMPILE_ERROR = "compile_error"
    WRONG = "wrong"  # the result differs from the reference
    CRASHED = "crashed"  # the worker process died
    TIMEOUT = "timeout"
    ERROR = "error"  # the launch or the measurement failed


class Source(StrEnum):
    """Where a time comes from: never mixed up, never compared."""

    MEASURED = "measured"
    ESTIMATED = "estimated"


class VerifiedBy(StrEnum):
    """What compared the result with the reference."""

    DEVICE = "device"
    INTERPRETER = "interpreter"


@dataclass(frozen=True, slots=True)
class Binary:
    """What the compiler made of a configuration.

    Attributes:
        hash: of the machine code: equal hashes are the same kernel.
        registers: registers a thread.
        spill_bytes: bytes a thread spills to local memory.
        shared_bytes: shared memory a block, static and dynamic.
        load_bytes, store_bytes: widest global load and store, bytes a thread.
    """

    hash: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    load_bytes: int
    store_bytes: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where and with what an evaluation was made; `driver` is empty without a GPU."""

    gpu_name: str
    sm_count: int
    driver: str
    torch: str
    triton: str
    tunekit: str
    protocol: str
    created_at: str  # UTC, ISO 8601, when the run began

    @property
    def key(self) -> str:
        """A stable identity: evaluations of one run share it."""
        return content_uid(asdict(self))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One configuration on one problem: a status, and times or a reason.

    Attributes:
        shape: the input shape it was evaluated at; the problem's dims follow from it.
        time_us: median time of one launch in µs, None unless the status is ok.
        samples_us: the measured samples, µs a launch; empty when estimated.
        max_error: largest error against the float64 reference, in units of what is allowed
            (1.0 is the limit), None when nothing was compared.
        disturbance: what disturbed the measurement and was still there after a retry, such as
            "clocks throttled: power cap" or "another process uses the GPU"; empty if nothing.
    """

    problem: Problem
    shape: tuple[int, ...]
    config: Config
    status: Status
    source: Source
    provenance: Provenance
    reason: str = ""
    verified_by: VerifiedBy | None = None
    time_us: float | None = None
    samples_us: tuple[float, ...] = ()
    binary: Binary | None = None
    max_error: float | None = None
    disturbance: str = ""

    @property
    def uid(self) -> str:
        """Identity by content: importing or merging the same evaluation twice adds nothing."""
        return content_uid(
            [
                self.problem.key,
                sorted(self.config.items()),
                self.status,
                self.source,
                self.provenance.key,
                self.time_us,
                self.samples_us,
            ]
        )

    @property
    def verified(self) -> bool:
        """Whether it may be cached: verified on the device, or if estimated by the interpreter."""
        needed = VerifiedBy.DEVICE if self.source is Source.MEASURED else VerifiedBy.INTERPRETER
        return self.status is Status.OK and self.verified_by is needed and self.time_us is not None


@dataclass(frozen=True, slots=True)
class Decision:
    """Which evaluation won a problem, why, and the rows that says so.

    Attributes:
        winner: uid of the evaluation that won.
        default: uid of the evaluation of the space's default, empty if that failed.
        rows: uids of every evaluation the decision rests on.
        reason: one line for people.
        speedup: default's time over the winner's, None without a default.
        copy_us: time of `out.copy_(x)` at the same size in the same run, None if not measured.
    """

    problem: Problem
    source: Source
    winner: str
    default: str
    reason: str
    created_at: str
    rows: tuple[str, ...] = field(default=())
    speedup: float | None = None
    copy_us: float | None = None

    @property
    def uid(self) -> str:
        """Identity by content."""
        return content_uid([self.problem.key, self.source, self.winner, self.rows, self.created_at])


def content_uid(value: object) -> str:
    """An identity by content: 24 hex digits of what JSON can write."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
