"""One point of a search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import triton

LAUNCH_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")
FORMAT_AXIS = "CHANNELS_LAST"
"""The only axis of a whole module: whether its convolution runs channels-last, 0 or 1."""


class Config(Mapping[str, int]):
    """An immutable, hashable mapping from axis name to value, ordered as it was given.

    Two configurations with the same values are equal whatever their order.
    """

    __slots__ = ("_hash", "_values")

    def __init__(self, values: Mapping[str, int] | None = None, /, **axes: int) -> None:
        self._values = {**(values or {}), **axes}
        self._hash = hash(frozenset(self._values.items()))

    def __getitem__(self, axis: str) -> int:
        return self._values[axis]

    @property
    def is_memory_format(self) -> bool:
        """Whether it is of a whole module, and nothing that could be compiled or launched."""
        return self.keys() == {FORMAT_AXIS}

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Config):
            return self._values == other._values
        return NotImplemented

    def __repr__(self) -> str:
        return f"Config({self})"

    def __str__(self) -> str:
        return ", ".join(f"{axis}={value}" for axis, value in self._values.items())

    def __reduce__(self) -> tuple[type[Config], tuple[dict[str, int]]]:
        return Config, (self._values,)

    def meta(self) -> dict[str, int]:
        """The axes that are the kernel's own `tl.constexpr` parameters."""
        return {axis: value for axis, value in self._values.items() if axis not in LAUNCH_OPTIONS}

    def options(self) -> dict[str, int]:
        """The axes that are Triton's launch options, such as `num_warps`."""
        return {axis: value for axis, value in self._values.items() if axis in LAUNCH_OPTIONS}

    def to_triton(self) -> triton.Config:
        """The same configuration as `triton.Config`."""
        import triton

        options: dict[str, Any] = self.options()
        return triton.Config(self.meta(), **options)
