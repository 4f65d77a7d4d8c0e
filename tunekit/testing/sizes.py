"""Shapes that find mistakes: one, primes, one more and one less than a block, multiples of 16."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from tunekit.core.config import Config
from tunekit.kernels.kernel import Kernel
from tunekit.testing.place import Place
from tunekit.testing.planning import BrokenError, RefusedError, default_of, planned, programs

Shape = tuple[int, ...]

MOST_PROGRAMS = 48
"""Programs of a launch that is worth its time in the interpreter, which runs one after another."""
_MOST_ELEMENTS = 2**20
_LARGEST_BLOCK = 2048
_PRIMES: dict[int, Shape] = {1: (61,), 2: (13, 61), 3: (13, 61, 29)}
_SMALL_PRIMES = (3, 5, 7, 11)
_RANKS = (2, 1, 3, 4)
"""Of a kernel without named sizes, in the order they are tried."""


def default_shapes(kernel: Kernel, dtype: str, place: Place) -> list[Shape]:
    """Shapes to check a kernel at, the first one its plan takes first; others may be refused.

    Raises:
        RefusedError: the kernel takes none of the first ones; the message is its own.
    """
    base, config = _first_taken(kernel, dtype, place)
    rank, block = len(base), max(_block(config), 16)
    shapes = [_odd(rank)]
    if kernel.elementwise:
        shapes += [(3, 5, 7)]
    for axis in range(rank):
        for size in (block + 1, block - 1, 1):
            shapes.append((*base[:axis], size, *base[axis + 1 :]))
    shapes += [(1,) * rank, _multiples(16, rank)]
    worth = [shape for shape in shapes if _is_worth_it(kernel, shape, dtype, place)]
    return list(dict.fromkeys([base, *worth]))


def shape_for(kernel: Kernel, base: Shape, config: Config, turn: int) -> Shape:
    """A shape of two blocks of a configuration and a part of one, along one of the axes."""
    if kernel.check_shape is not None:
        return kernel.check_shape(base, config, 0)
    axis = turn % len(base)
    return (*base[:axis], 2 * _block(config) + 5, *base[axis + 1 :])


def _first_taken(kernel: Kernel, dtype: str, place: Place) -> tuple[Shape, Config]:
    refused: RefusedError | None = None
    for shape in _first_tries(kernel):
        try:
            launch = planned(lambda shape=shape: kernel.launch_for(shape, dtype, place.device))  # type: ignore[misc]
            return shape, default_of(kernel, launch, place.device)
        except RefusedError as error:
            refused = refused or error
        except BrokenError:
            if kernel.sizes:
                raise
    assert refused is not None
    raise refused


def _first_tries(kernel: Kernel) -> Iterator[Shape]:
    if kernel.sizes:
        ranks: Sequence[int] = (len(kernel.sizes),)
    else:
        ranks = (1,) if kernel.elementwise else (4,) if kernel.batched else _RANKS
    for rank in ranks:
        odd = _odd(rank)
        yield odd
        for of in (16, 64, 128):
            for axis in reversed(range(rank)):  # more often the last has to be divisible
                yield (*odd[:axis], of, *odd[axis + 1 :])
            yield _multiples(of, rank)


def _odd(rank: int) -> Shape:
    return _PRIMES.get(rank) or tuple(itertools.islice(itertools.cycle(_SMALL_PRIMES), rank))


def _multiples(of: int, rank: int) -> Shape:
    """Of 16, say 16, 48, 32; of many axes the last alone."""
    if rank > 3:
        return (*[2] * (rank - 1), of)
    return tuple(of * factor for factor in (1, 3, 2)[:rank])


def _block(config: Config) -> int:
    blocks = [value for value in config.meta().values() if value <= _LARGEST_BLOCK]
    return max(blocks, default=16)


def _is_worth_it(kernel: Kernel, shape: Shape, dtype: str, place: Place) -> bool:
    """Whether its own time is in proportion; what is refused costs nothing."""
    count = 1
    for size in shape:
        count *= size
    if count > _MOST_ELEMENTS:
        return False
    try:
        launch = planned(lambda: kernel.launch_for(shape, dtype, place.device))
        if not place.interprets:
            return True
        return programs(launch, default_of(kernel, launch, place.device)) <= MOST_PROGRAMS
    except (RefusedError, BrokenError):
        return True
