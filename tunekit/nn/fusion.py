"""What fusing a model's convolutions changed, and what it did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from tunekit.nn.steps import Steps, in_words


@dataclass(frozen=True, slots=True)
class Replaced:
    """A convolution that became a fused one.

    Attributes:
        name: its qualified name in the model.
        kind: its class before.
        steps: what the kernel computes after it, in normal form.
        kernel: the kernel's name.
        scalars: the kernel's scalars.
        rest: pointwise steps that follow, and were left as they are.
    """

    name: str
    kind: str
    steps: Steps
    kernel: str
    scalars: Mapping[str, float]
    rest: Steps = ()

    def __str__(self) -> str:
        """What was done, in words."""
        scalars = ", ".join(f"{name}={value:g}" for name, value in self.scalars.items())
        text = f"{in_words(self.steps)}: {self.kernel}" + (f"({scalars})" if scalars else "")
        return text + (f"; left: {in_words(self.rest)}" if self.rest else "")


@dataclass(frozen=True, slots=True)
class Left:
    """A convolution that stayed, and why; `kind` is its class."""

    name: str
    kind: str
    reason: str

    def __str__(self) -> str:
        """Why, in words."""
        return self.reason


@dataclass(frozen=True)
class Fusion:
    """A model with fused convolutions, and what became of each.

    Attributes:
        model: shares every parameter and buffer with the one it was made of.
        replaced: convolutions that a kernel was found for.
        left: the others.
        notes: what could not be looked into, and why.
    """

    model: nn.Module
    replaced: tuple[Replaced, ...]
    left: tuple[Left, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A table: a line for each convolution."""
        rows = [("fused", row) for row in self.replaced] + [("left", row) for row in self.left]
        cells = [(what, row.name or "(model)", row.kind) for what, row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [f"{len(self.replaced)} fused, {len(self.left)} left"]
        for own, (_, row) in zip(cells, rows, strict=True):
            padded = (cell.ljust(width) for cell, width in zip(own, widths, strict=True))
            lines.append("  ".join([*padded, str(row)]))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
