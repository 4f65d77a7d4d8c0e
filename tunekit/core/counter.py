"""A hardware counter of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.core.evaluation import content_uid


@dataclass(frozen=True, slots=True)
class Counter:
    """What a profiler read while an evaluation's configuration ran.

    Attributes:
        evaluation: uid of the evaluation it belongs to.
        name: of the counter.
        value: finite, in `unit`.
        unit: such as "%" or "byte/s"; empty for a bare number.
        tool: what read it, and its version, such as "Nsight Compute 2025.3.1".
        created_at: when, UTC, ISO 8601.
    """

    evaluation: str
    name: str
    value: float
    unit: str
    tool: str
    created_at: str

    @property
    def uid(self) -> str:
        """Identity by content."""
        return content_uid(
            [
                self.evaluation,
                self.name,
                float(self.value) + 0.0,  # SQLite knows no negative zero
                self.unit,
                self.tool,
                self.created_at,
            ]
        )
