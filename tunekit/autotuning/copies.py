"""Copies of a call's arguments: what is measured never touches the caller's own tensors."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tunekit.evaluate.guards import GUARD_BYTES, fingerprint
from tunekit.evaluate.tensors import same_bits

_PATTERN = 0xA5
"""Of the bytes beside a copy: they are no kernel's to write."""
_HARMLESS = (0x3C, 0x3D, 0x3E, 0x3F, 0x40, 0x41)
"""Bytes of values from 0.01 to 12 in every float dtype of 16 bits or more."""
_ALIGNMENT = 16


@dataclass(frozen=True)
class Piece:
    """The memory that some of the caller's tensors lie in, and a copy of it.

    Attributes:
        theirs, own: all of its bytes, uint8, (nbytes,).
        raw: the memory that the copy is in the middle of, if it is guarded.
    """

    theirs: torch.Tensor
    own: torch.Tensor
    raw: torch.Tensor

    @classmethod
    def of(cls, tensor: torch.Tensor, guard: int) -> Piece:
        """A copy of what a tensor is a view of, so many guard bytes on each side."""
        storage = tensor.untyped_storage()
        theirs = torch.empty(0, dtype=torch.uint8, device=tensor.device)
        theirs.set_(storage, 0, (storage.nbytes(),), (1,))
        start = guard + storage.data_ptr() % _ALIGNMENT
        raw = torch.empty(
            start + len(theirs) + guard,
            dtype=torch.uint8,
            device=tensor.device,
            pin_memory=_is_pinned(tensor),
        )
        made = cls(theirs, raw[start : start + len(theirs)], raw)
        made.guard()
        made.restore()
        return made

    def restore(self) -> None:
        """Put the caller's values back."""
        self.own.copy_(self.theirs)

    def guard(self) -> None:
        """Put the bytes beside it right."""
        for side in self._sides():
            side.fill_(_PATTERN)

    def damaged(self) -> bool:
        """Whether bytes beside it were written."""
        return any(bool((side != _PATTERN).any()) for side in self._sides())

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor of the caller's, in the copy."""
        offset = self.own.storage_offset() // tensor.element_size() + tensor.storage_offset()
        made = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return made.set_(self.raw.untyped_storage(), offset, tensor.size(), tensor.stride())

    def whole(self, dtype: torch.dtype) -> torch.Tensor:
        """All of the copy as values of a dtype: (nbytes // itemsize,)."""
        itemsize = dtype.itemsize
        return self.own[: len(self.own) // itemsize * itemsize].view(dtype)

    def _sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.own.storage_offset()
        return self.raw[:start], self.raw[start + len(self.own) :]


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call, with tensors of their own.

    Attributes:
        args: positional ones.
        kwargs: by name, `grid` and `warmup` among them.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    _pieces: Mapping[int, Piece]
    _theirs: tuple[tuple[Any, ...], Mapping[str, Any]]

    @classmethod
    def like(
        cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, guarded: bool = False
    ) -> Arguments:
        """A copy of a call's: tensors that share memory share it in the copy, too.

        All of the memory that a tensor is a view of is copied: a kernel is given an address, and
        may write beyond the view.

        Args:
            args: positional ones.
            kwargs: by name.
            guarded: between bytes that show what is written beside it.
        """
        pieces: dict[int, Piece] = {}
        guard = GUARD_BYTES if guarded else 0
        return cls(
            tuple(_copied(value, pieces, guard) for value in args),
            {name: _copied(value, pieces, guard) for name, value in kwargs.items()},
            pieces,
            (args, kwargs),
        )

    @property
    def nbytes(self) -> int:
        """Of all its memory, without guards."""
        return sum(piece.own.nbytes for piece in self._pieces.values())

    def named(self, names: Iterable[str]) -> dict[str, Any]:
        """The arguments by name."""
        return {**dict(zip(names, self.args, strict=False)), **self.kwargs}

    def again(self) -> Arguments:
        """One more copy of the caller's, which nobody guards."""
        return Arguments.like(*self._theirs)

    def overwrite(self, but: Container[int]) -> list[int]:
        """Put another value into each piece that holds floats alone, but for some: their places.

        Whatever a piece is for, it may be an input: the values are harmless ones.
        """
        floats = []
        for place, piece in enumerate(self._pieces.values()):
            views = [x for x in self._tensors() if _memory(x) == _memory(piece.raw)]
            if place not in but and views and all(x.is_floating_point() for x in views):
                piece.own.fill_(_HARMLESS[place % len(_HARMLESS)])
                floats.append(place)
        return floats

    def fingerprints(self) -> list[int]:
        """A number for what each piece of memory holds now."""
        return list(fingerprint([piece.own for piece in self._pieces.values()]).tolist())

    def restore(self, places: Iterable[int] | None = None) -> None:
        """Put the caller's values back into so many of its pieces of memory; None is all."""
        pieces = list(self._pieces.values())
        for place in range(len(pieces)) if places is None else places:
            pieces[place].restore()

    def changed(self) -> tuple[int, ...]:
        """Places of the pieces of memory that hold other bytes than the caller's."""
        pieces = self._pieces.values()
        same = [same_bits(piece.theirs, piece.own) for piece in pieces]
        return tuple(place for place, is_same in enumerate(same) if not is_same)

    def trespass(self) -> bool:
        """Whether something was written beside a piece; it is put right."""
        damaged = [piece for piece in self._pieces.values() if piece.damaged()]
        for piece in damaged:
            piece.guard()
        return bool(damaged)

    def results(self, names: Iterable[str], places: Iterable[int]) -> dict[str, torch.Tensor]:
        """What pieces of memory hold, by the arguments in them: of each piece all there is.

        Where several dtypes are in one piece, each argument is what is of its view.
        """
        pieces = list(self._pieces.values())
        wanted = {_memory(pieces[place].raw): pieces[place] for place in places}
        views: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in self.named(names).items():
            for tensor in tensors_in(value):
                if _memory(tensor) in wanted:
                    views.setdefault(_memory(tensor), {}).setdefault(name, tensor)
        found: dict[str, torch.Tensor] = {}
        for memory, own in views.items():
            if len({tensor.dtype for tensor in own.values()}) > 1:
                found |= own
            else:
                name, tensor = next(iter(own.items()))
                found[name] = wanted[memory].whole(tensor.dtype)
        return found

    def _tensors(self) -> Iterator[torch.Tensor]:
        for value in (*self.args, *self.kwargs.values()):
            yield from tensors_in(value)


def memory_of(args: Iterable[Any]) -> int:
    """Bytes of the memory that tensors among these lie in."""
    storages = {
        _memory(tensor): tensor.untyped_storage().nbytes()
        for value in args
        for tensor in tensors_in(value)
    }
    return sum(storages.values())


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors that an argument is, holds or describes."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(getattr(value, "base", None), torch.Tensor):
        yield value.base


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _copied(value: Any, pieces: dict[int, Piece], guard: int) -> Any:
    if isinstance(value, torch.Tensor):
        return _tensor(value, pieces, guard)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_copied(each, pieces, guard) for each in value))
    if isinstance(value, tuple | list):
        return type(value)(_copied(each, pieces, guard) for each in value)
    if isinstance(getattr(value, "base", None), torch.Tensor):
        return _wrapper(value, pieces, guard)
    return value


def _wrapper(value: Any, pieces: dict[int, Piece], guard: int) -> Any:
    """A tensor descriptor, or a tensor seen as another dtype: over the copy of its tensor."""
    made = copy.copy(value)
    made.base = _tensor(value.base, pieces, guard)
    for name in ("shape", "strides", "block_shape"):  # hooks write block_shape
        if isinstance(held := getattr(made, name, None), list):
            setattr(made, name, list(held))
    if isinstance(getattr(made, "data", None), torch.Tensor):
        made.data = made.base
    return made


def _tensor(tensor: torch.Tensor, pieces: dict[int, Piece], guard: int) -> torch.Tensor:
    if not tensor.untyped_storage().nbytes():
        return tensor
    memory = _memory(tensor)
    if memory not in pieces:
        pieces[memory] = Piece.of(tensor, guard)
    return pieces[memory].view(tensor)


def _is_pinned(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and torch.cuda.is_available() and tensor.is_pinned()
