"""A configuration from elsewhere that is to be measured on a problem."""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.core.config import Config
from tunekit.core.evaluation import content_uid
from tunekit.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Candidate:
    """What somebody else launches that problem's kernel with: nothing is believed of its time.

    Attributes:
        problem: what it is to be measured on.
        config: as the kernel's space names its axes; values may be off the space's lists.
        origin: the file it is from, and where in it.
        created_at: when it was imported, UTC, ISO 8601.
    """

    problem: Problem
    config: Config
    origin: str
    created_at: str

    @property
    def uid(self) -> str:
        """Identity by content: the same configuration of a problem is there once."""
        return content_uid([self.problem.key, sorted(self.config.items())])
