"""Profile the winner and the default of a tuned problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunekit.core.evaluation import Evaluation
from tunekit.errors import ProfileError
from tunekit.evaluate.job import Job
from tunekit.kernels.kernel import Kernel
from tunekit.profile.counters import KNOWN
from tunekit.profile.find import Ncu
from tunekit.profile.parse import Profiled
from tunekit.profile.run import count
from tunekit.profile.subjects import Role, Subject, subjects_of
from tunekit.store.cache import CacheRow
from tunekit.store.database import Store


@dataclass(frozen=True, slots=True)
class Profile:
    """What was counted of an evaluation's configuration.

    Attributes:
        same_binary: whether what ran is what was measured. Where it is not, as under another
            Triton, the counters are not the evaluation's.
    """

    subject: Subject
    launch: Profiled
    same_binary: bool

    @property
    def role(self) -> Role:
        """What the evaluation is to its problem."""
        return self.subject.role

    @property
    def evaluation(self) -> Evaluation:
        """Whose counters these are."""
        return self.subject.evaluation

    def missing(self, more: Sequence[str]) -> list[str]:
        """Counters asked for, and further ones, that were not read on this GPU."""
        asked = dict.fromkeys([*(each.name for each in KNOWN), *more])
        return [name for name in asked if name not in self.launch.counters]


def profile_row(
    row: CacheRow,
    kernel: Kernel,
    reference: str,
    stores: Sequence[Store],
    ncu: Ncu,
    index: int,
    more: Sequence[str],
    deadline_s: float,
) -> list[Profile]:
    """Launch the winner of a measured row, and the default, under Nsight Compute.

    Args:
        row: of the cache, of the GPU's model.
        kernel: the row's.
        reference: how the program that launches finds the kernel.
        stores: databases that hold the row's evaluations.
        ncu: the profiler.
        index: of the GPU.
        more: full names of further counters.
        deadline_s: see `run.count`.

    Raises:
        ProfileError: no counters were read, or none of the evaluations is there.
    """
    subjects = subjects_of(row, stores)
    if not subjects:
        raise ProfileError(f"{row.problem.key}: its winner {row.winner} is in no database")
    jobs = [
        Job(
            kernel=reference,
            shape=each.evaluation.shape,
            dtype=row.problem.dtype,
            scalars=kernel.scalar_values(),
            config=each.evaluation.config,
            target=row.problem.device,
        )
        for each in subjects
    ]
    counted = count(ncu, jobs, index, more, deadline_s)
    return [
        Profile(subject, each.launch, _is_same(subject.evaluation, each.binary))
        for subject, each in zip(subjects, counted, strict=True)
    ]


def keep(profiles: Sequence[Profile], store: Store, tool: str) -> int:
    """Store the counters of what was measured; the evaluations too where another database has them.

    Returns:
        How many counters were new.
    """
    kept = [each for each in profiles if each.same_binary]
    store.add([each.evaluation for each in kept])
    return sum(
        store.add_counters(
            each.evaluation.uid,
            {name: (read.value, read.unit) for name, read in each.launch.counters.items()},
            tool,
        )
        for each in kept
    )


def _is_same(evaluation: Evaluation, binary: str) -> bool:
    return evaluation.binary is None or evaluation.binary.hash == binary
