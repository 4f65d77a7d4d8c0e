"""Where the boxes that tensor descriptors copy lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunekit.rules import ranges
from tunekit.rules.ranges import Range, Unknown
from tunekit.rules.ttir import Op
from tunekit.rules.values import Described, Known, at_both_ends, reason_of, sure_of


def block_shape(op: Op) -> tuple[int, ...]:
    """The shape of what a descriptor's operation loads or stores."""
    if op.results:
        return op.result_type.shape
    shapes = [each.type.shape for each in op.operands if each is not None and each.type.shape]
    return shapes[-1] if shapes else ()


def addresses_of(
    target: Described, indices: Sequence[Known], shape: tuple[int, ...], lanes: bool
) -> tuple[Range, Range] | Unknown:
    """The bytes of a box, and which of its elements lie inside the tensor.

    Args:
        target: the descriptor.
        indices: of the box's first element, one for each axis.
        shape: of the box.
        lanes: each element, rather than one range for all.
    """
    rank = len(target.shape)
    known = [target.base, *target.shape, *target.strides, *indices]
    doubt = next((each for each in known if not isinstance(each, Range)), None)
    if doubt is not None:
        return Unknown(reason_of(doubt))
    if len(shape) != rank or len(indices) != rank:
        return Unknown("a descriptor of another rank than its box")

    def spread(value: Known) -> Range:
        assert isinstance(value, Range)
        return at_both_ends(value, lambda x: x.reshape(-1, *(1,) * rank))

    address = spread(target.base)
    inside = Range.of(np.ones((1,) * (1 + rank), dtype=np.int64))
    for axis, size in enumerate(shape):
        ones = [1] * (1 + rank)
        ones[1 + axis] = -1
        first = np.arange(size if lanes else 1, dtype=np.int64).reshape(ones)
        box = Range.of(first) if lanes else Range(first, first + size - 1)
        index = sure_of(ranges.add(spread(indices[axis]), box))
        stride = sure_of(ranges.multiply(spread(target.strides[axis]), Range.of(target.size)))
        moved = sure_of(ranges.multiply(index, stride))
        address = sure_of(ranges.add(address, moved))
        for each in (
            ranges.compare("slt", index, spread(target.shape[axis])),
            ranges.compare("sge", index, Range.of(0)),
        ):
            inside = sure_of(ranges.bit_and(inside, sure_of(each)))
    assert isinstance(target.base, Range)
    return Range(address.lo, address.hi, target.base.memory), inside
