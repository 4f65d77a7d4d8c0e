"""The dtypes and shapes to check a kernel in: one test each, if its author likes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunekit.core.problem import parse_dtype
from tunekit.errors import ShapeError
from tunekit.kernels.kernel import Kernel
from tunekit.runtime.call import INTERPRETED
from tunekit.testing.place import INTERPRETED_AS, Place, place_of
from tunekit.testing.planning import BrokenError, RefusedError
from tunekit.testing.report import Report
from tunekit.testing.sizes import default_shapes

Shapes = Iterable[int | Sequence[int] | Mapping[str, int]]


@dataclass(frozen=True)
class Case:
    """A dtype and a shape of a kernel.

    Attributes:
        kernel: what is checked.
        shape: its sizes; empty where the kernel takes none of those tried, which checking tells.
        dtype: what it is tuned in.
        turn: its number among those of its dtype. The first is checked in every respect, the others
            in two configurations, on random values.
        given: whether a person asked for the shape, so that it is wrong to refuse it.
    """

    kernel: Kernel
    shape: tuple[int, ...]
    dtype: str
    turn: int = 0
    given: bool = False

    @property
    def thorough(self) -> bool:
        """Whether it is checked in every respect."""
        return self.turn == 0

    def check(self, **options: Any) -> Report:
        """As `check_kernel` does, at this shape, in this dtype.

        Args:
            options: those of `check_kernel` besides shapes and dtypes.

        Raises:
            AssertionError: the kernel is wrong.
        """
        from tunekit.testing.check import check_cases  # which asks for cases itself

        return check_cases(self.kernel, [self], **options)

    def __str__(self) -> str:
        return f"{self.dtype}-{'x'.join(map(str, self.shape))}"


def cases(
    kernel: Kernel, *, shapes: Shapes | None = None, dtypes: Iterable[str] | None = None
) -> list[Case]:
    """What `check_kernel` checks, one by one: for `pytest.mark.parametrize`.

    Args:
        kernel: what to check.
        shapes: as for `check_kernel`.
        dtypes: as for `check_kernel`.

    Raises:
        ShapeError: a shape or dtype is none of the kernel.
    """
    # Where tests are only collected nothing has to run.
    place = Place("", INTERPRETED_AS, "cpu") if INTERPRETED else _place_or_none()
    return cases_at(kernel, shapes, dtypes, place)


def _place_or_none() -> Place:
    from tunekit.gpu import gpu_count

    return place_of(None) if gpu_count() else Place("", INTERPRETED_AS, "cpu")


def cases_at(
    kernel: Kernel, shapes: Shapes | None, dtypes: Iterable[str] | None, place: Place
) -> list[Case]:
    """The cases of a kernel where it will run.

    Raises:
        ShapeError: a shape or dtype is none of the kernel.
    """
    found = []
    for dtype in kernel.dtypes if dtypes is None else dict.fromkeys(map(parse_dtype, dtypes)):
        if shapes is not None:
            own = [_read(kernel, shape) for shape in shapes]
        else:
            try:
                own = default_shapes(kernel, dtype, place)
            except (RefusedError, BrokenError):
                own = [()]  # checking it says why
        found += [
            Case(kernel, shape, dtype, turn, shapes is not None)
            for turn, shape in enumerate(dict.fromkeys(own))
        ]
    return found


def _read(kernel: Kernel, shape: int | Sequence[int] | Mapping[str, int]) -> tuple[int, ...]:
    """A shape as a person gives it: numbers, or sizes by name."""
    if isinstance(shape, Mapping):
        if set(shape) != set(kernel.sizes):
            raise ShapeError(
                f"shapes: {dict(shape)} is no shape of {kernel.name}, whose sizes are "
                f"{', '.join(kernel.sizes) or 'not named'}"
            )
        read = tuple(shape[name] for name in kernel.sizes)
    else:
        read = (shape,) if isinstance(shape, int) else tuple(shape)
    if not read or any(type(size) is not int or size < 1 for size in read):
        raise ShapeError(f"shapes: expected positive integers, got {shape!r:.100}")
    if kernel.sizes and len(read) != len(kernel.sizes):
        raise ShapeError(
            f"shapes: {read} is no shape of {kernel.name}, whose sizes are "
            f"{', '.join(kernel.sizes)}"
        )
    return read
