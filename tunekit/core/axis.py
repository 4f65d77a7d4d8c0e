"""What a search space is made of: axes, and the constraints of their values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tunekit.core.expression import Expression
from tunekit.core.space_messages import shown
from tunekit.errors import SpaceError


@dataclass(frozen=True, slots=True)
class Axis:
    """One launch parameter and the values tried: positive, ascending, each once.

    Raises:
        SpaceError: the values are anything else.
    """

    name: str
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        ascending = all(low < high for low, high in itertools.pairwise(self.values))
        if not (self.values and self.values[0] > 0 and ascending):
            raise SpaceError(
                f"axis {self.name}: expected positive integers, ascending, "
                f"got {shown(list(self.values))}"
            )


@dataclass(frozen=True, slots=True)
class Constraint:
    """A named condition that a configuration must meet: the expression is not 0."""

    name: str
    expression: Expression
