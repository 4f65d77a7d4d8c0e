"""The candidates of one problem, of what fits its kernel's space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tunekit.candidates.fit import Chosen, Fit, choose
from tunekit.core.candidate import Candidate
from tunekit.core.problem import Problem
from tunekit.core.space import context
from tunekit.errors import UsageError
from tunekit.printable import one_line

if TYPE_CHECKING:
    from tunekit.core.device import Device
    from tunekit.kernels.kernel import Kernel

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Offered:
    """What a problem is given to begin with.

    Attributes:
        candidates: in the order they are to be evaluated.
        chosen: how they were chosen.
    """

    problem: Problem
    candidates: tuple[Candidate, ...]
    chosen: Chosen


def offer(
    fitted: Fit,
    kernel: Kernel,
    shape: Sequence[int],
    dtype: str,
    device: Device,
    *,
    file_name: str,
    size_name: str | None = None,
) -> Offered:
    """The candidates of the problem that a kernel is at a shape.

    Args:
        fitted: what has the axes of the kernel's space.
        kernel: of the problem.
        shape: of it.
        dtype: it is tuned in.
        device: it is for.
        file_name: where they are from, for their origin.
        size_name: the one of the problem's sizes that a table is keyed by.

    Raises:
        UsageError: the problem has no size of that name.
        TunekitError: there is no such problem.
    """
    launch = kernel.launch_for(shape, dtype, device)
    problem = kernel.problem_of(launch, device)
    dims = dict(problem.dims)
    if size_name is not None and size_name not in dims:
        raise UsageError(
            f"--size-name {size_name!r:.100}: the sizes of {kernel.name} are {', '.join(dims)}"
        )
    size = None if size_name is None else dims[size_name]
    names = context(dims, problem.itemsize, device)
    chosen = choose(fitted, kernel.load_space(), names, problem, size)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    name = one_line(file_name)[:_LONGEST_NAME]
    return Offered(
        problem,
        tuple(
            Candidate(problem, each.config, f"{name} {one_line(each.listed.place)}", now)
            for each in chosen.fitting
        ),
        chosen,
    )
