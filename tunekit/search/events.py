"""What a tuning tells whoever follows it, as it happens: a log, or a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunekit.core.config import Config
from tunekit.core.evaluation import Decision, Evaluation
from tunekit.core.problem import Problem
from tunekit.evaluate.job import Job, Outcome, Race


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has started, for the first time or again.

    Attributes:
        worker: its mode, such as `device:0`.
        import_s: seconds that importing PyTorch and Triton took.
    """

    worker: str
    import_s: float


@dataclass(frozen=True, slots=True)
class Began:
    """A problem is begun.

    Attributes:
        total: configurations to evaluate at most; `known` of them were so before.
    """

    problem: Problem
    shape: tuple[int, ...]
    total: int
    known: int


@dataclass(frozen=True, slots=True)
class Offered:
    """Imported configurations are evaluated first.

    Attributes:
        count: of them; `off_list` have a value that the space does not list.
    """

    count: int
    off_list: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch is to be evaluated."""

    configs: Sequence[Config]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A job is done, or failed to compile."""

    job: Job
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Shared:
    """A job that was not run: it is the same binary and grid as another configuration.

    Attributes:
        evaluation: what became of the other one, as this one's.
    """

    job: Job
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Raced:
    """Finalists were measured side by side."""

    configs: Sequence[Config]
    race: Race


@dataclass(frozen=True, slots=True)
class Decided:
    """A winner is stored.

    Attributes:
        stopped: why the search ended.
    """

    winner: Evaluation
    decision: Decision
    stopped: str


Event = Ready | Began | Offered | Asked | Evaluated | Shared | Raced | Decided
Tell = Callable[[Event], None]


def tell_nobody(event: Event) -> None:
    """What follows nothing."""
