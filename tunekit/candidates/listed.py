"""What a file of configurations says, before any of it is held against a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_CONFIGS = 5_000
"""Configurations that are read of one file."""


@dataclass(frozen=True, slots=True)
class Near:
    """What a configuration was found for, as far as the file says; what is None it does not say.

    Attributes:
        size: of the one size that a table is keyed by.
        dims: sizes by name.
        kernel, dtype, device: as tunekit writes them.
    """

    size: int | None = None
    dims: Mapping[str, int] | None = None
    kernel: str | None = None
    dtype: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One configuration of a file.

    Attributes:
        values: of the kernel's parameters and of Triton's options, by name, as the file has them.
        place: where it is in the file, such as `line 12`.
        group: the list it is in.
        near: what it was found for; None for any problem.
    """

    values: Mapping[str, object]
    place: str
    group: str
    near: Near | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds.

    Attributes:
        kind: of file, for people.
        listed: in the order they are to be measured.
        notes: what was not read, and why: a line each.
    """

    kind: str
    listed: tuple[Listed, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def groups(self) -> dict[str, int]:
        """The lists, and how many configurations each has."""
        counts: dict[str, int] = {}
        for each in self.listed:
            counts[each.group] = counts.get(each.group, 0) + 1
        return counts
